//! Models of a ring without options: two programs, nested ones, readers that are lapped.

use std::sync::{Arc, Mutex};

use super::{Code, PATIENT, Seen};
use crate::history::{End, History};
use crate::machine::Machine;
use crate::nest::{Choices, INTERRUPTS, Nest};
use crate::object::{Program, Variant, variants};
use crate::ring::{Reader, Ring};
use crate::sync::thread::{self, JoinHandle};
use crate::{alone, check};

/// How often tasks preempt each other, and how many programs interrupt them; `tests/nesting.rs` has larger numbers.
const INTERRUPTED: (u64, u64) = (1, 2);
/// One preemption is no more than an interrupt: with two, both tasks are in a claim.
const PREEMPTED: (u64, u64) = (2, 0);

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
    let others = claiming(name, &code, !code.program.guarded).into_iter();
    others.map(|other| preempting(name, code.clone(), &other, seen.clone())).sum()
}

/// Each distinct code of the same ring's program that claims in this way.
fn claiming(name: &str, code: &Code, guarded: bool) -> Vec<Arc<Program>> {
    let way = if guarded { "guarded" } else { "x86" };
    let program = |variant: Variant| {
        let [mut program] = <[Program; 1]>::try_from(variant.programs).unwrap();
        program.maps.clone_from(&code.program.maps);
        Arc::new(program)
    };
    variants(&[format!("{way} push_{name}")]).into_iter().map(program).collect()
}

fn preempting(name: &'static str, code: Code, other: &Arc<Program>, seen: Seen) -> u64 {
    // Also from a hint that is a lap behind, and more.
    let starts = [(1, INTERRUPTED), (1, PREEMPTED), (4, PREEMPTED)];
    let run = |(before, (preemptions, interrupts))| {
        let (code, other, seen) = (code.clone(), Arc::clone(other), seen.clone());
        Choices::explore_alone(move |choices| {
            let ring = Ring::new(name);
            let mut history = ring.push_all(&code.program, code.order, 1..=before);
            ring.set_head(1);
            let programs: &[&Program] =
                if *other == *code.program { &[&code.program] } else { &[&code.program, &other] };
            let mut nest =
                Nest { ring: &ring, programs, discards: false, order: code.order, seen: &mut |_| () };
            nest.run_tasks(choices, preemptions, &mut { interrupts }, &mut history);
            seen.note("dropped", history.dropped() > 0);
            seen.note("slow claim", history.tickets().count() as u64 > before + 1);
            ring.check_again(&code.program, code.order, history);
        })
    };
    starts.map(run).into_iter().sum()
}

/// A guarded claim is interrupted at any access by a program that is itself interrupted at any access by others, and
/// goes on far behind them. Then further ones come.
pub(super) fn overtaken(name: &'static str, code: Code, seen: Seen) -> u64 {
    let run = |guarded: &Arc<Program>, stops: [usize; 2]| {
        let (code, guarded, seen) = (code.clone(), Arc::clone(guarded), seen.clone());
        let ended = Arc::new(Mutex::new([false; 2]));
        let found = Arc::clone(&ended);
        alone(move || {
            let ring = Ring::new(name);
            let order = code.order;
            let mut history = ring.push_all(&code.program, order, [1]);
            let mut machines = [&*guarded, &*code.program].map(|program| ring.machine(program, order, 2));
            let [first, second] = &mut machines;
            let before =
                [(first, stops[0]), (second, stops[1])].map(|(machine, stop)| runs_to(machine, stop));
            *found.lock().unwrap() = before.map(|returned| returned.is_some());
            history = history.with(ring.push_all(&code.program, order, 10..14));
            for (machine, returned) in machines.iter_mut().zip(before).rev() {
                let returned = returned.unwrap_or_else(|| machine.run());
                ring.account(&mut history, machine.changes(), Some(returned), End::Published(2));
                history = history.with(ring.push_all(&code.program, order, 20..22));
            }
            seen.note("slow claim", history.tickets().count() > 2);
            ring.check_again(&code.program, order, history);
        });
        *ended.lock().unwrap()
    };
    let mut runs = 0;
    for guarded in claiming(name, &code, true) {
        for first in 0.. {
            let mut ended = [false; 2];
            for second in 0.. {
                runs += 1;
                ended = run(&guarded, [first, second]);
                if ended[1] {
                    break;
                }
            }
            if ended[0] {
                break;
            }
        }
    }
    runs
}

/// Runs a machine to before this access to the ring, counted from 0. Returns what its program returns if it ends before.
fn runs_to(machine: &mut Machine<'_>, access: usize) -> Option<u64> {
    let mut accesses = 0;
    loop {
        accesses += usize::from(machine.shares_next().is_some());
        if accesses > access {
            return None;
        }
        if let Some(returned) = machine.step() {
            return Some(returned);
        }
    }
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
