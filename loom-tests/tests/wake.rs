//! Models of waking: a reader that says that it sleeps, checks once more, and sleeps, is woken by each writer that ends a ticket
//! after that check. The writers are those of a memfd; `proofs/bpf-loom` has the same for compiled programs.

use std::sync::Arc;

use mapring_core::abi::readers::{ASLEEP, IDLE_SINCE, LOOK, NEVER, look, watermark};
use mapring_core::protocol::WordsMut;
use mapring_core::protocol::readers::Seat;
use mapring_core::protocol::ring::{Cursor, MemfdReaders, Start, Unread};
use mapring_loom_tests::ring::{PATIENT, Producer, Ring, Rust};
use mapring_loom_tests::sync::{AtomicU64, Ordering, thread, words};
use mapring_loom_tests::{Seen, check};

type Readers = Arc<[AtomicU64]>;

fn readers() -> Readers {
    words(mapring_core::abi::readers::words(1)).into()
}

/// What a writer does after it ended a ticket: returns how many readers it wakes. `ahead` is as for [`MemfdReaders`].
fn wake_by(ring: &Ring, readers: &Readers, ticket: u64, ahead: u64) -> usize {
    let known = MemfdReaders::new(WordsMut::new(readers), 0, ahead);
    known.to_wake(&ring.shard_mut(), ticket).count_ones() as usize
}

fn wake(ring: &Ring, readers: &Readers, ticket: u64) -> usize {
    wake_by(ring, readers, ticket, 0)
}

/// A program that publishes `N` records. Returns how many readers each of them woke.
fn publisher<const N: usize>(ring: &Arc<Ring>, readers: &Readers) -> thread::JoinHandle<[usize; N]> {
    let (ring, readers) = (Arc::clone(ring), Arc::clone(readers));
    let publish = move |ticket| {
        Rust.push_all(&ring, [7 + ticket]);
        wake(&ring, &readers, ticket)
    };
    thread::spawn(move || std::array::from_fn(|ticket| publish(ticket as u64)))
}

fn seat(readers: &Readers, me: u64) -> Seat<'_> {
    Seat::take(WordsMut::new(readers), me, |_, _| true).unwrap()
}

#[test]
fn a_record_is_found_or_it_wakes() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(None, move || {
        let (ring, readers) = (Ring::<1>::new(4), readers());
        let writer = publisher(&ring, &readers);
        let mut cursor = Cursor::new(&mut ring.shard(), Start::First, PATIENT);
        let seat = seat(&readers, 1);
        seat.asleep();
        let found = cursor.unread(&mut ring.shard(), 1);
        let [woken] = writer.join().unwrap();
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
        let seat = seat(&readers, 1);
        seat.asleep();
        let writers = rings.each_ref().map(|ring| publisher::<1>(ring, &readers));
        let woken: usize = writers.into_iter().flat_map(|writer| writer.join().unwrap()).sum();
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
        let seat = seat(&readers, 1);
        // An earlier sleep ended by its age. Its ticket is further on, and must not be used again.
        seat.sleeps_until(0, Some(3));
        let writer = publisher::<2>(&ring, &readers);
        seat.sleeps_until(0, Some(1));
        seat.asleep();
        let found = cursor.unread(&mut ring.shard(), 2);
        let woken = writer.join().unwrap();
        assert_eq!(woken[0], 0, "one is too few");
        assert!(found == Unread::Many || woken[1] == 1, "{found:?} {woken:?}");
        noted.note("found one", found == Unread::Some);
        noted.note("woken", woken[1] == 1);
    });
    seen.expect(&["found one", "woken"]);
}

/// A reader makes programs look, and waits for an RCU grace period before it sleeps. A program may be anywhere then, and
/// be preempted if it may sleep: before it ends a ticket, after that, or after it found that it need not look. Its CPU
/// issues a barrier at this point, after the reader's change, and before the grace period ends.
#[test]
fn programs_look_after_a_grace_period() {
    let seen = Seen::default();
    for before in 0..=2 {
        let noted = seen.clone();
        check(None, move || {
            let (ring, readers) = (Ring::<1>::new(4), readers());
            readers[LOOK].store(NEVER, Ordering::Relaxed);
            let program = |steps: std::ops::Range<u32>| {
                let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
                thread::spawn(move || {
                    if steps.contains(&0) {
                        Rust.push_all(&ring, [7]);
                    }
                    if steps.contains(&1) { wake(&ring, &readers, 0) } else { 0 }
                })
            };
            let seat = seat(&readers, 1);
            let first = program(0..before);
            seat.will_sleep(look(1));
            let mut woken = first.join().unwrap();

            let rest = program(before..2);
            let mut cursor = Cursor::new(&mut ring.shard(), Start::First, PATIENT);
            seat.asleep();
            let found = cursor.unread(&mut ring.shard(), 1);
            woken += rest.join().unwrap();
            assert!(found == Unread::Many || woken == 1, "{before} {found:?}: the reader sleeps for ever");
            noted.note("found", woken == 0);
            noted.note("woken", found == Unread::Nothing);
        });
    }
    seen.expect(&["found", "woken"]);
}

/// A program stops looking, because no reader has slept for long, and wakes those that sleep now; another one ends a ticket.
/// A reader is woken, or finds a record, or that programs do not look.
#[test]
fn programs_stop_looking_where_nobody_sleeps() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (ring, readers) = (Ring::<1>::new(4), readers());
        let seat = seat(&readers, 1);
        seat.will_sleep(0);
        // Long ago for a writer whose clock shows half of all time.
        readers[IDLE_SINCE].store(1, Ordering::Relaxed);
        let stops = thread::spawn({
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            move || wake_by(&ring, &readers, ring.slots() - 1, 1 << 63)
        });
        let writer = publisher(&ring, &readers);
        seat.asleep();
        let looked_for = seat.look() == 0;
        let found = Cursor::new(&mut ring.shard(), Start::First, PATIENT).unread(&mut ring.shard(), 1);
        let [by_writer] = writer.join().unwrap();
        let woken = stops.join().unwrap() + by_writer;
        assert!(!looked_for || found == Unread::Many || woken == 1, "{found:?} {woken}: it sleeps for ever");
        noted.note("programs look, and it is woken", looked_for && found == Unread::Nothing);
        noted.note("they do not", !looked_for && woken == 0);
    });
    seen.expect(&["programs look, and it is woken", "they do not"]);
}

/// A reader that sleeps until eight are unread makes programs look at every second ticket, and sleeps until one of these.
#[test]
fn programs_look_at_some_tickets() {
    assert_eq!([1, 7, 8, 15, 16, 1024, u64::MAX].map(look), [0, 0, 1, 1, 3, 255, NEVER]);
    assert_eq!(
        [(5, 1), (0, 8), (1, 8), (1, 16), (u64::MAX, 8)].map(|(t, n)| watermark(t, n)),
        [5, 7, 9, 19, 7]
    );
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let (ring, readers) = (Ring::<1>::new(4), readers());
        let mut cursor = Cursor::new(&mut ring.shard(), Start::First, PATIENT);
        let seat = seat(&readers, 1);
        readers[LOOK].store(NEVER, Ordering::Relaxed);
        seat.will_sleep(look(8));
        let writer = publisher::<2>(&ring, &readers);
        seat.asleep();
        let found = cursor.unread(&mut ring.shard(), 2);
        let woken = writer.join().unwrap();
        assert_eq!(woken[0], 0, "no program looks at the first ticket");
        assert!(found == Unread::Many || woken[1] == 1, "{found:?} {woken:?}");
        noted.note("found one", found == Unread::Some);
        noted.note("woken", woken[1] == 1);
    });
    seen.expect(&["found one", "woken"]);
}

/// Readers come and go. Programs look as often as each of them wants, and not more often.
#[test]
fn readers_agree_how_often_programs_look() {
    for (stays, goes, comes) in [(None, 0, 0), (None, 3, 0), (None, 0, 3), (Some(7), 3, 1), (Some(1), 0, 7)] {
        check(Some(3), move || {
            let readers = readers();
            readers[LOOK].store(NEVER, Ordering::Relaxed);
            let at = |number| Seat::at(WordsMut::new(&readers), number);
            let stays = stays.inspect(|&look| at(0).will_sleep(look));
            at(1).will_sleep(goes);
            let leaver = thread::spawn({
                let readers = Arc::clone(&readers);
                move || Seat::at(WordsMut::new(&readers), 1).never_sleeps()
            });
            at(2).will_sleep(comes);
            let now = readers[LOOK].load(Ordering::Relaxed) & NEVER;
            assert_eq!(now & !comes, 0, "it may sleep now, and programs do not look: {now:x}");
            leaver.join().unwrap();
            assert_eq!(readers[LOOK].load(Ordering::Relaxed) & NEVER, comes & stays.unwrap_or(NEVER));
            let leaver = thread::spawn({
                let readers = Arc::clone(&readers);
                move || Seat::at(WordsMut::new(&readers), 2).never_sleeps()
            });
            at(0).never_sleeps();
            leaver.join().unwrap();
            assert_eq!(readers[LOOK].load(Ordering::Relaxed) & NEVER, NEVER, "nobody is left");
        });
    }
}

/// Readers that come at the same time take different seats. A reader that goes frees its seat.
#[test]
fn seats_are_taken_once() {
    check(Some(3), || {
        let readers = readers();
        assert_eq!(seat(&readers, 9).number(), 0);
        let takers = [1, 2].map(|me| {
            let readers = Arc::clone(&readers);
            thread::spawn(move || {
                Seat::take(WordsMut::new(&readers), me, |owner, _| owner != 9).unwrap().number()
            })
        });
        let mut seats = takers.map(|taker| taker.join().unwrap());
        seats.sort_unstable();
        assert_eq!(seats, [0, 1]);
        Seat::at(WordsMut::new(&readers), 1).leave(77);
        assert_eq!(seat(&readers, 3).number(), 2, "the seat of another is not freed");
    });
}
