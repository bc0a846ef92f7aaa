//! Models of tails: writers that share an area of a few words, and a reader. No tail is torn, no writer's bytes are
//! overwritten before it has ended, and each record is delivered or counted.

use std::sync::Arc;

use mapring_core::abi::{Geometry, Kind, Tails};
use mapring_core::protocol::ring::tails::{Area, TailsMut};
use mapring_core::protocol::ring::{Cursor, Shard, ShardMut, ShardPlace, Start, Step};
use mapring_core::protocol::{Words, WordsMut};
use mapring_loom_tests::ring::PATIENT;
use mapring_loom_tests::sync::{AtomicU64, Ordering, fence, thread, words};
use mapring_loom_tests::{Seen, check};

/// Words of the longest tail; two such tails fill the area.
const LONGEST: usize = 8;

/// A record with its tail as words: where the tail is, its bytes, its number. All words of a tail are its number.
type Slot = [u64; 3];

struct Ring {
    words: Box<[AtomicU64]>,
    place: ShardPlace,
    area: Area,
}

impl Ring {
    fn new(slots: u64) -> Arc<Self> {
        let tails = Tails::new(8 * LONGEST as u64, 16 * LONGEST as u64).unwrap();
        let geometry = Geometry::new(Kind::Ring, 24, slots, 1).unwrap().with_tails(tails).unwrap();
        let area = Area::new(&geometry, 0).unwrap();
        Arc::new(Self { words: words(geometry.bytes() / 8), place: ShardPlace::new(&geometry, 0), area })
    }

    fn writer(&self) -> (ShardMut<'_>, TailsMut<'_>) {
        let words = WordsMut::new(&self.words);
        (ShardMut::new(words, &self.place), TailsMut::new(words, &self.area))
    }

    /// Publishes a record with a tail of `len` words. Returns its ticket.
    fn push(&self, number: u64, len: usize) -> Option<u64> {
        let (shard, tails) = self.writer();
        shard.push_with_tail(&tails, &number, &bytes(number, len))
    }

    /// Publishes two records whose tails fill the area: the next overwrites the first. The first is short, but can't give
    /// back the rest of its claim.
    fn fill(&self) {
        let (shard, tails) = self.writer();
        let mut slots = [1, 2].map(|_| shard.reserve_with_tail::<u64>(&tails).unwrap());
        for (slot, (number, len)) in slots.iter_mut().zip([(1, 2), (2, LONGEST)]) {
            slot.write(&number);
            assert!(slot.write_tail(&bytes(number, len)));
        }
        assert_eq!(slots.map(mapring_core::protocol::ring::Slot::commit), [Some(0), Some(1)]);
    }

    /// Reads until nothing is there. Each tail is whole.
    fn read(&self, reader: &mut Reader) {
        let mut shard = Shard::new(Words::new(&self.words), &self.place);
        let (mut out, mut tail) = (Slot::default(), [0; 8 * LONGEST]);
        for _ in 0..24 {
            match reader.cursor.step(&mut shard, &mut out) {
                Step::Record(_) => {
                    let [at, len, number] = out;
                    match self.area.copy(Words::new(&self.words), at, len, &mut tail) {
                        Some(tail) => {
                            assert_eq!(tail, bytes(number, tail.len() / 8), "the tail of {number}");
                            reader.whole.push(number);
                        }
                        None => reader.lost += 1,
                    }
                }
                Step::Moved => {}
                Step::Empty => return,
            }
        }
    }

    /// Reads what is left, after all writers have ended.
    fn finish(&self, reader: &mut Reader) {
        reader.cursor.set_patience(0);
        self.read(reader);
    }

    /// The bytes of the longest tail at byte `at` of the area.
    fn area_has(&self, at: usize) -> Vec<u8> {
        let first = self.words.len() - 3 * LONGEST + at / 8; // the area ends with one more tail
        self.words[first..][..LONGEST]
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect()
    }

    fn reader(&self) -> Reader {
        let mut shard = Shard::new(Words::new(&self.words), &self.place);
        Reader { cursor: Cursor::new(&mut shard, Start::First, PATIENT), whole: Vec::new(), lost: 0 }
    }
}

struct Reader {
    cursor: Cursor,
    whole: Vec<u64>,
    lost: u64,
}

fn bytes(number: u64, len: usize) -> Vec<u8> {
    (0..len).flat_map(|_| number.to_ne_bytes()).collect()
}

/// A reader copies a tail while the writer goes on, around the area.
#[test]
fn a_tail_is_overwritten_while_it_is_copied() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::new(8);
        ring.fill();
        let there = Arc::clone(&ring);
        let reader = thread::spawn(move || {
            let mut reader = there.reader();
            there.read(&mut reader);
            reader
        });
        assert_eq!(ring.push(3, 2), Some(2));
        let mut reader = reader.join().unwrap();
        noted.note("lost", !reader.whole.contains(&1));
        noted.note("whole", reader.whole.first() == Some(&1));
        ring.finish(&mut reader);
        assert_eq!(reader.whole.len() as u64 + reader.lost, 3);
        assert_eq!(reader.whole.last(), Some(&3));
    });
    seen.expect(&["lost", "whole"]);
}

/// The same, but another writer, which claimed later, has moved `HIGH`.
#[test]
fn another_writer_moves_high() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(1), move || {
        let ring = Ring::new(8);
        ring.fill();
        let [there, elsewhere, nearby] = [(); 3].map(|()| Arc::clone(&ring));
        let writer = thread::spawn(move || there.push(3, 2).is_some());
        let other = thread::spawn(move || {
            let (shard, tails) = elsewhere.writer();
            drop(shard.reserve_with_tail::<u64>(&tails));
        });
        let reader = thread::spawn(move || {
            let mut reader = nearby.reader();
            nearby.read(&mut reader);
            reader
        });
        noted.note("written", writer.join().unwrap());
        other.join().unwrap();
        noted.note("lost", !reader.join().unwrap().whole.contains(&1));
    });
    seen.expect(&["written", "lost"]);
}

/// The same, but the other writer moves `HIGH` and `GRANTED` by the steps of `grant` without their loads: loom leaves out
/// executions of a thread that stores to a word after it loaded it. So the writer can be between its fence and its look
/// at `GRANTED` meanwhile.
#[test]
fn bytes_within_what_another_granted() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(1), move || {
        let ring = Ring::new(8);
        ring.fill();
        let [there, nearby] = [(); 2].map(|()| Arc::clone(&ring));
        let other = thread::spawn(move || {
            let [high, granted] = [25, 26].map(|word| &there.words[word]); // as in docs/abi.md
            high.store(256, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            granted.store(256, Ordering::Release);
        });
        let reader = thread::spawn(move || {
            let mut reader = nearby.reader();
            nearby.read(&mut reader);
            reader
        });
        noted.note("written", ring.push(3, 2).is_some());
        other.join().unwrap();
        noted.note("lost", !reader.join().unwrap().whole.contains(&1));
    });
    seen.expect(&["written", "lost"]);
}

/// A writer is between claim and commit while others go around the area: they never write its bytes.
#[test]
fn a_slow_writer_keeps_its_bytes() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::new(8);
        let there = Arc::clone(&ring);
        let others = thread::spawn(move || {
            (2..5).filter(|&number| there.push(number, LONGEST).is_some()).collect::<Vec<_>>()
        });
        let slow = || {
            let (shard, tails) = ring.writer();
            let mut tailed = shard.reserve_with_tail(&tails).ok()?;
            thread::yield_now(); // does not count as a preemption
            tailed.write(&1_u64);
            assert!(tailed.write_tail(&bytes(1, 2)));
            tailed.commit()
        };
        let written = slow().is_some();
        let fast = others.join().unwrap();
        noted.note("all", fast.len() == 3);
        noted.note("overtaken", !written);
        let mut reader = ring.reader();
        ring.finish(&mut reader);
        let records = fast.len() as u64 + u64::from(written);
        assert_eq!(reader.whole.len() as u64 + reader.lost, records, "each is delivered or counted");
    });
    seen.expect(&["all", "overtaken"]);
}

/// A writer claims a position, and enters it after two others have gone around the area. These give everything back. If
/// it did, too, all later claims would be overtaken.
#[test]
fn a_slow_writer_locks_nobody_out() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::new(4);
        let other = Arc::clone(&ring);
        let slow = thread::spawn(move || other.push(1, 0));
        let (shard, tails) = ring.writer();
        let claims = [1, 2].map(|_| shard.reserve_with_tail::<u64>(&tails));
        claims.into_iter().rev().for_each(drop);
        noted.note("overtaken", slow.join().unwrap().is_none());
        let next = [2, 3].map(|number| ring.push(number, 0));
        assert!(next[1].is_some(), "at most one more claim is overtaken");
    });
    seen.expect(&["overtaken"]);
}

/// The bytes that a tail did not need belong to the next.
#[test]
fn short_tails_share_a_claim() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::new(8);
        let there = Arc::clone(&ring);
        let other = thread::spawn(move || (1..3).filter(|&number| there.push(number, 2).is_some()).count());
        let mine = (3..5).filter(|&number| ring.push(number, 2).is_some()).count();
        let written = mine + other.join().unwrap();
        let mut reader = ring.reader();
        ring.finish(&mut reader);
        noted.note("all", reader.whole.len() == 4);
        assert_eq!(reader.whole.len() as u64 + reader.lost, written as u64);
    });
    seen.expect(&["all"]);
}

/// Two writers and a reader at once.
#[test]
fn two_writers_and_a_reader() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(1), move || {
        let ring = Ring::new(8);
        assert_eq!(ring.push(1, LONGEST), Some(0));
        let (there, elsewhere) = (Arc::clone(&ring), Arc::clone(&ring));
        let reader = thread::spawn(move || {
            let mut reader = there.reader();
            there.read(&mut reader);
            reader
        });
        let other = thread::spawn(move || elsewhere.push(2, 4).is_some());
        let mine = ring.push(3, LONGEST).is_some();
        let written = 1 + u64::from(mine) + u64::from(other.join().unwrap());
        let mut reader = reader.join().unwrap();
        noted.note("lost", reader.lost > 0);
        ring.finish(&mut reader);
        assert_eq!(reader.whole.len() as u64 + reader.lost, written);
    });
    seen.expect(&["lost"]);
}

/// A writer dies in a tail: others leave its bytes out, in each round. Then its shard is recovered.
#[test]
fn a_dead_writer_costs_its_bytes() {
    check(None, || {
        let ring = Ring::new(16);
        let (shard, tails) = ring.writer();
        std::mem::forget(shard.reserve_with_tail::<u64>(&tails).unwrap());
        assert!((1..9).all(|number| ring.push(number, 2).is_some()));
        let mut reader = ring.reader();
        ring.finish(&mut reader);
        assert!(reader.whole.ends_with(&[8]), "{:?}", reader.whole);
        // The next one takes what is left.
        std::mem::forget(shard.reserve_with_tail::<u64>(&tails).unwrap());
        assert!((9..12).all(|number| ring.push(number, 2).is_none()));
        tails.recover();
        assert_eq!(shard.recover(), 2);
        assert!((12..15).all(|number| ring.push(number, 2).is_some()));
        ring.finish(&mut reader);
        assert!(reader.whole.ends_with(&[13, 14]), "{:?}", reader.whole);
    });
}

/// A writer is in a tail for more than a round. Two others step over its bytes at the same time: none of them writes the
/// bytes of another.
#[test]
fn others_step_over_a_slow_writer() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::new(16);
        let (shard, tails) = ring.writer();
        let mut slow = shard.reserve_with_tail(&tails).unwrap();
        assert!(ring.push(2, LONGEST).is_some());
        let there = Arc::clone(&ring);
        let other = thread::spawn(move || there.push(3, 2).is_some());
        let mine = ring.push(4, LONGEST).is_some();
        slow.write(&1_u64);
        assert!(slow.write_tail(&bytes(1, LONGEST)));
        let theirs = other.join().unwrap();
        noted.note("both", mine && theirs);
        noted.note("one", mine != theirs);
        assert_eq!(ring.area_has(0), bytes(1, LONGEST), "its bytes");
        slow.commit().unwrap();
        let mut reader = ring.reader();
        ring.finish(&mut reader);
        assert_eq!(reader.whole[0], 1, "it is the last one that ended");
        assert_eq!(reader.whole.len() as u64 + reader.lost, 2 + u64::from(mine) + u64::from(theirs));
    });
    seen.expect(&["both", "one"]);
}
