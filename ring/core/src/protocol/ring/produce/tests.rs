//! What becomes of slots, whether their writers end them or not.

use super::super::{Cursor, ReadStats, Shard, ShardPlace, Start, Step};
use super::*;
use crate::abi::{Geometry, Kind};
use crate::protocol::WordsMut;
use crate::sync::AtomicU64;

/// Claims a slot like a writer that dies.
fn abandoned(shard: &ShardMut<'_>) -> u64 {
    let slot = shard.reserve::<u64>().unwrap();
    let ticket = slot.ticket();
    core::mem::forget(slot);
    ticket
}

#[test]
fn a_slot_ends_once_and_as_its_owner_said() {
    let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
    let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let place = ShardPlace::new(&geometry, 0);
    let writer = ShardMut::new(WordsMut::new(&words), &place);
    let mut slots: Vec<_> = (0..5).map(|_| writer.reserve::<u64>().unwrap()).collect();
    assert_eq!(slots.iter().map(Slot::ticket).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    // In another order than they were claimed: dropped, committed, discarded, committed without a record.
    drop(slots.pop());
    slots[3].write(&1);
    slots[3].write(&13);
    assert_eq!(slots.pop().unwrap().commit(), Some(3));
    slots[2].write(&12);
    slots.pop().unwrap().discard();
    assert_eq!(slots.pop().unwrap().commit(), None);
    let mut source = Shard::new(*WordsMut::new(&words), &place);
    let mut reader = Cursor::at(0, 1 << 14);
    let mut value = 0_u64;
    assert_eq!(reader.step(&mut source, &mut value), Step::Empty, "ticket 0 is being written");
    slots[0].write(&10);
    assert_eq!(slots.pop().unwrap().commit(), Some(0));
    let mut read = vec![];
    for _ in 0..8 {
        if let Step::Record(t) = reader.step(&mut source, &mut value) {
            read.push((t, value));
        }
    }
    assert_eq!(read, [(0, 10), (3, 13)]);
    assert_eq!(reader.stats(), ReadStats { delivered: 2, discarded: 3, ..ReadStats::default() });
}

#[test]
fn a_record_that_does_not_fit_claims_nothing() {
    let geometry = Geometry::new(Kind::Ring, 9, 2, 1).unwrap();
    let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let writer = ShardMut::new(WordsMut::new(&words), &ShardPlace::new(&geometry, 0));
    let larger = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| writer.push(&[7_u64; 3])));
    assert!(larger.is_err());
    assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    assert_eq!(writer.push(&[7_u64; 2]), Some(0));
}

#[test]
fn abandoned_tickets_end_as_discarded_and_their_slots_are_free_again() {
    let geometry = Geometry::new(Kind::Ring, 8, 4, 1).unwrap();
    let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let place = ShardPlace::new(&geometry, 0);
    let writer = ShardMut::new(WordsMut::new(&words), &place);
    let mut source = Shard::new(*WordsMut::new(&words), &place);
    let mut reader = Cursor::new(&mut source, Start::Oldest, 1 << 14);

    assert_eq!(writer.push(&10_u64), Some(0));
    assert_eq!([abandoned(&writer), abandoned(&writer)], [1, 2]);
    assert_eq!(writer.push(&13_u64), Some(3));
    assert_eq!(writer.recover(), 2);
    assert_eq!(writer.recover(), 0);
    for t in 4..8 {
        assert_eq!(writer.push(&(10 + t)), Some(t));
    }
    // Lapped by now: the rest is about the next lap.
    let mut late = Cursor::new(&mut source, Start::Oldest, 1 << 14);
    let mut read = vec![];
    let mut value = 0;
    while let Step::Record(t) = late.step(&mut source, &mut value) {
        read.push((t, value));
    }
    assert_eq!(read, [(4, 14), (5, 15), (6, 16), (7, 17)]);
    while reader.step::<u64>(&mut source, &mut value) != Step::Empty {}
    assert_eq!(reader.stats().delivered + reader.stats().lapped, 8);
}

#[test]
fn a_ticket_that_was_stepped_over_is_no_end_that_never_comes() {
    let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
    let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let place = ShardPlace::new(&geometry, 0);
    let writer = ShardMut::new(WordsMut::new(&words), &place);
    let mut source = Shard::new(*WordsMut::new(&words), &place);
    let mut reader = Cursor::new(&mut source, Start::First, 0);
    assert_eq!(abandoned(&writer), 0);
    (1..8).for_each(|n: u64| assert_eq!(writer.push(&n), Some(n)));
    assert_eq!(abandoned(&writer), 9, "the slot of ticket 8 is still that of ticket 0");
    let mut value = 0_u64;
    for _ in 0..64 {
        if reader.step(&mut source, &mut value) == Step::Empty && reader.at_end(&mut source) {
            assert_eq!(
                reader.stats(),
                ReadStats { delivered: 5, lapped: 2, skipped: 2, stepped_over: 1, ..ReadStats::default() },
                "9 is written where 1 was"
            );
            return;
        }
    }
    panic!("no end: {reader:?}");
}

#[test]
fn readers_pass_what_was_recovered_without_a_loss() {
    let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
    let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let place = ShardPlace::new(&geometry, 0);
    let writer = ShardMut::new(WordsMut::new(&words), &place);
    let mut source = Shard::new(*WordsMut::new(&words), &place);
    let mut reader = Cursor::new(&mut source, Start::Oldest, 1 << 14);
    assert_eq!((abandoned(&writer), writer.push(&1_u64), abandoned(&writer)), (0, Some(1), 2));
    assert_eq!(writer.recover(), 2);
    let mut value = 0_u64;
    let steps: Vec<_> = (0..4).map(|_| reader.step(&mut source, &mut value)).collect();
    assert_eq!(steps, [Step::Moved, Step::Record(1), Step::Moved, Step::Empty]);
    assert_eq!(reader.stats(), ReadStats { delivered: 1, discarded: 2, ..ReadStats::default() });
}
#[test]
fn a_head_in_the_midst_of_a_nested_claim_is_as_good_a_hint() {
    let geometry = Geometry::new(Kind::Ring, 8, 64, 1).unwrap();
    let words: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let place = ShardPlace::new(&geometry, 0);
    let writer = ShardMut::new(WordsMut::new(&words), &place);
    // More than a reader checks without a hint.
    let dead = 2 * u64::from(TRIES);
    (0..dead).for_each(|t| assert_eq!(abandoned(&writer), t));
    assert_eq!(writer.push(&7_u64), Some(dead));
    words[place.head()].fetch_or(1 << 63, Ordering::Relaxed); // as in docs/abi.md
    let mut source = Shard::new(*WordsMut::new(&words), &place);
    let mut reader = Cursor::at(0, 0);
    let mut value = 0_u64;
    let steps = (0..64 * dead).map(|_| reader.step(&mut source, &mut value));
    assert!(steps.into_iter().any(|step| step == Step::Record(dead)), "{reader:?}");
    assert_eq!(reader.stats(), ReadStats { delivered: 1, skipped: dead, ..ReadStats::default() });
}
