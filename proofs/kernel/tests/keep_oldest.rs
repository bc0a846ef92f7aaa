//! Rings that keep their oldest records while a reader is required, and readers that hold programs back for too long.

use mapring_kernel_tests::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

/// The slots of a shard.
const SLOTS: u64 = 64;
const FOREVER: Duration = Duration::from_secs(3600);

fn open(object: &Object) -> Ring<Rec> {
    Ring::open(&map(object, "events")).unwrap()
}

/// Publishes `count` records, numbered from `n`. Returns how many were not dropped.
fn publish(program: &Runner, n: u64, count: u64) -> u64 {
    let mut args = [n, count];
    program.run(&mut args);
    args[1] >> 32
}

fn numbers(reader: &mut Reader<Rec>) -> Vec<u64> {
    reader.drain().map(|event| event.record.n).collect()
}

fn full(reader: &Reader<Rec>) -> u64 {
    reader.stats().full
}

#[test]
fn programs_drop_the_newest_records_while_a_reader_is_required() {
    let object = &require_bpf!(KEEP);
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "publish");
    let ring = open(object);

    // Without a required reader it is a ring like any other.
    assert_eq!(publish(&program, 0, 200), 200);
    let mut reader = ring.reader();
    assert_eq!(numbers(&mut reader).last(), Some(&199));
    assert!(!reader.is_required());

    reader.require(FOREVER).unwrap();
    let mut observer = ring.reader_from(Start::Now);
    assert!(reader.is_required() && !observer.is_required());
    assert_eq!(publish(&program, 1000, 100), SLOTS);
    assert_eq!(full(&reader), 100 - SLOTS);
    assert_eq!(publish(&program, 2000, 1), 0, "still full");
    // An observer does not hold programs back, nor do its reads help.
    assert_eq!(numbers(&mut observer).len() as u64, SLOTS);
    assert_eq!(publish(&program, 2000, 1), 0);
    assert_eq!(numbers(&mut reader), (1000..1000 + SLOTS).collect::<Vec<_>>(), "the oldest, in order");
    assert_eq!(publish(&program, 3000, 3), 3);
    assert_eq!(numbers(&mut reader), [3000, 3001, 3002]);
    assert_eq!((reader.lost(), full(&reader)), (0, 100 - SLOTS + 2));
    assert!(reader.stats().to_string().contains("38 held back by a reader"), "{}", reader.stats());

    // The slowest one of two counts. When it has gone, programs go on.
    let mut slow = ring.reader_from(Start::Now);
    slow.require(FOREVER).unwrap();
    for n in 0..SLOTS {
        assert_eq!(publish(&program, n, 1), 1);
        assert_eq!(reader.poll().unwrap().record.n, n);
        assert!(reader.poll().is_none());
    }
    assert_eq!(publish(&program, 0, 1), 0);
    drop(slow);
    assert_eq!(publish(&program, 0, 2), 2);
    assert_eq!(reader.for_each(usize::MAX, |_| ()), 2);
    drop(reader);
    assert_eq!(publish(&program, 0, 200), 200);
}

#[test]
fn any_way_of_reading_tells_programs_how_far() {
    let object = &require_bpf!(KEEP);
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "publish");
    let mut reader = open(object).reader();
    reader.require(FOREVER).unwrap();
    let eighth = usize::try_from(SLOTS).unwrap() / 8 + 2;

    publish(&program, 0, SLOTS);
    assert_eq!(publish(&program, 0, 1), 0);
    assert_eq!(reader.for_each(1, |_| ()), 1);
    assert_eq!(publish(&program, 0, 2), 1, "there is room for one");

    // In the midst of a long read, programs go on.
    let mut more = 0;
    reader.for_each(2 * eighth, |_| more += publish(&program, 0, 1));
    assert!(more > 0);
    assert!(reader.drain().take(2 * eighth).map(|_| publish(&program, 0, 1)).sum::<u64>() > 0);
    while reader.poll().is_some() {}
    let polled = (0..).take_while(|_| publish(&program, 0, 1) == 1 && reader.poll().is_some()).take(10_000);
    assert_eq!(polled.count(), 10_000, "nothing is dropped while it keeps up");
    assert_eq!(reader.lost(), 0);

    assert!(reader.poll().is_none());
    let mut merged = reader.merged(|record| record.n);
    for _ in 0..10 {
        assert_eq!(publish(&program, 0, SLOTS), SLOTS);
        assert_eq!(merged.for_each(usize::MAX, |_| ()) as u64, SLOTS);
    }
    drop(merged);
    let mut reader = open(object).reader_from(Start::Now);
    reader.require(FOREVER).unwrap();

    // A record that no program ends is passed after the reader's patience, and programs go on.
    let mut reader = reader.with_patience(Duration::ZERO);
    Runner::new(object, "leave_open").run(&mut [0, 0]);
    while reader.poll().is_some() {}
    assert_eq!(publish(&program, 7, SLOTS), SLOTS - 1);
    assert_eq!(numbers(&mut reader), vec![7; 63].iter().zip(0..).map(|(n, i)| n + i).collect::<Vec<_>>());
    assert_eq!(reader.stats().skipped, 1);
    assert_eq!(publish(&program, 7, SLOTS), SLOTS - 1, "all but the slot that is still being written");
}

#[test]
fn a_reader_that_holds_programs_back_for_longer_than_its_lease_loses_its_place() {
    let object = &require_bpf!(KEEP);
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "publish");
    let ring = open(object);
    let mut reader = ring.reader();
    reader.require(Duration::from_millis(20)).unwrap();

    // It sleeps for longer than its lease, and nothing happens: it does not hold anything back.
    thread::sleep(Duration::from_millis(50));
    publish(&program, 0, SLOTS);
    assert!(reader.is_required());
    let [known] = ring.readers().unwrap()[..] else { panic!("one reader") };
    let behind = known.required.unwrap();
    assert_eq!((known.pid, known.alive, known.asleep), (std::process::id(), true, false));
    assert_eq!((behind.lease, behind.unread), (Duration::from_millis(20), SLOTS));
    assert_eq!(behind.holds, None);

    // Now it does, but for less than its lease if it reads in time, again and again.
    assert_eq!(publish(&program, 100, 1), 0);
    assert!(ring.readers().unwrap()[0].required.unwrap().holds.is_some());
    assert_eq!(numbers(&mut reader).len() as u64, SLOTS);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(publish(&program, 200, SLOTS + 1), SLOTS, "the lease runs from here");
    assert!(reader.is_required() && reader.take_error().is_none());

    // It does not.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(publish(&program, 300, 10), 10);
    assert!(!reader.is_required());
    let read = numbers(&mut reader);
    assert!(read.len() as u64 <= SLOTS && read.last() == Some(&309), "{read:?}");
    assert_eq!(reader.stats().lapped + read.len() as u64, SLOTS + 10);
    let error = reader.take_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::LeaseEnded, "{error}");
    assert!(reader.take_error().is_none());
    assert_eq!(ring.readers().unwrap()[0].required, None);

    reader.require(FOREVER).unwrap();
    assert_eq!(publish(&program, 400, 100), SLOTS);
    assert_eq!(numbers(&mut reader).first(), Some(&400));
}

#[test]
fn what_can_not_be_required_is_refused() {
    let object = &require_bpf!(KEEP);
    let ring = open(object);
    let mut readers: Vec<_> = (0..mapring::abi::readers::PLACES).map(|_| ring.reader()).collect();
    for reader in &mut readers {
        reader.require(FOREVER).unwrap();
        reader.require(Duration::from_secs(1)).unwrap(); // a second time: another lease
    }
    let mut one_more = ring.reader();
    let error = one_more.require(FOREVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoPlace, "{error}");
    assert!(error.to_string().contains("64 readers"), "{error}");
    assert_eq!(ring.readers().unwrap().len(), 64);
    readers.pop();
    one_more.require(FOREVER).unwrap();

    let plain = Ring::<[u64; 2]>::create_memfd(8, 1).unwrap();
    let error = plain.reader().require(FOREVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotKeepOldest);
    assert!(error.to_string().contains("no ring in a memfd does"), "{error}");

    // Records of one byte, one slot.
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "publish_small");
    let mut small = Ring::<u8>::open(&map(object, "small")).unwrap().reader();
    small.require(FOREVER).unwrap();
    for n in 0..3 {
        assert_eq!((publish(&program, n, 0), publish(&program, n, 0)), (1, 0));
        assert_eq!(small.poll().map(|event| u64::from(event.record)), Some(n));
        assert!(small.poll().is_none());
    }
    assert_eq!(small.stats().full, 3);
}

/// Programs on all CPUs, and readers that become required, read and leave: while one is required, it gets every record
/// that was written, in order. (Which records were reserved before is known to the models.)
fn nothing_is_overrun(object: &Object) {
    let ring = open(object);
    let stop = &AtomicBool::new(false);
    let (mut rounds, mut read, mut dropped) = (0, 0, 0);
    thread::scope(|scope| {
        let _stops = Stop(stop);
        for &cpu in cpus() {
            let program = Runner::new(object, "publish");
            scope.spawn(move || {
                on_cpu(cpu);
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += publish(&program, n, 200);
                }
            });
        }
        let end = Instant::now() + stress_seconds(5.0);
        while Instant::now() < end || rounds < 10 {
            let mut reader = ring.reader_from(Start::Now);
            reader.require(FOREVER).unwrap();
            // Programs of all CPUs have seen it.
            let held_back = |shard: &usize| reader.shard_stats(*shard).unwrap().full;
            let before: Vec<_> = cpus().iter().map(held_back).collect();
            while cpus().iter().zip(&before).any(|(shard, before)| held_back(shard) == *before) {
                thread::yield_now();
            }
            reader.for_each(usize::MAX, |_| ());
            let lost = reader.lost();
            let mut next: Vec<_> = (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).collect();
            let enough = read + 200;
            while read < enough {
                let count = reader.for_each(usize::MAX, |event| {
                    assert_eq!(event.ticket, next[event.shard], "a record of shard {} was lost", event.shard);
                    assert_eq!(event.record.twice, 2 * event.record.n);
                    next[event.shard] += 1;
                    read += 1;
                });
                if count == 0 {
                    thread::yield_now();
                }
            }
            assert!(reader.is_required());
            assert_eq!(reader.lost(), lost);
            dropped += full(&reader) - before.iter().sum::<u64>();
            rounds += 1;
        }
    });
    everywhere();
    eprintln!("{rounds} readers read {read} records, programs dropped {dropped}");
    assert!(
        read > 1000 && dropped > 1000,
        "the test did not meet its subject: {read} read, {dropped} dropped"
    );
}

#[test]
fn a_required_reader_gets_every_record() {
    let object = &require_bpf!(KEEP);
    nothing_is_overrun(object);
    let object = &bpf::KEEP_PORTABLE.load(fitted);
    nothing_is_overrun(object);
}
