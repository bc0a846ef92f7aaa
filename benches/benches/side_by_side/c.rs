//! The reader in C (`bindings/c`, `benches/c/read.c`) beside the library's: the same rings, in one run.

use std::ffi::{c_int, c_long, c_void};
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use anyhow::{Result, ensure};
use bytemuck::Pod;
use mapring::{Access, Reader, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::Sink;
use crate::programs::{Record, Seen};

type Large = [u64; 512];
/// The shards of the idle ring, and how many passes are timed.
const SHARDS: usize = 1024;
const PASSES: usize = 128;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let small = |reader: &mut Reader<Record>, seen: &mut Seen| {
        reader.for_each(usize::MAX, |event| seen.add(event.record));
    };
    let large = |reader: &mut Reader<Large>, seen: &mut Seen| {
        reader.for_each(usize::MAX, |event| add_ends(seen, event.record));
    };
    let [rust, c] = consume(plan, 1024, small, bench_small, |seen, record| seen.add(record))?;
    let row = Row::new("consume 56 B, `for_each` in C", &c, "in Rust", &rust).target("c_small", 1.1);
    let [rust, c] = consume(plan, 64, large, bench_large, add_ends)?;
    let rows = [row, Row::new("consume 4 KiB, `for_each` in C", &c, "in Rust", &rust).target("c_large", 1.1)];
    report.add(rows);
    let [rust, c] = idle(plan)?;
    let what = "an idle shard, in a pass over 1024, in C";
    report.add([Row::new(what, &c, "in Rust", &rust).target("c_idle", 1.1)]);
    Ok(())
}

/// Only the ends of each copy are used.
fn add_ends(seen: &mut Seen, record: &Large) {
    let record = black_box(record);
    seen.count += 1;
    seen.sum = seen.sum.wrapping_add(record[0].wrapping_add(record[511]));
}

/// Nanoseconds for each of `count` records that are present, in Rust and in C. `add` says what both must have seen.
fn consume<const N: usize>(
    plan: Plan,
    count: u64,
    read: impl Fn(&mut Reader<[u64; N]>, &mut Seen),
    read_in_c: Read,
    add: impl Fn(&mut Seen, &[u64; N]),
) -> Result<[Vec<f64>; 2]>
where
    [u64; N]: Pod,
{
    let ring = Ring::<[u64; N]>::create_memfd(usize::try_from(count)?, 1)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let writer = ring.writer(0)?;
    let next = std::cell::Cell::new(0_u64);
    let write = || {
        let mut expected = Seen::default();
        for _ in 0..count {
            let record = std::array::from_fn(|i| next.get() + i as u64);
            next.set(next.get() + 1);
            add(&mut expected, &record);
            ensure!(writer.push(&record).is_some(), "a record was dropped");
        }
        Ok(expected)
    };
    let timed = |expected: Seen, read: &mut dyn FnMut(&mut Seen)| {
        let (mut seen, start) = (Seen::default(), Instant::now());
        read(&mut seen);
        let ns = start.elapsed().as_nanos() as f64 / count as f64;
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns)
    };
    // Each reader passes what was written for the other one, a lap at most.
    let (mut reader, in_c) = (ring.reader_from(Start::Now), InC::open(&ring, read_in_c)?);
    let mut rust = || {
        read(&mut reader, &mut Seen::default());
        timed(write()?, &mut |seen| read(&mut reader, seen))
    };
    let mut c = || {
        in_c.pass(&mut Seen::default(), 1);
        timed(write()?, &mut |seen| _ = in_c.pass(seen, 1))
    };
    interleave(plan, [&mut rust, &mut c])
}

/// Nanoseconds for each shard of passes without a record, in Rust and in C.
fn idle(plan: Plan) -> Result<[Vec<f64>; 2]> {
    let ring = Ring::<Record>::create_memfd(64, SHARDS)?;
    let (mut reader, in_c) = (ring.reader_from(Start::Now), InC::open(&ring, bench_small)?);
    let timed = |pass: &mut dyn FnMut(usize) -> usize| {
        let mut found = pass(4); // the other side has used the caches since
        let start = Instant::now();
        found += pass(PASSES);
        let ns = start.elapsed().as_nanos() as f64 / (PASSES * SHARDS) as f64;
        ensure!(found == 0, "found {found}");
        Ok(ns)
    };
    let mut rust =
        || timed(&mut |passes| (0..passes).map(|_| reader.for_each(usize::MAX, |_| {})).sum::<usize>());
    let mut c = || timed(&mut |passes| in_c.pass(&mut Seen::default(), passes));
    interleave(plan, [&mut rust, &mut c])
}

/// Reads records in so many passes, and returns their number.
type Read = unsafe extern "C" fn(reader: *mut c_void, seen: *mut Seen, passes: c_long) -> c_long;

// As `benches/c/read.c` declares them.
unsafe extern "C" {
    fn bench_open(fd: c_int) -> *mut c_void;
    fn bench_free(reader: *mut c_void);
    fn bench_small(reader: *mut c_void, seen: *mut Seen, passes: c_long) -> c_long;
    fn bench_large(reader: *mut c_void, seen: *mut Seen, passes: c_long) -> c_long;
}

/// A reader in C.
struct InC(*mut c_void, Read);

impl InC {
    fn open<T>(ring: &Ring<T>, read: Read) -> Result<Self> {
        // SAFETY: any number will do.
        let reader = unsafe { bench_open(ring.region().as_fd().as_raw_fd()) };
        ensure!(!reader.is_null(), "the reader in C opens no ring: {}", std::io::Error::last_os_error());
        Ok(Self(reader, read))
    }

    fn pass(&self, seen: &mut Seen, passes: usize) -> usize {
        let passes = c_long::try_from(passes).expect("a few passes");
        // SAFETY: the reader is open, and has the size of record that its function reads, or returns an error.
        let found = unsafe { (self.1)(self.0, seen, passes) };
        usize::try_from(found).expect("a reader in C without an error")
    }
}

impl Drop for InC {
    fn drop(&mut self) {
        // SAFETY: it is open, and nothing uses it any more.
        unsafe { bench_free(self.0) }
    }
}
