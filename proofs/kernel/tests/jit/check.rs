//! Required properties of a producer's machine code.

use mapring_kernel_tests::prelude::*;

use crate::machine;
use crate::step::{Does, Operation, Step, next, reachable};

/// How a record is made visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publish {
    /// A plain store: x86.
    Store,
    /// An exchange that is a full barrier: any machine.
    Exchange,
    /// A store-release: machines that have one, and need it.
    Release,
}

/// How a slot is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// By a full compare-and-swap.
    CompareExchange,
    /// By plain stores, between calls of these two kernel functions.
    Guard { begin: u64, end: u64 },
}

/// The offsets of the record's words, relative to its sequence.
const WORDS: std::ops::RangeInclusive<i64> = 8..=7 * 8;

/// Checks a program that writes a record. On every path: no store before the claim, no return between a word and the
/// publication, no word after that; and the guard ends on each path, before the words.
pub(crate) fn record(functions: &[Function], publish: Publish, claim: Claim) -> Result<(), String> {
    let (program, others) = functions.split_first().expect("a program has a function");
    let steps = machine::steps(program);
    let of_others: Vec<_> = others.iter().map(machine::steps).collect();
    for function in of_others.iter().chain([&steps]) {
        strong(function)?;
    }
    let claims_by = |does: &Does| match claim {
        Claim::CompareExchange => is_claim(does),
        Claim::Guard { begin, .. } => *does == Does::Call(Some(begin)),
    };
    if let Some(other) = of_others.iter().find(|steps| find(steps, claims_by).is_empty()) {
        return complain(other, 0, "a function without claim");
    }
    if let Claim::Guard { begin, end } = claim {
        for function in of_others.iter().chain([&steps]) {
            guard(function, begin, end)?;
        }
    }

    let words = find(&steps, |does| matches!(does, Does::Store { offset } if WORDS.contains(offset)));
    let behind_words = reachable(&steps, words.iter().flat_map(|&word| next(&steps, word)), |_| false);
    let publications = find(&steps, |does| match publish {
        Publish::Store => matches!(does, Does::Store { offset: 0 }),
        Publish::Exchange => matches!(does, Does::Atomic { operation: Operation::Exchange, .. }),
        Publish::Release => *does == Does::Release,
    });
    // The hint is also a store to the start of a cache line, but it comes before the words.
    let publications: Vec<_> = publications.into_iter().filter(|at| behind_words.contains(at)).collect();

    let own: Vec<_> = others.iter().map(|function| Some(function.address)).collect();
    let claims = find(&steps, |does| claims_by(does) || matches!(does, Does::Call(to) if own.contains(to)));
    let unclaimed = reachable(&steps, [0], |at| claims.contains(&at));
    if let Some(at) = unclaimed.into_iter().find(|&at| is_store(&steps[at].does)) {
        return complain(&steps, at, "a store without claim");
    }
    let done = reachable(&steps, publications.iter().flat_map(|&at| next(&steps, at)), |_| false);
    if let Some(at) = done.into_iter().find(|at| words.contains(at)) {
        return complain(&steps, at, "a word behind the publication");
    }
    let open =
        reachable(&steps, words.iter().flat_map(|&word| next(&steps, word)), |at| publications.contains(&at));
    if let Some(at) = open.into_iter().find(|&at| next(&steps, at).next().is_none()) {
        return complain(&steps, at, "an end without publication");
    }
    let once = |offset| find(&steps, |does| *does == Does::Store { offset }).len() == 1;
    if words.len() != 7 || !WORDS.step_by(8).all(once) || publications.len() != 1 {
        return complain(&steps, 0, "not seven words and one publication");
    }
    Ok(())
}

/// Checks a function with a guard: it contains only the claim, and no fetching atomic anywhere.
fn guard(steps: &[Step], begin: u64, end: u64) -> Result<(), String> {
    let calls = |to: u64| find(steps, |does| *does == Does::Call(Some(to)));
    let (begins, ends) = (calls(begin), calls(end));
    let fetches =
        |does: &Does| matches!(does, Does::Atomic { operation, .. } if *operation != Operation::Other);
    if let Some(&at) = find(steps, fetches).first() {
        return complain(steps, at, "a fetching atomic beside the guard");
    }
    let inside = reachable(steps, begins.iter().flat_map(|&at| next(steps, at)), |at| ends.contains(&at));
    for at in inside {
        match steps[at].does {
            _ if next(steps, at).next().is_none() => return complain(steps, at, "a guard that does not end"),
            Does::Store { offset } if WORDS.contains(&offset) => {
                return complain(steps, at, "a word in the guard");
            }
            _ => {}
        }
    }
    let words = find(steps, |does| matches!(does, Does::Store { offset } if WORDS.contains(offset)));
    let behind = reachable(steps, ends.iter().flat_map(|&at| next(steps, at)), |at| words.contains(&at));
    if let Some(at) = behind.into_iter().find(|&at| is_store(&steps[at].does)) {
        return complain(steps, at, "a store between the guard and the words");
    }
    let outside = reachable(steps, [0], |at| begins.contains(&at));
    match ends.iter().find(|at| outside.contains(at)) {
        Some(&at) => complain(steps, at, "a guard that ends before it begins"),
        None => Ok(()),
    }
}

/// Checks a program that counts: only additions, and no barrier where none is needed.
pub(crate) fn counter(functions: &[Function]) -> Result<(), String> {
    let steps: Vec<_> = functions.iter().flat_map(machine::steps).collect();
    let additions = find(&steps, |does| matches!(does, Does::Atomic { operation: Operation::Other, .. }));
    let others =
        find(&steps, |does| matches!(does, Does::Atomic { operation, .. } if *operation != Operation::Other));
    match (&additions[..], &others[..]) {
        ([], _) => complain(&steps, 0, "no addition"),
        (_, [other, ..]) => complain(&steps, *other, "more than an addition"),
        _ => Ok(()),
    }
}

/// Compare-and-swaps and exchanges are full barriers.
fn strong(steps: &[Step]) -> Result<(), String> {
    let weak = |does: &Does| matches!(does, Does::Atomic { operation, full: false } if *operation != Operation::Other);
    match find(steps, weak).first() {
        Some(&at) => complain(steps, at, "an atomic that is no full barrier"),
        None => Ok(()),
    }
}

fn is_claim(does: &Does) -> bool {
    matches!(does, Does::Atomic { operation: Operation::CompareExchange, full: true })
}

fn is_store(does: &Does) -> bool {
    matches!(does, Does::Store { .. } | Does::Release)
}

fn find(steps: &[Step], what: impl Fn(&Does) -> bool) -> Vec<usize> {
    (0..steps.len()).filter(|&at| what(&steps[at].does)).collect()
}

fn complain(steps: &[Step], at: usize, what: &str) -> Result<(), String> {
    let line = |(number, step): (usize, &Step)| {
        let mark = if number == at { "=>" } else { "" };
        format!("{mark:3}{:x} {}\n", step.address, step.text)
    };
    Err(format!("{what}:\n{}", steps.iter().enumerate().map(line).collect::<String>()))
}
