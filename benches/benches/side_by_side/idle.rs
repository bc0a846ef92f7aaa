//! An idle reader without a bell: the CPU time that it takes, and the delay of the record that ends its wait.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libbpf_rs::{MapHandle, MapType};
use mapring::{Access, Reader, Ring, Start};
use mapring_benches::{Plan, Report, Row, Spread, bpf_is_missing, interleave};
use rustix::time::{ClockId, clock_gettime};

use crate::latency::Side;
use crate::memory::create;
use crate::peers::RawRingBuffer;
use crate::programs::{Record, now};

/// The time of a block: long enough for the reader's naps to reach their limit.
const MILLISECONDS: i32 = 100;
const WAIT: Duration = Duration::from_millis(MILLISECONDS as u64);
/// Slots of each shard.
const SLOTS: usize = 64;
/// Records of a block that measures the delay.
const COUNT: u64 = 20;
/// Nanoseconds between them, and up to a nap more. The naps of the reader take 1.6 ms to reach their limit.
const GAP: u64 = 3_000_000;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    for shards in [2, 64, 1024] {
        let ring = memfd(shards)?;
        let mut reader = ring.reader_from(Start::Now);
        let mut ours = || cpu_time(|| ensure_nothing(reader.wait(WAIT)?));
        let mut naps = || cpu_time(|| nap(|| Ok(())));
        let what = format!("CPU time per ms of `wait` without a bell, idle ring of {shards} shards");
        let only_naps = "a thread that only sleeps, 1 ms each time";
        let mut ringbufs = match Ringbufs::new(shards) {
            Ok(ringbufs) => ringbufs,
            Err(error) if bpf_is_missing(&error) => {
                report.skip("nap_cpu", format!("{error:#}"));
                let [ours, naps] = interleave(plan, [&mut ours, &mut naps])?;
                report.add([Row::new(&what, &ours, only_naps, &naps)]);
                continue;
            }
            Err(error) => return Err(error),
        };
        let ringbufs = RefCell::new(&mut ringbufs.consumer);
        let mut theirs = || cpu_time(|| nap(|| ringbufs.borrow_mut().consume()));
        let mut asleep = || cpu_time(|| ringbufs.borrow_mut().poll(MILLISECONDS));
        let [ours, naps, theirs, asleep] =
            interleave(plan, [&mut ours, &mut naps, &mut theirs, &mut asleep])?;
        let peer = format!("libbpf `ring_buffer__consume` of {shards} ringbufs each ms");
        let row = Row::new(&what, &ours, &peer, &theirs);
        report.add([
            if shards == 64 { row.target("nap_cpu", 1.0).tried(&tried(&ours, &naps)) } else { row },
            Row::new(&what, &ours, only_naps, &naps),
            Row::new(&what, &ours, "libbpf `ring_buffer__poll`, default wakeups", &asleep),
        ]);
    }
    delay(plan, report)
}

/// What an idle reader does, with its nanoseconds and those of a thread that only sleeps.
fn tried(ours: &[f64], naps: &[f64]) -> String {
    let median = |samples: &[f64]| Spread::of(samples.iter().copied()).median;
    format!(
        "A thread that only sleeps for 1 ms each time takes {:.1} µs of this reader's {:.1} µs per ms. The rest is one look at \
         each shard per nap, and 100 looks at the beginning of each `wait`, which was called every {MILLISECONDS} ms here. A ring \
         that is wakeable has neither.",
        median(naps) / 1000.0,
        median(ours) / 1000.0
    )
}

/// A ring whose programs can ring no bell.
fn memfd(shards: usize) -> Result<Ring<Record>> {
    let ring = Ring::create_memfd(SLOTS, shards)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    Ok(ring)
}

fn ensure_nothing(found: bool) -> Result<()> {
    ensure!(!found, "records of nobody");
    Ok(())
}

/// Nanoseconds of CPU time that `wait` takes, per millisecond of its duration: as many as microseconds per second.
fn cpu_time(wait: impl FnOnce() -> Result<()>) -> Result<f64> {
    let cpu = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
    };
    let (start, before) = (Instant::now(), cpu());
    wait()?;
    Ok((cpu() - before) / (start.elapsed().as_secs_f64() * 1000.0))
}

/// BPF ring buffers that nobody writes, and their consumer.
struct Ringbufs {
    consumer: RawRingBuffer,
    _maps: Vec<MapHandle>,
}

impl Ringbufs {
    fn new(count: usize) -> Result<Self> {
        let bytes = u32::try_from(rustix::param::page_size())?;
        let maps = (0..count).map(|_| create(MapType::RingBuf, 0, 0, bytes)).collect::<Result<Vec<_>>>()?;
        let mut consumer = RawRingBuffer::new(&maps[0])?;
        maps[1..].iter().try_for_each(|map| consumer.add(map))?;
        Ok(Self { consumer, _maps: maps })
    }
}

/// Naps as long as our reader's longest, with `look` before each.
fn nap(mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < WAIT {
        look()?;
        thread::sleep(Reader::<Record>::NAP);
    }
    Ok(())
}

/// The delay of a record that ends the wait of a reader whose naps are the longest.
fn delay(plan: Plan, report: &mut Report) -> Result<()> {
    let nap = Reader::<Record>::NAP.as_nanos() as f64;
    let ring = memfd(2)?;
    let side = Side::new()?;
    let mut random = 1_u64;
    let mut block = || {
        let mut reader = ring.reader_from(Start::Now);
        let writer = ring.writer(0)?;
        let mut delays = Vec::new();
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for n in 0..COUNT {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    thread::sleep(Duration::from_nanos(GAP + (random >> 44)));
                    let pushed = writer.push(&[n, now(), 0, 0, 0, 0, 0]);
                    ensure!(pushed.is_some(), "record {n} was dropped");
                }
                Ok(())
            });
            let mut reading = || {
                let end = Instant::now() + Duration::from_secs(10);
                while (delays.len() as u64) < COUNT {
                    reader.wait(WAIT)?;
                    reader.for_each(usize::MAX, |event| delays.push(now() - event.record[1]));
                    ensure!(Instant::now() < end, "{} records of {COUNT}", delays.len());
                }
                Ok(())
            };
            let read = reading();
            writing.join().expect("it does not panic").and(read)
        })?;
        ensure!(delays.len() as u64 == COUNT, "{} records, not {COUNT}", delays.len());
        Ok(side.borrow_mut().note(delays))
    };
    let [p50] = interleave(plan, [&mut block])?;
    let bound = vec![nap; p50.len()];
    let what = "delay of a record that ends a `wait` without a bell, p50";
    report.add([Row::new(what, &p50, "its bound, `Reader::NAP`", &bound)]);
    Ok(())
}
