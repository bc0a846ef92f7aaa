//! Tails as compiled from the headers: programs that interrupt or preempt each other at every access to their shard, and
//! a production reader. Each tail is whole or counted.

use std::sync::Arc;

use mapring_bpf_loom::check;
use mapring_bpf_loom::models::Code;
use mapring_bpf_loom::object::variants;
use mapring_bpf_loom::sync::thread;
#[cfg(not(loom))]
use mapring_bpf_loom::tails::Found;
use mapring_bpf_loom::tails::{LONGEST, Reader, Ring, SHORT};

/// Each distinct code of the programs that write a ring.
fn codes(ring: &str) -> Vec<Code> {
    [format!("push_{ring}"), format!("guarded push_{ring}")]
        .into_iter()
        .flat_map(|name| variants(&[name]))
        .map(|variant| Code { program: Arc::new(variant.programs[0].clone()), order: variant.order })
        .collect()
}

/// Runs a model of all codes, in a ring where two tails fill the area, and in one with room for all.
#[cfg(not(loom))]
fn everywhere(model: impl Fn(&mut Found, &Code, &[Code])) {
    for (ring, mut found) in [("tails4", Found::default()), ("tails16", Found::roomy())] {
        let all = codes(ring);
        all.iter().for_each(|code| model(&mut found, code, &all));
        println!("{ring}: explored {} cases, {} dropped", found.cases, found.dropped);
    }
}

/// Runs a model of each code, in which some records must be dropped.
#[cfg(not(loom))]
fn everywhere_alone(model: fn(&mut Found, &Code)) {
    everywhere(|found, code, _| {
        model(found, code);
        assert!(found.dropped > 0, "none found another in its way");
    });
}

/// The codes that this one meets on one machine, besides itself: those with the guard meet those without. In `prove` all do, at each
/// landing the first one.
#[cfg(not(loom))]
fn others<'c>(code: &Code, all: &'c [Code]) -> &'c [Code] {
    let is_first = Arc::ptr_eq(&code.program, &all[0].program);
    if is_first || std::env::var_os("MAPRING_EVERY_CLANG").is_some() { all } else { &[] }
}

/// Runs a model of all codes that can meet on one machine.
#[cfg(not(loom))]
fn everywhere_together(model: fn(&mut Found, &Code, &Code)) {
    everywhere(|found, code, all| {
        found.with_others(code, others(code, all), model);
        assert_eq!(
            found.dropped > 0,
            found.is_tight(),
            "one finds another in its way, unless there is room for all"
        );
    });
}

/// Word for word, one after the other.
#[test]
#[cfg(not(loom))]
fn tails_are_written_alike() {
    everywhere_alone(Found::alike);
    everywhere_alone(|found, code| {
        found.fast(code);
        found.refused(code);
        found.steps_over(code);
        found.crowded(code);
        found.steps_once(code);
        found.steps_up_to(code);
        found.stepped_over(code);
        found.exhausted(code);
        found.overtaken(code);
        found.beside(code);
        found.given_back(code);
    });
    everywhere_alone(Found::entries);
    everywhere_alone(Found::changes);
}

/// Without weak memory: they run on one CPU.
#[test]
#[cfg(not(loom))]
fn programs_interrupt_each_other_at_every_access() {
    everywhere_together(Found::interrupts);
}

#[test]
#[cfg(not(loom))]
fn tasks_preempt_each_other_at_every_access() {
    everywhere_together(Found::preemptions);
}

/// While a reader is required, it gets every record.
#[test]
#[cfg(not(loom))]
fn a_required_reader_gets_every_tail() {
    let (all, mut found) = (codes("kept16"), Found::default());
    all.iter().for_each(|code| found.lags(code));
    all.iter().for_each(|code| found.with_others(code, others(code, &all), Found::keeps));
    println!("explored {} cases", found.cases);
}

/// A reader copies tails while a program overwrites them.
#[test]
fn a_tail_is_overwritten_while_it_is_copied() {
    for code in codes("tails4") {
        let runs = check(Some(2), move || {
            let ring = Arc::new(Ring::default());
            let published =
                [(1, SHORT), (2, LONGEST), (3, SHORT)].map(|(value, len)| ring.push(&code, value, len));
            let there = Arc::clone(&ring);
            let reader = thread::spawn(move || {
                let mut reader = Reader::default();
                reader.read(&there);
                reader
            });
            let last = ring.push(&code, 4, LONGEST) + ring.push(&code, 5, SHORT);
            let reader = reader.join().unwrap().finish(&ring, published.iter().sum::<u64>() + last);
            assert_eq!(reader.whole.last(), Some(&5));
        });
        println!("{runs} executions");
    }
}
