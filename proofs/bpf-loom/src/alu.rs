//! Arithmetic and conditions: pure functions of two operands.

/// The result of an ALU instruction (`wide`: ALU64); the upper half of `op` is the operation.
///
/// # Panics
/// Panics if the operation does not exist.
pub fn compute(op: u8, wide: bool, off: i16, a: u64, b: u64) -> u64 {
    let signed = off != 0;
    let (a, b, shift) = if wide { (a, b, b & 63) } else { (low(a), low(b), b & 31) };
    let signs = |x: u64| if wide { x.cast_signed() } else { extend(x, 4).cast_signed() };
    let value = match op {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 if signed => match signs(b) {
            0 => 0,
            b => signs(a).wrapping_div(b).cast_unsigned(),
        },
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0x90 if signed => match signs(b) {
            0 => a,
            b => signs(a).wrapping_rem(b).cast_unsigned(),
        },
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 if signed => extend(b, u8::try_from(off / 8).expect("8, 16 or 32 bits")),
        0xb0 => b,
        0xc0 => (signs(a) >> shift).cast_unsigned(),
        _ => panic!("no operation {op:#x}"),
    };
    if wide { value } else { low(value) }
}

/// Whether a jump's condition is true.
///
/// # Panics
/// Panics if the condition does not exist.
pub fn holds(op: u8, wide: bool, a: u64, b: u64) -> bool {
    let (a, b) = if wide { (a, b) } else { (low(a), low(b)) };
    let signs = |x: u64| if wide { x.cast_signed() } else { extend(x, 4).cast_signed() };
    match op {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => signs(a) > signs(b),
        0x70 => signs(a) >= signs(b),
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => signs(a) < signs(b),
        0xd0 => signs(a) <= signs(b),
        _ => panic!("no condition {op:#x}"),
    }
}

/// Byte swaps of the lower `bits`; the rest becomes 0. (These programs are little-endian.)
pub fn swap(always: bool, to_big: bool, bits: u32, value: u64) -> u64 {
    let kept = value << (64 - bits) >> (64 - bits);
    if always || to_big { kept.swap_bytes() >> (64 - bits) } else { kept }
}

/// The lower `bytes`, sign-extended.
pub fn extend(value: u64, bytes: u8) -> u64 {
    let unused = 64 - 8 * u32::from(bytes);
    ((value << unused).cast_signed() >> unused).cast_unsigned()
}

/// A little-endian number.
pub fn from_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn low(value: u64) -> u64 {
    value & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_cut_and_signs_kept() {
        assert_eq!(compute(0x00, false, 0, u64::MAX, 1), 0);
        assert_eq!(compute(0x10, true, 0, 1, 2), u64::MAX);
        assert_eq!(compute(0xc0, false, 0, 0x8000_0000, 31), 0xffff_ffff);
        assert_eq!(compute(0xc0, true, 0, 1 << 63, 63), u64::MAX);
        assert_eq!(compute(0x60, true, 0, 1, 64), 1);
        assert_eq!(compute(0x30, true, 0, 7, 0), 0);
        assert_eq!(compute(0x90, true, 0, 7, 0), 7);
        assert_eq!(compute(0x30, true, 1, 7, (-2_i64).cast_unsigned()), (-3_i64).cast_unsigned());
        assert_eq!(compute(0xb0, true, 8, 0, 0xff), u64::MAX);
        assert_eq!(compute(0xb0, false, 16, 0, 0x8000), 0xffff_8000);
    }

    #[test]
    fn conditions_know_signs_and_widths() {
        assert!(holds(0x20, true, u64::MAX, 0) && !holds(0x60, true, u64::MAX, 0));
        assert!(holds(0x10, false, 1 << 32, 0) && holds(0xc0, false, 0x8000_0000, 0));
        assert!(holds(0x40, true, 6, 2) && !holds(0x40, true, 4, 2));
    }

    #[test]
    fn bytes_are_swapped() {
        assert_eq!(swap(true, false, 16, 0x1234), 0x3412);
        assert_eq!(swap(false, true, 64, 1), 1 << 56);
        assert_eq!(swap(false, false, 32, u64::MAX), 0xffff_ffff);
        assert_eq!(from_bytes(&[1, 2]), 0x201);
    }
}
