//! Models of programs that read cells and counters of another CPU, while programs write there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cell::{run_to_end, spawn};
use crate::check;
use crate::models::{Code, Seen};
use crate::order::Order;
use crate::region::{Region, TRIES, WRITE};
use crate::sync::Ordering;

/// The CPU whose programs write.
const WRITER: usize = 1;

/// The limit of preemptions: on x86, where every load may return many values, a higher limit has too many
/// interleavings.
fn bound(code: &Code) -> Option<usize> {
    Some(if code.order == Order::TSO { 1 } else { 2 })
}

/// Sets a cell of the writers' CPU. Returns the final sequence, unless it was dropped.
fn write(region: &Region, code: &Code, value: u64) -> Option<u64> {
    region.write(region.machine(code, WRITER, [value, WRITE]))
}

/// A program on another CPU reads the cell after `looks` failed reads of `other`. Returns the value and the number of
/// instructions.
fn read_after(looks: usize, other: &Region, region: &Region, code: &Code) -> (Option<u64>, usize) {
    let (value, steps) = run_to_end(region.machine_after(looks, other, code, WRITER, [WRITER as u64, 0]));
    (value.map(whole), steps)
}

fn read(region: &Region, code: &Code) -> (Option<u64>, usize) {
    let (value, steps) = run_to_end(region.machine(code, 0, [WRITER as u64, 0]));
    (value.map(whole), steps)
}

fn whole([a, b]: [u64; 2]) -> u64 {
    assert_eq!(a, b, "a half-written value");
    a
}

/// Two writers that find the cell taken by another.
pub(crate) fn taken(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new(name));
        region.words_of(WRITER)[0].store(1, Ordering::Relaxed);
        let writer = code.clone();
        let other = spawn(&region, move |region| write(region, &writer, 16));
        assert_eq!([write(&region, &code, 1), other.join().unwrap()], [None, None], "took a taken cell");
        assert_eq!(read(&region, &code).0, None, "read a taken cell");
        seen.note("dropped", region.dropped_by(WRITER) == 2);
        assert_eq!([0, WRITER].map(|cpu| region.dropped_by(cpu)), [0, 2], "dropped, and not counted");
    })
}

/// A writer on the other CPU, and a program that has already read this many times.
pub(crate) fn later(name: &'static str, code: Code, seen: Seen) -> u64 {
    let after = |looks: usize| {
        let (code, seen) = (code.clone(), seen.clone());
        check(bound(&code), move || {
            let (region, other) = (Arc::new(Region::new(name)), Region::new(name));
            let reader = code.clone();
            let reader = spawn(&region, move |region| read_after(looks, &other, region, &reader).0);
            for value in 1..=2 {
                assert_eq!(write(&region, &code, value), Some(2 * value), "nobody else is in the cell");
            }
            let found = reader.join().unwrap();
            assert!(found.is_none_or(|value| value <= 2), "never written: {found:?}");
            seen.note("meanwhile", found == Some(1));
            seen.note("busy", found.is_none());
        })
    };
    (1..TRIES).map(after).sum()
}

/// A writer on the other CPU.
pub(crate) fn cell(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(bound(&code), move || {
        let region = Arc::new(Region::new(name));
        let reader = code.clone();
        let reader = spawn(&region, move |region| [read(region, &reader), read(region, &reader)]);
        for value in 1..=2 {
            assert_eq!(write(&region, &code, value), Some(2 * value), "nobody else is in the cell");
        }
        let reads = reader.join().unwrap();
        let (last, undisturbed) = read(&region, &code);
        assert_eq!(last, Some(2), "the last value");
        let mut before = 0;
        for (value, steps) in reads {
            seen.note("busy", value.is_none());
            seen.note("looked again", value.is_some() && steps > undisturbed);
            seen.note("meanwhile", value == Some(1));
            assert!(value.is_none_or(|value| value <= 2), "never written: {value:?}");
            assert!(value.is_none_or(|value| value >= before), "back in time: {reads:?}");
            before = value.unwrap_or(before);
        }
    })
}

/// Two programs on the other CPU; one preempts the other anywhere.
pub(crate) fn two_writers(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(1), move || {
        let region = Arc::new(Region::new(name));
        let (one, reader) = (code.clone(), code.clone());
        let reader = spawn(&region, move |region| read(region, &reader).0);
        let other = spawn(&region, move |region| (16, write(region, &one, 16)));
        let mine = (1, write(&region, &code, 1));
        let mut writes = BTreeMap::from([(0, 0)]);
        let mut dropped = 0;
        for (value, seq) in [mine, other.join().unwrap()] {
            match seq {
                Some(seq) => {
                    assert_eq!(writes.insert(seq, value), None, "two writes with the sequence {seq}")
                }
                None => dropped += 1,
            }
        }
        let found = reader.join().unwrap();
        seen.note("dropped", dropped > 0);
        seen.note(
            "meanwhile",
            found.is_some_and(|value| value > 0 && Some(&value) != writes.values().last()),
        );
        assert!(found.is_none_or(|value| writes.values().any(|it| *it == value)), "{found:?} of {writes:?}");
        let last = read(&region, &code).0;
        assert_eq!(last.as_ref(), writes.values().last(), "the last value");
        assert_eq!(region.dropped_by(WRITER), dropped, "dropped, and not counted");
        assert_eq!(region.dropped_by(0), 0, "counted where another CPU counts");
    })
}

/// Two programs that count on the other CPU, one of which preempts the other, and a third that reads.
pub(crate) fn count(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let region = Arc::new(Region::new(name));
        let get = |region: &Region, code: &Code| {
            let mut machine = region.machine(code, 0, [WRITER as u64, 0]);
            machine.run();
            assert!(machine.changes().is_empty(), "who reads writes nothing");
            machine.context()[0]
        };
        let add = |region: &Region, code: &Code, by| {
            region.machine(code, WRITER, [by, WRITE]).run();
        };
        let (one, reader) = (code.clone(), code.clone());
        let reader = spawn(&region, move |region| [get(region, &reader), get(region, &reader)]);
        let other = spawn(&region, move |region| add(region, &one, 16));
        for by in [1, 2] {
            add(&region, &code, by);
        }
        other.join().unwrap();
        let [first, second] = reader.join().unwrap();
        assert!(first <= second, "counts back from {first} to {second}");
        let sums = [0, 1, 3, 16, 17, 19];
        assert!(sums.contains(&first) && sums.contains(&second), "no sum: {first}, {second}");
        seen.note("meanwhile", first != second);
        assert_eq!(get(&region, &code), 19, "lost a count");
    })
}
