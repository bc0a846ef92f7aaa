//! Decodes BPF instructions from the compiler's output (the kernel's
//! `Documentation/bpf/standardization/instruction-set.rst`).

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A register.
    Reg(u8),
    /// An immediate, sign-extended.
    Imm(u64),
}

/// An instruction. Jump targets are indices into the program, not offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Insn {
    /// `op` is the upper half of the opcode byte; `off` distinguishes its variants.
    Alu {
        op: u8,
        wide: bool,
        dst: u8,
        from: From,
        off: i16,
    },
    /// Byte swap of `bits`.
    Swap {
        always: bool,
        to_big: bool,
        dst: u8,
        bits: u32,
    },
    /// A 64-bit constant: two slots, the second is `Half`.
    Const {
        dst: u8,
        value: u64,
    },
    Half,
    Load {
        bytes: u8,
        signed: bool,
        acquire: bool,
        dst: u8,
        base: u8,
        off: i16,
    },
    Store {
        bytes: u8,
        release: bool,
        base: u8,
        off: i16,
        from: From,
    },
    /// A read-modify-write: `op` as in the instruction, including `FETCH` if it returns a value.
    Atomic {
        op: u32,
        bytes: u8,
        base: u8,
        off: i16,
        src: u8,
    },
    Goto {
        to: usize,
    },
    If {
        op: u8,
        wide: bool,
        dst: u8,
        from: From,
        to: usize,
    },
    Helper {
        id: u32,
    },
    /// A call of a function in the program.
    Call {
        to: usize,
    },
    /// A call of the kernel function that begins or ends the guard.
    Guard {
        begins: bool,
    },
    Exit,
}

/// A bit of an atomic's `op`: it returns the old value.
pub const FETCH: u32 = 0x01;
/// An atomic's `op`.
pub const ADD: u32 = 0x00;
/// An atomic's `op`.
pub const OR: u32 = 0x40;
/// An atomic's `op`.
pub const AND: u32 = 0x50;
/// An atomic's `op`.
pub const XCHG: u32 = 0xe1;
/// An atomic's `op`.
pub const CMPXCHG: u32 = 0xf1;

const LOAD_ACQUIRE: u32 = 0x100;
const STORE_RELEASE: u32 = 0x110;

/// The instructions of one function. Calls of functions have no target yet.
///
/// # Errors
/// Returns the unknown instruction, and its position.
pub fn decode(bytes: &[u8]) -> Result<Vec<Insn>, String> {
    let mut code = Vec::new();
    let mut slots = bytes.chunks_exact(8);
    while let Some(slot) = slots.next() {
        let at = code.len();
        let imm = |slot: &[u8]| i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]);
        let insn = if slot[0] == 0x18 {
            let high = slots.next().ok_or("half a constant")?;
            let value = u64::from(imm(slot).cast_unsigned()) | u64::from(imm(high).cast_unsigned()) << 32;
            Insn::Const { dst: slot[1] & 15, value }
        } else {
            let off = i16::from_le_bytes([slot[2], slot[3]]);
            one(at, slot[0], slot[1] & 15, slot[1] >> 4, off, imm(slot))
                .ok_or_else(|| format!("instruction {at}: {slot:02x?} is not known"))?
        };
        code.push(insn);
        if matches!(insn, Insn::Const { .. }) {
            code.push(Insn::Half);
        }
    }
    Ok(code)
}

fn one(at: usize, opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Option<Insn> {
    let (class, op) = (opcode & 7, opcode & 0xf0);
    let imm_or = |is_reg| if is_reg { From::Reg(src) } else { From::Imm(i64::from(imm).cast_unsigned()) };
    let from = imm_or(opcode & 8 != 0);
    let bytes = [4, 2, 1, 8][usize::from(opcode >> 3 & 3)];
    let jump = |by: i64| usize::try_from(i64::try_from(at).ok()? + 1 + by).ok();
    Some(match (class, opcode & 0xe0) {
        (4 | 7, _) if op == 0xd0 => {
            let bits = imm.cast_unsigned();
            Insn::Swap { always: class == 7, to_big: opcode & 8 != 0, dst, bits }
        }
        (4 | 7, _) if op < 0xd0 => Insn::Alu { op, wide: class == 7, dst, from, off },
        (5, _) if op == 0 => Insn::Goto { to: jump(off.into())? },
        (6, _) if op == 0 => Insn::Goto { to: jump(imm.into())? },
        (5, _) if op == 0x80 && src == 0 => Insn::Helper { id: imm.cast_unsigned() },
        (5, _) if op == 0x80 && src == 1 => Insn::Call { to: usize::MAX },
        (5, _) if op == 0x90 => Insn::Exit,
        (5 | 6, _) if op != 0x80 && op < 0xe0 => {
            Insn::If { op, wide: class == 5, dst, from, to: jump(off.into())? }
        }
        (1, 0x60) => Insn::Load { bytes, signed: false, acquire: false, dst, base: src, off },
        (1, 0x80) => Insn::Load { bytes, signed: true, acquire: false, dst, base: src, off },
        (2 | 3, 0x60) => Insn::Store { bytes, release: false, base: dst, off, from: imm_or(class == 3) },
        (3, 0xc0) => match imm.cast_unsigned() {
            LOAD_ACQUIRE => Insn::Load { bytes, signed: false, acquire: true, dst, base: src, off },
            STORE_RELEASE => Insn::Store { bytes, release: true, base: dst, off, from: From::Reg(src) },
            op => Insn::Atomic { op, bytes, base: dst, off, src },
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_apart() {
        let code = decode(&[
            0xdb, 0x21, 0, 0, 0xf1, 0, 0, 0, // r0 = cmpxchg(r1 + 0, r0, r2)
            0x18, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // r3 = 0x200000001
            0x55, 0, 0xfd, 0xff, 0, 0, 0, 0, // if r0 != 0 goto -3
            0xdb, 0x21, 0, 0, 0x10, 1, 0, 0, // store-release
            0x7a, 9, 8, 0, 0, 0, 0, 0, // *(u64 *)(r9 + 8) = 0
            0x95, 0, 0, 0, 0, 0, 0, 0,
        ]);
        let expected = vec![
            Insn::Atomic { op: CMPXCHG, bytes: 8, base: 1, off: 0, src: 2 },
            Insn::Const { dst: 3, value: 0x2_0000_0001 },
            Insn::Half,
            Insn::If { op: 0x50, wide: true, dst: 0, from: From::Imm(0), to: 1 },
            Insn::Store { bytes: 8, release: true, base: 1, off: 0, from: From::Reg(2) },
            Insn::Store { bytes: 8, release: false, base: 9, off: 8, from: From::Imm(0) },
            Insn::Exit,
        ];
        assert_eq!(code, Ok(expected));
        assert!(decode(&[0xff; 8]).is_err());
    }
}
