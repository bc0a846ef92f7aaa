//! The cost of a record for the BPF program: reserve, fill 56 bytes, commit, in a loop in the program.

use std::borrow::Borrow;

use anyhow::{Result, ensure};
use libbpf_rs::ProgramMut;
use mapring::{Access, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};
use mapring_loader::Prepare;

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{Producer, RECORDS, Record, Seen, load};

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let guarded = load!(produce::ProduceSkelBuilder, |open| Prepare::new().guard(true).skeleton(open)?);
    let unguarded = load!(produce::ProduceSkelBuilder, |open| Prepare::new().guard(false).skeleton(open)?);
    let portable = load!(portable::PortableSkelBuilder);
    let moving = load!(resizable::ResizableSkelBuilder);
    let resizable = Ring::open(&moving.maps.moving)?;
    let placed = load!(numa::NumaSkelBuilder);
    let numa = Ring::open(&placed.maps.shards)?;
    let progs = &skel.progs;

    let mut inlined = mapring(Ring::open(&skel.maps.ours), &progs.produce_mapring)?;
    let mut called = mapring(Ring::open(&skel.maps.ours), &progs.produce_mapring_call)?;
    let mut inlined_guard = mapring(Ring::open(&guarded.maps.ours), &guarded.progs.produce_mapring)?;
    let mut inlined_cas = mapring(Ring::open(&unguarded.maps.ours), &unguarded.progs.produce_mapring)?;
    let mut inlined_any = mapring(Ring::open(&portable.maps.ours), &portable.progs.produce_portable)?;
    let mut called_any = mapring(Ring::open(&portable.maps.ours), &portable.progs.produce_portable_call)?;
    let mut called_moving = mapring(Ok(&resizable), &moving.progs.produce_resizable_call)?;
    let mut inlined_numa = mapring_numa(&numa, &placed.progs.produce_numa)?;
    let mut called_numa = mapring_numa(&numa, &placed.progs.produce_numa_call)?;
    let mut peer_inlined = ringbuf(RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?, &progs.produce_ringbuf);
    let mut peer_called =
        ringbuf(RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?, &progs.produce_ringbuf_call);
    let mut loop_alone = || {
        let [_, ns] = crate::programs::run(&progs.produce_nothing, [0, 0])?;
        Ok(ns as f64 / RECORDS as f64)
    };

    let [
        inlined,
        called,
        inlined_guard,
        inlined_cas,
        inlined_any,
        called_any,
        called_moving,
        inlined_numa,
        called_numa,
        peer_inlined,
        peer_called,
        loop_alone,
    ] = interleave(
        plan,
        [
            &mut inlined,
            &mut called,
            &mut inlined_guard,
            &mut inlined_cas,
            &mut inlined_any,
            &mut called_any,
            &mut called_moving,
            &mut inlined_numa,
            &mut called_numa,
            &mut peer_inlined,
            &mut peer_called,
            &mut loop_alone,
        ],
    )?;
    let peer = "ringbuf reserve + submit, NO_WAKEUP";
    report.add([
        Row::new("produce 56 B, inlined in a BPF loop", &inlined, peer, &peer_inlined)
            .target("produce_one", 0.30),
        Row::new("… claimed in the guard", &inlined_guard, peer, &peer_inlined),
        Row::new("… claimed by compare-and-swap", &inlined_cas, peer, &peer_inlined),
        Row::new("… and published by `xchg` (portable)", &inlined_any, peer, &peer_inlined),
        Row::new("… into a ring with a map for each CPU", &inlined_numa, peer, &peer_inlined),
        Row::new("produce 56 B in a BPF function called in a loop", &called, peer, &peer_called),
        Row::new(
            "… claimed by compare-and-swap, published by `xchg` (portable)",
            &called_any,
            peer,
            &peer_called,
        ),
        Row::new("… into a resizable ring", &called_moving, peer, &peer_called),
        Row::new("… into a ring with a map for each CPU", &called_numa, peer, &peer_called),
        Row::new("the BPF loop alone", &loop_alone, peer, &peer_inlined),
    ]);
    Ok(())
}

/// Times `program`, and checks with a reader that it sees every record.
fn mapring<'p, R: Borrow<Ring<Record>>>(
    ring: Result<R, mapring::Error>,
    program: &'p ProgramMut<'p>,
) -> Result<impl FnMut() -> Result<f64> + use<'p, R>> {
    let ring = ring?;
    let ring = ring.borrow();
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut reader = ring.reader_from(Start::Now);
    Ok(timed(program, move |seen| {
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        reader.lost() + reader.stats().dropped()
    }))
}

/// The same for a ring with one map per CPU.
fn mapring_numa<'p>(
    ring: &Ring<Record>,
    program: &'p ProgramMut<'p>,
) -> Result<impl FnMut() -> Result<f64> + use<'p>> {
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut reader = ring.reader_from(Start::Now);
    Ok(timed(program, move |seen| {
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        reader.lost() + reader.stats().dropped()
    }))
}

/// Times `program`. `read` must see all its records, and returns the total of lost records.
fn timed<'p>(
    program: &'p ProgramMut<'p>,
    mut read: impl FnMut(&mut Seen) -> u64,
) -> impl FnMut() -> Result<f64> {
    let mut producer = Producer::new(program);
    move || {
        // Programs share the ring: skip the records of others.
        let lost = read(&mut Seen::default());
        let (ns, expected) = producer.run()?;
        let mut seen = Seen::default();
        ensure!(read(&mut seen) == lost && seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    }
}

/// The same for a BPF ring buffer, which is drained afterwards.
fn ringbuf<'p>(
    mut consumer: RawRingBuffer,
    program: &'p ProgramMut<'p>,
) -> impl FnMut() -> Result<f64> + use<'p> {
    let mut producer = Producer::new(program);
    move || {
        let (ns, expected) = producer.run()?;
        consumer.consume()?;
        let seen = consumer.take_seen();
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    }
}
