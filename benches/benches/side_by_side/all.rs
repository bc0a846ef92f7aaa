//! Produces on all CPUs at once, into one ring.

use std::thread;

use anyhow::{Context, Result, ensure};
use mapring::{Access, Ring, Start};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave, pin_to};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::skel::stream::StreamSkel;
use crate::programs::{CHUNK, Program, Record, Seen, Streamed, Streamer, load, now, record};
use crate::threads;

/// Chunks of a run on each CPU: half a shard.
const CHUNKS: u64 = 4;
/// Runs per block.
const RUNS: u64 = 8;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let cpus = threads::all();
    // A ring buffer's capacity is a little less than its size.
    let bytes = (cpus.len() as u64 * CHUNKS * CHUNK * 64 * 2).next_power_of_two();
    let bytes = u32::try_from(bytes).context("a ring buffer for so many CPUs")?;
    let skel = load!(stream::StreamSkelBuilder, |open| open.maps.ringbuf.set_max_entries(bytes)?);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());

    // 1, 2, 4, … and all CPUs.
    let counts = (0..).map(|bit| 1 << bit).take_while(|count| *count < cpus.len()).chain([cpus.len()]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for count in counts {
        let plan = if count == cpus.len() { plan } else { plan.within(0.3) };
        let [a, b] = on(plan, &cpus[..count], &ring, &skel)?;
        let throughput =
            |ns: &[f64]| (count as f64, Spread::of(ns.iter().map(|ns| count as f64 * 1000.0 / ns)));
        ours.push(throughput(&a));
        theirs.push(throughput(&b));
        let what = format!("produce 56 B on {count} CPUs at once, each");
        let row = Row::new(&what, &a, "ringbuf reserve + submit, NO_WAKEUP, one for all", &b);
        match count {
            1 => {} // `produce_one` measures it
            _ if count == cpus.len() => report.add([row.target("produce_all", 0.10)]),
            _ => report.add([row]),
        }
    }
    if cpus.len() < 2 {
        report.skip("produce_all", "one CPU only");
    }
    let chart = Chart::new(
        "produce-cpus",
        "Records that programs on several CPUs produce",
        ("CPUs at once", Scale::Log2),
        ("million records a second", Scale::Linear),
    );
    report.chart(chart.line("mapring, a shard each", ours).line("BPF ringbuf, one for all", theirs));
    Ok(())
}

/// Measures both sides on these CPUs.
fn on(plan: Plan, cpus: &[usize], ring: &Ring<Record>, skel: &StreamSkel<'_>) -> Result<[Vec<f64>; 2]> {
    let streamer = Streamer(Program::new(&skel.progs.stream_mapring));
    let mut first = 1;
    let mut ours = || {
        let mut reader = ring.reader_from(Start::Now);
        let block = block(cpus, streamer, &mut first, |seen| {
            reader.for_each(usize::MAX, |event| seen.add(event.record));
            Ok(())
        });
        ensure!(reader.lost() == 0, "lost {}", reader.lost());
        block
    };
    let streamer = Streamer(Program::new(&skel.progs.stream_ringbuf));
    let mut consumer = RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?;
    let mut first = 1;
    let mut theirs = || {
        block(cpus, streamer, &mut first, |seen| {
            consumer.consume()?;
            *seen = consumer.take_seen();
            Ok(())
        })
    };
    interleave(plan, [&mut ours, &mut theirs])
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
