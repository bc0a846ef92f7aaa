//! Reads a ring of unknown content in the order of its records' stamps, whatever these are.

use std::collections::HashMap;
use std::time::Duration;

use bytemuck::{AnyBitPattern, NoUninit};
use mapring::reading::ByTime;
use mapring::time::Clock;
use mapring::{Merged, Reader, Ring, Start};

use crate::read_all::{Reads, assert_value, conserved, positions, slot_words};

/// Calls in a row that read the rest of a ring that has no writer.
const CALLS: usize = 16;

/// A record's first bytes: any number, earlier than others or later than the clock.
fn stamp<T: NoUninit>(record: &T) -> u64 {
    let (bytes, mut word) = (bytemuck::bytes_of(record), [0; 8]);
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_ne_bytes(word)
}

/// Reads once in every way. Each record is delivered or held. Returns how many were delivered.
///
/// # Panics
/// Panics if a bound is exceeded, or a count is wrong.
pub fn read_merged<T: AnyBitPattern, F: FnMut(&T) -> u64>(
    merged: &mut Reader<T, ByTime<T, F>>,
    mut check: impl FnMut(usize, u64, &T),
) -> u64 {
    let geometry = *merged.region().geometry();
    // A pass ends after what the ring and the reader hold.
    let limit = geometry.shards() * (geometry.capacity() + 128);
    let (begin, before) = (positions(merged), merged.stats());
    let stats = |merged: &Reader<T, ByTime<T, F>>| {
        (0..geometry.shards()).map(|shard| merged.shard_stats(shard).expect("a shard")).collect()
    };
    let earlier: Vec<_> = stats(merged);
    let drained = merged.drain().inspect(|event| check(event.shard, event.ticket, &event.record)).count();
    assert!(drained <= limit, "{drained} records");
    let mut delivered = drained;
    if let Some(event) = merged.poll() {
        check(event.shard, event.ticket, &event.record);
        delivered += 1;
    }
    let some = merged.for_each(5, |event| check(event.shard, event.ticket, event.record));
    assert!(some <= 5, "{some} of 5");
    let all = merged.for_each(usize::MAX, |event| check(event.shard, event.ticket, event.record));
    assert!(all <= limit, "{all} records");
    delivered += some + all;

    // Delivered or held, lost and discarded are the tickets that were passed.
    let now = merged.stats();
    assert_eq!(now.delivered.wrapping_sub(before.delivered), delivered as u64, "{now}");
    let mut read = 0_u64;
    for (shard, (earlier, later)) in earlier.iter().zip(stats(merged)).enumerate() {
        let sum = |stats: &mapring::ReadStats| stats.passed();
        let moved = merged.position(shard).map(|at| at.wrapping_sub(begin[shard]));
        assert_eq!(Some(sum(&later).wrapping_sub(sum(earlier))), moved, "shard {shard}: {later}");
        read = read.wrapping_add(later.delivered.wrapping_sub(earlier.delivered));
    }
    let held = now.held.wrapping_sub(before.held);
    assert_eq!(read, (delivered as u64).wrapping_add(held), "{now}");
    assert!(now.held <= (geometry.shards() * 128) as u64, "{now}");
    assert!(
        now.late - before.late <= delivered as u64
            && now.ahead - before.ahead <= read.wrapping_add(before.held)
    );
    delivered as u64
}

/// Reads a ring from each start, with and without waiting for records that are being written. With `image`, the words of
/// a ring that has no writer, it gets what a reader gets that is not merged.
pub(crate) fn merged<T: AnyBitPattern + NoUninit>(ring: &Ring<T>, image: Option<&[u64]>) -> Reads {
    let mut reads = Reads::default();
    for (start, wait) in [(Start::Oldest, Duration::ZERO), (Start::Now, Duration::from_millis(1))] {
        let reader = || ring.reader_from(start).with_patience(wait);
        let mut merged = reader().merged(stamp).with_delay(wait);
        let (begin, mut found) = (positions(&merged), HashMap::<_, u32>::new());
        let mut still = false;
        for _ in 0..CALLS {
            let before = positions(&merged);
            read_merged(&mut merged, |shard, ticket, record| {
                let Some(image) = image else { return };
                let region = ring.region();
                let slot = slot_words(region.geometry(), image, shard, ticket);
                assert_value(record, &slot[1..], &region, ticket);
                *found.entry((shard, ticket)).or_default() += 1;
            });
            still = merged.stats().held == 0 && before == positions(&merged);
        }
        conserved(&merged, &begin);
        let stats = merged.stats();
        if image.is_some() {
            assert_eq!(stats.torn, 0);
            let listed = merged.take_losses().iter().fold(0, |sum: u64, loss| sum.wrapping_add(loss.count));
            assert_eq!(listed, stats.lost().wrapping_add(stats.dropped()));
            if still && wait.is_zero() {
                reads.compared += u64::from(compare(reader(), &positions(&merged), &found));
            }
        }
        assert!(merged.take_error().is_none());
        let passed = stats.passed().wrapping_sub(stats.delivered);
        reads += Reads { values: stats.delivered, passed, ..Reads::default() };
    }
    reads
}

/// Reads two readers of a ring in one order: no call delivers more than both may, and each record is delivered or held. Returns
/// how many were delivered.
///
/// # Panics
/// Panics if a bound is exceeded, or a count is wrong.
pub(crate) fn beside_itself<T: AnyBitPattern + NoUninit + Send>(ring: &Ring<T>) -> u64 {
    let reader = || ring.reader().with_patience(Duration::ZERO).merged(stamp).with_delay(Duration::ZERO);
    let mut both = Merged::<[u64; 2]>::new(Clock::Monotonic)
        .with(reader(), |counts, _| counts[0] += 1)
        .with(reader(), |counts, _| counts[1] += 1);
    let geometry = *both.reader(0).region().geometry();
    let limit = 2 * geometry.shards() * (geometry.capacity() + 128);
    let mut counts = [0; 2];
    for call in 0..CALLS {
        let most = if call % 2 == 0 { limit } else { 5 };
        let found = both.for_each(&mut counts, if call % 2 == 0 { usize::MAX } else { 5 });
        assert!(found <= most, "{found} of {most} records");
    }
    for (ring, count) in counts.into_iter().enumerate() {
        let stats = both.reader(ring).stats();
        assert_eq!((stats.delivered, stats.late <= count), (count, true), "{stats}");
    }
    counts.iter().sum()
}

/// Compares with a reader that is not merged. Returns false if they can't be compared: forged sequences can move readers
/// around all numbers again and again.
fn compare<T: AnyBitPattern>(mut reader: Reader<T>, end: &[u64], found: &HashMap<(usize, u64), u32>) -> bool {
    let mut right = HashMap::<_, u32>::new();
    for _ in 0..CALLS {
        reader.for_each(usize::MAX, |event| *right.entry((event.shard, event.ticket)).or_default() += 1);
    }
    let once = [&right, found].iter().all(|records| records.values().all(|&times| times == 1));
    let comparable = once && positions(&reader) == end;
    assert!(!comparable || found == &right);
    comparable
}
