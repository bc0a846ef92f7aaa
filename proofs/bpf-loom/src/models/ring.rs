//! Models of a ring without options: two programs, nested ones, readers that are lapped.

use std::sync::Arc;

use super::{Code, INTERRUPTS_OF_TASKS, PATIENT, PREEMPTIONS, Seen};
use crate::check;
use crate::history::{End, History};
use crate::nest::{Choices, INTERRUPTS, Nest};
use crate::object::{Program, Variant, variants};
use crate::ring::{Reader, Ring};
use crate::sync::thread::{self, JoinHandle};

fn pushes(ring: &Arc<Ring>, code: &Code, values: &'static [u64]) -> JoinHandle<History> {
    let (ring, code) = (Arc::clone(ring), code.clone());
    thread::spawn(move || ring.push_all(&code.program, code.order, values.iter().copied()))
}

fn reads(ring: &Arc<Ring>, steps: usize) -> JoinHandle<Reader> {
    let ring = Arc::clone(ring);
    thread::spawn(move || Reader::at(0, PATIENT).steps(&ring, steps))
}

pub(super) fn two_writers(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let ring = Arc::new(Ring::new(name));
        let other = pushes(&ring, &code, &[11]);
        let history = ring.push_all(&code.program, code.order, [1]).with(other.join().unwrap());
        let history = history.with(ring.push_all(&code.program, code.order, [2]));
        seen.note("dropped", history.dropped() > 0);
        // A program got the second ticket while the first was taken, so it lost the race for the first.
        seen.note("slow claim", history.tickets().count() > 2);
        ring.check(&history);
    })
}

/// Alone on their CPU, each program interrupts the others in every way.
pub(super) fn nest(name: &'static str, code: Code, seen: Seen) -> u64 {
    Choices::explore_alone(move |choices| {
        let ring = Ring::new(name);
        let (program, order) = (&*code.program, code.order);
        let mut history = ring.push_all(program, order, [1]);
        let mut nest = Nest { ring: &ring, programs: &[program], discards: false, order, seen: &mut |_| () };
        nest.run(choices, &mut { INTERRUPTS }, &mut history);
        seen.note("dropped", history.dropped() > 0);
        seen.note("slow claim", history.tickets().count() as u64 > INTERRUPTS + 1);
        ring.check(&history);
    })
}

/// Two tasks of one CPU preempt each other, and a program interrupts them.
pub(super) fn tasks(name: &'static str, code: Code, seen: Seen) -> u64 {
    let other = Arc::clone(&code.program);
    preempting(name, code, &other, seen)
}

/// The same, but the second task claims in the other way, and the interrupting program in either.
pub(super) fn mixed(name: &'static str, code: Code, seen: Seen) -> u64 {
    let other =
        if code.program.guarded { format!("x86 push_{name}") } else { format!("guarded push_{name}") };
    let runs = |variant: Variant| {
        let [mut other] = <[Program; 1]>::try_from(variant.programs).unwrap();
        other.maps.clone_from(&code.program.maps);
        preempting(name, code.clone(), &Arc::new(other), seen.clone())
    };
    variants(&[other]).into_iter().map(runs).sum()
}

fn preempting(name: &'static str, code: Code, other: &Arc<Program>, seen: Seen) -> u64 {
    let other = Arc::clone(other);
    Choices::explore_alone(move |choices| {
        let ring = Ring::new(name);
        let mut history = ring.push_all(&code.program, code.order, [1]);
        let programs: &[&Program] =
            if *other == *code.program { &[&code.program] } else { &[&code.program, &other] };
        let mut nest = Nest { ring: &ring, programs, discards: false, order: code.order, seen: &mut |_| () };
        nest.run_tasks(choices, PREEMPTIONS, &mut { INTERRUPTS_OF_TASKS }, &mut history);
        seen.note("dropped", history.dropped() > 0);
        seen.note("slow claim", history.tickets().count() > 2);
        // In any resulting state, every slot can be claimed again.
        let next = ring.push_all(&code.program, code.order, 50..52 + ring.slots());
        assert_eq!(next.dropped(), 0, "nobody is in the midst of anything: {history:?} {next:?}");
        ring.check(&history.with(next));
    })
}

pub(super) fn lapping(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let ring = Arc::new(Ring::new(name));
        let reader = reads(&ring, 2);
        let history = ring.push_all(&code.program, code.order, 1..=3);
        let reader = reader.join().unwrap();
        seen.note_reader(&reader);
        let reader = reader.finish(&ring, &history);
        seen.note("lapped", reader.stats().lapped > 0);
        assert_eq!(reader.stats().skipped, 0, "{reader:?}");
        ring.check(&history);
    })
}

pub(super) fn tearing(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let ring = Arc::new(Ring::new(name));
        let reader = reads(&ring, 2);
        let history = ring.push_all(&code.program, code.order, 1..=2);
        let reader = reader.join().unwrap();
        seen.note_reader(&reader);
        assert_eq!(reader.finish(&ring, &history).stats().skipped, 0);
        ring.check(&history);
    })
}

pub(super) fn discards(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let ring = Arc::new(Ring::new(name));
        let reader = reads(&ring, 2);
        let mut history = History::default();
        for value in 1..=2 {
            let mut machine = ring.machine(&code.program, code.order, value);
            let returned = machine.run();
            ring.account(&mut history, machine.changes(), Some(returned), End::Discarded);
        }
        let reader = reader.join().unwrap();
        assert!(reader.log().is_empty(), "a discarded record was delivered: {reader:?}");
        seen.note("meanwhile", reader.stats().discarded > 0);
        let stats = reader.finish(&ring, &history).stats();
        seen.note("discarded", stats.discarded == 2);
        assert_eq!(stats.skipped, 0);
        ring.check(&history);
    })
}

/// Two other programs interrupt a program before any of its accesses to the ring, at most the first eight. A record
/// takes that many accesses; with guarded claims this includes a few of the slow path.
pub(super) fn nested(name: &'static str, code: Code, seen: Seen) -> u64 {
    let at = |access: usize| {
        let (code, seen) = (code.clone(), seen.clone());
        check(Some(1), move || {
            let ring = Arc::new(Ring::new(name));
            let mut history = ring.push_all(&code.program, code.order, [1]);
            let reader = reads(&ring, 1);
            let mut machine = ring.machine(&code.program, code.order, 2);
            let mut accesses = 0;
            let returned = loop {
                if machine.shares_next().is_some() {
                    if accesses == access {
                        history = history.with(ring.push_all(&code.program, code.order, [11, 12]));
                    }
                    accesses += 1;
                }
                if let Some(returned) = machine.step() {
                    break returned;
                }
            };
            ring.account(&mut history, machine.changes(), Some(returned), End::Published(2));
            seen.note("slow claim", accesses > 8);
            let reader = reader.join().unwrap();
            seen.note_reader(&reader);
            let _ = reader.finish(&ring, &history);
            ring.check(&history);
        })
    };
    (0..if code.program.guarded { 14 } else { 8 }).map(at).sum()
}

pub(super) fn two_writers_a_reader(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(1), move || {
        let ring = Arc::new(Ring::new(name));
        let history = ring.push_all(&code.program, code.order, [1]);
        let reader = reads(&ring, 2);
        let other = pushes(&ring, &code, &[11]);
        let history = history.with(ring.push_all(&code.program, code.order, [2])).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        seen.note_reader(&reader);
        let _ = reader.finish(&ring, &history);
        ring.check(&history);
    })
}
