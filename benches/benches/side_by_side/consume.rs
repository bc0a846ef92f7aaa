//! The cost of a record for the reader: sums all words of 56 bytes, of records already present, on the CPU that
//! produced them.

use std::cell::Cell;
use std::time::Instant;

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, RingBufferBuilder};
use mapring::{Access, Reader, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{Producer, RECORDS, Record, Seen, load};

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());

    // One way to read mapring's ring, with its own reader, which must see every record.
    let ours = |read: fn(&mut Reader<Record>) -> Seen| {
        let mut producer = Producer::new(&skel.progs.produce_mapring);
        let mut reader = ring.reader_from(Start::Now);
        move || {
            reader.for_each(usize::MAX, |_| {});
            let (_, expected) = producer.run()?;
            let start = Instant::now();
            let seen = read(&mut reader);
            timed(start, seen, expected)
        }
    };
    let mut for_each = ours(|reader| {
        let mut seen = Seen::default();
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        seen
    });
    let mut drain = ours(|reader| {
        let mut seen = Seen::default();
        reader.drain().for_each(|event| seen.add(&event.record));
        seen
    });
    let mut poll = ours(|reader| {
        let mut seen = Seen::default();
        while let Some(event) = reader.poll() {
            seen.add(&event.record);
        }
        seen
    });

    let mut producer = Producer::new(&skel.progs.produce_ringbuf);
    let mut raw_consumer = RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?;
    let mut raw = || {
        let (_, expected) = producer.run()?;
        let start = Instant::now();
        raw_consumer.consume()?;
        timed(start, raw_consumer.take_seen(), expected)
    };
    let mut producer = Producer::new(&skel.progs.produce_ringbuf);
    let seen = Cell::new(Seen::default());
    let mut builder = RingBufferBuilder::new();
    builder.add(&skel.maps.ringbuf, |data| {
        let mut sum = seen.get();
        sum.add(bytemuck::from_bytes(data));
        seen.set(sum);
        0
    })?;
    let libbpf_rs = builder.build()?;
    let mut rust = || {
        let (_, expected) = producer.run()?;
        let start = Instant::now();
        libbpf_rs.consume()?;
        timed(start, seen.take(), expected)
    };

    let [for_each, drain, poll, raw, rust] =
        interleave(plan, [&mut for_each, &mut drain, &mut poll, &mut raw, &mut rust])?;
    let [idle, idle_raw] = nothing_there(plan, &ring, &skel.maps.ringbuf)?;
    let (libbpf, libbpf_rs) = ("libbpf `ring_buffer__consume`", "libbpf-rs `RingBuffer::consume`");
    report.add([
        Row::new("consume 56 B, `for_each`", &for_each, libbpf, &raw).target("consume_small", 0.7),
        Row::new("consume 56 B, `for_each`", &for_each, libbpf_rs, &rust),
        Row::new("consume 56 B, `drain`", &drain, libbpf_rs, &rust),
        Row::new("consume 56 B, `poll`", &poll, libbpf_rs, &rust),
        Row::new("look at every shard, nothing there: `poll`", &idle, libbpf, &idle_raw),
    ]);
    Ok(())
}

/// Polling without finding a record.
fn nothing_there(plan: Plan, ring: &Ring<Record>, ringbuf: &impl MapCore) -> Result<[Vec<f64>; 2]> {
    let mut reader = ring.reader_from(Start::Now);
    let mut consumer = RawRingBuffer::<Seen>::new(ringbuf)?;
    let mut ours = || {
        let start = Instant::now();
        let found = (0..RECORDS).filter(|_| reader.poll().is_some()).count();
        ensure!(found == 0 && reader.lost() == 0, "found {found}, lost {}", reader.lost());
        Ok(start.elapsed().as_nanos() as f64 / RECORDS as f64)
    };
    let mut theirs = || {
        let start = Instant::now();
        (0..RECORDS).try_for_each(|_| consumer.consume())?;
        timed(start, consumer.take_seen(), Seen::default())
    };
    interleave(plan, [&mut ours, &mut theirs])
}

/// Nanoseconds per record since `start`, if the reader saw exactly the produced records.
fn timed(start: Instant, seen: Seen, expected: Seen) -> Result<f64> {
    let ns = start.elapsed().as_nanos() as f64 / RECORDS as f64;
    ensure!(seen == expected, "{seen:?}, not {expected:?}");
    Ok(ns)
}
