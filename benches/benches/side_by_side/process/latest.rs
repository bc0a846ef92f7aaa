//! The latest value of 56 bytes, read and written by one thread without contention.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mapring::Cells;
use mapring_benches::{Plan, Report, Row, best_place, interleave, version_of};
use mmap_sync::synchronizer::Synchronizer;
use seqlock::SeqLock;

use crate::programs::{Record, record};
use crate::read::PLACES;

/// Reads or writes per block.
const COUNT: u64 = 5000;

/// Nanoseconds per read of [`COUNT`]; `sum` is the expected sum over the words of all reads.
fn reads(mut read: impl FnMut() -> Result<u64>, each: u64) -> Result<f64> {
    let mut sum = 0_u64;
    let start = Instant::now();
    for _ in 0..COUNT {
        sum = sum.wrapping_add(read()?);
    }
    let ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
    ensure!(sum == each.wrapping_mul(COUNT), "read {sum}, not {COUNT} times {each}");
    Ok(ns)
}

/// Nanoseconds per write of [`COUNT`] different values; `read` must return the last.
fn writes(
    first: u64,
    mut write: impl FnMut(&Record) -> Result<()>,
    read: impl FnOnce() -> Result<Record>,
) -> Result<f64> {
    let start = Instant::now();
    for n in first..first + COUNT {
        write(black_box(&record(n)))?;
    }
    let ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
    let last = read()?;
    ensure!(last == record(first + COUNT - 1), "the last value is {last:?}");
    Ok(ns)
}

/// The reader's use of a value: both ends, after the whole value was copied.
fn ends(value: Record) -> u64 {
    let value = black_box(&value);
    value[0].wrapping_add(value[6])
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let cells = Cells::<Record>::create_memfd(4)?;
    let writer = cells.writer()?;
    // Of 72 bytes, so that each begins elsewhere in its cache line.
    let locks: [(SeqLock<Record>, u64); PLACES] = std::array::from_fn(|_| (SeqLock::new([0; 7]), 0));
    let folder = Folder::new()?;
    let mut sync_writer = Synchronizer::new(folder.0.join("value").as_os_str());
    let mut sync_reader = Synchronizer::new(folder.0.join("value").as_os_str());
    let grace = Duration::from_secs(1);
    let mut sync_read = || -> Result<Record> {
        // SAFETY: only mmap-sync writes the file, with values of this type.
        let value = unsafe { sync_reader.read::<Record>(false) };
        Ok(*value?)
    };

    let next = std::cell::Cell::new(1);
    let take = || next.replace(next.get() + COUNT);
    let mut write_ours = || {
        let set = |value: &Record| {
            ensure!(writer.set(black_box(2), value)?, "nobody else writes");
            Ok(())
        };
        writes(take(), set, || Ok(cells.read(2)?))
    };
    let write_lock_at = |place: usize| {
        let lock = &locks[place].0;
        let set = |value: &Record| {
            *lock.lock_write() = *value;
            Ok(())
        };
        writes(take(), set, || Ok(lock.read()))
    };
    let place = best_place(0..PLACES, write_lock_at)?;
    let mut write_lock = || write_lock_at(place);
    let mut write_sync = || {
        let set = |value: &Record| sync_writer.write(value, grace).map(drop).context("mmap-sync");
        writes(take(), set, &mut sync_read)
    };
    let [ours, seqlock, mmap_sync] = interleave(plan, [&mut write_ours, &mut write_lock, &mut write_sync])?;

    let value = record(7);
    let each = value[0] + value[6];
    ensure!(writer.set(2, &value)?, "nobody else writes");
    locks.iter().for_each(|(lock, _)| *lock.lock_write() = value);
    sync_writer.write(&value, grace).context("mmap-sync")?;
    let table = [value; PLACES];
    let mut read_ours = || reads(|| Ok(ends(cells.read(black_box(2))?)), each);
    let read_lock_at = |place: usize| reads(|| Ok(ends(black_box(&locks[place].0).read())), each);
    let copy_at = |place: usize| reads(|| Ok(ends(table[black_box(place)])), each);
    let places = [best_place(0..PLACES, read_lock_at)?, best_place(0..PLACES, copy_at)?];
    let mut read_lock = || read_lock_at(places[0]);
    let mut read_sync = || reads(|| Ok(ends(sync_read()?)), each);
    let mut copy = || copy_at(places[1]);
    let [read, read_lock, read_sync, copy] =
        interleave(plan, [&mut read_ours, &mut read_lock, &mut read_sync, &mut copy])?;

    let (lock, sync) = ("`seqlock`, one process only", "mmap-sync");
    report.add([
        Row::new("read the latest 56 B, memfd", &read, lock, &read_lock),
        Row::new("read the latest 56 B, memfd", &read, sync, &read_sync),
        Row::new("read the latest 56 B, memfd", &read, "memcpy", &copy),
        Row::new("write the latest 56 B, memfd", &ours, lock, &seqlock),
        Row::new("write the latest 56 B, memfd", &ours, sync, &mmap_sync),
    ]);
    report.peer("`seqlock` crate", version_of("seqlock"), "`SeqLock::read`, `lock_write`");
    report.peer(
        "mmap-sync",
        version_of("mmap-sync"),
        "files in /dev/shm, `Synchronizer::new` (no lock between writers), `read` without checking bytes",
    );
    Ok(())
}

/// A folder in memory, removed when dropped.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = std::path::PathBuf::from(format!("/dev/shm/mapring-benches-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
