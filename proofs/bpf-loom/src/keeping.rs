//! Models of rings that keep their oldest records: compiled programs, and production readers for which they wait.

use std::sync::Arc;

use mapring_core::abi::readers::{REQUIRED, position};
use mapring_core::protocol::ring::{Cursor, Start, Step};

use crate::check;
use crate::decode::{From, Insn};
use crate::history::{End, History};
use crate::models::{Code, PATIENT, Seen};
use crate::mutate::{AX, Mutant, mutant, set};
use crate::nest::{Choices, INTERRUPTS, Nest};
use crate::order::{Fetch, Order};
use crate::ring::Reader;
use crate::sync::thread::{self, JoinHandle};
use crate::waking::Waking;

/// A lease that lasts longer than any model.
const LEASE: u64 = u64::MAX;
/// The header's word with the limit, and the one that counts.
const LIMIT: usize = 4;
const FULL: usize = 5;

/// The events of a reader that becomes required.
pub(crate) const BECOMES: &[&str] = &["held back at once", "not seen at first", "later records are kept"];

/// The reader has read one record, and becomes required. Returns the first ticket that it finds not to be claimed.
fn require(keeping: &Arc<Waking>) -> JoinHandle<u64> {
    let keeping = Arc::clone(keeping);
    thread::spawn(move || {
        let seat = keeping.seat(0);
        seat.has_read(0, 1);
        seat.require(LEASE);
        Cursor::new(&mut keeping.0.shard(), Start::Now, PATIENT).next()
    })
}

/// A reader becomes required while a program publishes: no record is overwritten that was claimed after that. In a
/// second model, the program looks at the readers in the midst of another's record.
pub(crate) fn becomes_required(name: &'static str, code: Code, seen: Seen) -> u64 {
    let interrupts = |interrupts: bool| {
        let (code, seen) = (code.clone(), seen.clone());
        check(Some(3), move || {
            let keeping = Waking::new(name, 1);
            let ring = &keeping.0;
            let mut history = ring.push_all(&code.program, code.order, [1]);
            let reader = require(&keeping);
            if interrupts {
                let mut machine = ring.machine(&code.program, code.order, 2);
                // Its slot is claimed, and its record is not written.
                while machine.changes().iter().all(|change| ring.word(change.word).any_slot() != SEQ)
                    || machine.is_guarded()
                {
                    assert_eq!(machine.step(), None);
                }
                history = history.with(ring.push_all(&code.program, code.order, [3]));
                let returned = machine.run();
                ring.account(&mut history, machine.changes(), Some(returned), End::Published(2));
            }
            let history = history.with(ring.push_all(&code.program, code.order, 4..8));
            let kept = reader.join().unwrap();
            let taken = history.taken();
            assert!(taken <= kept + ring.slots(), "{kept} is overwritten: {history:?}");
            seen.note("held back at once", taken == 3);
            seen.note("not seen at first", taken > 3);
            seen.note("later records are kept", kept > 1 && history.dropped() > 0);
            ring.check(&history);
        })
    };
    [false, true].map(interrupts).into_iter().sum()
}

const SEQ: crate::ring::Word = crate::ring::Word::Seq(0);

/// A required reader reads while a program publishes: it gets each record, and none is overwritten as it copies.
pub(crate) fn reads(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(3), move || {
        let keeping = Waking::new(name, 1);
        let seat = keeping.seat(0);
        seat.has_read(0, 0);
        seat.require(LEASE);
        let reader = thread::spawn({
            let keeping = Arc::clone(&keeping);
            move || {
                let mut reader = Reader::at(0, PATIENT);
                for _ in 0..3 {
                    if let Step::Record(t) = reader.step(&keeping.0) {
                        keeping.seat(0).has_read(0, t + 1);
                    }
                }
                reader
            }
        });
        let history = keeping.0.push_all(&code.program, code.order, 1..6);
        let reader = reader.join().unwrap();
        seen.note("dropped", history.dropped() > 0);
        seen.note("kept up", history.taken() > keeping.0.slots());
        let stats = reader.finish(&keeping.0, &history).stats();
        assert_eq!((stats.lapped, stats.torn, stats.skipped), (0, 0, 0), "{stats} {history:?}");
    })
}

/// Programs interrupt each other in every way, with a required reader that has read nothing, or one record.
pub(crate) fn nested(name: &'static str, code: Code, seen: Seen) -> u64 {
    let at = |position: u64| {
        let (code, seen) = (code.clone(), seen.clone());
        Choices::explore_alone(move |choices| {
            let keeping = Waking::new(name, 1);
            let (program, order) = (&*code.program, code.order);
            let mut history: History = keeping.0.push_all(program, order, [1]);
            keeping.seat(0).has_read(0, position);
            keeping.seat(0).require(LEASE);
            let mut nest =
                Nest { ring: &keeping.0, programs: &[program], discards: false, order, seen: &mut |_| () };
            nest.run(choices, &mut { INTERRUPTS }, &mut history);
            let limit = position + keeping.0.slots();
            assert!(history.taken() <= limit, "{history:?}");
            // It is full once no claim is under way that has stepped over a slot.
            let next = keeping.0.push_all(program, order, 50..54);
            assert_eq!(history.tickets().count() + next.tickets().count(), usize::try_from(limit).unwrap());
            seen.note("dropped", history.dropped() > 0);
            seen.note("room", next.tickets().count() > 0);
            keeping.0.check(&history.with(next));
        })
    };
    [0, 1].map(at).into_iter().sum()
}

/// A program that ignores which readers are required, or how far they have read; that has no limit, or one that is too high;
/// that does not count its drops. Or a machine with weaker atomics.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let keeping = Waking::new(name, 1);
    let header = keeping.0.head_word();
    keeping.seat(0).require(LEASE);
    let first = keeping.parts().0;
    let (bits, read) = (first + REQUIRED, first + position(0, 0));
    let mut mutants = Vec::new();
    let mut add =
        |at: usize, what: &str, program| mutants.push(mutant(code, format!("{at}: {what}"), program));
    let mut met = std::collections::BTreeSet::new();
    // The second record is within the limit, the third is beyond.
    for value in 1..4 {
        let mut machine = keeping.0.machine(program, order, value);
        let mut barrier = None;
        loop {
            let (at, shares) = (machine.pc(), machine.shares_next());
            barrier = if machine.is_at_barrier() { Some(at) } else { barrier };
            let insn = program.code[at];
            if met.insert(at) {
                match (insn, shares) {
                    (Insn::Load { dst, .. }, Some(word)) if word == bits => {
                        add(at, "nobody is required", program.patched(at, &[set(dst, From::Imm(0))]));
                        if let Some(at) = barrier.filter(|_| program.guarded) {
                            add(at, "no barrier before it looks", program.patched(at, &[]));
                        }
                    }
                    (Insn::Load { dst, .. }, Some(word)) if word == read => {
                        let more = Insn::Alu { op: 0x00, wide: true, dst, from: From::Imm(1), off: 0 };
                        add(at, "the reader has read one more", program.patched(at, &[insn, more]));
                    }
                    (Insn::Load { dst, .. }, Some(word)) if word == header + LIMIT => {
                        let none = set(dst, From::Imm(1 << 20));
                        add(at, "no limit is known", program.patched(at, &[none]));
                    }
                    (Insn::Store { bytes, release, base, off, from: From::Reg(src) }, Some(word))
                        if word == header + LIMIT =>
                    {
                        let more = [
                            set(AX, From::Reg(src)),
                            Insn::Alu { op: 0x00, wide: true, dst: AX, from: From::Imm(1), off: 0 },
                            Insn::Store { bytes, release, base, off, from: From::Reg(AX) },
                        ];
                        add(at, "the limit is one too high", program.patched(at, &more));
                    }
                    (Insn::Atomic { .. }, Some(word)) if word == header + FULL => {
                        add(at, "drops are not counted", program.patched(at, &[]));
                    }
                    _ => {}
                }
            }
            if machine.step().is_some() {
                break;
            }
        }
    }
    mutants.extend([Fetch::Relaxed].map(|fetch| Mutant {
        name: format!("on a machine with {fetch:?} atomics"),
        program: program.clone(),
        order: Order { fetch, ..order },
        equivalent: None,
        of_write: None,
    }));
    mutants
}
