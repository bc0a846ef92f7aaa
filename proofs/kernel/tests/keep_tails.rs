//! Rings with tails that keep their oldest records: while a reader is required, no program overwrites a record or a tail
//! that it has not read, and each record is whole or counted.

use std::cell::Cell;

use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::tails::{
    ALL, AREA, Counts, Item, KEPT, LONGEST, ONE, RINGS, both, expected, pattern, write_one, written_by_all,
};

/// The slots of a shard.
const SLOTS: u64 = 64;
const FOREVER: Duration = Duration::from_secs(3600);
/// The longest tail, and how many of them fill the area.
const LONG: u64 = LONGEST[KEPT];
const FIT: u64 = AREA[KEPT] / LONG;

fn open(object: &Object) -> Ring<Item> {
    let ring = Ring::open(&map(object, RINGS[KEPT])).unwrap();
    assert_eq!(ring.access(), Access::Mapped);
    assert!(ring.region().geometry().options().keeps_oldest());
    ring
}

/// Writes `count` records with tails of `len` bytes. Returns how many were not dropped.
fn publish(write: &Runner, count: u64, len: u64) -> u64 {
    (0..count).filter(|_| write_one(write, KEPT, len)).count() as u64
}

/// The numbers of the records that it reads, after it has compared their tails.
fn numbers(reader: &mut Reader<Item>, pattern: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    reader.for_each(usize::MAX, |event| {
        assert!(event.tail == expected(pattern, event.record), "{event:?}");
        numbers.push(event.record.n);
    });
    numbers
}

#[test]
fn programs_drop_the_newest_records_while_a_reader_is_required() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&ONE, |object| {
        let (ring, write) = (open(object), Runner::new(object, "write_one"));
        // Without a required reader it is a ring like any other.
        assert_eq!(publish(&write, 100, LONG), 100);
        let mut reader = ring.reader();
        assert_eq!(numbers(&mut reader, &pattern).last(), Some(&99));
        assert!(!reader.is_required() && reader.stats().dropped() == 0);

        reader.require(FOREVER).unwrap();
        let lost = reader.lost();
        let mut observer = ring.reader_from(Start::Now);
        // The tails fill the area before the records fill the slots.
        let published = publish(&write, SLOTS, LONG);
        println!("{published} of {FIT} long tails");
        assert!((FIT / 2..=FIT).contains(&published));
        assert_eq!(publish(&write, 1, LONG), 0, "still full");
        assert_eq!(numbers(&mut observer, &pattern).len() as u64, published);
        assert_eq!(publish(&write, 1, LONG), 0, "an observer holds nothing back, nor do its reads help");
        assert_eq!(numbers(&mut reader, &pattern), (100..100 + published).collect::<Vec<_>>());
        let full = SLOTS - published + 2;
        assert_eq!((reader.stats().full, reader.stats().dropped()), (full, full), "{}", reader.stats());

        // Short ones fill the slots first.
        assert_eq!(publish(&write, SLOTS + 5, 0), SLOTS);
        assert_eq!(numbers(&mut reader, &pattern).len() as u64, SLOTS);

        // Nothing is dropped while it keeps up, or stays within a quarter of the area.
        for behind in [0, FIT / 4] {
            assert_eq!(publish(&write, behind, LONG), behind);
            for _ in 0..500 {
                assert_eq!(publish(&write, 1, LONG), 1);
                let check = |event: Event<&Item, &[u8]>| {
                    assert!(event.tail == expected(&pattern, event.record), "{event:?}")
                };
                assert_eq!(reader.for_each(1, check), 1);
            }
            assert_eq!(numbers(&mut reader, &pattern).len() as u64, behind);
        }

        // The slowest one of two counts. When it has gone, programs go on.
        let mut slow = ring.reader_from(Start::Now);
        slow.require(FOREVER).unwrap();
        let published =
            (0..).take_while(|_| publish(&write, 1, LONG) == 1 && reader.poll().is_some()).count();
        assert!(published as u64 <= FIT, "{published}");
        drop(slow);
        assert!(reader.poll().is_none());
        assert_eq!(publish(&write, 3, LONG), 3);
        assert_eq!(numbers(&mut reader, &pattern).len(), 3);
        assert_eq!((reader.lost(), reader.stats().no_tail), (lost, 0), "{}", reader.stats());
        drop(reader);
        assert_eq!(publish(&write, 100, LONG), 100);
    });
}

#[test]
fn a_reader_that_holds_programs_back_by_tails_loses_its_seat() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&ONE, |object| {
        let (ring, write) = (open(object), Runner::new(object, "write_one"));
        let mut reader = ring.reader();
        reader.require(Duration::from_millis(20)).unwrap();
        thread::sleep(Duration::from_millis(50));
        let published = publish(&write, FIT + 1, LONG);
        assert!(published <= FIT && reader.is_required(), "its lease runs from here");
        assert!(ring.readers().unwrap()[0].required.unwrap().holds.is_some());
        assert_eq!(numbers(&mut reader, &pattern).len() as u64, published);
        thread::sleep(Duration::from_millis(50));
        // It has read: the lease begins anew.
        assert!(publish(&write, FIT + 1, LONG) <= FIT && reader.is_required());

        thread::sleep(Duration::from_millis(50));
        assert_eq!(publish(&write, 20, LONG), 20);
        assert!(!reader.is_required());
        assert_eq!(numbers(&mut reader, &pattern).last(), Some(&(Counts::of(object).begun(KEPT) - 1)));
        assert_eq!(reader.take_error().unwrap().kind(), ErrorKind::LeaseEnded);
        assert!(reader.stats().tail_lost > 0, "{}", reader.stats());
    });
}

/// A merged reader holds records, and copies a tail when it delivers its record.
#[test]
fn programs_keep_the_tails_of_records_that_a_merged_reader_holds() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&ONE, |object| {
        let (ring, write) = (open(object), Runner::new(object, "write_one"));
        let mut reader = ring.reader();
        reader.require(FOREVER).unwrap();
        let mut merged = reader.merged(|item| item.n);
        let mut numbers = 0..;
        for round in 0..50 {
            let published = publish(&write, FIT / 4, LONG);
            assert_eq!(published, FIT / 4, "round {round}");
            assert!(merged.wait(FOREVER).unwrap());
            // It has read them all, and delivers one.
            let mut check = |event: Event<Item, &[u8]>| {
                assert!(event.tail == expected(&pattern, &event.record), "{event:?}");
                assert_eq!(Some(event.record.n), numbers.next());
            };
            check(merged.poll().unwrap());
            assert_eq!(merged.stats().held, published - 1);
            let more = (0..).take_while(|_| publish(&write, 1, LONG) == 1).count() as u64;
            assert!(published + more <= FIT, "{more} more");
            for n in 1..published + more {
                assert!(merged.wait(FOREVER).unwrap(), "record {n}");
                check(merged.poll().unwrap());
            }
            numbers.next(); // the one that was dropped
            assert!(merged.poll().is_none());
        }
        let stats = merged.stats();
        assert_eq!((stats.lost(), stats.held, stats.full), (0, 0, 50), "{stats}");
    });
}

#[test]
fn a_required_merged_reader_gets_every_tail() {
    require_bpf!();
    everywhere();
    let pattern = pattern();
    both(&ALL, |object| {
        let ring = open(object);
        written_by_all(object, || {
            let mut reader = ring.reader_from(Start::Now).with_patience(FOREVER);
            reader.require(FOREVER).unwrap();
            until_held_back(&reader);
            let mut merged = reader.merged(|item| item.n);
            merged.for_each(usize::MAX, |_| ());
            let (before, mut read) = (merged.stats(), 0);
            while read < 20_000 {
                assert!(merged.wait(FOREVER).unwrap());
                merged.for_each(usize::MAX, |event| {
                    assert!(event.tail == expected(&pattern, event.record), "{event:?}");
                    read += 1;
                });
            }
            let stats = merged.stats();
            println!("{stats}");
            assert!(merged.is_required());
            assert_eq!((stats.tail_lost, stats.lapped), (before.tail_lost, before.lapped), "{stats}");
        });
    });
}

/// The words of a shard by which programs know what was read: the newest ticket that ended, what was read, the mark.
const WORDS: [usize; 3] = [20, 30, 31];

#[test]
fn forged_words_cost_records_and_nothing_else() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&ONE, |object| {
        let (ring, write) = (open(object), Runner::new(object, "write_one"));
        let (raw, shard) = (map(object, RINGS[KEPT]), u32::try_from(cpus()[0]).unwrap().to_ne_bytes());
        let mut reader = ring.reader();
        reader.require(FOREVER).unwrap();
        let mut full = 0;
        let values =
            [0, 1, 1 << 31, 1 << 32, 1 << 47, 1 << 63, u64::MAX, u64::MAX << 32, 0x1234_5678_9abc_def0];
        for (word, value) in WORDS.into_iter().flat_map(|word| values.map(|value| (word, value))) {
            let mut element = raw.lookup(&shard, MapFlags::ANY).unwrap().unwrap();
            let saved = element.clone();
            element[word * 8..][..8].copy_from_slice(&value.to_ne_bytes());
            raw.update(&shard, &element, MapFlags::ANY).unwrap();
            let before = reader.stats();
            let published = publish(&write, 40, LONG / 2);
            numbers(&mut reader, &pattern);
            let after = reader.stats();
            let passed = after.delivered + after.lost() - before.delivered - before.lost();
            assert_eq!(passed, published, "word {word} is {value:#x}: {after}");
            assert_eq!(
                after.dropped() - before.dropped(),
                40 - published,
                "word {word} is {value:#x}: {after}"
            );
            full += after.full - before.full;
            // As it was, except for what programs have counted and written since.
            let mut element = raw.lookup(&shard, MapFlags::ANY).unwrap().unwrap();
            WORDS
                .into_iter()
                .for_each(|word| element[word * 8..][..8].copy_from_slice(&saved[word * 8..][..8]));
            raw.update(&shard, &element, MapFlags::ANY).unwrap();
        }
        println!("{full} were dropped, {}", reader.stats());
        assert!(full > 0 && reader.is_required());
    });
}

/// Waits until programs of all CPUs have dropped a record for this reader.
fn until_held_back(reader: &Reader<Item>) {
    let held_back = |shard: &usize| reader.shard_stats(*shard).unwrap().full;
    let before: Vec<_> = cpus().iter().map(held_back).collect();
    while cpus().iter().zip(&before).any(|(shard, before)| held_back(shard) == *before) {
        thread::yield_now();
    }
}

/// Programs that interrupt each other on all CPUs, and readers that become required, read and leave: while one is
/// required, it gets every record, with its tail.
#[test]
fn a_required_reader_gets_every_tail() {
    require_bpf!();
    everywhere();
    let pattern = pattern();
    both(&ALL, |object| {
        let ring = open(object);
        let (read, rounds, mut stepped_over) = (Cell::new(0_u64), Cell::new(0), 0);
        written_by_all(object, || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(3) || rounds.get() < 5 {
                let mut reader = ring.reader_from(Start::Now).with_patience(FOREVER);
                reader.require(FOREVER).unwrap();
                until_held_back(&reader);
                reader.for_each(usize::MAX, |_| ());
                let lost = reader.stats();
                let mut next: Vec<_> =
                    (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).collect();
                let enough = read.get() + 2000;
                while read.get() < enough {
                    let count = reader.for_each(usize::MAX, |event| {
                        assert!(event.tail == expected(&pattern, event.record), "{event:?}");
                        // Programs may step over a ticket, whose slot another one has had since before.
                        assert!(event.ticket >= next[event.shard], "of shard {}", event.shard);
                        next[event.shard] = event.ticket + 1;
                        read.set(read.get() + 1);
                    });
                    if count == 0 {
                        thread::yield_now();
                    }
                }
                assert!(reader.is_required());
                let stats = reader.stats();
                assert_eq!((stats.tail_lost, stats.lapped), (lost.tail_lost, lost.lapped), "{stats}");
                stepped_over += stats.stepped_over - lost.stepped_over;
                rounds.set(rounds.get() + 1);
            }
        });
        let (stats, counts) = (ring.reader().stats(), Counts::of(object));
        println!(
            "{} readers read {} records, {stepped_over} tickets stepped over; {stats}",
            rounds.get(),
            read.get()
        );
        assert!(stats.full > 1000 && counts.nested(KEPT) > 0, "{stats}");
        assert_eq!(stats.dropped(), counts.dropped(KEPT), "{stats}");
    });
}
