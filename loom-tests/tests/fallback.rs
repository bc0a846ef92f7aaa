//! Models of reading by system call: the production code that copies three times, over a kernel that copies words in
//! any order while programs write.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use mapring_core::abi::{Geometry, Kind};
use mapring_core::protocol::ring::Window;
use mapring_core::protocol::{Elements, TripleRead, WordsMut, cell, latch};
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::history::{End, History};
use mapring_loom_tests::ring::{Claimed, PATIENT, Producer, Reader, Ring, Rust};
use mapring_loom_tests::sync::thread;
use mapring_loom_tests::sync::{AtomicU64, Ordering, words};
use mapring_loom_tests::{Seen, check};

/// The map that the kernel copies. A copy has no order: its loads are relaxed, from the last word to the first.
struct Map {
    words: Arc<[AtomicU64]>,
    /// Words per element.
    stride: usize,
}

impl Elements for Map {
    type Error = Infallible;

    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), Infallible> {
        assert_eq!(out.len(), count * self.stride);
        let from = &self.words[first * self.stride..];
        out.iter_mut().zip(from).rev().for_each(|(out, word)| *out = word.load(Ordering::Relaxed));
        Ok(())
    }
}

fn window<const W: usize>(ring: &Ring<W>) -> Window<Map> {
    let map = Map { words: Arc::clone(ring.words()), stride: ring.geometry().element_words() };
    Window::new(map, ring.geometry())
}

/// A reader that takes `steps` steps through a window, and keeps the window.
fn reads<const W: usize>(ring: &Arc<Ring<W>>, steps: usize) -> thread::JoinHandle<(Reader<W>, Window<Map>)> {
    let ring = Arc::clone(ring);
    thread::spawn(move || {
        let (mut window, mut reader) = (window(&ring), Reader::at(0, PATIENT));
        for _ in 0..steps {
            reader.step_by(&mut window.of(0, ring.place()));
        }
        (reader, window)
    })
}

/// After all threads have ended: the same window finds the remaining records.
fn finish<const W: usize>(
    ring: &Ring<W>,
    (mut reader, mut window): (Reader<W>, Window<Map>),
    history: &History,
) -> Reader<W> {
    reader.drain_by(&mut window.of(0, ring.place()));
    reader.finish(ring, history)
}

/// Each model once for each producer.
macro_rules! models {
    ($($model:ident)*) => {
        mod rust { $(#[test] fn $model() { super::$model(super::Rust); })* }
        mod bpf_xchg { $(#[test] fn $model() { super::$model(super::Bpf::Xchg); })* }
    };
}

models! {
    a_record_is_never_torn
    a_run_of_slots
    a_discarded_ticket
}

/// A record is overwritten while it is copied.
fn a_record_is_never_torn(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::<2>::new(1);
        let history = producer.push_all(&ring, [1]);
        let reader = reads(&ring, 1);
        let history = history.with(producer.push_all(&ring, [2]));
        let (reader, window) = reader.join().unwrap();
        noted.note("delivered", reader.log() == [(0, 1)]);
        noted.note("overwritten", reader.log().is_empty());
        finish(&ring, (reader, window), &history);
    });
    seen.expect(&["delivered", "overwritten"]);
}

/// One copy contains two slots. The second one's record is published during the copy.
fn a_run_of_slots(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::<2>::new(2);
        let history = producer.push_all(&ring, [1]);
        let reader = reads(&ring, 2);
        let history = history.with(producer.push_all(&ring, [2]));
        let (reader, window) = reader.join().unwrap();
        noted.note("not whole", reader.stats().torn > 0);
        noted.note("both", reader.log() == [(0, 1), (1, 2)]);
        noted.note("one", reader.log() == [(0, 1)]);
        let reader = finish(&ring, (reader, window), &history);
        assert_eq!((reader.stats().lost(), reader.log().len()), (0, 2));
    });
    seen.expect(&["not whole", "both", "one"]);
}

fn a_discarded_ticket(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(1), move || {
        let ring = Ring::<2>::new(2);
        let reader = reads(&ring, 2);
        let mut unwanted = producer.claim(&ring).unwrap();
        let mut history = History::default();
        history.note(Some(unwanted.ticket()), End::Discarded);
        unwanted.fill(1);
        unwanted.discard();
        let history = history.with(producer.push_all(&ring, [2]));
        let (reader, window) = reader.join().unwrap();
        noted.note("discarded", reader.stats().discarded > 0);
        let reader = finish(&ring, (reader, window), &history);
        assert_eq!((reader.stats().skipped, reader.log()), (0, &[(1, 2)][..]));
    });
    seen.expect(&["discarded"]);
}

/// One window serves one shard after the other, in any order, and never confuses them.
#[test]
fn shards_share_a_window() {
    check(None, || {
        let geometry = Geometry::new(Kind::Ring, 16, 4, 2).unwrap();
        let rings: [Ring<2>; 2] = Ring::shards(geometry);
        let (mut window, mut readers) = (window(&rings[0]), [Reader::at(0, PATIENT), Reader::at(0, PATIENT)]);
        let mut histories = [History::default(), History::default()];
        for round in 0..6 {
            for (at, ring) in rings.iter().enumerate() {
                let value = 100 * at as u64 + 2 * round;
                let more = Rust.push_all(ring, [value, value + 1]);
                histories[at] = std::mem::take(&mut histories[at]).with(more);
            }
            // Alternating steps of both, with one more of the first.
            for at in [0, 1, 0, 1, 0, 1, 1] {
                readers[at].step_by(&mut window.of(at, rings[at].place()));
            }
        }
        for ((reader, ring), history) in readers.into_iter().zip(&rings).zip(&histories) {
            assert_eq!(reader.log().len(), 12, "{reader:?}");
            reader.finish(ring, history);
        }
    });
}

/// Records that overwrote a record in the window are not delivered in its place, and later records are seen.
#[test]
fn a_window_that_is_out_of_date() {
    check(None, || {
        let ring = Ring::<2>::new(4);
        let history = Rust.push_all(&ring, 1..=3);
        let (mut window, mut reader) = (window(&ring), Reader::at(0, PATIENT));
        let mut step = |reader: &mut Reader<2>| reader.step_by(&mut window.of(0, ring.place()));
        step(&mut reader);
        let history = history.with(Rust.push_all(&ring, 4..=8));
        (0..12).for_each(|_| _ = step(&mut reader));
        // The window's records were whole when it copied them.
        assert!(reader.log().starts_with(&[(0, 1), (1, 2), (2, 3)]), "{reader:?}");
        assert_eq!(reader.log().last(), Some(&(7, 8)), "{reader:?}");
        reader.finish(&ring, &history);
    });
}

/// The values in a copy: each is one that was written, with its sequence.
fn values(
    words: &Arc<[AtomicU64]>,
    stride: usize,
    count: usize,
    word: fn(u64) -> Option<usize>,
) -> Vec<(u64, u64)> {
    let map = Map { words: Arc::clone(words), stride };
    let mut found: Vec<(u64, u64)> = Vec::new();
    for _ in 0..count {
        let (mut copies, mut out) = (TripleRead::new(1, stride), [0_u64; 2]);
        let Ok(()) = copies.fetch(&map, 0, 1);
        if let Some(seq) = copies.value(0, word, &mut out) {
            assert_eq!(out[0], out[1], "torn at {seq}");
            assert!(found.last().is_none_or(|&(last, _)| last <= seq), "{seq} after {found:?}");
            found.push((seq, out[0]));
        }
    }
    found
}

/// A map of one word. One of its copies is interrupted between the word's two bytes.
struct Torn {
    word: Arc<[AtomicU64]>,
    copies: Cell<usize>,
    /// The index of that copy, and the mask of the bytes copied before the interruption.
    when: usize,
    mask: u64,
}

impl Elements for Torn {
    type Error = Infallible;

    fn fetch(&self, _: usize, _: usize, out: &mut [u64]) -> Result<(), Infallible> {
        out[0] = self.word[0].load(Ordering::Relaxed);
        if self.copies.replace(self.copies.get() + 1) == self.when {
            out[0] = out[0] & self.mask | self.word[0].load(Ordering::Relaxed) & !self.mask;
        }
        Ok(())
    }
}

#[test]
fn a_word_that_grows_survives_a_torn_copy() {
    let seen = Seen::default();
    for (when, mask) in (0..3).flat_map(|when| [(when, 0xff), (when, 0xff00)]) {
        let noted = seen.clone();
        check(None, move || {
            let word: Arc<[_]> = words(1).into();
            word[0].store(0xfe, Ordering::Relaxed);
            let there = Arc::clone(&word);
            let writer = thread::spawn(move || {
                for _ in 0..4 {
                    there[0].fetch_add(1, Ordering::Relaxed);
                }
            });
            let map = Torn { word: Arc::clone(&word), copies: Cell::new(0), when, mask };
            let mut triple = TripleRead::new(1, 1);
            let before = word[0].load(Ordering::Relaxed);
            let Ok(()) = triple.fetch(&map, 0, 1);
            let (found, after) = (triple.word(0, 0), word[0].load(Ordering::Relaxed));
            assert!((before..=after).contains(&found), "{found:#x} between {before:#x} and {after:#x}");
            noted.note("before the carry", found < 0x100);
            noted.note("behind it", found >= 0x100);
            writer.join().unwrap();
        });
    }
    seen.expect(&["before the carry", "behind it"]);
}

#[test]
fn a_cell_is_never_torn() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let cell: Arc<[_]> = words(3).into();
        let there = Arc::clone(&cell);
        let reader = thread::spawn(move || values(&there, 3, 1, cell::value_at));
        for number in 1..=2_u64 {
            assert!(cell::set(WordsMut::new(&cell), &[number; 2]));
        }
        let found = reader.join().unwrap();
        noted.note("there", found.first().is_some_and(|&(seq, _)| seq > 0));
        noted.note("overwritten", found.is_empty());
        let written = BTreeMap::from([(0, 0), (2, 1), (4, 2)]);
        assert!(found.iter().all(|(seq, value)| written.get(seq) == Some(value)), "{found:?}");
        assert_eq!(values(&cell, 3, 1, cell::value_at), [(4, 2)]);
    });
    seen.expect(&["there", "overwritten"]);
}

#[test]
fn a_latch_is_always_whole() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let word = |seq| Some(latch::copy_at::<[u64; 2]>(seq, 5).0);
        let latch: Arc<[_]> = words(5).into();
        latch::set(WordsMut::new(&latch), &[1_u64; 2]);
        let there = Arc::clone(&latch);
        let reader = thread::spawn(move || values(&there, 5, 1, word));
        for number in 2..=3_u64 {
            latch::set(WordsMut::new(&latch), &[number; 2]);
        }
        let found = reader.join().unwrap();
        noted.note("there", found.first().is_some_and(|&(seq, _)| seq > 1));
        noted.note("overwritten", found.is_empty());
        assert!(found.iter().all(|(seq, value)| seq == value), "{found:?}");
        assert_eq!(values(&latch, 5, 1, word), [(3, 3)]);
    });
    seen.expect(&["there", "overwritten"]);
}
