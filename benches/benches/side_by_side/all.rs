//! Produces on all CPUs at once: into a shard for each CPU, into one ring buffer, into a ring buffer for each CPU.

use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use mapring::{Access, Ring, Start};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave, pin_to, ping_pong};

use crate::memory::create;
use crate::peers::{RawRingBuffer, Sink};
use crate::programs::skel::sharded::ShardedSkel;
use crate::programs::{CHUNK, Program, Record, Seen, Streamed, Streamer, load, now, record};
use crate::threads;

/// Chunks of a run on each CPU: a quarter of a shard, and so of a CPU's ring buffer. Neither side has to wake its reader.
const CHUNKS: u64 = 4;
/// Runs per block.
const RUNS: u64 = 8;
/// Slots of a shard: `SLOTS` in `bpf/producers.h`.
const SLOTS: u64 = 4096;
/// How late the reader of the wakeable ring may be.
const AGE: Duration = Duration::from_millis(100);

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let cpus = threads::all();
    // A ring buffer's capacity is a little less than its size.
    let bytes = (cpus.len() as u64 * CHUNKS * CHUNK * 64 * 2).next_power_of_two();
    let bytes = u32::try_from(bytes).context("a ring buffer for so many CPUs")?;
    let last = u32::try_from(*cpus.last().context("no CPU")?)?;
    let skel = load!(sharded::ShardedSkelBuilder, |open| {
        open.maps.ringbuf.set_max_entries(bytes)?;
        open.maps.ringbufs.set_max_entries(last + 1)?;
    });
    let sides = Sides {
        ring: Ring::open(&skel.maps.ours)?,
        wakeable: Ring::open(&skel.maps.waking)?,
        ringbufs: cpus.iter().map(|cpu| ringbuf_of(*cpu, &skel)).collect::<Result<_>>()?,
        skel: &skel,
    };
    for ring in [&sides.ring, &sides.wakeable] {
        ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    }

    // 1, 2, 4, … and all CPUs, from the last one on, where the reader is.
    let counts = (0..).map(|bit| 1 << bit).take_while(|count| *count < cpus.len()).chain([cpus.len()]);
    let mut lines = [const { Vec::new() }; 4];
    let mut alone = [0.0; 2];
    for count in counts {
        let all = count == cpus.len();
        let samples = sides.on(if all { plan } else { plan.within(0.3) }, &cpus[cpus.len() - count..])?;
        for (line, ns) in lines.iter_mut().zip(&samples) {
            let throughput = Spread::of(ns.iter().map(|ns| count as f64 * 1000.0 / ns));
            line.push((count as f64, throughput));
        }
        let [ours, wakeable, one, each, ping] = samples;
        let what = match count {
            1 => "produce 56 B on the reader's CPU".to_owned(),
            _ => format!("produce 56 B on {count} CPUs at once, each"),
        };
        let waking = format!("{what}, wakeable ring with a watermark");
        let per_cpu = "ringbuf per CPU, watermark wakeups (`bpf_ringbuf_query`)";
        let shared = Row::new(&what, &ours, "ringbuf reserve + submit, NO_WAKEUP, one for all", &one);
        let sharded = Row::new(&waking, &wakeable, per_cpu, &each);
        let plain = Row::new(&what, &ours, per_cpu, &each);
        match count {
            1 => {
                alone = [&wakeable, &each].map(|ns| Spread::of(ns.iter().copied()).median);
                report.add([sharded, plain]); // `produce_one` measures the other
            }
            _ if all => {
                let sharded = sharded.target("produce_sharded", 0.35).tried(&sharded_tried(alone));
                report.add([shared.target("produce_all", 0.10), sharded.beside("ping-pong", &ping), plain]);
                report.add_by_distance("produce_sharded", &ping, |place, of| {
                    let what = format!("{waking}, CPUs {place}");
                    [Row::new(&what, &of(&wakeable), per_cpu, &of(&each))]
                });
            }
            _ => report.add([shared, sharded, plain]),
        }
    }
    if cpus.len() < 2 {
        for key in ["produce_all", "produce_sharded"] {
            report.skip(key, "one CPU only");
        }
    }
    let mut chart = Chart::new(
        "produce-cpus",
        "Records that programs on several CPUs produce",
        ("CPUs at once", Scale::Log2),
        ("million records a second", Scale::Linear),
    );
    let names = [
        "mapring, a shard each",
        "mapring, a shard each, wakes its reader",
        "BPF ringbuf, one for all",
        "BPF ringbuf, one each",
    ];
    for (name, line) in names.into_iter().zip(lines) {
        chart = chart.line(name, line);
    }
    report.chart(chart);
    Ok(())
}

/// What limits the programs, with the nanoseconds of both sides where the reader's CPU produces.
fn sharded_tried([ours, theirs]: [f64; 2]) -> String {
    format!(
        "The reader has read every record before its memory is used again, so most CPUs take each cache line back from \
         the reader's CPU. Both sides pay for this, and it takes longest between CPUs that are far apart: see the rows by \
         placement. On the reader's own CPU, a record takes {ours:.1} ns beside \
         {theirs:.1} ns, a ratio of {:.2}. No side wakes its reader in this run.",
        ours / theirs
    )
}

/// Adds a ring buffer for this CPU to the array of maps.
fn ringbuf_of(cpu: usize, skel: &ShardedSkel<'_>) -> Result<MapHandle> {
    let ringbuf = create(MapType::RingBuf, 0, 0, u32::try_from(SLOTS * 64)?)?;
    let (key, fd) = (u32::try_from(cpu)?, ringbuf.as_fd().as_raw_fd());
    skel.maps.ringbufs.update(&key.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?;
    Ok(ringbuf)
}

/// What programs write to.
struct Sides<'s, 'obj> {
    ring: Ring<Record>,
    wakeable: Ring<Record>,
    /// Of each CPU.
    ringbufs: Vec<MapHandle>,
    skel: &'s ShardedSkel<'obj>,
}

impl Sides<'_, '_> {
    /// Measures our two rings, one ring buffer, and a ring buffer for each CPU, on these CPUs; and the ping-pong of the
    /// first of them with the reader's, which is the last.
    fn on(&self, plan: Plan, cpus: &[usize]) -> Result<[Vec<f64>; 5]> {
        let progs = &self.skel.progs;
        let streamer = |program| Streamer(Program::new(program));
        let mut first = 1;
        let mut ours = || {
            let mut reader = self.ring.reader_from(Start::Now);
            let block = block(cpus, streamer(&progs.all_mapring), &mut first, |seen| {
                reader.for_each(usize::MAX, |event| seen.add(event.record));
                Ok(())
            });
            ensure!(reader.lost() == 0, "lost {}", reader.lost());
            block
        };
        let mut first = 1;
        let mut wakeable = || {
            let mut reader = self.wakeable.reader_from(Start::Now).with_watermark(SLOTS / 4, AGE);
            reader.bell().map_err(|e| anyhow::anyhow!("{e}"))?;
            let block = block(cpus, streamer(&progs.all_wakeable), &mut first, |seen| {
                reader.for_each(usize::MAX, |event| seen.add(event.record));
                Ok(())
            });
            ensure!(reader.lost() == 0, "lost {}", reader.lost());
            block
        };
        let consumed = |program, mut consumer: RawRingBuffer<Seen>| {
            let mut first = 1;
            move || {
                block(cpus, program, &mut first, |seen| {
                    consumer.consume()?;
                    *seen = consumer.take_seen();
                    Ok(())
                })
            }
        };
        let mut one =
            consumed(streamer(&progs.all_one_ringbuf), RawRingBuffer::new(&self.skel.maps.ringbuf)?);
        let mut consumer = RawRingBuffer::new(&self.ringbufs[0])?;
        self.ringbufs[1..].iter().try_for_each(|ringbuf| consumer.add(ringbuf))?;
        let mut each = consumed(streamer(&progs.all_ringbufs), consumer);
        let mut ping = || match cpus {
            [first, .., last] => ping_pong(*last, *first),
            _ => Ok(0.0),
        };
        interleave(plan, [&mut ours, &mut wakeable, &mut one, &mut each, &mut ping])
    }
}

/// Nanoseconds per record on each CPU. After each run `read` must see all its records.
fn block(
    cpus: &[usize],
    streamer: Streamer<'_>,
    first: &mut u64,
    mut read: impl FnMut(&mut Seen) -> Result<()>,
) -> Result<f64> {
    let (mut sum, mut runs) = (0, 0);
    for _ in 0..RUNS {
        let begin = *first;
        let count = cpus.len() as u64 * CHUNKS * CHUNK;
        *first += count;
        for streamed in everywhere(cpus, streamer, begin)? {
            ensure!(streamed.failed == 0, "no room for {} records", streamed.failed);
            sum += streamed.end - streamed.start;
            runs += 1;
        }
        let (mut seen, mut expected) = (Seen::default(), Seen::default());
        (begin..begin + count).for_each(|n| expected.add(&record(n)));
        read(&mut seen)?;
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
    }
    Ok(sum as f64 / (runs * CHUNKS * CHUNK) as f64)
}

/// Runs it on these CPUs from the same time on, with the numbers from `first` divided among them.
fn everywhere(cpus: &[usize], streamer: Streamer<'_>, first: u64) -> Result<Vec<Streamed>> {
    // Threads start within about 50 µs. Late ones still run beside the others most of the time.
    let at = now() + 150_000;
    thread::scope(|scope| {
        let threads: Vec<_> = (0_u64..)
            .zip(cpus)
            .map(|(turn, &cpu)| {
                scope.spawn(move || {
                    pin_to(cpu)?;
                    streamer.run(first + turn * CHUNKS * CHUNK, CHUNKS, at)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing in it panics")).collect()
    })
}
