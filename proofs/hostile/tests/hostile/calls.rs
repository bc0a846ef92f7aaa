//! The cost of one call of a reader: at most a fixed number of steps between two records, for any number of slots and
//! shards, and any content.

use mapring::abi::Geometry;
use mapring::abi::seq::DISCARDED;
use mapring::{Reader, Ring};
use mapring_hostile_tests::Memory;

const STEPS: u64 = Reader::<u64>::STEPS as u64;

/// One call of a reader: returns its record, if any.
type Call = fn(&mut Reader<u64>) -> Option<u64>;

const CALLS: [(&str, Call); 4] = [
    ("poll", |reader| reader.poll().map(|event| event.record)),
    ("drain", |reader| reader.drain().next().map(|event| event.record)),
    ("for_each, one", |reader| one_of(reader, 1)),
    ("for_each, all", |reader| one_of(reader, usize::MAX)),
];

fn one_of(reader: &mut Reader<u64>, limit: usize) -> Option<u64> {
    let mut record = None;
    reader.for_each(limit, |event| record = Some(*event.record));
    record
}

/// Fills shard `shard` of a ring: the first `discarded` tickets of its first lap are discarded, then follow `records`.
fn fill(words: &mut [u64], geometry: &Geometry, shard: usize, discarded: usize, records: usize) {
    let stride = geometry.element_words();
    words[geometry.shard(shard) * stride] = (discarded + records) as u64;
    for t in 0..discarded + records {
        let slot = (geometry.slots(shard) + t) * stride;
        words[slot] = if t < discarded { DISCARDED | 2 } else { 2 };
        words[slot + 1] = t as u64;
    }
}

/// A ring with these contents.
fn ring(slots: usize, shards: usize, fill: impl FnOnce(&mut [u64], &Geometry)) -> Ring<u64> {
    let ring = Ring::<u64>::create_memfd(slots, shards).unwrap();
    let memory = Memory::of(&ring.region());
    let mut words = memory.words();
    fill(&mut words, ring.region().geometry());
    memory.put_all(&words);
    ring
}

/// The number of tickets that all shards of a reader have passed.
fn passed(reader: &Reader<u64>) -> u64 {
    let stats = reader.stats();
    stats.passed()
}

#[test]
fn a_lap_of_discarded_tickets_takes_many_calls() {
    let slots = 1 << 18;
    let ring = ring(slots, 1, |words, geometry| fill(words, geometry, 0, slots - 1, 1));
    for (name, call) in CALLS {
        let mut reader = ring.reader();
        let mut calls = 0_u64;
        let record = loop {
            let before = passed(&reader);
            let record = call(&mut reader);
            calls += 1;
            let spent = passed(&reader) - before;
            assert!(spent <= STEPS + 1, "{name}: {spent} tickets in call {calls}");
            match record {
                Some(record) => break record,
                None => assert!(reader.stopped_early() && spent > STEPS / 2, "{name}, call {calls}: {spent}"),
            }
        };
        assert_eq!(record, slots as u64 - 1, "{name}");
        assert!((0..=1).contains(&(calls - slots as u64 / STEPS)), "{name}: {calls} calls");
        assert_eq!((reader.stats().discarded, reader.lost()), (slots as u64 - 1, 0), "{name}");
        // It has reached the end, and reports that.
        assert_eq!((call(&mut reader), reader.stopped_early()), (None, false), "{name}");
    }
}

#[test]
fn between_records_a_call_may_spend_as_much_each_time() {
    // Most tickets are discarded, but few in a row.
    let slots = 1 << 16;
    let ring = ring(slots, 1, |words, geometry| {
        fill(words, geometry, 0, 0, slots);
        let stride = geometry.element_words();
        (0..slots)
            .filter(|t| t % 1000 < 990)
            .for_each(|t| words[(geometry.slots(0) + t) * stride] |= DISCARDED);
    });
    let records = (0..slots).filter(|t| t % 1000 >= 990).count();
    let (mut drains, mut calls, mut polls) = (ring.reader(), ring.reader(), ring.reader());
    assert_eq!(drains.drain().count(), records, "everything that is there");
    assert_eq!(calls.for_each(usize::MAX, |_| ()), records);
    assert_eq!(std::iter::from_fn(|| polls.poll().map(drop)).count(), records);
    for mut reader in [drains, calls, polls] {
        assert_eq!((reader.stopped_early(), passed(&reader)), (false, slots as u64));
    }
}

#[test]
fn a_shard_of_discarded_tickets_leaves_the_others_their_turn() {
    let slots = 1 << 17;
    let ring = ring(slots, 3, |words, geometry| {
        fill(words, geometry, 0, slots, 0);
        fill(words, geometry, 1, 0, 1);
        fill(words, geometry, 2, slots, 0);
    });
    for (name, call) in CALLS {
        let mut reader = ring.reader();
        let first = (0..3).position(|_| call(&mut reader).is_some());
        assert_eq!(first, Some(1), "{name}: the second call comes to the second shard");
        assert!(passed(&reader) <= 2 * STEPS + 1, "{name}");
    }
}

#[test]
fn idle_shards_are_all_looked_at_in_one_call_and_forged_ones_are_not() {
    for (shards, most) in [(1024, 1), (8192, 1), (1 << 16, 5)] {
        let ring = ring(1, shards, |words, geometry| fill(words, geometry, shards - 1, 0, 1));
        for (name, call) in CALLS {
            let mut reader = ring.reader();
            let calls = (1..=most).find(|_| call(&mut reader).is_some());
            let least = (shards as u64).div_ceil(STEPS);
            assert!(calls.is_some_and(|calls| calls >= least), "{name}, {shards} shards: {calls:?} calls");
            assert_eq!(reader.stopped_early(), shards as u64 > STEPS, "{name}, {shards} shards");
        }
    }
}
