//! Readers that are killed (SIGKILL) with a seat in the ring: with a bell, about to sleep, asleep, required, within a tail,
//! and anywhere else. The others get all their wakeups, programs go on, and the seat is free for the next reader.

mod tails;
mod victim;

use std::os::fd::BorrowedFd;

use mapring::abi::readers::{ASLEEP, LOOK, NEVER, SEATS};
use mapring_kernel_tests::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use victim::{Victim, killed};

/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);
const FOREVER: Duration = Duration::from_secs(3600);
/// The slots of a shard.
const SLOTS: u64 = 64;

/// A ring, a program that writes it, and a pin of the ring, which lasts as long as its folder.
fn pinned<T: Record>(object: &Object, name: &str, program: &str) -> (Ring<T>, Runner, PathBuf, PinDir) {
    let (ring, pins) = (Ring::open(&map(object, name)).unwrap(), PinDir::new());
    let pin = pins.path(name);
    ring.pin(&pin, 0o600).unwrap();
    (ring, Runner::new(object, program), pin, pins)
}

fn publish(program: &Runner, n: u64, count: u64) {
    program.run(&mut [n, count]);
}

/// Whether the bell has rung by now.
fn rung(reader: &mut Reader<Rec>) -> bool {
    let bell: BorrowedFd<'_> = reader.bell().unwrap();
    let at_once = Timespec::try_from(Duration::ZERO).unwrap();
    poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&at_once)).unwrap() == 1
}

fn shared(object: &Object, word: usize) -> u64 {
    word_at(&map(object, "events__readers"), 0, word)
}

fn numbers(reader: &mut Reader<Rec>) -> Vec<u64> {
    let checked = |record: Rec| {
        assert_eq!(record.twice, 2 * record.n);
        record.n
    };
    reader.drain().map(|event| checked(event.record)).collect()
}

/// Sleeps and is woken, in time.
fn is_woken(reader: &mut Reader<Rec>, program: &Runner, n: u64) {
    assert!(reader.arm().is_some(), "there is nothing to read");
    publish(program, n, 1);
    assert!(rung(reader), "record {n}");
    assert_eq!(numbers(reader), [n]);
}

/// Takes all seats that living readers do not have.
fn take_all_seats(ring: &Ring<Rec>, living: usize) -> Vec<Reader<Rec>> {
    let mut readers: Vec<_> = (living..SEATS).map(|_| ring.reader_from(Start::Now)).collect();
    for reader in &mut readers {
        reader.bell().unwrap();
    }
    let known = ring.readers().unwrap();
    assert_eq!(known.len(), SEATS);
    assert!(known.iter().all(|known| known.pid == std::process::id() && known.alive), "{known:?}");
    readers
}

#[test]
fn the_others_are_woken_and_the_seat_is_free() {
    let object = &require_bpf!(WAKEABLE);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned::<Rec>(object, "events", "publish");
    let mut other = ring.reader();
    is_woken(&mut other, &program, 0);
    for stage in ["bell", "arm", "wait"] {
        // It sleeps before the other one dies…
        assert!(other.arm().is_some());
        let victim = killed(&ring, "reader", &pin, &["bell", stage]);
        assert_ne!(shared(object, ASLEEP), 0);
        publish(&program, 1, 1);
        assert!(rung(&mut other), "{stage}");
        assert_eq!(shared(object, ASLEEP), 0, "{stage}: the dead one is rung for once");
        assert_eq!(numbers(&mut other), [1]);
        // …and after that, as often as it wants.
        (2..100).for_each(|n| is_woken(&mut other, &program, n));
        let seat = victim.seat(&ring).expect("nobody needed its seat");
        assert!(!seat.alive && !seat.asleep, "{stage}: {seat:?}");

        let mut readers = take_all_seats(&ring, 1);
        assert!(victim.seat(&ring).is_none());
        for reader in &mut readers {
            assert!(reader.arm().is_some() && !rung(reader), "{stage}: nothing is left of the dead one");
        }
        is_woken(&mut other, &program, 100);
        assert!(readers.iter_mut().all(rung), "{stage}: one record wakes all");
    }
}

/// Killed at moments that the stages do not name: while it takes a seat, hangs up its bell, or leaves.
#[test]
fn the_others_are_woken_wherever_a_reader_is_killed() {
    let object = &require_bpf!(WAKEABLE);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned::<Rec>(object, "events", "publish");
    let mut other = ring.reader();
    let (mut n, mut dead) = (0, 0);
    for _ in 0..30 {
        let mut victim = Victim::at("reader", &pin, &["again"]);
        let mut sleep = |times: u64| {
            (0..times).for_each(|_| is_woken(&mut other, &program, n));
            n += times;
        };
        sleep(1 + fastrand::u64(0..500));
        victim.kill();
        sleep(20);
        dead += usize::from(victim.seat(&ring).is_some_and(|seat| !seat.alive));
    }
    eprintln!("{dead} of 30 had a seat when they were killed");
    assert!(dead > 0, "the test did not meet its subject");
    assert_eq!(take_all_seats(&ring, 1).len(), SEATS - 1);
}

/// A reader that wants a wakeup at each record makes programs look for it at each. When it is dead, one that sleeps seldom
/// and wants fewer wakeups ends this.
#[test]
fn programs_do_not_look_for_long_for_a_dead_one() {
    let object = &require_bpf!(WAKEABLE);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned::<Rec>(object, "events", "publish");
    let look = || shared(object, LOOK) & NEVER;
    let mut living = ring.reader().with_watermark(32, FOREVER);
    living.bell().unwrap();
    assert_eq!(look(), 7, "at four tickets in 32");
    let victim = killed(&ring, "reader", &pin, &["bell", "wait"]);
    assert_eq!(look(), 0, "at each");

    let (started, mut sleeps) = (Instant::now(), 0);
    while look() == 0 {
        assert!(!living.wait(Duration::from_millis(250)).unwrap());
        sleeps += 1;
        assert!(started.elapsed() < PATIENCE, "after {sleeps} sleeps");
    }
    assert!(sleeps < 4096, "so many sleeps end it in any case: {sleeps}");
    assert!(victim.seat(&ring).is_none());
    assert_eq!((look(), shared(object, ASLEEP)), (7, 0));
    assert!(living.arm().is_some());
    publish(&program, 0, 31);
    assert!(!rung(&mut living));
    publish(&program, 31, 1);
    assert!(rung(&mut living));
}

/// Publishes `count` records, numbered from `n`, in a ring that keeps its oldest. Returns how many were not dropped.
fn kept(program: &Runner, n: u64, count: u64) -> u64 {
    let mut args = [n, count];
    program.run(&mut args);
    args[1] >> 32
}

#[test]
fn a_required_one_holds_programs_back_for_its_lease_only() {
    let object = &require_bpf!(KEEP);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned::<Rec>(object, "events", "publish");
    let mut living = ring.reader();
    living.require(FOREVER).unwrap();
    let mut full = 0;
    for stages in [&["require=100"][..], &["bell", "require=100", "arm"], &["require=100", "wait"]] {
        let victim = killed(&ring, "reader", &pin, stages);
        let behind = victim.seat(&ring).unwrap().required.unwrap();
        assert_eq!((behind.lease, behind.unread), (Duration::from_millis(100), 0), "{stages:?}");
        assert_eq!(kept(&program, 0, SLOTS), SLOTS);
        assert_eq!(numbers(&mut living), (0..SLOTS).collect::<Vec<_>>());
        assert!(victim.seat(&ring).unwrap().required.is_some_and(|behind| behind.unread == SLOTS));
        // Its lease begins with the first record that it holds back.
        assert_eq!(kept(&program, 0, 1), 0, "{stages:?}");
        full += 1;
        let started = Instant::now();
        while kept(&program, SLOTS, 1) == 0 {
            full += 1;
            assert!(started.elapsed() < PATIENCE, "{stages:?}: its lease does not end");
        }
        assert_eq!(living.stats().full, full);
        let seat = victim.seat(&ring).unwrap();
        assert_eq!((seat.alive, seat.required), (false, None), "{stages:?}");

        // Only the living one counts from here on, and it lost nothing.
        assert_eq!(numbers(&mut living), [SLOTS]);
        assert_eq!(kept(&program, 1000, 100), SLOTS);
        full += 100 - SLOTS;
        assert_eq!(numbers(&mut living), (1000..1000 + SLOTS).collect::<Vec<_>>(), "{stages:?}");
        assert_eq!((living.lost(), living.stats().full, living.is_required()), (0, full, true));
        drop(take_all_seats(&ring, 1));
    }
}

#[test]
fn the_next_reader_ends_the_lease_of_a_dead_one() {
    let object = &require_bpf!(KEEP);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned::<Rec>(object, "events", "publish");
    let victim = killed(&ring, "reader", &pin, &["require=3600000", "arm"]);
    assert_eq!((kept(&program, 0, SLOTS), kept(&program, 0, 100)), (SLOTS, 0));
    let mut next = ring.reader();
    assert_eq!(kept(&program, 0, 1), 0, "it has no seat yet");
    next.bell().unwrap();
    assert!(victim.seat(&ring).is_none());
    assert_eq!(kept(&program, 0, 200), 200);
    assert_eq!(next.stats().full, 101);
}
