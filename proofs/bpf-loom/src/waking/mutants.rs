//! Mutants of programs that wake readers.

use mapring_core::abi::readers::{ASLEEP, LOOK, wake_at};

use super::{Waking, nobody_slept};
use crate::decode::{AND, CMPXCHG, FETCH, From, Insn, OR, XCHG};
use crate::machine::{RING_A_BELL, VALUE};
use crate::models::Code;
use crate::mutate::{AX, Mutant, load, mutant, set, store};
use crate::order::{Fetch, Order};
use crate::ring::Word;

/// A program that stops looking by a plain store.
fn of_idle(name: &'static str, code: &Code, look: usize) -> Vec<Mutant> {
    let waking = Waking::new(name, 1);
    nobody_slept(&waking, code);
    let mut machine = waking.0.machine(&code.program, code.order, 3);
    let mut mutants = Vec::new();
    loop {
        let at = machine.pc();
        if let Insn::Atomic { op: CMPXCHG, base, off, src, .. } = code.program.code[at]
            && machine.shares_next() == Some(look)
        {
            let program = code.program.patched(at, &[store(base, off, src)]);
            mutants.push(mutant(code, format!("{at}: stops looking without a barrier"), program));
        }
        if machine.step().is_some() {
            break;
        }
    }
    assert_eq!(mutants.len(), 1, "it stops looking");
    mutants
}

/// A program that decides whether to look before its ticket ends, or never looks, or always; that has no barrier, or looks for
/// sleepers before it; that rings twice, or never; that forgets whom the kernel refused to wake. Or a machine whose atomic
/// operations are no full barrier.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let waking = Waking::new(name, 1);
    waking.seat(0).asleep();
    waking.parts().1.refuse();
    let [bits, look, until] = [ASLEEP, LOOK, wake_at(0, 0)].map(|word| waking.parts().0 + word);
    let mut mutants = Vec::new();
    let mut add =
        |at: usize, what: &str, program| mutants.push(mutant(code, format!("{at}: {what}"), program));
    let decided_after = |at: usize| {
        let decides = |at: &usize| matches!(program.code[*at], Insn::If { .. });
        let at = (at + 1..at + 20).find(decides).expect("something is decided by it");
        let Insn::If { to, .. } = program.code[at] else { unreachable!("as was found") };
        (at, [program.patched(at, &[]), program.patched(at, &[Insn::Goto { to }])])
    };
    let (mut end, mut barrier, mut looks) = (None, None, 0);
    // Whether the end of the ticket is itself a full barrier, or is followed by one.
    let mut has_another_barrier = false;
    // Loads a word of the readers at one place, and uses the value at the load of another one.
    let earlier = |word: usize, from: usize, to: usize| {
        let Insn::Load { dst, .. } = program.code[from] else { panic!("{from} is no load") };
        let value = Insn::Const { dst: AX, value: VALUE | (word * 8) as u64 };
        let early = [value, Insn::Half, load(AX, AX, 0), program.code[to]];
        program.patched(from, &[set(dst, From::Reg(AX))]).patched(to, &early)
    };
    let mut machine = waking.0.machine(program, order, 1);
    let mut calls = 0;
    loop {
        let (at, shares) = (machine.pc(), machine.shares_next());
        let is_atomic = matches!(program.code[at], Insn::Atomic { .. });
        has_another_barrier |= is_atomic && end.is_some() && barrier.is_none() && shares.is_some();
        match (program.code[at], shares) {
            (Insn::Store { .. } | Insn::Atomic { op: XCHG, .. }, Some(word))
                if matches!(waking.0.word(word), Word::Seq(_)) =>
            {
                end = Some(at);
                has_another_barrier = is_atomic;
            }
            (Insn::Load { .. }, Some(word)) if word == look => {
                let end = end.expect("the ticket has ended");
                add(at, "decides before the ticket ends whether to look", earlier(look, at, end));
                let (at, [never, always]) = decided_after(at);
                add(at, "looks at all tickets, or none", never);
                add(at, "the other way: looks at all tickets, or none", always);
            }
            (Insn::Atomic { op: XCHG, .. }, None) => {
                add(at, "no barrier before it looks for sleepers", program.patched(at, &[]));
                barrier = Some(at);
            }
            (Insn::Load { .. }, Some(word)) if word == bits => {
                looks += 1;
                if looks == 1 {
                    let barrier = barrier.expect("the text has the order of the program");
                    add(at, "looks for sleepers before the barrier", earlier(bits, at, barrier));
                }
            }
            (Insn::Load { dst, .. }, Some(word)) if word == until => {
                let any = program.patched(at, &[program.code[at], set(dst, From::Imm(0))]);
                add(at, "wakes at any ticket", any);
                let never = program.patched(at, &[program.code[at], set(dst, From::Imm(u64::MAX))]);
                add(at, "waits for a ticket that nobody asked for", never);
            }
            (Insn::Atomic { op, bytes, base, off, src }, Some(word)) if word == bits && op == AND | FETCH => {
                let unfetched = Insn::Atomic { op: AND, bytes, base, off, src };
                add(at, "the bit's old value is not fetched", program.patched(at, &[unfetched]));
                let apart = [load(AX, base, off), unfetched, set(src, From::Reg(AX))];
                add(at, "the bit's old value is loaded before", program.patched(at, &apart));
                let and = Insn::Alu { op: 0x50, wide: true, dst: src, from: From::Reg(AX), off: 0 };
                let split = [load(AX, base, off), and, store(base, off, src), set(src, From::Reg(AX))];
                add(at, "the bit is cleared by a plain store", program.patched(at, &split));
                let left = [load(src, base, off)];
                add(at, "the bit is not cleared", program.patched(at, &left));
                let (at, [never, always]) = decided_after(at);
                add(at, "two programs ring, or none", never);
                add(at, "the other way: two programs ring, or none", always);
            }
            (Insn::Helper { id: RING_A_BELL }, _) => {
                calls += 1;
                let (at, [never, always]) = decided_after(at);
                add(at, "the bit is always set again, or never", never);
                add(at, "the other way: the bit is always set again, or never", always);
            }
            (Insn::Atomic { op: OR, base, off, src, .. }, Some(word)) if word == bits => {
                add(at, "the bit is not set again", program.patched(at, &[]));
                let or = Insn::Alu { op: 0x40, wide: true, dst: AX, from: From::Reg(src), off: 0 };
                let split = [load(AX, base, off), or, store(base, off, AX)];
                add(at, "the bit is set again by a plain store", program.patched(at, &split));
            }
            _ => {}
        }
        if machine.step().is_some() {
            break;
        }
    }
    assert_eq!((looks, calls, waking.asleep()), (2, 1, 1), "it looked, again, rang, and was refused");
    mutants.extend(of_idle(name, code, look));
    // Targets without a store-release end a ticket by an exchange. Without the guard, a tail ends by a compare-and-swap.
    if has_another_barrier {
        let of_barrier = mutants.iter_mut().filter(|mutant| is_of_barrier(mutant));
        of_barrier
            .for_each(|mutant| mutant.equivalent = Some("the end of the ticket or its tail is a barrier"));
    }
    let weaker = [Fetch::AcqRel, Fetch::Relaxed].map(|fetch| Order { fetch, ..order });
    mutants.extend(weaker.map(|order| Mutant {
        name: format!("on a machine with {:?} atomics", order.fetch),
        program: program.clone(),
        order,
        equivalent: None,
        of_write: None,
    }));
    mutants
}

fn is_of_barrier(mutant: &Mutant) -> bool {
    mutant.name.contains("looks for sleepers")
}

/// Those without the barrier, of a program that has no other one.
pub fn of_barrier(name: &'static str, code: &Code) -> Vec<Mutant> {
    mutants(name, code).into_iter().filter(is_of_barrier).collect()
}
