//! Every handle over memfd regions, in one process: what is written is read, and bad input gets
//! a typed error that names both sides.
#![allow(clippy::disallowed_types, reason = "tests play processes that write anything")]

mod files;
mod processes;
mod readers;
mod values;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use mapring::abi::{Geometry, Kind, Preamble};
use mapring::{Access, Cells, Error, ErrorKind, OpenOptions, Refusal, Region, Ring, Start};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Record {
    n: u64,
    words: [u64; 6],
}
mapring::record!(Record { n, words });

impl Record {
    fn new(n: u64) -> Self {
        Self { n, words: [n.wrapping_mul(3); 6] }
    }
}

/// The message of an error of this kind.
fn message_of<T: std::fmt::Debug>(result: mapring::Result<T>, kind: ErrorKind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

fn fd_of(region: &Region) -> OwnedFd {
    region.as_fd().try_clone_to_owned().unwrap()
}

/// Writes words of a region's element behind the library's back.
fn put(region: &Region, element: usize, word: usize, words: &[u64]) {
    let file = std::fs::File::from(fd_of(region));
    let at = element * region.geometry().element() + word * 8;
    file.write_all_at(bytemuck::cast_slice(words), at as u64).unwrap();
}

#[test]
fn a_ring_delivers_in_order_and_counts_what_it_overwrote() {
    let ring = Ring::<Record>::create_memfd(8, 2).unwrap();
    assert_eq!((ring.slots(), ring.shards(), ring.access()), (8, 2, Access::Mapped));
    let writer = ring.writer(1).unwrap();
    let mut early = ring.reader();
    for n in 0..5 {
        assert_eq!(writer.push(&Record::new(n)), Some(n));
    }
    let read: Vec<_> = early.drain().map(|e| (e.shard, e.ticket, e.record)).collect();
    assert_eq!(read, (0..5).map(|n| (1, n, Record::new(n))).collect::<Vec<_>>());
    assert!(early.poll().is_none());

    for n in 5..105 {
        writer.push(&Record::new(n));
    }
    let mut late = ring.reader();
    for reader in [&mut early, &mut late] {
        let mut last = None;
        reader.for_each(usize::MAX, |e| {
            assert_eq!(*e.record, Record::new(e.ticket));
            last = Some(e.ticket);
        });
        assert_eq!(last, Some(104));
        let stats = reader.stats();
        assert_eq!(reader.position(1), Some(105));
        assert_eq!((stats.torn, stats.discarded, stats.skipped), (0, 0, 0));
    }
    assert_eq!(early.stats().delivered + early.lost(), 105);
    assert_eq!((late.stats().delivered, late.lost()), (8, 0));
    assert!(ring.reader_from(Start::Now).poll().is_none());
}

#[test]
fn discarded_and_abandoned_tickets_are_told_apart() {
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    writer.reserve().unwrap().discard();
    let mut abandoned = writer.reserve().unwrap();
    writer.push(&Record::new(2)).unwrap();

    let mut reader = ring.reader().with_patience(Duration::ZERO);
    let mut polls = 0;
    let event = loop {
        polls += 1;
        if let Some(event) = reader.poll() {
            break event;
        }
        assert!(polls < 10, "the abandoned ticket holds the reader up");
    };
    assert_eq!((event.ticket, event.record), (2, Record::new(2)));
    let stats = reader.stats();
    assert_eq!((stats.delivered, stats.discarded, stats.skipped, stats.lapped), (1, 1, 1, 0));
    // Ended after all: too late for this reader, in time for the next.
    abandoned.write(&Record::new(1));
    assert_eq!(abandoned.commit(), Some(1));
    assert!(reader.poll().is_none());
    assert_eq!(ring.reader().drain().map(|e| e.ticket).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_reader_that_polls_in_the_midst_of_records_misses_nothing() {
    let ring = Ring::<Record>::create_memfd(64, 2).unwrap();
    let writer = ring.writer(0).unwrap();
    let mut reader = ring.reader();
    for n in 0..2000 {
        // Found half-way at first, then whole, then already there, and so again.
        if n / 300 % 3 < 2 {
            assert!(reader.poll().is_none());
        }
        let mut slow = writer.reserve().unwrap();
        if n / 300 % 3 == 0 {
            assert!(reader.poll().is_none());
        }
        slow.write(&Record::new(n));
        slow.commit().unwrap();
        let event = reader.poll().expect("it has ended");
        assert_eq!((event.ticket, event.record), (n, Record::new(n)));
    }
    assert_eq!(reader.lost(), 0);
}

#[test]
fn a_record_behind_a_stale_head_is_read_at_once() {
    let all: [fn(&mut mapring::Reader<Record>) -> usize; 3] = [
        |reader| reader.drain().count(),
        |reader| reader.for_each(usize::MAX, |_| {}),
        |reader| reader.poll().into_iter().count(),
    ];
    for read in all {
        let ring = Ring::<Record>::create_memfd(64, 2).unwrap();
        let writer = ring.writer(0).unwrap();
        let mut reader = ring.reader();
        // As if by a program whose newer `head` the one that it interrupted has overwritten.
        writer.push(&Record::new(12)).unwrap();
        put(&ring.region(), ring.region().geometry().shard(0), 0, &[0]);
        assert_eq!(read(&mut reader), 1);
    }
}

#[test]
fn a_full_ring_of_abandoned_slots_drops_and_counts() {
    let ring = Ring::<Record>::create_memfd(2, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    (0..2).for_each(|_| std::mem::forget(writer.reserve().unwrap()));
    assert_eq!(writer.push(&Record::new(0)), None);
    let reader = ring.reader();
    assert_eq!(
        (reader.stats().dropped(), reader.stats().no_slot, reader.shard_stats(0).unwrap().no_slot),
        (1, 1, 1)
    );
    put(&ring.region(), 0, Preamble::DROPPED, &[2]); // as programs count records of CPUs without a shard
    let stats = reader.stats();
    assert_eq!((stats.dropped(), stats.no_shard, reader.shard_stats(0).unwrap().no_shard), (3, 2, 0));
    assert_eq!(stats.to_string(), "0 delivered, 0 lost, 3 dropped (1 no free slot, 2 no shard for the CPU)");
}

#[test]
fn shards_take_turns() {
    let ring = Ring::<Record>::create_memfd(1024, 3).unwrap();
    for shard in 0..3 {
        let writer = ring.writer(shard).unwrap();
        (0..200).for_each(|n| assert!(writer.push(&Record::new(n)).is_some()));
    }
    let mut reader = ring.reader();
    let turns: Vec<_> = std::iter::from_fn(|| reader.poll().map(|e| e.shard)).collect();
    assert_eq!(turns.len(), 600);
    let switches: Vec<_> = turns.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    assert_eq!(switches[..4], [(0, 64), (1, 64), (2, 64), (0, 64)]);
    assert_eq!(ring.reader().for_each(100, |_| {}), 100);
}

#[test]
fn a_sweep_over_many_shards_finds_every_record_at_once() {
    const SHARDS: usize = 300;
    let ring = Ring::<u64>::create_memfd(4, SHARDS).unwrap();
    let writers: Vec<_> = (0..ring.shards()).map(|shard| ring.writer(shard).unwrap()).collect();
    let mut readers = [ring.reader(), ring.reader(), ring.reader()];
    let mut pushed = 0;
    // Long enough that every shard is idle most of the time, and has its laps.
    for round in 0..3000 {
        let shard = round * 7 % SHARDS;
        writers[shard].push(&(round as u64)).unwrap();
        pushed += 1;
        for (way, reader) in readers.iter_mut().enumerate() {
            let mut seen = Vec::new();
            match way {
                0 => {
                    reader.for_each(usize::MAX, |event| seen.push((event.shard, *event.record)));
                }
                1 => seen.extend(reader.drain().map(|event| (event.shard, event.record))),
                _ => {
                    seen.extend(std::iter::from_fn(|| reader.poll().map(|event| (event.shard, event.record))))
                }
            }
            assert_eq!(seen, [(shard, round as u64)], "way {way}");
        }
    }
    assert!(readers.iter().all(|reader| reader.stats().delivered == pushed && reader.lost() == 0));
}

#[test]
fn a_ticket_nobody_claims_is_passed_in_a_shard_that_seems_idle() {
    for (patience, most) in [(Duration::ZERO, 2), (Duration::from_secs(3600), 1 << 17)] {
        let ring = Ring::<u64>::create_memfd(4, 3).unwrap();
        let mut reader = ring.reader().with_patience(patience);
        (0..1000).for_each(|_| assert!(reader.poll().is_none()));
        // The sequence of lap 0 that says it is there, and the record.
        put(&ring.region(), ring.region().geometry().slots(1) + 1, 0, &[2, 7]);
        let polls = (1..).find(|_| reader.poll().is_some_and(|event| event.record == 7)).unwrap();
        assert!(polls <= most, "{polls} polls with a patience of {patience:?}");
        assert_eq!((reader.stats().delivered, reader.stats().stepped_over, reader.lost()), (1, 1, 0));
    }
}

#[test]
fn nothing_is_recovered_beside_another_writer() {
    let others = |e: &Error| {
        assert_eq!(e.kind(), ErrorKind::OtherWriters);
        let text = e.to_string();
        let count =
            text.split_once("this process has ").unwrap().1.split(' ').next().unwrap().parse::<usize>();
        let thing =
            text.split_once(" other writers of this ").unwrap().1.split_once(',').unwrap().0.to_owned();
        (thing, count.unwrap())
    };
    let ring = Ring::<Record>::create_memfd(4, 2).unwrap();
    let [mut writer, other] = [(); 2].map(|()| ring.writer(1).unwrap());
    std::mem::forget(other.reserve().unwrap());
    let elsewhere = ring.writer(0).unwrap();
    let region = OpenOptions::new().write(true).open(fd_of(&ring.region())).unwrap();
    let apart = Ring::<Record>::from_region(region).unwrap().writer(1).unwrap();
    let refused = writer.recover().unwrap_err();
    assert_eq!(others(&refused), ("shard".to_owned(), 2));
    assert!(refused.to_string().contains("2 other writers of this shard"), "{refused}");
    drop(other);
    assert_eq!(others(&writer.recover().unwrap_err()), ("shard".to_owned(), 1));
    assert_eq!(ring.reader().with_patience(Duration::ZERO).stats().discarded, 0, "nothing was done");
    drop(apart);
    assert_eq!((writer.recover().unwrap(), writer.recover().unwrap()), (1, 0));
    drop(elsewhere);

    let cells = Cells::<Record>::create_memfd(2).unwrap();
    let mut writer = cells.writer().unwrap();
    let other = cells.writer().unwrap();
    assert_eq!(others(&writer.recover(0, &Record::new(1)).unwrap_err()), ("table".to_owned(), 1));
    drop(other);
    assert!(!writer.recover(0, &Record::new(1)).unwrap(), "no write was abandoned");
    assert_eq!(
        message_of(writer.recover(2, &Record::new(1)), ErrorKind::OutOfRange),
        "no cell 2: there are 2"
    );
}

#[test]
fn records_that_are_no_whole_words() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
    #[repr(C, packed)]
    struct Odd(u64, u16, u8);
    let ring = Ring::<Odd>::create_memfd(4, 1).unwrap();
    assert_eq!(ring.region().geometry().element(), 24);
    ring.writer(0).unwrap().push(&Odd(1, 2, 3)).unwrap();
    assert_eq!(ring.reader().poll().unwrap().record, Odd(1, 2, 3));
}
