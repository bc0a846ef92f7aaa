//! What a record costs the BPF program: reserve, fill 56 bytes, commit, in a loop in the program.

use std::borrow::Borrow;

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, ProgramMut};
use mapring::{Access, Claim, NumaRing, ResizableRing, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{CHUNK, Producer, Program, RECORDS, Record, Seen, Streamed, Streamer, load, record};

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let portable = load!(portable::PortableSkelBuilder);
    let moving = load!(resizable::ResizableSkelBuilder);
    let resizable = ResizableRing::open(&moving.maps.moving)?;
    let placed = load!(numa::NumaSkelBuilder);
    let numa = NumaRing::open(&placed.maps.shards)?;
    let progs = &skel.progs;

    let mut inlined = mapring(Ring::open(&skel.maps.ours), &progs.produce_mapring)?;
    let mut called = mapring(Ring::open(&skel.maps.ours), &progs.produce_mapring_call)?;
    let mut inlined_any = mapring(Ring::open(&portable.maps.ours), &portable.progs.produce_portable)?;
    let mut called_any = mapring(Ring::open(&portable.maps.ours), &portable.progs.produce_portable_call)?;
    let mut called_moving = mapring(Ok(resizable.ring()), &moving.progs.produce_resizable_call)?;
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
        Row::new("… published by `xchg` (portable)", &inlined_any, peer, &peer_inlined),
        Row::new("… into a ring with a map for each CPU", &inlined_numa, peer, &peer_inlined),
        Row::new("produce 56 B in a BPF function called in a loop", &called, peer, &peer_called),
        Row::new("… published by `xchg` (portable)", &called_any, peer, &peer_called),
        Row::new("… into a resizable ring", &called_moving, peer, &peer_called),
        Row::new("… into a ring with a map for each CPU", &called_numa, peer, &peer_called),
        Row::new("the BPF loop alone", &loop_alone, peer, &peer_inlined),
    ]);
    nested(plan, report)
}

/// The same where programs can only nest. Its ringbuf runs there, too.
fn nested(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(nested::NestedSkelBuilder);
    if let Err(why) = only_nest(&skel.maps.ours) {
        report.skip("produce_nested", why);
        return Ok(());
    }
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    let mut reader = ring.reader_from(Start::Now);
    let mut ours = streamed(&skel.progs.nested_mapring, move |seen| {
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        Ok(())
    });
    let mut consumer = RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?;
    let mut theirs = streamed(&skel.progs.nested_ringbuf, move |seen| {
        consumer.consume()?;
        *seen = consumer.take_seen();
        Ok(())
    });
    let [ours, theirs] = interleave(plan, [&mut ours, &mut theirs])?;
    report.add([Row::new(
        "produce 56 B, inlined, by programs that only nest (XDP)",
        &ours,
        "ringbuf reserve + submit, NO_WAKEUP",
        &theirs,
    )
    .target("produce_nested", 0.15)]);
    Ok(())
}

/// Times `program`, and has a reader see every record of it.
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
        reader.lost() + reader.dropped()
    }))
}

/// The same for a ring with a map for each CPU.
fn mapring_numa<'p>(
    ring: &NumaRing<Record>,
    program: &'p ProgramMut<'p>,
) -> Result<impl FnMut() -> Result<f64> + use<'p>> {
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut reader = ring.reader_from(Start::Now);
    Ok(timed(program, move |seen| {
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        reader.lost() + reader.dropped()
    }))
}

/// Times `program`, whose records `read` must all see: it returns how many were lost until then.
fn timed<'p>(
    program: &'p ProgramMut<'p>,
    mut read: impl FnMut(&mut Seen) -> u64,
) -> impl FnMut() -> Result<f64> {
    let mut producer = Producer::new(program);
    move || {
        // Programs share the ring: what others have produced is not this one's.
        let lost = read(&mut Seen::default());
        let (ns, expected) = producer.run()?;
        let mut seen = Seen::default();
        ensure!(read(&mut seen) == lost && seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    }
}

/// The same for a BPF ring buffer, which is empty again afterwards.
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

/// Whether the ring's producers claim as those may that only nest, or why not.
pub(crate) fn only_nest(map: &impl MapCore) -> Result<(), String> {
    let ring = Ring::<Record>::open(map).map_err(|e| e.to_string())?;
    match ring.region().geometry().claim() {
        Claim::Nested => Ok(()),
        claim => Err(format!("its claim is {claim}: this kernel, or this build, allows no other")),
    }
}

/// Times a program of `bpf/stream.h`, whose records `read` must all see.
fn streamed<'p>(
    program: &'p ProgramMut<'p>,
    mut read: impl FnMut(&mut Seen) -> Result<()> + 'p,
) -> impl FnMut() -> Result<f64> + 'p {
    let (streamer, mut next) = (Streamer(Program::new(program)), 1);
    move || {
        let (first, mut seen, mut expected) = (next, Seen::default(), Seen::default());
        next += RECORDS;
        let Streamed { start, end, failed } = streamer.run(first, RECORDS / CHUNK, 0)?;
        (first..next).for_each(|n| expected.add(&record(n)));
        read(&mut seen)?;
        ensure!(seen == expected && failed == 0, "{seen:?}, not {expected:?}, {failed} failed");
        Ok((end - start) as f64 / RECORDS as f64)
    }
}
