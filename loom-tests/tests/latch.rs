//! Models of latches: one writer, readers that never wait for it, and a writer that died halfway.

use std::sync::Arc;

use mapring_core::protocol::{Words, WordsMut, latch};
use mapring_loom_tests::sync::{AtomicU64, Ordering, thread, words};
use mapring_loom_tests::{Seen, check};

/// All words of a value contain the number of the write.
type Value = [u64; 2];
type Words5 = Arc<[AtomicU64]>;

fn new() -> Words5 {
    words(5).into()
}

fn set(latch: &Words5, number: u64) {
    latch::set(WordsMut::new(latch), &[number; 2]);
}

/// Reads `count` times: each whole value belongs to its sequence, and is never older than the one before.
fn reads(latch: &Words5, count: usize) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::new();
    for _ in 0..count {
        let mut out = Value::default();
        if let Some(seq) = latch::try_read(Words::new(latch), &mut out) {
            assert_eq!(out, [seq; 2]);
            assert!(found.last().is_none_or(|&last| last <= seq), "{seq} after {found:?}");
            found.push(seq);
        }
    }
    found
}

#[test]
fn a_value_is_always_whole() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let latch = new();
        let there = Arc::clone(&latch);
        let reader = thread::spawn(move || reads(&there, 2));
        (1..=3).for_each(|number| set(&latch, number));
        let found = reader.join().unwrap();
        noted.note("changed", found.len() == 2 && found[0] < found[1]);
        noted.note("looked again", found.len() < 2);
        assert_eq!(reads(&latch, 1), [3]);
    });
    seen.expect(&["changed", "looked again"]);
}

/// A writer that stops halfway, for a time or for good, never blocks readers from the last value.
#[test]
fn readers_never_wait_for_a_writer() {
    check(None, || {
        let latch = new();
        set(&latch, 1);
        let there = Arc::clone(&latch);
        let reader = thread::spawn(move || reads(&there, 2));
        let second = latch::copy_at::<Value>(2, latch.len()).0;
        latch[second].store(2, Ordering::Relaxed);
        assert_eq!(reader.join().unwrap(), [1, 1]);
    });
}

/// The next writer continues from the state that a dead writer left.
#[test]
fn the_next_writer_goes_on() {
    check(None, || {
        let latch = new();
        set(&latch, 1);
        latch[latch::copy_at::<Value>(2, latch.len()).0].store(77, Ordering::Relaxed);
        let there = Arc::clone(&latch);
        let reader = thread::spawn(move || reads(&there, 2));
        set(&latch, 2);
        reader.join().unwrap();
        assert_eq!(reads(&latch, 1), [2]);
    });
}
