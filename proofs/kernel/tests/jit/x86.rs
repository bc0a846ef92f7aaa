//! The effects of x86-64's instructions. Stores become visible in order; a locked instruction is a full barrier.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use mapring_kernel_tests::prelude::*;

use crate::step::{Does, Operation, Step};

/// BPF's frame pointer is the machine's.
const STACK: [Register; 2] = [Register::RBP, Register::RSP];

/// The steps of a function.
pub(crate) fn steps(function: &Function) -> Vec<Step> {
    let code = Decoder::with_ip(64, &function.code, function.address, DecoderOptions::NONE);
    let step = |insn: Instruction| {
        assert!(!insn.is_invalid(), "at {:#x}: no instruction", insn.ip());
        let (jumps, falls) = match insn.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => (false, true),
            FlowControl::ConditionalBranch => (true, true),
            FlowControl::UnconditionalBranch => (true, false),
            _ => (false, false),
        };
        let jump = jumps.then(|| insn.near_branch_target());
        Step { address: insn.ip(), text: insn.to_string(), does: does(&insn), jump, falls }
    };
    code.into_iter().map(step).collect()
}

fn does(insn: &Instruction) -> Does {
    match insn.flow_control() {
        FlowControl::Call => return Does::Call(Some(insn.near_branch_target())),
        FlowControl::IndirectCall => return Does::Call(None),
        _ => {}
    }
    if insn.op0_kind() != OpKind::Memory || STACK.contains(&insn.memory_base()) {
        return Does::Nothing;
    }
    let full = insn.has_lock_prefix();
    match insn.mnemonic() {
        Mnemonic::Cmpxchg => Does::Atomic { operation: Operation::CompareExchange, full },
        // Always locked.
        Mnemonic::Xchg => Does::Atomic { operation: Operation::Exchange, full: true },
        _ if full => Does::Atomic { operation: Operation::Other, full },
        Mnemonic::Mov => Does::Store { offset: insn.memory_displacement64().cast_signed() },
        _ => Does::Nothing,
    }
}

const NOP: u8 = 0x90;

/// Copies of the function without one of its calls of the function at `to`.
pub(crate) fn without_call(function: &Function, to: u64) -> Vec<Function> {
    let code = Decoder::with_ip(64, &function.code, function.address, DecoderOptions::NONE);
    let calls = code.into_iter().filter(|insn| does(insn) == Does::Call(Some(to)));
    let without = |insn: Instruction| {
        let mut function = function.clone();
        let at = usize::try_from(insn.ip() - function.address).expect("an offset in the code");
        function.code[at..at + insn.len()].fill(NOP);
        function
    };
    calls.map(without).collect()
}

/// Copies of the function with one instruction weakened: the change, and the function.
pub(crate) fn weaker(function: &Function) -> Vec<(String, Function)> {
    let code = Decoder::with_ip(64, &function.code, function.address, DecoderOptions::NONE);
    let locked =
        code.into_iter().filter(|insn| insn.mnemonic() == Mnemonic::Cmpxchg && insn.has_lock_prefix());
    let without = |insn: Instruction| {
        let mut function = function.clone();
        let at = usize::try_from(insn.ip() - function.address).expect("an offset in the code");
        function.code[at] = NOP;
        (format!("cmpxchg without lock at {at}"), function)
    };
    locked.map(without).collect()
}
