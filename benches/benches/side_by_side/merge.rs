//! Reads the records of several CPUs in the order of their timestamps.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Ring, Start};
use mapring_benches::{Plan, Report, Row, Spread, interleave, pin_to};

use crate::peers::{RawRingBuffer, Sink};
use crate::programs::{Program, RECORDS, Record, load};
use crate::threads;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    match threads::all()[..] {
        [one, other, ..] => two_cpus(plan, report, [one, other])?,
        _ => ["merge_2", "merge_growth_2"].iter().for_each(|key| report.skip(key, "one CPU only")),
    }
    growth(plan, report)
}

/// What a reader saw: how many records, the sum of their numbers, and that they came in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InOrder {
    count: u64,
    sum: u64,
    last: u64,
    back: u64,
}

impl InOrder {
    #[inline(always)]
    fn add(&mut self, record: &Record) {
        self.back += u64::from(record[0] < self.last);
        self.last = record[0];
        self.count += 1;
        // Each record's own sum first, as in `Seen`.
        self.sum = self.sum.wrapping_add(record[1..].iter().fold(0, |sum, word| sum.wrapping_add(*word)));
    }

    /// Nanoseconds per record since `start`, if it saw all records of these numbers in order.
    fn timed(self, start: Instant, numbers: impl Iterator<Item = u64>) -> Result<f64> {
        let ns = start.elapsed().as_nanos() as f64;
        let (mut count, mut sum) = (0, 0_u64);
        numbers.for_each(|n| {
            count += 1;
            (1..7).for_each(|i| sum = sum.wrapping_add(n + i));
        });
        ensure!((self.count, self.sum, self.back) == (count, sum, 0), "{self:?}, not {count} with sum {sum}");
        Ok(ns / count as f64)
    }
}

/// The records of one ring buffer, copied out of it.
#[derive(Default)]
struct Queue(VecDeque<Record>);

impl Sink for Queue {
    fn add(&mut self, record: &Record) {
        self.0.push_back(*record);
    }
}

/// All records, with the earliest on top.
#[derive(Default)]
struct Heap(BinaryHeap<Reverse<Record>>);

impl Sink for Heap {
    fn add(&mut self, record: &Record) {
        self.0.push(Reverse(*record));
    }
}

/// Records that programs wrote on two CPUs, read on the first of them.
fn two_cpus(plan: Plan, report: &mut Report, cpus: [usize; 2]) -> Result<()> {
    let skel = load!(merge::MergeSkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let mut first = 0;
    // Returns the numbers of the new records.
    let mut produce = |program: &Program<'_>| -> Result<_> {
        for (cpu, n) in [(cpus[1], first + 1), (cpus[0], first)] {
            pin_to(cpu)?;
            program.run([n, 0])?;
        }
        let numbers = first..first + 2 * RECORDS;
        first += 2 * RECORDS;
        Ok(numbers)
    };
    let produce = std::cell::RefCell::new(&mut produce);
    let (mapring, ringbuf) =
        (Program::new(&skel.progs.merge_mapring), Program::new(&skel.progs.merge_ringbuf));

    let mut merged = ring.reader_from(Start::Now).merged(|record| record[0]);
    let mut each = || {
        merged.for_each(usize::MAX, |_| {});
        let numbers = produce.borrow_mut()(&mapring)?;
        let (start, mut seen) = (Instant::now(), InOrder::default());
        merged.for_each(usize::MAX, |event| seen.add(event.record));
        ensure!(merged.stats().late == 0, "{}", merged.stats());
        seen.timed(start, numbers)
    };
    let mut polled = ring.reader_from(Start::Now).merged(|record| record[0]);
    let mut poll = || {
        polled.for_each(usize::MAX, |_| {});
        let numbers = produce.borrow_mut()(&mapring)?;
        let (start, mut seen) = (Instant::now(), InOrder::default());
        while let Some(event) = polled.poll() {
            seen.add(&event.record);
        }
        seen.timed(start, numbers)
    };
    let mut reader = ring.reader_from(Start::Now);
    let mut unmerged = || {
        reader.for_each(usize::MAX, |_| {});
        let numbers = produce.borrow_mut()(&mapring)?;
        let (start, mut seen) = (Instant::now(), InOrder::default());
        reader.for_each(usize::MAX, |event| seen.add(event.record));
        InOrder { back: 0, ..seen }.timed(start, numbers)
    };
    let mut queues =
        [RawRingBuffer::<Queue>::new(&skel.maps.ringbuf)?, RawRingBuffer::new(&skel.maps.ringbuf_1)?];
    let mut heads = BinaryHeap::with_capacity(2);
    let mut heap_of_heads = || {
        let numbers = produce.borrow_mut()(&ringbuf)?;
        let (start, mut seen) = (Instant::now(), InOrder::default());
        for (at, queue) in queues.iter_mut().enumerate() {
            queue.consume()?;
            heads.extend(queue.sink().0.front().map(|record| Reverse((record[0], at))));
        }
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((_, at)) = *head;
            let queue = &mut queues[at].sink().0;
            if let Some(record) = queue.pop_front() {
                seen.add(&record);
            }
            match queue.front() {
                Some(next) => *head = Reverse((next[0], at)),
                None => _ = std::collections::binary_heap::PeekMut::pop(head),
            }
        }
        seen.timed(start, numbers)
    };
    let mut heaps =
        [RawRingBuffer::<Heap>::new(&skel.maps.ringbuf)?, RawRingBuffer::new(&skel.maps.ringbuf_1)?];
    let mut heap_of_all = || {
        let numbers = produce.borrow_mut()(&ringbuf)?;
        let (start, mut seen) = (Instant::now(), InOrder::default());
        let [one, other] = &mut heaps;
        one.consume()?;
        other.consume()?;
        let heap = &mut one.sink().0;
        heap.append(&mut other.sink().0);
        while let Some(Reverse(record)) = heap.pop() {
            seen.add(&record);
        }
        seen.timed(start, numbers)
    };
    let [each, poll, unmerged, of_heads, of_all] =
        interleave(plan, [&mut each, &mut poll, &mut unmerged, &mut heap_of_heads, &mut heap_of_all])?;
    let heads = "libbpf, a BPF ringbuf per CPU, a heap of their first records";
    let all = "libbpf, a BPF ringbuf per CPU, a heap of all records";
    let ordered = "56 B of 2 CPUs in the order of stamps, ";
    report.add([
        Row::new(&format!("{ordered}`for_each`"), &each, heads, &of_heads).target("merge_2", 0.5).tried(&format!(
            "The reader copies records straight into its buffer and prefetches the next ones. It merges two shards from both ends \
             without a branch. A record takes {:.1} ns in order and {:.1} ns without order.",
            median(&each),
            median(&unmerged)
        )),
        Row::new(&format!("{ordered}`for_each`"), &each, all, &of_all),
        Row::new(&format!("{ordered}`poll`"), &poll, heads, &of_heads),
        // Not the first row of `growth`: these are the records that users have, of programs on two CPUs.
        Row::new(&format!("{ordered}`for_each`"), &each, "mapring, not in order", &unmerged)
            .target("merge_growth_2", 2.0)
            .tried(&growth_tried(&each, &unmerged)),
    ]);
    Ok(())
}

/// Records of all shards together. They stay in the caches, so that only the work of the merge grows.
const TOTAL: u64 = 8192;

/// What limits the merge of two shards, with its nanoseconds and those of reading without order.
fn growth_tried(merged: &[f64], plain: &[f64]) -> String {
    format!(
        "Without order, a record goes from the ring to the caller in registers, in {:.1} ns. In order it takes {:.1} ns: the \
         reader first stores it in a buffer, with its stamp and its ticket; compares its stamp once with one of the other shard; \
         and loads it again in its turn. Each comparison waits for the one before it. The merge begins at both ends, without a \
         branch, so two chains of comparisons run at the same time.",
        median(plain),
        median(merged)
    )
}

fn median(samples: &[f64]) -> f64 {
    Spread::of(samples.iter().copied()).median
}

/// From 2 to 1024 shards, in a memfd. Of each record the stamp is the number, times a few.
#[allow(clippy::cast_possible_truncation)] // small numbers, and any bits will do for a shard
fn growth(plan: Plan, report: &mut Report) -> Result<()> {
    for shards in [2, 8, 64, 1024] {
        let slots = TOTAL as usize / shards * 2;
        let ring = Ring::<Record>::create_memfd(slots, shards)?;
        let writers = (0..shards).map(|shard| ring.writer(shard)).collect::<Result<Vec<_>, _>>()?;
        let mut first = 0;
        let mut produce = || {
            for i in 0..TOTAL {
                // Each shard has as many records in each block, in random order.
                let n = first + i;
                let turn = (i / shards as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let shard = (i ^ turn) as usize % shards;
                writers[shard].push(&std::array::from_fn(|i| n + i as u64));
            }
            first += TOTAL;
            first - TOTAL..first
        };
        let produce = std::cell::RefCell::new(&mut produce);
        let mut reader = ring.reader_from(Start::Now).merged(|record| record[0]);
        let mut merged = || {
            reader.for_each(usize::MAX, |_| {});
            let numbers = produce.borrow_mut()();
            let (start, mut seen) = (Instant::now(), InOrder::default());
            reader.for_each(usize::MAX, |event| seen.add(event.record));
            ensure!(reader.stats().late == 0, "{}", reader.stats());
            seen.timed(start, numbers)
        };
        let mut reader = ring.reader_from(Start::Now);
        let mut plain = || {
            reader.for_each(usize::MAX, |_| {});
            let numbers = produce.borrow_mut()();
            let (start, mut seen) = (Instant::now(), InOrder::default());
            reader.for_each(usize::MAX, |event| seen.add(event.record));
            InOrder { back: 0, ..seen }.timed(start, numbers)
        };
        let [merged, plain] = interleave(plan.within(0.5), [&mut merged, &mut plain])?;
        let what = format!("56 B of {shards} shards in the order of stamps, `for_each`");
        report.add([Row::new(&what, &merged, "mapring, not in order", &plain)]);
    }
    Ok(())
}
