//! Models of required readers: writers do not overwrite records that such a reader has not read. The writers are those of a
//! memfd; `proofs/bpf-loom` has the same for compiled programs.

use std::sync::Arc;

use mapring_core::abi::readers::position;
use mapring_core::protocol::WordsMut;
use mapring_core::protocol::readers::Seat;
use mapring_core::protocol::ring::{Cursor, Dropped, MemfdReaders, Start, Step};
use mapring_loom_tests::ring::{Claimed, PATIENT, Ring};
use mapring_loom_tests::sync::{AtomicU64, Ordering, thread, words};
use mapring_loom_tests::{Seen, check};

type Readers = Arc<[AtomicU64]>;

fn readers() -> Readers {
    words(mapring_core::abi::readers::words(1)).into()
}

fn seat(readers: &Readers) -> Seat<'_> {
    Seat::take(WordsMut::new(readers), 1, |_, _| true).unwrap()
}

/// A writer of a memfd.
#[derive(Default)]
struct Writer {
    /// The tickets that it got.
    claimed: u64,
    dropped: u64,
}

impl Writer {
    /// Publishes a record, unless a reader is in the way.
    fn push<const W: usize>(&mut self, ring: &Ring<W>, readers: &Readers, value: u64) {
        let known = MemfdReaders::new(WordsMut::new(readers), 0, 0);
        match ring.shard_mut().reserve_before::<[u64; W]>(Some(&known)) {
            Ok(mut slot) => {
                slot.fill(value);
                slot.publish();
                self.claimed += 1;
            }
            Err(dropped) => {
                assert_eq!(dropped, Dropped::Full);
                self.dropped += 1;
            }
        }
    }
}

/// A reader becomes required in the midst of it: no record is overwritten that was claimed after that.
#[test]
fn records_from_then_on_are_kept() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (ring, readers) = (Ring::<1>::new(2), readers());
        let mut own = Writer::default();
        own.push(&ring, &readers, 0);
        // An earlier reader in this seat had read more.
        readers[position(0, 0)].store(9, Ordering::Relaxed);
        let seat = seat(&readers);
        let writer = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || {
                (1..5).for_each(|value| own.push(&ring, &readers, value));
                own
            }
        });
        seat.has_read(0, 1);
        seat.require(u64::MAX);
        let kept = Cursor::new(&mut ring.shard(), Start::Now, PATIENT).next();
        let own = writer.join().unwrap();
        assert!(own.claimed <= kept + ring.slots(), "{kept} is overwritten: {} were claimed", own.claimed);
        noted.note("held back at once", own.claimed == 3);
        noted.note("not seen at first", own.claimed > 3);
        noted.note("later records are kept", kept > 1 && own.dropped > 0);
    });
    seen.expect(&["held back at once", "not seen at first", "later records are kept"]);
}

/// A required reader reads while a program writes: it gets each record, none is torn. The writer runs first, as it stores words that it
/// has loaded: loom remembers only the last load of a word.
#[test]
fn a_required_reader_is_not_overrun() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (ring, readers) = (Ring::<2>::new(1), readers());
        let number = {
            let seat = seat(&readers);
            seat.has_read(0, 0);
            seat.require(u64::MAX);
            seat.number()
        };
        let reader = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || {
                let seat = Seat::at(WordsMut::new(&readers), number);
                let mut cursor = Cursor::at(0, PATIENT);
                let mut out = [0_u64; 2];
                for _ in 0..3 {
                    if let Step::Record(t) = cursor.step(&mut ring.shard(), &mut out) {
                        assert_eq!(out[0], out[1]);
                        seat.has_read(0, t + 1);
                    }
                }
                cursor
            }
        });
        let mut own = Writer::default();
        (0..3).for_each(|value| own.push(&ring, &readers, value));
        let cursor = reader.join().unwrap();
        let stats = cursor.stats();
        assert_eq!((stats.lapped, stats.torn, stats.skipped), (0, 0, 0), "{stats}");
        assert!(own.claimed <= cursor.next() + 1);
        noted.note("dropped", own.dropped > 0);
        noted.note("kept up", own.claimed > 1);
    });
    seen.expect(&["dropped", "kept up"]);
}

/// Two writers at once, one of which may have computed its limit before the reader was required: no record is overwritten that
/// was claimed after that.
#[test]
fn writers_in_parallel_keep_the_same_records() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let (ring, readers) = (Ring::<1>::new(1), readers());
        let seat = seat(&readers);
        let writers = [0, 1].map(|number| {
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            thread::spawn(move || {
                let mut own = Writer::default();
                own.push(&ring, &readers, number);
                own
            })
        });
        seat.has_read(0, 0);
        seat.require(u64::MAX);
        let kept = Cursor::new(&mut ring.shard(), Start::Now, PATIENT).next();
        let claimed: u64 = writers.map(|writer| writer.join().unwrap().claimed).iter().sum();
        assert!(claimed <= kept + ring.slots(), "{kept} is overwritten: {claimed} were claimed");
        noted.note("one is held back", claimed == 1);
        noted.note("not seen at first", claimed == 2);
    });
    seen.expect(&["one is held back", "not seen at first"]);
}
