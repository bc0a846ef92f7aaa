//! The algorithms on real threads over bare words, reached as mapped memory is: through a raw
//! pointer. Small enough for Miri, which runs them under many schedules and with stale loads.
#![allow(clippy::disallowed_types)] // the words themselves

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use mapring_core::abi::seq::TRIES;
use mapring_core::abi::{Geometry, Kind};
use mapring_core::protocol::ring::{Cursor, Shard, ShardMut, ShardPlace, Step};
use mapring_core::protocol::{Words, WordsMut, cell, counters, latch};

/// A value of which each word follows from the others: a copy of two is not whole.
type Value = [u64; 3];

fn value(n: u64) -> Value {
    [n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), !n]
}

fn whole(read: &Value) -> bool {
    *read == value(read[0])
}

/// How much work there is: Miri is a thousand times slower, and looks closer.
fn rounds(native: u64, miri: u64) -> u64 {
    if cfg!(miri) { miri } else { native }
}

/// Now and then it is the readers' turn, even where there are more threads than CPUs.
fn pause(n: u64) {
    if n.is_multiple_of(rounds(32, 4)) {
        thread::yield_now();
    }
}

/// Zeroed memory that does not belong to a Rust object, like a mapping.
struct Memory(Box<[AtomicU64]>);

impl Memory {
    fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn words(&self) -> Words<'_> {
        // SAFETY: as many words as there are, for as long as `self` is borrowed.
        unsafe { Words::from_raw(self.0.as_ptr(), self.0.len()) }
    }

    fn words_mut(&self) -> WordsMut<'_> {
        // SAFETY: as above, and atomics can be written through a shared reference.
        unsafe { WordsMut::from_raw(self.0.as_ptr(), self.0.len()) }
    }
}

/// Nanoseconds after which a reader passes over a ticket that does not end.
const PATIENCE: u64 = 1_000_000;
/// Empty steps after which a reader has found what there is.
const EMPTY: u32 = 32;

/// Reads until the writers are done and nothing is left: the records, and where the cursor stands.
/// Each is whole, in order, and all tickets passed are accounted for at every step.
fn read(memory: &Memory, place: &ShardPlace, done: &AtomicBool) -> (BTreeMap<u64, u64>, Cursor) {
    let mut shard = Shard::new(memory.words(), place);
    let mut cursor = Cursor::at(0, PATIENCE);
    let (mut found, mut waits) = (BTreeMap::new(), 0);
    loop {
        let last = done.load(Ordering::Acquire);
        let next = cursor.next();
        let mut out = Value::default();
        let step = cursor.step(&mut shard, &mut out);
        if let Step::Record(ticket) = step {
            assert_eq!(ticket, next);
            assert!(whole(&out), "ticket {ticket} is torn: {out:x?}");
            found.insert(ticket, out[0]);
        }
        let stats = cursor.stats();
        assert_eq!(stats.passed(), cursor.next());
        assert_eq!(stats.delivered, found.len() as u64);
        waits = if last && step == Step::Empty { waits + 1 } else { 0 };
        // A ticket that nobody took is passed only after a while.
        if waits > EMPTY {
            return (found, cursor);
        }
        if step == Step::Empty {
            thread::yield_now();
        }
    }
}

/// Writers of one shard with `slots` slots, each publishing `count` records, and two readers.
fn ring(slots: u64, writers: u64, count: u64) {
    let geometry = Geometry::new(Kind::Ring, 24, slots, 1).unwrap();
    let place = ShardPlace::new(&geometry, 0);
    let memory = Memory::new(geometry.bytes() / 8);
    let done = AtomicBool::new(false);
    let write = |writer: u64| {
        let shard = ShardMut::new(memory.words_mut(), &place);
        let values = (0..count).inspect(|&n| pause(n)).map(|n| n * writers + writer + 1);
        values.filter_map(|n| Some((shard.push(&value(n))?, n))).collect::<Vec<_>>()
    };
    let (written, readers) = thread::scope(|scope| {
        let readers = [(); 2].map(|()| scope.spawn(|| read(&memory, &place, &done)));
        let write = &write;
        let others: Vec<_> = (1..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        let mut written = write(0);
        others.into_iter().for_each(|other| written.extend(other.join().unwrap()));
        done.store(true, Ordering::Release);
        (written, readers.map(|reader| reader.join().unwrap()))
    });
    let tickets: BTreeMap<_, _> = written.iter().copied().collect();
    assert_eq!(tickets.len(), written.len(), "a ticket was given twice");
    let shard = Shard::new(memory.words(), &place);
    assert_eq!(written.len() as u64 + shard.dropped(), writers * count, "dropped, and not counted");
    assert!(writers > 1 || shard.dropped() == 0, "nobody was in the way");
    let end = tickets.last_key_value().map_or(0, |(ticket, _)| ticket + 1);
    for (found, cursor) in readers {
        assert_eq!(cursor.next(), end);
        assert!(found.iter().all(|(ticket, n)| tickets.get(ticket) == Some(n)), "not what was written");
        println!("explored {} records: {slots} slots, {writers} writers: {:?}", found.len(), cursor.stats());
    }
}

#[test]
fn a_writer_laps_its_readers() {
    ring(4, 1, rounds(20_000, 24));
}

#[test]
fn a_writer_rewrites_its_only_slot() {
    ring(1, 1, rounds(20_000, 16));
}

#[test]
fn two_writers_share_two_slots() {
    ring(2, 2, rounds(20_000, 10));
}

#[test]
fn three_writers_share_a_ring() {
    ring(8, 3, rounds(20_000, 6));
}

/// Each row of stuck slots that is longer than a claim's tries costs one record a lap, and not the shard: a dropped
/// claim leaves `head` behind the slots that it tried.
#[test]
fn a_producer_goes_on_behind_the_slots_that_it_tried() {
    for (slots, dead) in [(8, 6), (16, 6), (16, 8), (16, 13), (64, 30), (256, 200)] {
        let geometry = Geometry::new(Kind::Ring, 24, slots, 1).unwrap();
        let place = ShardPlace::new(&geometry, 0);
        let memory = Memory::new(geometry.bytes() / 8);
        let shard = ShardMut::new(memory.words_mut(), &place);
        for t in 0..dead {
            let slot = shard.reserve::<Value>().unwrap();
            assert_eq!(slot.ticket(), t);
            std::mem::forget(slot); // never ended
        }
        let push = || shard.push(&value(1));
        assert!((dead..slots).all(|t| push() == Some(t)));
        let tries = u64::from(TRIES);
        for lap in 1..4 {
            let dropped = (0..slots).take_while(|_| push().is_none()).count() as u64;
            assert_eq!(dropped, dead / tries, "lap {lap} of {slots} slots, {dead} of them stuck");
            let first = lap * slots + dead + 1; // the claim that ended the row took the first slot behind it
            assert!((first..(lap + 1) * slots).all(|t| push() == Some(t)), "lap {lap} of {slots} slots");
            assert_eq!(Shard::new(memory.words(), &place).dropped(), lap * (dead / tries));
        }
    }
}

/// Looks until the writers are done, and once more: what is seen never goes back.
fn watch(done: &AtomicBool, mut look: impl FnMut() -> Option<u64>) -> u64 {
    let (mut reads, mut latest) = (0_u64, 0);
    loop {
        let last = done.load(Ordering::Acquire);
        let seen = look();
        if let Some(seen) = seen {
            assert!(seen >= latest, "{seen} after {latest}");
            latest = seen;
            reads += 1;
        }
        if last {
            println!("explored {reads} reads");
            return seen.expect("nobody writes any more");
        }
        if seen.is_none() {
            thread::yield_now();
        }
    }
}

#[test]
fn two_writers_share_a_cell() {
    let count = rounds(20_000, 12);
    let memory = Memory::new(4);
    let done = AtomicBool::new(false);
    let set = |n| {
        pause(n);
        cell::set(memory.words_mut(), &value(n))
    };
    let write = || (1..=count).filter(|&n| set(n)).count() as u64;
    let (written, last) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            watch(&done, || {
                let mut out = value(0);
                let seq = cell::try_read(memory.words(), &mut out)?;
                assert!(if seq == 0 { out == [0; 3] } else { whole(&out) }, "torn at {seq}: {out:x?}");
                Some(seq)
            })
        });
        let other = scope.spawn(write);
        let written = write() + other.join().unwrap();
        done.store(true, Ordering::Release);
        (written, reader.join().unwrap())
    });
    assert_eq!(last, 2 * written, "the sequence counts two a write");
    assert!(written > 0, "a refusal means that another one writes");
}

#[test]
fn a_latch_is_always_whole() {
    let count = rounds(20_000, 20);
    let memory = Memory::new(7);
    let done = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            watch(&done, || {
                let mut out = value(0);
                let seq = latch::try_read(memory.words(), &mut out)?;
                assert_eq!(out, if seq == 0 { [0; 3] } else { value(seq) }, "torn");
                Some(seq)
            })
        });
        (1..=count).for_each(|n| latch::set(memory.words_mut(), &value(n)));
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    assert_eq!(last, count);
}

#[test]
fn counters_lose_nothing() {
    let count = rounds(20_000, 20);
    let memory = Memory::new(2);
    let done = AtomicBool::new(false);
    let add = || (0..count).for_each(|_| counters::add(memory.words_mut(), 1, 3));
    let last = thread::scope(|scope| {
        let reader = scope.spawn(|| watch(&done, || Some(counters::get(memory.words(), 1))));
        let other = scope.spawn(add);
        add();
        other.join().unwrap();
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    assert_eq!((last, counters::get(memory.words(), 0)), (6 * count, 0));
}
