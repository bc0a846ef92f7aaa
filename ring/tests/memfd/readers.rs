//! Rings whose writers know their readers: whom they wake, and for whom they keep the oldest records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mapring::abi::Tails;
use mapring::abi::readers::{ASLEEP, LOOK, NEVER, REQUIRED, SEATS, wake_at};
use mapring::writers::{Dropped, MemfdOptions};
use rustix::thread::futex;

use super::processes::{Other, Scribble, open, path};
use super::*;

const SLOTS: usize = 8;
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);

fn wakeable() -> MemfdOptions {
    MemfdOptions::default().wakeable()
}

fn with_tails() -> MemfdOptions {
    wakeable().tails(Tails::new(64, 4096).unwrap())
}

fn keeping() -> MemfdOptions {
    MemfdOptions::default().keep_oldest()
}

fn ring(options: MemfdOptions) -> Ring<u64> {
    Ring::create_memfd_with(SLOTS, 1, options).unwrap()
}

#[test]
fn options_combine_and_what_means_nothing_is_refused_by_name() {
    for (options, names) in [
        (MemfdOptions::default(), ""),
        (wakeable(), "WAKEABLE"),
        (with_tails(), "WAKEABLE, TAILS"),
        (keeping(), "KEEP_OLDEST"),
        (keeping().wakeable(), "KEEP_OLDEST"),
    ] {
        assert_eq!(ring(options).options().to_string(), names);
    }
    let tails = Tails::new(64, 4096).unwrap();
    let both = Ring::<u64>::create_memfd_with(SLOTS, 1, keeping().tails(tails));
    let message = message_of(both, ErrorKind::Shape);
    assert!(
        message.contains("KEEP_OLDEST, TAILS") && message.contains("WAKEABLE together with TAILS"),
        "{message}"
    );
    let plain = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
    for (geometry, name) in [(plain.resizable(), "RESIZABLE"), (plain.of_cpu(), "PER_CPU_MAPS")] {
        let message = message_of(Region::create_memfd(geometry.unwrap(), "u64"), ErrorKind::Shape);
        assert!(message.contains(name), "{message}");
    }
    let message = message_of(ring(wakeable()).reader().require(FOREVER), ErrorKind::NotKeepOldest);
    assert!(message.contains("MemfdOptions::keep_oldest"), "{message}");
    let mut plain = ring(MemfdOptions::default());
    assert_eq!(message_of(plain.readers(), ErrorKind::NotWakeable), message_of_bell(&mut plain));
}

fn message_of_bell(ring: &mut Ring<u64>) -> String {
    ring.reader().bell().unwrap_err().to_string()
}

/// The writer's side: threads that sleep on the bits of two readers, without a timeout.
#[test]
fn the_end_of_a_record_wakes_the_readers_that_sleep_until_then() {
    for options in [wakeable(), with_tails(), keeping()] {
        let ring = ring(options);
        let writer = ring.writer(0).unwrap();
        let words = Scribble::of(&ring);
        assert_eq!(words.shared(LOOK).load(Ordering::Relaxed), NEVER, "nobody is known");
        for until in [0, 3] {
            writer.push(&0).unwrap();
            words.shared(LOOK).store(0, Ordering::Relaxed);
            let next = ring.reader_from(Start::Now).position(0).unwrap();
            // Reader 0 sleeps until any record, reader 1 for a number of them.
            words.shared(wake_at(0, 1)).store(if until == 0 { 0 } else { next + until }, Ordering::Relaxed);
            words.shared(ASLEEP).store(0b11, Ordering::Relaxed);
            thread::scope(|scope| {
                let sleepers: Vec<_> = [0, 1]
                    .map(|seat| {
                        let words = &words;
                        scope.spawn(move || {
                            let bit = std::num::NonZeroU32::new(1 << seat).unwrap();
                            while let seen = words.sleepers().load(Ordering::Relaxed)
                                && seen & bit.get() != 0
                            {
                                let _ = futex::wait_bitset(
                                    words.sleepers(),
                                    futex::Flags::empty(),
                                    seen,
                                    None,
                                    bit,
                                );
                            }
                        })
                    })
                    .into();
                let mut sleepers = sleepers.into_iter();
                // A record that is discarded wakes as well, because others may be behind it.
                writer.reserve().unwrap().discard();
                sleepers.next().unwrap().join().unwrap();
                let asleep = words.shared(ASLEEP).load(Ordering::Relaxed);
                assert_eq!(asleep, if until == 0 { 0 } else { 0b10 }, "the other one wants more");
                writer.push(&1).unwrap();
                let mut slot = writer.reserve().unwrap();
                slot.write(&2);
                slot.commit().unwrap();
                sleepers.next().unwrap().join().unwrap();
                assert_eq!(words.shared(ASLEEP).load(Ordering::Relaxed), 0);
            });
        }
    }
}

/// Two processes wake each other, thousands of times: each sleep that ended by its limit would take a second.
#[test]
fn processes_wake_each_other() {
    for options in [wakeable(), with_tails(), keeping()] {
        let ring = Ring::<u64>::create_memfd_with(SLOTS, 2, options).unwrap();
        let mut other = Other::start("answers", &ring);
        other.says("ready");
        let (writer, mut reader) = (ring.writer(0).unwrap(), ring.reader());
        let mut slept = 0;
        for n in (0..3000).chain([u64::MAX]) {
            // Every other time only after both sleep, or so it was.
            if n % 2 == 0 {
                slept += usize::from(ring.readers().unwrap().iter().any(|reader| reader.asleep));
            }
            writer.push(&n).unwrap();
            let answer = loop {
                assert!(reader.wait(FOREVER).unwrap());
                if let Some(event) = reader.drain().filter(|event| event.shard == 1).last() {
                    break event.record;
                }
            };
            assert_eq!(answer, n);
        }
        other.ends();
        assert!(slept > 0, "nobody ever slept");
        assert_eq!(reader.lost(), 0);
        assert_eq!(ring.readers().unwrap().len(), 1, "the other one is gone");
        drop(reader);
        assert_eq!(ring.readers().unwrap(), []);
        assert_eq!(Scribble::of(&ring).shared(LOOK).load(Ordering::Relaxed) & NEVER, NEVER);
    }
}

#[test]
fn a_reader_sleeps_only_where_writers_can_wake_it() {
    let ring = ring(wakeable());
    let words = Scribble::of(&ring);
    let mut reader = ring.reader();
    // An event loop has nothing to watch, so it is told to look again soon.
    let message = reader.bell().unwrap_err().to_string();
    assert!(message.contains("only in Reader::wait"), "{message}");
    assert!(reader.arm().unwrap() <= mapring::Reader::<u64>::NAP);
    assert_eq!(words.shared(ASLEEP).load(Ordering::Relaxed), 0, "nobody would wake it");
    assert!(!reader.wait(Duration::from_millis(1)).unwrap());
    assert_eq!(words.shared(ASLEEP).load(Ordering::Relaxed), 0);
    ring.writer(0).unwrap().push(&7).unwrap();
    assert!(reader.wait(FOREVER).unwrap());
    let mut many: Vec<_> = (0..SEATS).map(|_| ring.reader()).collect();
    let refused = many.iter_mut().filter_map(|reader| reader.bell().err().map(|e| e.kind()));
    assert_eq!(refused.filter(|kind| *kind == ErrorKind::NoSeat).count(), 1, "the first has a seat");
}

/// A reader that can't write the file has no seat: it naps, and can't be required.
#[test]
fn a_reader_without_write_access_naps() {
    for options in [wakeable(), keeping()] {
        let ring = ring(options);
        let writer = ring.writer(0).unwrap();
        let mut reader = open(&path(&ring), false).reader();
        assert_eq!(reader.bell().unwrap_err().kind(), ErrorKind::NotWritable);
        assert!(!reader.wait(Duration::from_millis(1)).unwrap());
        writer.push(&7).unwrap();
        assert!(reader.wait(FOREVER).unwrap());
        assert_eq!(reader.poll().unwrap().record, 7);
        if options == keeping() {
            let message = message_of(reader.require(FOREVER), ErrorKind::NotWritable);
            assert!(
                message.contains("memfd is read-only") && message.contains("reading and writing"),
                "{message}"
            );
        }
        assert_eq!(ring.readers().unwrap(), []);
        // One whose descriptor can write has a seat, though it maps the ring for reading.
        let descriptor = Ring::<u64>::open(fd_of(&ring.region())).unwrap();
        assert!(descriptor.region().writable().is_err());
        let mut reader = descriptor.reader_from(Start::Now);
        assert!(!reader.wait(Duration::from_millis(1)).unwrap());
        assert_eq!(descriptor.readers().unwrap().len(), 1);
        // From now on nobody else can.
        ring.region().seal_future_writes().unwrap();
        let mut late = Ring::<u64>::open(fd_of(&ring.region())).unwrap().reader();
        assert_eq!(late.bell().unwrap_err().kind(), ErrorKind::Sealed);
        assert!(late.wait(FOREVER).unwrap());
    }
}

/// A lease ends only while the ring is full. The next one begins anew.
#[test]
fn a_dead_reader_holds_writers_back_until_its_lease_ends() {
    let ring = ring(keeping());
    let writer = ring.writer(0).unwrap();
    let mut other = Other::start("requires", &ring);
    other.says("ready");
    other.kill();
    (0..SLOTS as u64).for_each(|n| assert_eq!(writer.push(&n), Some(n)));
    assert_eq!(writer.try_reserve().unwrap_err(), Dropped::Full, "it is required");
    let [known] = ring.readers().unwrap()[..] else { panic!("one reader") };
    assert!(!known.alive && known.required.is_some());
    while writer.push(&0).is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(Scribble::of(&ring).shared(REQUIRED).load(Ordering::Relaxed), 0);
    // The next reader gets the seat.
    let mut reader = ring.reader();
    reader.require(Duration::from_millis(20)).unwrap();
    assert_eq!(ring.readers().unwrap().len(), 1);
    reader.for_each(usize::MAX, |_| ());
    (0..SLOTS as u64).for_each(|n| assert!(writer.push(&n).is_some()));
    while writer.push(&0).is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    reader.for_each(usize::MAX, |_| ());
    assert_eq!(reader.take_error().unwrap().kind(), ErrorKind::LeaseEnded);
    assert!(!reader.is_required() && reader.lost() > 0);
}

/// Writers are killed somewhere in the midst of a record. The others go on, and a reader misses nothing that was published
/// later.
#[test]
fn a_writer_that_is_killed_leaves_a_ring_that_works() {
    for options in [wakeable(), with_tails(), keeping()] {
        let ring = Ring::<u64>::create_memfd_with(64, 1, options).unwrap();
        let mut reader = ring.reader().with_patience(Duration::ZERO);
        if options == keeping() {
            reader.require(FOREVER).unwrap();
        }
        let mut writer = ring.writer(0).unwrap();
        for round in 0..20 {
            let mut other = Other::start("pushes", &ring);
            other.says("ready");
            for _ in 0..100 {
                assert!(reader.wait(FOREVER).unwrap());
                reader.for_each(usize::MAX, |_| ());
            }
            other.kill();
            reader.for_each(usize::MAX, |_| ());
            let mine = 1 << 40 | round;
            while writer.push(&mine).is_none() {
                reader.for_each(usize::MAX, |_| ());
            }
            let mut found = false;
            while !found {
                assert!(reader.wait(FOREVER).unwrap());
                reader.for_each(usize::MAX, |event| found |= *event.record == mine);
            }
        }
        assert!(writer.recover().unwrap() <= 20);
        let stats = reader.stats();
        assert!(options != keeping() || stats.lapped == 0, "{stats}");
        assert!(stats.skipped <= 20 * 64, "{stats}");
    }
}

/// Many threads write, and a required reader sleeps and reads: nothing that was published is lost, whoever wrote it.
#[test]
fn nothing_is_lost_to_a_required_reader() {
    const EACH: u64 = 20_000;
    let mut next = [0; 3];
    let writers = next.len() as u64;
    let ring = ring(keeping());
    let full = AtomicU64::new(0);
    let reader = thread::scope(|scope| {
        // A busy machine may take the CPU from a writer in the midst of a record for longer than readers usually wait. It is
        // made here because it must end before its writers if this fails.
        let mut reader = ring.reader().with_patience(FOREVER);
        reader.require(FOREVER).unwrap();
        for number in 0..writers {
            let (ring, full) = (&ring, &full);
            scope.spawn(move || {
                let writer = ring.writer(0).unwrap();
                for n in 0..EACH {
                    while writer.push(&(number * EACH + n)).is_none() {
                        full.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                    }
                }
            });
        }
        while next.iter().sum::<u64>() < writers * EACH {
            assert!(reader.wait(FOREVER).unwrap());
            reader.for_each(usize::MAX, |event| {
                let at = &mut next[usize::try_from(*event.record / EACH).unwrap()];
                assert_eq!(*event.record % EACH, *at, "each writer's records, all of them and in order");
                *at += 1;
            });
        }
        reader
    });
    let stats = reader.stats();
    assert_eq!((stats.delivered, reader.lost()), (writers * EACH, 0), "{stats}");
    assert_eq!(stats.full + stats.no_slot, full.into_inner(), "{stats}");
    assert!(stats.full > 0, "the ring was never full");
}

/// A neighbour writes anything anywhere: calls are bounded and nothing panics.
#[test]
fn scribbled_words_cost_records_and_nothing_else() {
    let rounds = if cfg!(debug_assertions) { 50_000 } else { 200_000 };
    for options in [MemfdOptions::default(), wakeable(), with_tails(), keeping()] {
        let ring = ring(options);
        let (writer, words) = (ring.writer(0).unwrap(), Scribble::of(&ring));
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut reader = ring.reader();
        for round in 0..rounds {
            // Everything behind the preamble, head and sequences included, and the table of readers.
            let at = 16 + usize::try_from(random()).unwrap() % (words.map.len() / 8 - 16);
            let value = match random() % 4 {
                0 => random(),
                1 => random() % 64,
                2 => u64::MAX - random() % 64,
                _ => (1 << 63) | (random() % 64),
            };
            words.word(at).store(value, Ordering::Relaxed);
            let _ = writer.push(&1);
            if let Some(mut slot) = writer.reserve() {
                slot.write(&2);
                slot.commit();
            }
            let before = reader.position(0).unwrap();
            let drained = reader.drain().count();
            assert!(drained <= SLOTS + 16, "{drained} records from {SLOTS} slots at {before}");
            let _ = ring.reader().poll();
            // Each takes a millisecond.
            if options != MemfdOptions::default() && round % 500 == 0 {
                let _ = reader.wait(Duration::from_micros(10)).unwrap();
                let _ = (reader.require(FOREVER), reader.stats(), ring.readers().unwrap());
            }
        }
    }
}
