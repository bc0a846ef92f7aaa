//! Models of histograms: each value is in exactly one difference between a reader's copies.

use std::sync::Arc;

use mapring_core::abi::histogram::{BUCKETS, bucket};
use mapring_core::protocol::{Words, WordsMut, histogram};
use mapring_loom_tests::check;
use mapring_loom_tests::sync::{AtomicU64, thread, words};

/// The counts of the buckets of 5 and 1000, summed over all shards.
fn sum(shards: &[AtomicU64]) -> [u64; 2] {
    let mut sums = [0; BUCKETS];
    histogram::sum(shards.chunks(BUCKETS).map(Words::new), &mut sums);
    [5, 1000].map(|value| sums[bucket(value)])
}

#[test]
fn every_value_is_in_one_difference() {
    check(None, || {
        let shards: Arc<[AtomicU64]> = words(2 * BUCKETS).into();
        let add = |shards: &[AtomicU64], shard: usize, value| {
            histogram::add(WordsMut::new(&shards[shard * BUCKETS..][..BUCKETS]), value);
        };
        let there = Arc::clone(&shards);
        // Of one bucket in one shard, as programs that interrupt each other.
        let other = thread::spawn(move || add(&there, 0, 1000));
        add(&shards, 0, 960);
        let first = sum(&shards);
        add(&shards, 1, 5);
        add(&shards, 1, 1023);
        other.join().unwrap();
        let last = sum(&shards);
        assert_eq!(last, [1, 3], "after {first:?}");
        assert!(first[0] == 0 && (1..=2).contains(&first[1]), "{first:?}");
    });
}
