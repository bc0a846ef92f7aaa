//! Producing on all CPUs at once, into one ring.

use std::thread;

use anyhow::{Context, Result, ensure};
use libbpf_rs::MapCore;
use mapring::{Access, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave, pin_to};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{CHUNK, Program, Record, Seen, Streamed, Streamer, load, now, record};
use crate::threads;

/// Chunks of a run on each CPU: half of what a shard holds.
const CHUNKS: u64 = 4;
/// Runs of a block.
const RUNS: u64 = 8;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let cpus = threads::all();
    if cpus.len() < 2 {
        report.skip("produce_all", "one CPU only");
        return Ok(());
    }
    // A ring buffer holds a little less than its size.
    let bytes = (cpus.len() as u64 * CHUNKS * CHUNK * 64 * 2).next_power_of_two();
    let bytes = u32::try_from(bytes).context("a ring buffer for so many CPUs")?;
    let skel = load!(stream::StreamSkelBuilder, |open| open.maps.ringbuf.set_max_entries(bytes)?);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());

    let streamer = Streamer(Program::new(&skel.progs.stream_mapring));
    let mut first = 1;
    let mut ours = || {
        let mut reader = ring.reader_from(Start::Now);
        let block = block(streamer, &mut first, |seen| {
            reader.for_each(usize::MAX, |event| seen.add(event.record));
            Ok(())
        });
        ensure!(reader.lost() == 0, "lost {}", reader.lost());
        block
    };
    let streamer = Streamer(Program::new(&skel.progs.stream_ringbuf));
    let mut consumer = RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?;
    ensure!(skel.maps.ringbuf.max_entries() == bytes);
    let mut first = 1;
    let mut theirs = || {
        block(streamer, &mut first, |seen| {
            consumer.consume()?;
            *seen = consumer.take_seen();
            Ok(())
        })
    };
    let [ours, theirs] = interleave(plan, [&mut ours, &mut theirs])?;
    let what = format!("produce 56 B on {} CPUs at once, each", cpus.len());
    let peer = "ringbuf reserve + submit, NO_WAKEUP, one for all";
    report.add([Row::new(&what, &ours, peer, &theirs).target("produce_all", 0.10)]);
    Ok(())
}

/// Nanoseconds for a record on each CPU. After each run `read` must see all of it.
fn block(
    streamer: Streamer<'_>,
    first: &mut u64,
    mut read: impl FnMut(&mut Seen) -> Result<()>,
) -> Result<f64> {
    let (mut sum, mut runs) = (0, 0);
    for _ in 0..RUNS {
        let begin = *first;
        let count = threads::all().len() as u64 * CHUNKS * CHUNK;
        *first += count;
        for streamed in everywhere(streamer, begin)? {
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

/// Runs it on every CPU from the same moment on, the numbers from `first` divided among them.
fn everywhere(streamer: Streamer<'_>, first: u64) -> Result<Vec<Streamed>> {
    let cpus = threads::all();
    // Threads start within some 50 µs; those that are late are still with the others for the most part.
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
