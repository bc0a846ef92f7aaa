//! The effects of aarch64's instructions, with and without LSE atomics.

use mapring_kernel_tests::prelude::*;
use yaxpeax_arch::{Arch, Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{ARMv8, Instruction, Opcode, Operand};

use crate::step::{Does, Operation, Step};

/// As the base of an address: 31 is the stack pointer, 29 the frame pointer, 25 BPF's frame pointer, 27 the other end
/// of BPF's frame.
const STACK: [u16; 4] = [25, 27, 29, 31];
/// `dmb ish`.
const FULL_BARRIER: u32 = 0xd503_3bbf;
/// The acquire and release bits of an atomic.
const ORDERED: u8 = 0b11;

/// The steps of a function.
pub(crate) fn steps(function: &Function) -> Vec<Step> {
    let decode = |code: &[u8]| {
        <ARMv8 as Arch>::Decoder::default()
            .decode(&mut U8Reader::new(code))
            .unwrap_or_else(|error| panic!("{code:x?}: {error}"))
    };
    let (words, []) = function.code.as_chunks::<4>() else { panic!("an instruction is cut off") };
    let code: Vec<_> = words.iter().map(|word| decode(word)).collect();
    let barrier = |at: usize| words.get(at).is_some_and(|word| u32::from_le_bytes(*word) == FULL_BARRIER);
    let mut steps: Vec<_> = code
        .iter()
        .enumerate()
        .map(|(at, insn)| {
            let address = function.address + 4 * at as u64;
            let (jump, falls) = flow(insn, address);
            Step { address, text: insn.to_string(), does: does(&code[..=at], address), jump, falls }
        })
        .collect();
    for at in 0..steps.len() {
        if let Some((operation, end, release)) = exclusive(&code[at..]) {
            steps[at].does = Does::Atomic { operation, full: release && barrier(at + end) };
        }
    }
    steps
}

/// The successors of an instruction: a jump target, and whether the next one may follow.
fn flow(insn: &Instruction, address: u64) -> (Option<u64>, bool) {
    let to = target(insn, address);
    match insn.opcode {
        Opcode::B => (to, false),
        Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ => (to, true),
        Opcode::RET | Opcode::RETAA | Opcode::RETAB | Opcode::BR | Opcode::BRK => (None, false),
        _ => (None, true),
    }
}

/// The address in an instruction.
fn target(insn: &Instruction, address: u64) -> Option<u64> {
    insn.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(offset) => Some(address.wrapping_add_signed(*offset)),
        _ => None,
    })
}

/// The effect of the last of these instructions, which is at `address`.
fn does(code: &[Instruction], address: u64) -> Does {
    let (insn, before) = code.split_last().expect("an instruction");
    let atomic = |operation, order: u8| Does::Atomic { operation, full: order == ORDERED };
    match insn.opcode {
        Opcode::CAS(order) => atomic(Operation::CompareExchange, order),
        Opcode::SWP(order) => atomic(Operation::Exchange, order),
        Opcode::LDADD(order) => atomic(Operation::Other, order),
        Opcode::STR | Opcode::STUR => match insn.operands[1] {
            Operand::RegPreIndex(base, ..)
            | Operand::RegPostIndex(base, _)
            | Operand::RegRegOffset(base, ..)
                if STACK.contains(&base) =>
            {
                Does::Nothing
            }
            Operand::RegPreIndex(_, offset, false) => Does::Store { offset: offset.into() },
            Operand::RegRegOffset(_, index, ..) => Does::Store {
                offset: constant(before, index)
                    .unwrap_or_else(|| panic!("{insn}: an offset that is not known"))
                    .cast_signed(),
            },
            _ => panic!("{insn}: an address of another kind"),
        },
        Opcode::STLR => Does::Release,
        Opcode::BLR => {
            let Operand::Register(_, register) = insn.operands[0] else { panic!("{insn}: no register") };
            Does::Call(constant(before, register))
        }
        Opcode::BL => Does::Call(target(insn, address)),
        _ => Does::Nothing,
    }
}

/// The constant in a register after these instructions, if they end by loading it.
fn constant(code: &[Instruction], register: u16) -> Option<u64> {
    let sets = |insn: &&Instruction| matches!(insn.operands[0], Operand::Register(_, to) if to == register);
    let last = code.iter().rposition(|insn| !sets(&insn)).map_or(0, |at| at + 1);
    code[last..].iter().try_fold(None, |value: Option<u64>, insn| {
        let (bits, shift) = match insn.operands[1] {
            Operand::ImmShift(bits, shift) => (u64::from(bits), shift),
            Operand::Imm16(bits) => (u64::from(bits), 0),
            _ => return None,
        };
        Some(Some(match insn.opcode {
            Opcode::MOVZ => bits << shift,
            Opcode::MOVN => !(bits << shift),
            Opcode::MOVK => value? & !(0xffff << shift) | bits << shift,
            _ => return None,
        }))
    })?
}

/// A loop of exclusives, if one starts here: its operation, its end, and whether the store is a release.
fn exclusive(code: &[Instruction]) -> Option<(Operation, usize, bool)> {
    const LONGEST: usize = 6;
    if !matches!(code[0].opcode, Opcode::LDXR | Opcode::LDAXR) {
        return None;
    }
    let store =
        code.iter().take(LONGEST).position(|insn| matches!(insn.opcode, Opcode::STXR | Opcode::STLXR));
    let store = store.unwrap_or_else(|| panic!("{}: no store that belongs to it", code[0]));
    assert_eq!(code[store + 1].opcode, Opcode::CBNZ, "{} is not repeated", code[store]);
    let between = &code[1..store];
    let operation = match between {
        [] => Operation::Exchange,
        [eor, differs] if eor.opcode == Opcode::EOR && differs.opcode == Opcode::CBNZ => {
            Operation::CompareExchange
        }
        _ => Operation::Other,
    };
    Some((operation, store + 2, code[store].opcode == Opcode::STLXR))
}

/// Copies of the function with one instruction weakened: the change, and the function.
pub(crate) fn weaker(function: &Function) -> Vec<(String, Function)> {
    // For each: the mask, the matching bits, and their replacement.
    const CHANGES: [(&str, u32, u32, u32); 8] = [
        ("casal without release", 0xffe0_fc00, 0xc8e0_fc00, 0xc8e0_7c00),
        ("casal without acquire", 0xffe0_fc00, 0xc8e0_fc00, 0xc8a0_fc00),
        ("casal without either", 0xffe0_fc00, 0xc8e0_fc00, 0xc8a0_7c00),
        ("swpal without release", 0xffe0_fc00, 0xf8e0_8000, 0xf8a0_8000),
        ("swpal without acquire", 0xffe0_fc00, 0xf8e0_8000, 0xf860_8000),
        ("stlxr without release", 0xffe0_fc00, 0xc800_fc00, 0xc800_7c00),
        ("str for stlr", 0xffff_fc00, 0xc89f_fc00, 0xf900_0000),
        ("nop for dmb ish", !0, FULL_BARRIER, 0xd503_201f),
    ];
    let (words, _) = function.code.as_chunks::<4>();
    let mut weaker = Vec::new();
    for (at, word) in words.iter().map(|word| u32::from_le_bytes(*word)).enumerate() {
        for (what, mask, _, new) in CHANGES.into_iter().filter(|(_, mask, old, _)| word & mask == *old) {
            let mut function = function.clone();
            function.code[4 * at..][..4].copy_from_slice(&(word & !mask | new).to_le_bytes());
            weaker.push((format!("{what} at instruction {at}"), function));
        }
    }
    weaker
}
