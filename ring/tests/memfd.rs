//! Every handle over memfd regions, in one process: what is written is read, and bad input gets
//! a typed error that names both sides.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use mapring::abi::{Geometry, Kind, Preamble};
use mapring::table::Snapshot;
use mapring::{
    Access, Cells, Counters, Error, ErrorKind, Histogram, Histograms, Latches, OpenOptions, ReadError,
    Refusal, Region, Ring, Start,
};
use rustix::fs::{MemfdFlags, memfd_create};

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
fn said_of<T: std::fmt::Debug>(result: mapring::Result<T>, kind: ErrorKind) -> String {
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
    // Long enough that every shard is quiet most of the time, and has its laps.
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
fn a_ticket_nobody_claims_is_passed_in_a_shard_that_looks_quiet() {
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
    assert_eq!(said_of(writer.recover(2, &Record::new(1)), ErrorKind::OutOfRange), "no cell 2: there are 2");
}

#[test]
fn cells_hold_the_latest_value() {
    let cells = Cells::<Record>::create_memfd(3).unwrap();
    let writer = cells.writer().unwrap();
    assert_eq!(cells.snapshot(1).unwrap().version, 0);
    for n in 0..4 {
        assert!(writer.set(1, &Record::new(n)).unwrap());
    }
    let snapshot = cells.snapshot(1).unwrap();
    assert_eq!((snapshot.version, snapshot.value), (4, Record::new(3)));
    assert_eq!(cells.read(2).unwrap(), Record::zeroed());
    assert!(matches!(cells.read(3), Err(ReadError::Index { thing: "cell", index: 3, count: 3 })));
    assert_eq!(said_of(writer.set(3, &Record::new(0)), ErrorKind::OutOfRange), "no cell 3: there are 3");

    let one = Cells::<Record>::create_memfd(1).unwrap();
    one.writer().unwrap().set(0, &Record::new(9)).unwrap();
    assert_eq!(one.read(0).unwrap(), Record::new(9));
}

#[test]
fn latches_hold_the_last_value_that_was_finished() {
    let latches = Latches::<Record>::create_memfd(2).unwrap();
    let writer = latches.writer().unwrap();
    assert_eq!(latches.snapshot(1).unwrap(), Snapshot { version: 0, value: Record::zeroed() });
    for n in 0..5 {
        writer.set(1, &Record::new(n)).unwrap();
        assert_eq!(latches.snapshot(1).unwrap(), Snapshot { version: n + 1, value: Record::new(n) });
    }
    assert_eq!(latches.read(0).unwrap(), Record::zeroed());
    assert!(matches!(latches.read(2), Err(ReadError::Index { thing: "latch", index: 2, count: 2 })));
    assert_eq!(said_of(writer.set(2, &Record::new(0)), ErrorKind::OutOfRange), "no latch 2: there are 2");
    let wrong_kind = Cells::<Record>::from_region(latches.region().clone()).unwrap_err().to_string();
    assert!(wrong_kind.contains("holds latches, expected cells"), "{wrong_kind}");
}

#[test]
fn counters_are_read_apart_and_summed() {
    let counters = Counters::create_memfd(10, 3).unwrap();
    for cpu in 0..3 {
        counters.writer(cpu).unwrap().add(7, 10 + cpu as u64).unwrap();
    }
    assert_eq!(counters.get(2, 7).unwrap(), 12);
    assert_eq!(counters.sum(7).unwrap(), 33);
    let mut sums = [1; 16];
    counters.sums(&mut sums).unwrap();
    assert_eq!(sums[..10], [0, 0, 0, 0, 0, 0, 0, 33, 0, 0]);
    assert!(matches!(counters.get(3, 0), Err(ReadError::Index { thing: "shard", .. })));
    assert!(matches!(counters.sum(10), Err(ReadError::Index { thing: "counter", .. })));
}

#[test]
fn histograms_are_read_apart_and_summed() {
    let histograms = Histograms::create_memfd(2, 3).unwrap();
    assert_eq!((histograms.len(), histograms.shards(), histograms.access()), (2, 3, Access::Mapped));
    let mut expected = Histogram::new();
    for cpu in 0..3 {
        let value = 1000 << (8 * cpu);
        histograms.writer(cpu).unwrap().add(1, value).unwrap();
        let buckets: Vec<_> = histograms.snapshot_of(cpu, 1).unwrap().buckets().collect();
        assert!(matches!(&buckets[..], [(values, 1)] if values.contains(&value)), "{buckets:?}");
        expected.add(value);
    }
    let mut found = expected.clone();
    histograms.snapshot_into(0, &mut found).unwrap();
    assert_eq!(found, Histogram::new(), "the old content is gone");
    assert_eq!(histograms.snapshot(1).unwrap(), expected);
    assert!(matches!(histograms.snapshot(2), Err(ReadError::Index { thing: "histogram", .. })));
    assert!(matches!(histograms.snapshot_of(3, 0), Err(ReadError::Index { thing: "shard", .. })));
    let writer = histograms.writer(2).unwrap();
    assert_eq!(said_of(writer.add(2, 0), ErrorKind::OutOfRange), "no histogram 2: there are 2");
    assert_eq!(said_of(histograms.writer(3).map(drop), ErrorKind::OutOfRange), "no shard 3: there are 3");
    let reopened = Histograms::open(histograms.region().as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(reopened.snapshot(1).unwrap(), expected);
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

#[test]
fn a_region_is_opened_by_its_descriptor_for_reading() {
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    ring.writer(0).unwrap().push(&Record::new(0)).unwrap();
    let other = Ring::<Record>::open(fd_of(&ring.region())).unwrap();
    assert_eq!(other.reader().poll().unwrap().record, Record::new(0));
    assert_eq!(other.region().writable(), Err(Refusal::NotAsked));
    let refused = other.writer(0).unwrap_err();
    assert!(
        (refused.kind(), refused.refusal()) == (ErrorKind::NotWritable, Some(Refusal::NotAsked)),
        "{refused}"
    );
    let written = OpenOptions::new().write(true).open(fd_of(&ring.region())).unwrap();
    let written = Ring::<Record>::from_region(written).unwrap();
    assert_eq!(written.writer(0).unwrap().push(&Record::new(1)), Some(1));
    assert_eq!(ring.region().preamble(), other.region().preamble());
}

#[test]
fn sealed_against_writes() {
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    ring.region().seal_future_writes().unwrap();
    let other = OpenOptions::new().write(true).open(fd_of(&ring.region())).unwrap();
    assert_eq!((other.writable(), other.access()), (Err(Refusal::Sealed), Access::Mapped));
    assert_eq!(ring.writer(0).unwrap().push(&Record::new(0)), Some(0));
    let other = Ring::<Record>::from_region(other).unwrap();
    let sealed = other.writer(0).unwrap_err();
    assert!((sealed.kind(), sealed.refusal()) == (ErrorKind::Sealed, Some(Refusal::Sealed)), "{sealed}");
    assert!(sealed.to_string().contains("ask the creator"), "{sealed}");
    assert_eq!(other.reader().drain().count(), 1, "nothing is lost");
}

#[test]
fn mistakes_get_errors_that_name_both_sides() {
    let message = |e: Error| e.to_string();
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    let wrong_size = Ring::<[u64; 3]>::from_region(ring.region().clone()).unwrap_err();
    assert!(
        wrong_size.to_string().contains("records of 56 bytes") && wrong_size.to_string().ends_with("has 24")
    );
    let wrong_size = message(wrong_size);
    assert!(wrong_size.contains("56") && wrong_size.contains("24"), "{wrong_size}");
    let wrong_kind = message(Cells::<Record>::from_region(ring.region().clone()).unwrap_err());
    assert!(wrong_kind.contains("holds ring, expected cells"), "{wrong_kind}");
    for slots in [0, 3] {
        let error = message(Ring::<Record>::create_memfd(slots, 1).unwrap_err());
        assert!(error.contains("power of two") && error.contains(&slots.to_string()), "{error}");
    }
    assert_eq!(said_of(ring.writer(1), ErrorKind::OutOfRange), "no shard 1: there are 1");
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = Region::open(file).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType && error.to_string().contains(" is not a"), "{error}");

    let cells = Geometry::new(Kind::PerCpuCells, 56, 1, 1).unwrap();
    let error = message(Region::create_memfd(cells, "").unwrap_err());
    assert!(error.contains("memfd is not a BPF map") && error.contains("exist in BPF maps only"), "{error}");
    let error = message(Geometry::new(Kind::Counters, 24, 1, 1).unwrap_err().into());
    assert_eq!(error, "counters of 24 bytes: a counter has 8 bytes");
}

/// Files of a tmpfs answer as memfds that nobody sealed, but can't be sealed.
#[test]
fn files_that_can_not_be_sealed() {
    let path = format!("/dev/shm/mapring-test-{}", std::process::id());
    std::fs::write(&path, [0; 4096]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = Region::open(file).unwrap_err();
    assert!(error.kind() == ErrorKind::Untrusted, "{error}");
    let said = error.to_string();
    assert!(said.contains("files of a tmpfs (/dev/shm)") && said.contains("use a memfd"), "{said}");
    let plain = memfd_create("plain", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let said = Region::open(plain).unwrap_err().to_string();
    assert!(said.contains("have its creator seal it"), "{said}");
}

mod forged {
    //! Memory files that nobody's library made.

    use std::io::Write;

    use mapring::abi::{Preamble, PreambleError};
    use rustix::fs::{SealFlags, fcntl_add_seals, ftruncate};

    use super::*;

    fn preamble() -> [u64; Preamble::WORDS] {
        let geometry = Geometry::new(Kind::Ring, 56, 8, 1).unwrap();
        Preamble { geometry, generation: 1, name: "forged".into() }.encode()
    }

    fn memfd(words: &[u64], bytes: u64, seal: bool) -> OwnedFd {
        let fd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let mut file = std::fs::File::from(fd);
        file.write_all(bytemuck::cast_slice(words)).unwrap();
        let fd = OwnedFd::from(file);
        ftruncate(&fd, bytes).unwrap();
        if seal {
            fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK).unwrap();
        }
        fd
    }

    #[test]
    fn unsealed_is_refused_by_default() {
        let refused = Region::open(memfd(&preamble(), 4096, false)).unwrap_err();
        assert!(refused.kind() == ErrorKind::Untrusted, "{refused}");
        let region = OpenOptions::new().allow_unsealed(true).open(memfd(&preamble(), 4096, false)).unwrap();
        assert_eq!(region.preamble().name, "forged");
    }

    #[test]
    fn truncated_says_how_much() {
        let refused = Region::open(memfd(&preamble()[..3], 24, true)).unwrap_err();
        assert!(refused.to_string().contains("has 24 bytes, expected at least 128"), "{refused}");
        let refused = Region::open(memfd(&preamble(), 200, true)).unwrap_err();
        assert!(refused.to_string().contains("has 200 bytes, expected at least 704"), "{refused}");
    }

    #[test]
    fn no_preamble_or_one_of_another_world() {
        let open = |at: usize, word| {
            let mut words = preamble();
            words[at] = word;
            let error = Region::open(memfd(&words, 4096, true)).unwrap_err();
            error.preamble_error().unwrap_or_else(|| panic!("{error}")).clone()
        };
        assert_eq!(open(0, 0), PreambleError::Magic { found: 0 });
        assert_eq!(open(1, 1), PreambleError::Version { found: 1 });
        assert_eq!(open(2, 0), PreambleError::Kind { found: 0 });
        assert!(matches!(open(4, 7), PreambleError::Geometry(_)));
    }
}

#[test]
fn scribbled_words_cost_records_and_nothing_else() {
    let ring = Ring::<Record>::create_memfd(8, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = 704 / 8;
    let map =
        memmap2::MmapOptions::new().len(704).map_raw(&std::fs::File::from(fd_of(&ring.region()))).unwrap();
    let mut reader = ring.reader();
    for _ in 0..200_000 {
        // Everything behind the preamble, head and sequences included.
        let at = 16 + usize::try_from(random()).unwrap() % (words - 16);
        let value = match random() % 4 {
            0 => random(),
            1 => random() % 64,
            2 => u64::MAX - random() % 64,
            _ => (1 << 63) | (random() % 64),
        };
        // SAFETY: in the mapping.
        let word = unsafe { map.as_mut_ptr().cast::<u64>().add(at) };
        // SAFETY: aligned and mapped; this test is single-threaded.
        unsafe { word.write_volatile(value) };
        let _ = writer.push(&Record::new(1));
        let before = reader.position(0).unwrap();
        let drained = reader.drain().count();
        assert!(drained <= 8 + 16, "{drained} records from 8 slots at {before}");
        let _ = ring.reader().poll();
    }
}
