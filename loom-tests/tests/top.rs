//! Models of top keys: no entry has the count of another key, a reader sees whole buckets, and the sum is exact.

use std::sync::Arc;

use mapring_core::abi::top::{COUNTS, ERRORS, KEYS, STRIDE, WAYS};
use mapring_core::protocol::top::{Copy, entries, least, other};
use mapring_core::protocol::{WordsMut, cell, top};
use mapring_loom_tests::check;
use mapring_loom_tests::sync::{AtomicU64, Ordering, thread, words};

/// A full bucket: the key 0 has the count 1, nine others have 5.
fn full() -> Arc<[AtomicU64]> {
    let bucket = words(STRIDE);
    for way in 0..WAYS {
        bucket[KEYS + way].store(way as u64, Ordering::Relaxed);
        bucket[COUNTS + way].store(if way == 0 { 1 } else { 5 }, Ordering::Relaxed);
        bucket[ERRORS + way].store(0, Ordering::Relaxed);
    }
    bucket.into()
}

fn look(bucket: &[AtomicU64]) -> Option<Copy> {
    let mut copy = [0; STRIDE - 1];
    cell::try_read(*WordsMut::new(bucket), &mut copy).map(|_| copy)
}

/// The entries after these additions, one after the other.
fn after(additions: &[(u64, u64)]) -> Vec<(u64, u64, u64)> {
    let bucket = full();
    for (key, amount) in additions {
        assert!(top::add(WordsMut::new(&bucket), *key, *amount));
    }
    entries(&look(&bucket).unwrap()).collect()
}

fn total(copy: &Copy) -> u64 {
    entries(copy).map(|(_, count, _)| count).sum::<u64>() + other(copy)
}

/// Two writers, as programs that interrupt each other or threads of a memfd: one brings a new key, which takes the place
/// of another one; the other adds to that one.
#[test]
fn no_entry_has_the_count_of_another_key() {
    check(Some(2), || {
        let (new, old) = ((100, 2), (0, 3));
        let possible: Vec<_> =
            [&[][..], &[new], &[old], &[new, old], &[old, new]].map(after).into_iter().collect();
        let bucket = full();
        let (there, here) = (Arc::clone(&bucket), Arc::clone(&bucket));
        let writer = thread::spawn(move || top::add(WordsMut::new(&there), old.0, old.1));
        let reader = thread::spawn(move || look(&here));
        let counted = [top::add(WordsMut::new(&bucket), new.0, new.1), writer.join().unwrap()];
        if let Some(copy) = reader.join().unwrap() {
            assert!(possible.contains(&entries(&copy).collect()), "{copy:?}");
        }
        let last = look(&bucket).expect("nobody is in the bucket");
        assert!(counted != [false; 2] && possible.contains(&entries(&last).collect()), "{last:?}");
        assert_eq!(total(&last), 1 + 9 * 5 + 2 + 3, "nothing is lost: {counted:?}");
        for (key, truth) in [(100, 2), (0, 1 + 3)] {
            let (sure, most) = match entries(&last).find(|entry| entry.0 == key) {
                Some((_, count, error)) => (count - error, count),
                None => (0, least(&last)),
            };
            assert!((sure..=most + other(&last)).contains(&truth), "{key}: {last:?}");
        }
    });
}
