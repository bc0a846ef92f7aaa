//! Models of cells: the production reader against the production writer in Rust, and against the BPF writer on weakly
//! ordered machines. The first argument of `check` is the preemption bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use mapring_core::protocol::{Words, WordsMut, cell};
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::sync::{AtomicU64, Ordering, thread, words};
use mapring_loom_tests::{Seen, check};

/// All words of a value contain the same number.
type Value = [u64; 2];
type Words3 = Arc<[AtomicU64]>;

/// The operations of writers in all languages.
trait Writer: Copy + Send + Sync + 'static {
    /// Returns the odd sequence, if no other writer was in the cell.
    fn begin(self, cell: &Words3) -> Option<u64>;
    fn end(self, cell: &Words3, odd: u64);

    /// The values that it wrote, by sequence.
    fn set(self, cell: &Words3, number: u64) -> BTreeMap<u64, u64> {
        let odd = self.begin(cell);
        if let Some(odd) = odd {
            WordsMut::new(cell).write(1, &[number; 2]);
            self.end(cell, odd);
        }
        odd.map(|odd| (odd + 1, number)).into_iter().collect()
    }
}

/// The production writer in Rust.
#[derive(Clone, Copy)]
struct Rust;

impl Writer for Rust {
    fn begin(self, cell: &Words3) -> Option<u64> {
        cell::begin(WordsMut::new(cell))
    }

    fn end(self, cell: &Words3, odd: u64) {
        cell::end(WordsMut::new(cell), odd);
    }
}

/// The steps of `ring/include/mapring/cell.bpf.h`.
impl Writer for Bpf {
    fn begin(self, cell: &Words3) -> Option<u64> {
        let seen = cell[0].load(Ordering::Relaxed);
        (seen & 1 == 0 && Bpf::cmpxchg(&cell[0], seen, seen + 1) == seen).then_some(seen + 1)
    }

    fn end(self, cell: &Words3, _odd: u64) {
        self.publish(&cell[0], cell[0].load(Ordering::Relaxed) + 1);
    }
}

fn new() -> Words3 {
    words(3).into()
}

/// Reads `count` times: sequences never decrease, and no value is torn.
fn reads(cell: &Words3, count: usize) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for _ in 0..count {
        let mut out = Value::default();
        if let Some(seq) = cell::try_read(Words::new(cell), &mut out) {
            assert_eq!(out[0], out[1], "torn at {seq}");
            assert!(found.last().is_none_or(|&(last, _)| last <= seq), "{seq} after {found:?}");
            found.push((seq, out[0]));
        }
    }
    found
}

/// After all threads have ended: every write has its own sequence, and each sequence was read with its value.
fn judge(cell: &Words3, found: &[(u64, u64)], written: &BTreeMap<u64, u64>) {
    for (seq, value) in found {
        assert_eq!(written.get(seq).or((*seq == 0).then_some(&0)), Some(value), "{found:?} {written:?}");
    }
    assert!(written.keys().copied().eq((1..=written.len() as u64).map(|n| 2 * n)), "{written:?}");
    let last = written.last_key_value().map_or((0, 0), |(&seq, &value)| (seq, value));
    assert_eq!(reads(cell, 1), [last]);
}

/// Each model once for each writer.
macro_rules! models {
    ($($model:ident)*) => {
        mod rust { $(#[test] fn $model() { super::$model(super::Rust); })* }
        mod bpf_xchg { $(#[test] fn $model() { super::$model(super::Bpf::Xchg); })* }
        mod bpf_release { $(#[test] fn $model() { super::$model(super::Bpf::StoreRelease); })* }
    };
}

models! {
    a_value_is_never_torn
    two_writers_and_a_reader
    updates_follow_each_other
    a_writer_that_never_ends
    what_was_abandoned_is_never_seen
    a_writer_that_comes_while_another_recovers
}

fn a_value_is_never_torn(writer: impl Writer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let cell = new();
        let there = Arc::clone(&cell);
        let reader = thread::spawn(move || reads(&there, 2));
        let mut written = writer.set(&cell, 1);
        written.append(&mut writer.set(&cell, 2));
        let found = reader.join().unwrap();
        noted.note("changed", found.len() == 2 && found[0] < found[1]);
        noted.note("busy", found.len() < 2);
        judge(&cell, &found, &written);
    });
    seen.expect(&["changed", "busy"]);
}

fn two_writers_and_a_reader(writer: impl Writer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let cell = new();
        let (there, here) = (Arc::clone(&cell), Arc::clone(&cell));
        let reader = thread::spawn(move || reads(&there, 1));
        let other = thread::spawn(move || writer.set(&here, 11));
        let mut written = writer.set(&cell, 1);
        let mut others = other.join().unwrap();
        noted.note("both wrote", written.len() + others.len() == 2);
        noted.note("one gave up", written.len() + others.len() == 1);
        written.append(&mut others);
        judge(&cell, &reader.join().unwrap(), &written);
    });
    seen.expect(&["both wrote", "one gave up"]);
}

/// A writer may update the value in place: it starts from the last writer's value.
fn updates_follow_each_other(writer: impl Writer) {
    check(None, move || {
        let cell = new();
        let count = move |cell: &Words3| {
            let Some(odd) = writer.begin(cell) else { return 0 };
            let mut value = Value::default();
            Words::new(cell).read(1, &mut value);
            WordsMut::new(cell).write(1, &value.map(|word| word + 1));
            writer.end(cell, odd);
            1
        };
        let there = Arc::clone(&cell);
        let other = thread::spawn(move || count(&there) + count(&there));
        let updates = count(&cell) + count(&cell) + other.join().unwrap();
        assert_eq!(reads(&cell, 1), [(2 * updates, updates)]);
    });
}

fn a_writer_that_never_ends(writer: impl Writer) {
    check(None, move || {
        let cell = new();
        let written = writer.set(&cell, 1);
        let there = Arc::clone(&cell);
        let reader = thread::spawn(move || reads(&there, 2));
        assert_eq!(writer.begin(&cell), Some(3));
        WordsMut::new(&cell).write(1, &9_u64);
        let there = Arc::clone(&cell);
        let other = thread::spawn(move || writer.set(&there, 11));
        assert_eq!(other.join().unwrap(), BTreeMap::new());
        let found = reader.join().unwrap();
        assert!(found.iter().all(|&(seq, value)| (seq, value) == (2, written[&2])), "{found:?}");
        assert_eq!(reads(&cell, 1), []);
    });
}

/// The whole write in one call also gives up, and returns `false`.
#[test]
fn a_set_that_finds_another_writer_writes_nothing() {
    check(None, || {
        let cell = new();
        let there = Arc::clone(&cell);
        let other = thread::spawn(move || cell::set(WordsMut::new(&there), &[11_u64; 2]));
        let done = [cell::set(WordsMut::new(&cell), &[1_u64; 2]), other.join().unwrap()];
        let found = reads(&cell, 1);
        let expected: &[&[(u64, u64)]] = match done {
            [true, true] => &[&[(4, 1)], &[(4, 11)]],
            [true, false] => &[&[(2, 1)]],
            [false, true] => &[&[(2, 11)]],
            [false, false] => &[],
        };
        assert!(expected.contains(&&found[..]), "{done:?} {found:?}");
    });
}

/// A writer begins, writes half of its value, and dies. Only the thread that joins it knows of the death.
fn dies(cell: &Words3, writer: impl Writer) {
    let there = Arc::clone(cell);
    let victim = thread::spawn(move || {
        assert!(writer.begin(&there).is_some());
        WordsMut::new(&there).write(1, &9_u64);
    });
    victim.join().unwrap();
}

/// Readers get the value before recovery, the one after, or none, at any point of the recovery.
fn what_was_abandoned_is_never_seen(writer: impl Writer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let cell = new();
        let mut written = writer.set(&cell, 1);
        let there = Arc::clone(&cell);
        let reader = thread::spawn(move || reads(&there, 2));
        dies(&cell, writer);
        assert!(cell::recover(WordsMut::new(&cell), &[7_u64; 2]));
        written.insert(4, 7);
        let found = reader.join().unwrap();
        noted.note("before and after", found == [(2, 1), (4, 7)]);
        noted.note("busy", found.is_empty());
        judge(&cell, &found, &written);
        assert!(!cell::recover(WordsMut::new(&cell), &[8_u64; 2]), "there is nothing more to end");
        judge(&cell, &found, &written);
    });
    seen.expect(&["before and after", "busy"]);
}

/// The writer gives up, or writes after the recovery: then nothing is left of the dead writer or of the recovery.
fn a_writer_that_comes_while_another_recovers(writer: impl Writer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(None, move || {
        let cell = new();
        dies(&cell, writer);
        let there = Arc::clone(&cell);
        let other = thread::spawn(move || writer.set(&there, 11));
        assert!(cell::recover(WordsMut::new(&cell), &[7_u64; 2]));
        // Before the join: this thread has seen all words except the other writer's.
        let found = reads(&cell, 2);
        let mut written = other.join().unwrap();
        noted.note("gave up", written.is_empty());
        noted.note("came after", found.contains(&(4, 11)));
        written.insert(2, 7);
        judge(&cell, &found, &written);
    });
    seen.expect(&["gave up", "came after"]);
}
