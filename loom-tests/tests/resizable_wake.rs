//! Models of a ring that is replaced while a reader of it is about to sleep: whichever ring the next record is in, the reader is
//! woken, or finds it, or finds that its ring was replaced. Programs as in `detail/replace.bpf.h`; the first argument of `check`
//! is the preemption bound.

use std::sync::Arc;

use mapring_core::abi::readers::{ASLEEP, FIRST, LOOK, NEVER, OF_SHARD, SEATS, wake_at};
use mapring_core::abi::{Epoch, Gate};
use mapring_core::protocol::WordsMut;
use mapring_core::protocol::readers::Seat;
use mapring_core::protocol::ring::{Cursor, PROGRAM_GATE, Unread};
use mapring_loom_tests::ring::PATIENT;
use mapring_loom_tests::rings::Rings;
use mapring_loom_tests::sync::{AtomicU64, Ordering, fence, thread, words};
use mapring_loom_tests::{Seen, check};

type Readers = Arc<[AtomicU64]>;

/// The CPU of each program.
const SHARD: usize = 0;

fn readers() -> Readers {
    words((FIRST + OF_SHARD * 2) * SEATS).into()
}

fn seat(readers: &Readers) -> Seat<'_> {
    Seat::take(WordsMut::new(readers), 1, |_, _| true).unwrap()
}

fn epoch(rings: &Rings, ring: usize) -> Epoch {
    Epoch::of(rings.shard(ring, SHARD).header()[PROGRAM_GATE].load(Ordering::Relaxed))
}

/// `mapring__is_due__NAME`
fn is_due(rings: &Rings, ticket: u64) -> bool {
    let at = rings.in_use();
    let ring = rings.shard(at, SHARD);
    let gate = ring.header()[PROGRAM_GATE].load(Ordering::Relaxed);
    let epoch = Epoch::of(gate);
    if Gate::decode(gate) != Gate::Open || epoch.ticket(ticket) != ticket {
        return true;
    }
    let next = ring.header()[0].load(Ordering::Relaxed);
    let ticket = next.wrapping_add_signed((ticket.wrapping_sub(next) << 19).cast_signed() >> 19);
    ring.slot(ticket)[0].load(Ordering::Relaxed) >= ring.place().slots().published(ticket)
}

/// What a program does after it ended a ticket (`MAPRING__AFTER_REPLACEABLE`). Returns whether it wakes the reader.
fn wake(rings: &Rings, readers: &Readers) -> bool {
    if readers[LOOK].load(Ordering::Relaxed) & NEVER == NEVER {
        return false;
    }
    fence(Ordering::SeqCst);
    if readers[ASLEEP].load(Ordering::Relaxed) & 1 == 0 {
        return false;
    }
    let until = readers[wake_at(SHARD, 0)].load(Ordering::Relaxed);
    (until == 0 || is_due(rings, until - 1)) && readers[ASLEEP].fetch_and(!1, Ordering::Relaxed) & 1 != 0
}

/// A program that publishes a record. Returns the ring that has it, and whether it woke the reader.
fn publish(rings: &Rings, readers: &Readers, value: u64) -> (usize, bool) {
    let (at, _) = rings.push(SHARD, value);
    (at.expect("there is room"), wake(rings, readers))
}

/// A reader of a ring in use sleeps until any record is there, or until two are unread, while another ring takes the place of
/// this one and a program publishes one record.
#[test]
fn a_record_of_either_ring_wakes_the_reader() {
    for many in [1, 2] {
        let seen = Seen::default();
        let noted = seen.clone();
        check(Some(3), move || {
            let (rings, readers) = (Rings::new(&[2, 2]), readers());
            let (there, also) = ((Arc::clone(&rings), Arc::clone(&readers)), Arc::clone(&rings));
            let resizer = thread::spawn(move || also.resize(0));
            let program = thread::spawn(move || publish(&there.0, &there.1, 7));
            let seat = seat(&readers);
            let until = epoch(&rings, 0).ticket(1);
            seat.sleeps_until(SHARD, (many > 1).then_some(until));
            seat.asleep();
            let found = Cursor::at(0, PATIENT).unread(&mut rings.shard(0, SHARD).shard(), many);
            let in_use = rings.gate(0) == Gate::Open;
            let (at, woken) = program.join().unwrap();
            resizer.join().unwrap();
            let sleeps = found != Unread::Many && in_use;
            // One record in the first ring is too few for a reader that waits for two.
            let due = at == 1 || many == 1;
            assert!(!sleeps || woken || !due, "{found:?}, the record is in ring {at}: it sleeps for ever");
            noted.note("woken by the next ring's record", sleeps && woken && at == 1);
            noted.note("woken by its own ring's", sleeps && woken && at == 0);
            noted.note("found that it was replaced", !in_use && !woken && at == 1);
        });
        seen.expect(&["woken by the next ring's record", "found that it was replaced"]);
        if many == 1 {
            seen.expect(&["woken by its own ring's"]);
        }
    }
}

/// Another ring takes the place while a reader sleeps until two are unread, and the last record of the first ring is late: the
/// reader is woken by the first record of either ring that ends after this.
#[test]
fn a_reader_that_sleeps_is_woken_by_the_next_record() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (rings, readers) = (Rings::new(&[2, 2]), readers());
        let seat = seat(&readers);
        seat.sleeps_until(SHARD, Some(epoch(&rings, 0).ticket(1)));
        seat.asleep();
        let there = (Arc::clone(&rings), Arc::clone(&readers));
        let program = thread::spawn(move || publish(&there.0, &there.1, 7));
        rings.resize(0);
        let (at, woken) = program.join().unwrap();
        noted.note("by the last record of the old ring", at == 0 && woken);
        noted.note("by the first of the next", at == 1 && woken);
        let woken_next = publish(&rings, &readers, 8).1;
        assert_eq!(u8::from(woken) + u8::from(woken_next), 1, "in ring {at}: once");
    });
    seen.expect(&["by the last record of the old ring", "by the first of the next"]);
}

/// In the next ring, the same tickets are others: two records must be unread there. What the reader says of the ring before
/// means nothing there.
#[test]
fn a_watermark_is_one_of_the_ring_that_is_read() {
    check(None, || {
        let (rings, readers) = (Rings::new(&[2, 2, 2]), readers());
        let seat = seat(&readers);
        for ring in 0..3 {
            let first = if ring == 0 { 0 } else { 1 };
            seat.sleeps_until(SHARD, Some(epoch(&rings, ring).ticket(first + 1)));
            seat.asleep();
            let woken = [publish(&rings, &readers, 1), publish(&rings, &readers, 2)];
            assert_eq!(woken, [(ring, false), (ring, true)]);
            if ring < 2 {
                seat.sleeps_until(SHARD, Some(epoch(&rings, ring).ticket(first + 3)));
                seat.asleep();
                rings.resize(ring);
                assert_eq!(epoch(&rings, ring + 1), epoch(&rings, ring).next(), "also once it is closed");
                assert_eq!(publish(&rings, &readers, 3), (ring + 1, true));
            }
        }
    });
}
