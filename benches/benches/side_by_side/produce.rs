//! What a record costs the BPF program: reserve, fill 56 bytes, commit, in a loop in the program.

use anyhow::{Result, ensure};
use libbpf_rs::ProgramMut;
use mapring::{Access, Ring};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{NESTED_CLAIM, Producer, RECORDS, Record, Seen, load};

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(produce::ProduceSkelBuilder);
    let portable = load!(portable::PortableSkelBuilder);
    let progs = &skel.progs;

    let mut inlined = mapring(Ring::open(&skel.maps.ours), &progs.produce_mapring)?;
    let mut called = mapring(Ring::open(&skel.maps.ours), &progs.produce_mapring_call)?;
    let mut inlined_any = mapring(Ring::open(&portable.maps.ours), &portable.progs.produce_portable)?;
    let mut called_any = mapring(Ring::open(&portable.maps.ours), &portable.progs.produce_portable_call)?;
    let mut peer_inlined = ringbuf(RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?, &progs.produce_ringbuf);
    let mut peer_called =
        ringbuf(RawRingBuffer::<Seen>::new(&skel.maps.ringbuf)?, &progs.produce_ringbuf_call);
    let mut loop_alone = || {
        let [_, ns] = crate::programs::run(&progs.produce_nothing, [0, 0])?;
        Ok(ns as f64 / RECORDS as f64)
    };

    let [inlined, called, inlined_any, called_any, peer_inlined, peer_called, loop_alone] = interleave(
        plan,
        [
            &mut inlined,
            &mut called,
            &mut inlined_any,
            &mut called_any,
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
        Row::new("produce 56 B in a BPF function called in a loop", &called, peer, &peer_called),
        Row::new("… published by `xchg` (portable)", &called_any, peer, &peer_called),
        Row::new("the BPF loop alone", &loop_alone, peer, &peer_inlined),
    ]);
    if !NESTED_CLAIM {
        report.skip("produce_nested", "the claim for producers that only nest is not there yet");
    }
    Ok(())
}

/// Times `program`, and has a reader see every record of it.
fn mapring<'p>(
    ring: Result<Ring<Record>, mapring::Error>,
    program: &'p ProgramMut<'p>,
) -> Result<impl FnMut() -> Result<f64> + use<'p>> {
    let ring = ring?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut producer = Producer::new(program);
    let mut reader = ring.reader_from(mapring::Start::Now);
    Ok(move || {
        // Programs share the ring: what others have produced is not this one's.
        reader.for_each(usize::MAX, |_| {});
        let lost = reader.lost() + reader.dropped();
        let (ns, expected) = producer.run()?;
        let mut seen = Seen::default();
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        ensure!(seen == expected && reader.lost() + reader.dropped() == lost, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    })
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
