//! The memory of a ring, in the kernel and in its reader, compared with buffers of the same capacity; and the time from
//! opening one to its first record.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapCore, MapHandle, MapType, PerfBufferBuilder, RingBufferBuilder};
use mapring::{Access, Reader, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};
use serde_json::json;

use crate::peers::{RawRingBuffer, Sink as _};
use crate::programs::{Producer, Record, Seen, load};

/// The promised maximum in addition to the region.
const LIMIT: usize = 64 << 10;
/// Opened at the same time, so that shared memory and rounding affect each one little.
const MANY: usize = 16;
/// `SLOTS` in `bpf/producers.h`.
const SLOTS: usize = 4096;
const PAGE: usize = 4096;

/// Bytes.
#[derive(Clone, Copy, Debug)]
struct Takes {
    heap: usize,
    private: usize,
    mapped: usize,
}

impl Takes {
    fn now() -> Result<Self> {
        Ok(Self { heap: heap(), private: status("RssAnon")?, mapped: status("VmSize")? })
    }

    /// The memory of each of [`MANY`] values that `open` returns.
    fn each<T>(open: impl Fn() -> Result<T>) -> Result<Self> {
        // The first call also makes the process's one-time allocations.
        drop(open()?);
        let before = Self::now()?;
        let opened = (0..MANY).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let after = Self::now()?;
        drop(opened);
        let each = |after: usize, before: usize| after.saturating_sub(before) / MANY;
        Ok(Self {
            heap: each(after.heap, before.heap),
            private: each(after.private, before.private),
            mapped: each(after.mapped, before.mapped),
        })
    }
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let open = || -> Result<(Ring<Record>, Reader<Record>)> {
        let ring = Ring::open(&skel.maps.ours)?;
        let reader = ring.reader();
        Ok((ring, reader))
    };
    let takes = Takes::each(open)?;
    let Takes { heap, private, mapped } = takes;
    let region = open()?.0.region().geometry().bytes();
    let beside = heap.max(private).max(mapped.saturating_sub(region.next_multiple_of(PAGE)));
    report.note(
        "memory",
        json!({ "region": region, "mapped": mapped, "heap": heap, "private": private, "beside": beside,
                "limit": LIMIT, "met": beside <= LIMIT }),
    );
    ensure!(mapped >= region, "{mapped} B mapped for a region of {region} B");

    let cpus = libbpf_rs::num_possible_cpus()?;
    let mut text = format!(
        "Each holds {SLOTS} records of 56 B for each of {cpus} CPUs, or the next size that it can have. A reader's \
         heap is what one of {MANY} takes, libraries in C included.\n\n\
         | | in the kernel | mapped by a reader | its heap |\n|---|--:|--:|--:|\n"
    );
    let mut tell = |what: &str, kernel: usize, takes: Takes| {
        let kib = |bytes: usize| format!("{:.1} KiB", bytes as f64 / 1024.0);
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} |",
            kib(kernel),
            kib(takes.mapped),
            kib(takes.heap.max(takes.private))
        );
    };
    tell("mapring, a shard for each CPU", memlock(&skel.maps.ours)?, takes);
    // 8 bytes before each record; a power of two.
    let size = u32::try_from((SLOTS * cpus * 64).next_power_of_two())?;
    let ringbuf = create(MapType::RingBuf, 0, 0, size)?;
    let takes = Takes::each(|| RawRingBuffer::<Seen>::new(&ringbuf))?;
    tell("BPF ring buffer, libbpf's reader", memlock(&ringbuf)?, takes);
    // 16 bytes before each record; the pages are a power of two, plus one.
    let pages = (SLOTS * 72).div_ceil(PAGE).next_power_of_two();
    let perf = create(MapType::PerfEventArray, 4, 4, u32::try_from(cpus)?)?;
    let takes = Takes::each(|| Ok(PerfBufferBuilder::new(&perf).pages(pages).build()?))?;
    tell("perf buffer, libbpf's reader", memlock(&perf)? + (pages + 1) * PAGE * cpus, takes);
    report.section("Memory", &text);

    first_record(plan, report)
}

/// From opening to the first record.
fn first_record(plan: Plan, report: &mut Report) -> Result<()> {
    let mut skel = load!(produce::ProduceSkelBuilder);
    let (ours, theirs) = (Pin::new("ours")?, Pin::new("ringbuf")?);
    skel.maps.ours.pin(&ours.0).context("pinning a map")?;
    skel.maps.ringbuf.pin(&theirs.0).context("pinning a map")?;

    let mut producer = Producer::new(&skel.progs.produce_mapring);
    let mut open_ours = || {
        let (_, expected) = producer.run()?;
        let start = Instant::now();
        let ring = Ring::<Record>::open(ours.0.as_path())?;
        // Like a reader of a ring buffer, it finds the records of the last run.
        let mut reader = ring.reader_from(Start::Oldest);
        let mut ns = 0;
        let mut seen = Seen::default();
        let all = crate::programs::RECORDS;
        let mut oldest = Vec::new();
        reader.for_each(usize::MAX, |event| {
            if ns == 0 {
                ns = start.elapsed().as_nanos();
            }
            oldest.push(*event.record);
        });
        ensure!(ring.access() == Access::Mapped, "{}", ring.access());
        oldest.iter().rev().take(usize::try_from(all)?).for_each(|record| seen.add(record));
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns as f64)
    };
    let mut producer = Producer::new(&skel.progs.produce_ringbuf);
    let mut open_theirs = || {
        let (_, expected) = producer.run()?;
        let start = Instant::now();
        let map = MapHandle::from_pinned_path(&theirs.0)?;
        let (mut ns, mut seen) = (0, Seen::default());
        let mut builder = RingBufferBuilder::new();
        builder.add(&map, |data| {
            if ns == 0 {
                ns = start.elapsed().as_nanos();
            }
            seen.add(bytemuck::from_bytes(data));
            0
        })?;
        let ring = builder.build()?;
        ring.consume()?;
        drop(ring);
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns as f64)
    };
    let [ours, theirs] = interleave(plan.within(0.25), [&mut open_ours, &mut open_theirs])?;
    report.add([Row::new(
        "from opening a pinned ring to its first record",
        &ours,
        "libbpf-rs `RingBuffer` of a pinned map",
        &theirs,
    )]);
    Ok(())
}

/// A path for a pin, removed when dropped.
struct Pin(PathBuf);

impl Pin {
    fn new(name: &str) -> Result<Self> {
        let path = PathBuf::from(format!("/sys/fs/bpf/mapring-benches-{}-{name}", std::process::id()));
        ensure!(!path.exists(), "{} is there already", path.display());
        Ok(Self(path))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Creates a map of a peer.
pub(crate) fn create(kind: MapType, key: u32, value: u32, entries: u32) -> Result<MapHandle> {
    let options = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as libbpf_rs::libbpf_sys::size_t,
        ..Default::default()
    };
    MapHandle::create(kind, Some("mapring_peer"), key, value, entries, &options)
        .with_context(|| format!("creating a {kind:?}"))
}

/// The bytes of a map, as the kernel reports them.
fn memlock(map: &impl MapCore) -> Result<usize> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(bytes.context("no memlock in fdinfo")?.trim().parse()?)
}

/// Bytes that this process has allocated by malloc, including C libraries.
fn heap() -> usize {
    // SAFETY: it takes no arguments and returns numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// A number of bytes in /proc/self/status.
fn status(field: &str) -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).with_context(|| format!("no {field}"))?;
    Ok(kib.trim().parse::<usize>()? << 10)
}
