//! Wakeable rings: the cost of a record while no reader sleeps, and of bursts while the reader sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use libbpf_rs::ProgramMut;
use mapring::{Access, Reader, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{Producer, Program, RECORDS, Record, Seen, load, now};
use crate::threads;

/// Records of a burst: `BURST` in `bpf/waking.bpf.c`.
const BURST: u64 = 64;
/// Bursts per block.
const COUNT: u64 = 40;
/// Slots of the ring: `SLOTS` in `bpf/producers.h`.
const SLOTS: u64 = 4096;
/// Runs of a lap. A block times its second lap: in the first one the ring comes into the caches. Without it, the sides
/// that share a ring would find it there more often than the side that does not.
const LAP: u64 = SLOTS / RECORDS;
/// How late our reader may be.
const AGE: Duration = Duration::from_millis(1);
/// Nanoseconds before each burst: long enough for the reader to fall asleep again.
const GAP: u64 = 200_000;

/// What limits a program whose reader is awake.
const WAKE_TRIED: &str = "Without a watermark, programs look for a sleeping reader at each record, after a full barrier: one locked \
    exchange, about 20 cycles, more than 6 ns at a low clock rate. Without the barrier a wakeup could be lost. With a watermark, \
    programs look at few records (see `wake_watermark`).";
/// What limits a program in a burst.
const ASLEEP_TRIED: &str = "Wakeups cost nothing here: programs ring the bell once per 1024 records, and look for the sleeping \
    reader once per 256. Each store of a record waits for its cache line, which the reader's CPU has read. A ring that is not \
    wakeable pays the same (see below).";

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(waking::WakingSkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.waking)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let plain_ring = Ring::<Record>::open(&skel.maps.ours)?;
    let mut plain = produce(&plain_ring, &skel.progs.produce_plain, None);
    let [mut nobody, mut many, mut first] =
        [None, Some(SLOTS / 4), Some(1)].map(|records| produce(&ring, &skel.progs.produce_wakeable, records));
    let [nobody, many, first, plain] = interleave(plan, [&mut nobody, &mut many, &mut first, &mut plain])?;
    let more =
        |ours: &[f64]| -> Vec<_> { ours.iter().zip(&plain).map(|(ours, plain)| ours - plain).collect() };
    let what = |readers| format!("extra cost per record of a wakeable ring, {readers}");
    report.add([
        Row::absolute(&what("no reader asks to be woken"), &more(&nobody)).target("wake", 6.0),
        Row::absolute(&what("reader awake, watermark of 1024 records"), &more(&many))
            .target("wake_watermark", 6.0),
        Row::absolute(&what("reader awake, no watermark"), &more(&first))
            .target("wake_first", 6.0)
            .tried(WAKE_TRIED),
    ]);

    let Some(cpu) = threads::other() else {
        for key in ["asleep", "asleep_watermark"] {
            report.skip(key, "one CPU only");
        }
        return Ok(());
    };
    let read = AtomicU64::new(0);
    let ours = |ring, program, records: Option<u64>| {
        let (mut first, ring, program, read): (_, &Ring<Record>, _, _) =
            (1, ring, Program::new(program), &read);
        move || {
            let mut reader = ring.reader_from(Start::Now);
            if let Some(records) = records {
                reader = reader.with_watermark(records, AGE);
                reader.bell().map_err(|e| anyhow::anyhow!("{e}"))?;
            }
            bursts(cpu, program, &mut first, read, || {
                reader.wait(Duration::from_millis(10))?;
                Ok(reader.for_each(usize::MAX, |_| {}) as u64)
            })
        }
    };
    let mut at_once = ours(&ring, &skel.progs.burst_wakeable, Some(1));
    let mut late = ours(&ring, &skel.progs.burst_wakeable, Some(SLOTS / 4));
    let mut napping = ours(&plain_ring, &skel.progs.burst_plain, None);
    let peer = |program| -> Result<_> {
        let (mut first, program, read) = (1, Program::new(program), &read);
        let mut consumer = RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?;
        Ok(move || {
            bursts(cpu, program, &mut first, read, || {
                consumer.poll(10)?;
                consumer.consume()?; // those that nobody was woken for
                Ok(consumer.take_seen().count)
            })
        })
    };
    let mut default = peer(&skel.progs.burst_default)?;
    let mut watermark = peer(&skel.progs.burst_watermark)?;
    let [at_once, ours, napping, default, watermark] =
        interleave(plan, [&mut at_once, &mut late, &mut napping, &mut default, &mut watermark])?;
    let what = |watermark| format!("produce 56 B in bursts of 64, reader asleep, {watermark}");
    let late = what("watermark of 1024 records or 1 ms");
    let half = "ringbuf, watermark of 32 records (`bpf_ringbuf_query`)";
    report.add([
        Row::new(&late, &ours, "ringbuf, default wakeups", &default)
            .target("asleep", 0.1)
            .tried(ASLEEP_TRIED),
        Row::new(&late, &ours, half, &watermark).target("asleep_watermark", 0.5),
        Row::new(&what("no watermark"), &at_once, "ringbuf, default wakeups", &default),
        Row::new(&what("no watermark"), &at_once, half, &watermark),
        Row::new(&late, &ours, "mapring, a ring that is not wakeable, reader naps", &napping),
    ]);
    Ok(())
}

/// Nanoseconds per record while nobody sleeps. A reader checks that it sees every record; it would sleep until this many
/// are unread.
fn produce<'p>(
    ring: &'p Ring<Record>,
    program: &'p ProgramMut<'p>,
    records: Option<u64>,
) -> impl FnMut() -> Result<f64> + use<'p> {
    let mut producer = Producer::new(program);
    move || {
        let mut reader: Reader<Record> = ring.reader_from(Start::Now);
        if let Some(records) = records {
            reader = reader.with_watermark(records, AGE);
            reader.bell().map_err(|e| anyhow::anyhow!("{e}"))?;
        }
        let mut sum = 0.0;
        for run in 0..2 * LAP {
            let (ns, expected) = producer.run()?;
            let mut seen = Seen::default();
            reader.for_each(usize::MAX, |event| seen.add(event.record));
            ensure!(seen == expected, "{seen:?}, not {expected:?}");
            sum += if run < LAP { 0.0 } else { ns };
        }
        Ok(sum / (LAP * RECORDS) as f64)
    }
}

/// Nanoseconds per record for the program, which runs on `cpu`, while this thread sleeps in `sleep`. It returns the
/// number of records that it then read.
fn bursts(
    cpu: usize,
    program: Program<'_>,
    first: &mut u64,
    read: &AtomicU64,
    mut sleep: impl FnMut() -> Result<u64>,
) -> Result<f64> {
    let done = AtomicBool::new(false);
    read.store(0, Ordering::Relaxed);
    let produce = || {
        let mut sum = 0;
        let mut all = || {
            for burst in 0..COUNT {
                let at = now() + GAP;
                while read.load(Ordering::Relaxed) < burst * BURST || now() < at {
                    std::hint::spin_loop();
                    ensure!(
                        now() < at + 1_000_000_000,
                        "the reader has {} records of {}",
                        read.load(Ordering::Relaxed),
                        burst * BURST
                    );
                }
                let [_, ns] = program.run([*first, 0])?;
                *first += BURST;
                sum += ns;
            }
            Ok(())
        };
        let result = all();
        done.store(true, Ordering::Release);
        result.map(|()| sum as f64 / (COUNT * BURST) as f64)
    };
    let consume = || {
        while !done.load(Ordering::Acquire) || read.load(Ordering::Relaxed) < COUNT * BURST {
            let ended = done.load(Ordering::Acquire);
            let count = sleep()?;
            read.fetch_add(count, Ordering::Relaxed);
            ensure!(
                !ended || count > 0 || read.load(Ordering::Relaxed) == COUNT * BURST,
                "records are missing"
            );
        }
        Ok(())
    };
    threads::both(cpu, produce, consume).map(|(ns, ())| ns)
}
