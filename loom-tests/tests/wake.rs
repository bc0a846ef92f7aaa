//! Models of waking: a reader that says that it sleeps, checks once more, and sleeps, is woken by each program that ends
//! a ticket after that check.

use std::sync::Arc;

use mapring::abi::readers::{ASLEEP, FIRST, OF_SHARD, PLACES, wake_at};
use mapring::protocol::WordsMut;
use mapring::protocol::readers::Place;
use mapring::protocol::ring::{Cursor, Start, Unread};
use mapring_loom_tests::history::History;
use mapring_loom_tests::ring::{PATIENT, Producer, Ring, Rust};
use mapring_loom_tests::sync::{AtomicU64, Ordering, fence, thread, words};
use mapring_loom_tests::{Seen, check};

type Readers = Arc<[AtomicU64]>;

fn readers() -> Readers {
    words((FIRST + OF_SHARD) * PLACES).into()
}

/// What a program does after it ended a ticket (`wakeable.bpf.h`): returns how many readers it wakes.
fn wake(ring: &Ring, readers: &Readers) -> usize {
    fence(Ordering::SeqCst); // the exchange that ends the ticket
    let asleep = readers[ASLEEP].load(Ordering::Relaxed);
    if asleep == 0 {
        return 0;
    }
    let due = |reader: usize| {
        let bit = 1 << reader;
        let until = readers[wake_at(0, reader)].load(Ordering::Relaxed);
        let slots = ring.place().slots();
        let reached = || {
            let last = until - 1;
            ring.slot(last)[0].load(Ordering::Relaxed) >= slots.published(last)
        };
        asleep & bit != 0
            && (until == 0 || reached())
            && readers[ASLEEP].fetch_and(!bit, Ordering::Relaxed) & bit != 0
    };
    (0..2).filter(|&reader| due(reader)).count()
}

/// Publishes a record, and returns how many readers it woke.
fn publish(ring: &Ring, readers: &Readers, value: u64) -> (History, usize) {
    let history = Rust.push_all(ring, [value]);
    (history, wake(ring, readers))
}

fn place(readers: &Readers, me: u64) -> Place<'_> {
    Place::take(WordsMut::new(readers), me, |_| true).unwrap()
}

#[test]
fn a_record_is_found_or_it_wakes() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(None, move || {
        let (ring, readers) = (Ring::<1>::new(4), readers());
        let writer = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || publish(&ring, &readers, 7).1
        });
        let mut cursor = Cursor::new(&mut ring.shard(), Start::First, PATIENT);
        let place = place(&readers, 1);
        place.asleep();
        let found = cursor.unread(&mut ring.shard(), 1);
        let woken = writer.join().unwrap();
        assert!(
            found == Unread::Many || woken == 1,
            "{found:?}, and {woken} woken: the reader sleeps for ever"
        );
        noted.note("found", found == Unread::Many && woken == 0);
        noted.note("woken", found == Unread::Nothing);
        noted.note("both", found == Unread::Many && woken == 1);
    });
    seen.expect(&["found", "woken", "both"]);
}

/// Two programs of other CPUs end tickets at once: one of them wakes the reader, not both.
#[test]
fn a_reader_is_woken_once() {
    check(Some(3), || {
        let rings = [Ring::<1>::new(1), Ring::new(1)];
        let readers = readers();
        let place = place(&readers, 1);
        place.asleep();
        let writers = rings.each_ref().map(|ring| {
            let (ring, readers) = (Arc::clone(ring), Arc::clone(&readers));
            thread::spawn(move || publish(&ring, &readers, 7).1)
        });
        let woken: usize = writers.map(|writer| writer.join().unwrap()).into_iter().sum();
        assert_eq!(woken, 1);
        assert_eq!(readers[ASLEEP].load(Ordering::Relaxed), 0);
    });
}

/// With a watermark of two: the program that ends the second ticket wakes, if the reader did not find both.
#[test]
fn the_ticket_of_a_watermark_wakes() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (ring, readers) = (Ring::<1>::new(4), readers());
        let mut cursor = Cursor::new(&mut ring.shard(), Start::First, PATIENT);
        let place = place(&readers, 1);
        // An earlier sleep ended by its age. Its ticket is further on, and must not be used again.
        place.sleeps_until(0, Some(3));
        let writer = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || (1..=2).map(|value| publish(&ring, &readers, value).1).collect::<Vec<_>>()
        });
        place.sleeps_until(0, Some(1));
        place.asleep();
        let found = cursor.unread(&mut ring.shard(), 2);
        let woken = writer.join().unwrap();
        assert_eq!(woken[0], 0, "one is too few");
        assert!(found == Unread::Many || woken[1] == 1, "{found:?} {woken:?}");
        noted.note("found one", found == Unread::Some);
        noted.note("woken", woken[1] == 1);
    });
    seen.expect(&["found one", "woken"]);
}

/// Readers that come at once take different places; that of one that is gone is free again.
#[test]
fn places_are_taken_once() {
    check(Some(3), || {
        let readers = readers();
        assert_eq!(place(&readers, 9).number(), 0);
        let takers = [1, 2].map(|me| {
            let readers = Arc::clone(&readers);
            thread::spawn(move || {
                Place::take(WordsMut::new(&readers), me, |owner| owner != 9).unwrap().number()
            })
        });
        let mut places = takers.map(|taker| taker.join().unwrap());
        places.sort_unstable();
        assert_eq!(places, [0, 1]);
        Place::at(WordsMut::new(&readers), 1).leave(77);
        assert_eq!(place(&readers, 3).number(), 2, "the place of another is not freed");
    });
}
