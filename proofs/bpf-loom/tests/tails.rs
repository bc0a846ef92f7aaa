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

/// Each distinct code of these programs.
fn codes() -> Vec<Code> {
    PROGRAMS
        .into_iter()
        .flat_map(|name| variants(&[name]))
        .map(|variant| Code { program: Arc::new(variant.programs[0].clone()), order: variant.order })
        .collect()
}

const PROGRAMS: [&str; 2] = ["push_tails4", "guarded push_tails4"];

/// Runs a model of all codes.
#[cfg(not(loom))]
fn everywhere(model: fn(&mut Found, &Code)) {
    let mut found = Found::default();
    codes().iter().for_each(|code| model(&mut found, code));
    println!("explored {} cases, {} dropped", found.cases, found.dropped);
    assert!(found.dropped > 0, "none found another in its way");
}

/// Word for word, one after the other.
#[test]
#[cfg(not(loom))]
fn tails_are_written_alike() {
    everywhere(Found::alike);
    everywhere(|found, code| {
        found.fast(code);
        found.refused(code);
        found.in_the_way(code);
    });
    everywhere(Found::entries);
    everywhere(Found::changes);
}

/// Without weak memory: they run on one CPU.
#[test]
#[cfg(not(loom))]
fn programs_interrupt_each_other_at_every_access() {
    everywhere(Found::interrupts);
}

#[test]
#[cfg(not(loom))]
fn tasks_preempt_each_other_at_every_access() {
    everywhere(Found::preemptions);
}

/// A reader copies tails while a program overwrites them.
#[test]
fn a_tail_is_overwritten_while_it_is_copied() {
    for code in codes() {
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
