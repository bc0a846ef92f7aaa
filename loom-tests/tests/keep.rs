//! Models of required readers: programs do not overwrite records that such a reader has not read.

use std::sync::Arc;

use mapring::abi::readers::{FIRST, OF_SHARD, PLACES, REQUIRED, position};
use mapring::protocol::WordsMut;
use mapring::protocol::readers::Place;
use mapring::protocol::ring::{Cursor, Start, Step};
use mapring_loom_tests::history::History;
use mapring_loom_tests::ring::{PATIENT, Producer, Ring, Rust};
use mapring_loom_tests::sync::{AtomicU64, Ordering, fence, thread, words};
use mapring_loom_tests::{Seen, check};

type Readers = Arc<[AtomicU64]>;

fn readers() -> Readers {
    words((FIRST + OF_SHARD) * PLACES).into()
}

fn place(readers: &Readers) -> Place<'_> {
    Place::take(WordsMut::new(readers), 1, |_, _| true).unwrap()
}

/// The program of a CPU, which claims tickets before a limit (`keep.bpf.h`).
#[derive(Default)]
struct Program {
    next: u64,
    limit: u64,
    dropped: u64,
}

impl Program {
    /// What `mapring__limit` does.
    fn look<const W: usize>(&mut self, ring: &Ring<W>, readers: &Readers) {
        fence(Ordering::SeqCst);
        let required = readers[REQUIRED].load(Ordering::Relaxed);
        let at = readers[position(0, 0)].load(Ordering::Relaxed);
        fence(Ordering::Acquire); // what it stores to a slot depends on the position
        let is_behind = required != 0 && at <= self.next;
        let behind = if is_behind { self.next - at } else { 0 };
        self.limit = self.next - behind + ring.slots();
    }

    /// Publishes a record, unless a reader is in the way.
    fn push<const W: usize>(&mut self, ring: &Ring<W>, readers: &Readers, value: u64) {
        if self.next >= self.limit {
            self.look(ring, readers);
        }
        if self.next >= self.limit {
            self.dropped += 1;
        } else {
            let history: History = Rust.push_all(ring, [value]);
            assert!(history.dropped() == 0);
            self.next += 1;
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
        let mut program = Program::default();
        program.push(&ring, &readers, 0);
        // An earlier reader in this place had read more.
        readers[position(0, 0)].store(9, Ordering::Relaxed);
        let place = place(&readers);
        let writer = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || {
                (1..5).for_each(|value| program.push(&ring, &readers, value));
                program
            }
        });
        place.has_read(0, 1);
        place.require(u64::MAX);
        let kept = Cursor::new(&mut ring.shard(), Start::Now, PATIENT).next();
        let program = writer.join().unwrap();
        assert!(program.next <= kept + ring.slots(), "{kept} is overwritten: {} were claimed", program.next);
        noted.note("held back at once", program.next == 3);
        noted.note("not seen at first", program.next > 3);
        noted.note("later records are kept", kept > 1 && program.dropped > 0);
    });
    seen.expect(&["held back at once", "not seen at first", "later records are kept"]);
}

/// A required reader reads while a program writes: it gets each record, none is torn.
#[test]
fn a_required_reader_is_not_overrun() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (ring, readers) = (Ring::<2>::new(1), readers());
        let place = place(&readers);
        place.has_read(0, 0);
        place.require(u64::MAX);
        let writer = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || {
                let mut program = Program::default();
                (0..3).for_each(|value| program.push(&ring, &readers, value));
                program
            }
        });
        let mut cursor = Cursor::at(0, PATIENT);
        let mut out = [0_u64; 2];
        for _ in 0..3 {
            if let Step::Record(t) = cursor.step(&mut ring.shard(), &mut out) {
                assert_eq!(out[0], out[1]);
                place.has_read(0, t + 1);
            }
        }
        let program = writer.join().unwrap();
        let stats = cursor.stats();
        assert_eq!((stats.lapped, stats.torn, stats.skipped), (0, 0, 0), "{stats}");
        assert!(program.next <= cursor.next() + 1);
        noted.note("dropped", program.dropped > 0);
        noted.note("kept up", program.next > 1);
    });
    seen.expect(&["dropped", "kept up"]);
}
