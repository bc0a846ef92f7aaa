//! `poll` and `drain` read runs of records: the counts and positions of a reader in the middle of a run, and readers that
//! continue from there. Also readers that begin at a time.

use std::collections::BTreeSet;

use mapring::{Event, Ring};

const SHARDS: usize = 3;

#[test]
fn all_ways_of_reading_can_be_mixed() {
    let ring = Ring::<u64>::create_memfd(8, SHARDS).unwrap();
    let writers: Vec<_> = (0..SHARDS).map(|shard| ring.writer(shard).unwrap()).collect();
    let mut reader = ring.reader();
    let (mut pushed, mut delivered) = ([0; SHARDS], BTreeSet::new());
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    for _ in 0..2000 {
        let shard = usize::try_from(below(SHARDS as u64)).unwrap();
        for _ in 0..below(6) {
            assert_eq!(writers[shard].push(&pushed[shard]), Some(pushed[shard]));
            pushed[shard] += 1;
        }
        let mut note = |(shard, ticket, record): (usize, u64, u64)| {
            assert_eq!(record, ticket);
            assert!(delivered.insert((shard, ticket)), "{ticket} of {shard} was delivered twice");
        };
        let of = |event: Event<u64>| (event.shard, event.ticket, event.record);
        let some = usize::try_from(below(5)).unwrap();
        match below(5) {
            0 => (0..some).for_each(|_| {
                if let Some(event) = reader.poll() {
                    note((event.shard, event.ticket, event.record));
                }
            }),
            1 => reader.drain().take(some).map(of).for_each(&mut note),
            2 => reader.drain().map(of).for_each(&mut note),
            3 => {
                reader.for_each(some, |event| note((event.shard, event.ticket, *event.record)));
            }
            _ => drop(reader.wait(std::time::Duration::ZERO).unwrap()),
        }
        // In the midst of a run, too, the counts and positions are those of the records that were returned.
        assert_eq!(reader.stats().delivered, delivered.len() as u64);
        let positions: Vec<_> = (0..SHARDS).map(|shard| reader.position(shard).unwrap()).collect();
        let passed = |shard: usize| {
            let stats = reader.shard_stats(shard).unwrap();
            stats.passed()
        };
        assert!((0..SHARDS).all(|shard| positions[shard] == passed(shard)), "{positions:?} {reader:?}");
        let last =
            |shard: usize| delivered.range((shard, 0)..(shard + 1, 0)).next_back().map_or(0, |&(_, t)| t + 1);
        assert!((0..SHARDS).all(|shard| positions[shard] >= last(shard)), "{positions:?}");
    }
    reader.drain().for_each(|event| assert!(delivered.insert((event.shard, event.ticket))));
    let stats = reader.stats();
    assert_eq!(stats.passed(), pushed.iter().sum::<u64>());
    assert!(stats.delivered > 1000 && stats.lapped > 100, "{stats}");
}

#[test]
fn a_merged_reader_begins_where_a_run_was_left() {
    let ring = Ring::<[u64; 2]>::create_memfd(64, 2).unwrap();
    for shard in [0, 1] {
        let writer = ring.writer(shard).unwrap();
        (1..=10).for_each(|n| assert!(writer.push(&[n, n]).is_some()));
    }
    let mut reader = ring.reader();
    let first: Vec<_> = reader.drain().take(3).map(|event| event.record[0]).collect();
    assert_eq!(first, [1, 2, 3]);
    let mut merged = reader.merged(|record| record[0]);
    let stamps: Vec<_> = merged.drain().map(|event| event.record[0]).collect();
    assert_eq!(stamps, [1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10]);
}

/// Stamps and tickets that a reader delivers of one shard after `skip_before`, and how many stamps that asked for.
fn skipped(ring: &Ring<[u64; 2]>, time: u64) -> (Vec<[u64; 2]>, u64) {
    let (mut reader, mut asked) = (ring.reader(), 0);
    reader.skip_before(time, |record| {
        asked += 1;
        record[0]
    });
    let read = reader.drain().map(|event| [event.record[0], event.ticket]).collect();
    assert_eq!(reader.lost(), 0);
    (read, asked)
}

#[test]
fn a_reader_begins_at_a_time_with_a_bisection() {
    let ring = Ring::<[u64; 2]>::create_memfd(1 << 12, 1).unwrap();
    assert_eq!(skipped(&ring, 5), (vec![], 0));
    let writer = ring.writer(0).unwrap();
    let mut from = 0;
    for to in [1, 2, 3, 100, 1 << 12, 10_000] {
        (from..to).for_each(|n| assert!(writer.push(&[10 * n, 0]).is_some()));
        let oldest = to.saturating_sub(1 << 12);
        for first in [0, 1, 2, to / 2, to.saturating_sub(70), to - 1, to, to + 1] {
            let (read, asked) = skipped(&ring, 10 * first);
            // From the last older record on.
            let from = first.min(to).saturating_sub(1).max(oldest);
            assert_eq!(read, (from..to).map(|n| [10 * n, n]).collect::<Vec<_>>(), "{first} of {to}");
            assert!(asked <= 13, "{asked}");
        }
        from = to;
    }
}

/// Tickets without a record, and records that were stamped long after their tickets were reserved.
#[test]
fn no_record_that_was_reserved_in_time_is_passed_over() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    for _ in 0..500 {
        let ring = Ring::<[u64; 2]>::create_memfd(1 << 8, 1).unwrap();
        let (writer, gaps, count) = (ring.writer(0).unwrap(), below(100), below(600));
        for n in 0..count {
            let mut slot = writer.reserve().unwrap();
            if below(100) >= gaps {
                slot.write(&[n + if below(8) == 0 { below(300) } else { 0 }, 0]);
                slot.commit();
            }
        }
        let mut all = ring.reader();
        let all: Vec<_> = all.drain().map(|event| [event.record[0], event.ticket]).collect();
        let time = below(count + 10);
        let (read, _) = skipped(&ring, time);
        // It left out the first ones only, and none of them was reserved at this time or later.
        let left_out = all.strip_suffix(&read[..]).unwrap();
        assert!(left_out.iter().all(|[_, ticket]| *ticket < time), "{time}: {left_out:?}");
        assert!(read.len() <= all.len());
    }
}
