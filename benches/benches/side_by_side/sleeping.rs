//! A sleeping reader: its cost for the producing program, and the latency of a record.

use std::time::Duration;

use anyhow::{Result, ensure};
use mapring::{Access, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::latency::{Side, block, chart};
use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{Pacer, Program, Record, load, now};
use crate::threads;

/// Nanoseconds between two records: long enough for the reader to fall asleep again.
const GAP: u64 = 100_000;
/// Records per block.
const COUNT: u64 = 100;
/// How long our reader sleeps between two polls; the kernel adds about 50 µs of timer slack.
const NAP: Duration = Duration::from_micros(10);

/// The records that libbpf's callback got, and when.
#[derive(Default)]
struct Timed(Vec<(Record, u64)>);

impl Sink for Timed {
    fn add(&mut self, record: &Record) {
        self.0.push((*record, now()));
    }
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    if threads::other().is_none() {
        for key in ["produce_sleeping", "asleep_latency"] {
            report.skip(key, "one CPU only");
        }
        return Ok(());
    }
    let skel = load!(latency::LatencySkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let wakeable = Ring::<Record>::open(&skel.maps.waking)?;
    let sides = [Side::new()?, Side::new()?, Side::new()?];

    let pacer = Pacer(Program::new(&skel.progs.mapring_early));
    let mut first = 1;
    let mut ours = || {
        let mut reader = ring.reader_from(Start::Now);
        let block = block(pacer, &mut first, COUNT, GAP, |arrived| {
            reader.for_each(usize::MAX, |event| arrived.add(event.record, now()));
            std::thread::sleep(NAP);
            Ok(())
        })?;
        ensure!(reader.lost() == 0, "lost {}", reader.lost());
        sides[0].borrow_mut().note(block.arrived);
        Ok(block.produced)
    };
    let pacer = Pacer(Program::new(&skel.progs.ringbuf_wake));
    let mut consumer = RawRingBuffer::<Timed>::new(&skel.maps.ringbuf)?;
    let mut first = 1;
    let mut theirs = || {
        let block = block(pacer, &mut first, COUNT, GAP, |arrived| {
            consumer.poll(10)?;
            consumer.sink().0.drain(..).for_each(|(record, now)| arrived.add(&record, now));
            Ok(())
        })?;
        sides[1].borrow_mut().note(block.arrived);
        Ok(block.produced)
    };
    let pacer = Pacer(Program::new(&skel.progs.wakeable));
    let mut first = 1;
    let mut woken = || {
        let mut reader = wakeable.reader_from(Start::Now);
        reader.bell().map_err(|e| anyhow::anyhow!("{e}"))?;
        let block = block(pacer, &mut first, COUNT, GAP, |arrived| {
            reader.wait(Duration::from_millis(10))?;
            reader.for_each(usize::MAX, |event| arrived.add(event.record, now()));
            Ok(())
        })?;
        ensure!(reader.lost() == 0, "lost {}", reader.lost());
        sides[2].borrow_mut().note(block.arrived);
        Ok(block.produced)
    };
    let [ours, theirs, woken] = interleave(plan, [&mut ours, &mut theirs, &mut woken])?;
    let p50 = |side: usize| sides[side].borrow().each(50.0, ours.len());
    let peer = "ringbuf, default wakeups, reader in `ring_buffer__poll`";
    report.add([
        Row::new("produce 56 B while the reader sleeps, with a clock read", &ours, peer, &theirs)
            .target("produce_sleeping", 0.02),
        Row::new("… into a wakeable ring", &woken, peer, &theirs),
        Row::new(
            "one-way latency to a sleeping reader that programs wake, p50",
            &p50(2),
            peer,
            &p50(1),
        )
        .target("asleep_latency", 1.05)
        .tried(
            "Both readers sleep on a BPF ring buffer, and programs wake them in the same way. The kernel's wakeup takes \
             nearly all of the time. Before it, our program looks for sleeping readers; after it, our reader looks at its \
             shards.",
        ),
        Row::new("one-way latency, reader naps 10 µs between looks, p50", &p50(0), peer, &p50(1)),
    ]);
    let names = [
        "mapring, reader naps 10 µs between looks",
        "BPF ringbuf, reader woken from epoll",
        "mapring, reader woken",
    ];
    chart(report, "latency-sleeping", "One-way latency, sleeping reader", 99.0, names.iter().zip(&sides));
    Ok(())
}
