//! A BPF arena: memory without a protocol, in which a program keeps a plain ring for one producer and a reader that
//! never falls behind. The ring handles no nested programs, no loss and no torn records.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Ring, Start};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::Sink;
use crate::programs::{Producer, RECORDS, Record, Seen, load, record, run as run_program};

/// Slots of the ring: `SLOTS` in `bpf/producers.h`.
const SLOTS: usize = 4096;

/// `struct plain` in `bpf/arena/arena.bpf.c`: the head on its own cache line, then slots of one line each, with a
/// number and a record.
#[repr(C)]
struct Plain {
    lines: [[AtomicU64; 8]; 1 + SLOTS],
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(arena::ArenaSkelBuilder);
    let [at, ..] = run_program(&skel.progs.make, [0; 3])?;
    let at = std::ptr::with_exposed_provenance::<Plain>(usize::try_from(at)?);
    // SAFETY: libbpf has mapped the arena, and the program has filled it with as many pages from there on as this type
    // takes; the object lives until the end, and all of it is accessed atomically.
    let plain = unsafe { &*at };

    let mut ring = PlainReader { plain, position: 0 };
    let reads = [const { RefCell::new(Vec::new()) }; 2];
    let mut first = 1;
    let mut theirs = || {
        let begin = first;
        first += RECORDS;
        let [.., ns] = run_program(&skel.progs.produce_arena, [at.addr() as u64, begin, 0])?;
        let mut expected = Seen::default();
        (begin..first).for_each(|n| expected.add(&record(n)));
        let (mut seen, start) = (Seen::default(), Instant::now());
        ring.consume(|record| seen.add(record));
        reads[1].borrow_mut().push(start.elapsed().as_nanos() as f64 / RECORDS as f64);
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns as f64 / RECORDS as f64)
    };

    let skel = load!(produce::ProduceSkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut reader = ring.reader_from(Start::Now);
    let mut producer = Producer::new(&skel.progs.produce_mapring);
    let mut ours = || {
        let (ns, expected) = producer.run()?;
        let (mut seen, start) = (Seen::default(), Instant::now());
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        reads[0].borrow_mut().push(start.elapsed().as_nanos() as f64 / RECORDS as f64);
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns / RECORDS as f64)
    };
    let [ours, theirs] = interleave(plan.within(0.3), [&mut ours, &mut theirs])?;
    // Without the warm-up, when pages were not mapped yet.
    let [our_reads, their_reads] = reads.map(|reads| reads.into_inner().split_off(plan.warm_up));
    let peer = "arena: memory without a protocol, a plain ring for one producer";
    report.peer(
        "BPF arena",
        "the kernel's",
        "4096 slots of a line each, a head; its pages from `bpf_arena_alloc_pages`",
    );
    report.add([
        Row::new("produce 56 B, reserve + commit", &ours, peer, &theirs),
        Row::new("consume 56 B, `for_each`", &our_reads, peer, &their_reads),
    ]);
    Ok(())
}

/// Reads the plain ring. A program that overtook it would tear its records.
struct PlainReader<'a> {
    plain: &'a Plain,
    position: u64,
}

impl PlainReader<'_> {
    fn consume(&mut self, mut f: impl FnMut(&Record)) {
        let [head, slots @ ..] = &self.plain.lines;
        let head = head[0].load(Ordering::Acquire);
        while self.position < head {
            #[allow(clippy::cast_possible_truncation)] // masked
            let [_, words @ ..] = &slots[self.position as usize & (SLOTS - 1)];
            f(&words.each_ref().map(|word| word.load(Ordering::Relaxed)));
            self.position += 1;
        }
    }
}
