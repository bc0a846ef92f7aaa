//! A program that produces faster than its reader reads: the records that arrive, and the lost ones. The ring
//! overwrites the oldest records, and its reader counts them. The BPF ring buffer refuses the newest, and the program
//! counts them.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Event, Ring, Start};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave_all};

use crate::peers::{MappedRingBuffer, Sink};
use crate::programs::{Program, Record, load, now};
use crate::stream::Stream;
use crate::threads;

/// Records between two clock reads: `BURST` in `bpf/loss.bpf.c`.
const BURST: u64 = 16;
/// Bursts per block: 32 times the capacity, so that records left at the end matter little.
const BURSTS: u64 = 8192;
const RECORDS: u64 = BURST * BURSTS;

/// Nanoseconds of the reader's work per record, for the rows.
const WORK: [u32; 3] = [50, 100, 200];
/// The same for the chart.
const CHARTED: u32 = 100;
/// Nanoseconds between records; 0 means as fast as possible.
const GAPS: [u64; 7] = [0, 25, 50, 75, 100, 150, 250];

/// The result of a block.
#[derive(Clone, Copy)]
struct Block {
    /// Million records per second, including refused ones: a refusal takes a program less time than a record.
    produced: f64,
    delivered: f64,
    /// In per cent.
    lost: f64,
}

/// Work that takes the same time for each record, whatever a clock read costs. Each step depends on the one before,
/// also across records, so that the CPU executes none of it early.
struct Work {
    steps: u32,
    word: Cell<u64>,
}

impl Work {
    /// Work of `ns` nanoseconds, at this CPU's current speed.
    fn of(ns: u32) -> Self {
        const STEPS: u32 = 200_000;
        let of = |steps| Self { steps, word: Cell::new(black_box(2)) };
        // The fastest run: the others were disturbed.
        let step = (0..5).map(|_| of(STEPS).time() / f64::from(STEPS)).fold(f64::MAX, f64::min);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some hundreds
        of((f64::from(ns) / step).round() as u32)
    }

    fn time(&self) -> f64 {
        let start = Instant::now();
        self.run(1);
        start.elapsed().as_nanos() as f64
    }

    #[inline]
    fn run(&self, seed: u64) {
        let mut word = self.word.get() ^ black_box(seed);
        for _ in 0..black_box(self.steps) {
            word = (word ^ (word >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.word.set(black_box(word));
    }
}

/// Produces a block while it calls `read` until nothing is left. `read` returns whether it found records, and `lost`
/// returns the reader's total of lost records.
fn block(
    program: Program<'_>,
    gap: u64,
    first: &mut u64,
    mut read: impl FnMut(&mut Stream) -> bool,
    lost: impl FnOnce() -> u64,
) -> Result<Block> {
    let cpu = threads::other().expect("asked before");
    let begin = *first;
    *first += RECORDS;
    let done = AtomicBool::new(false);
    let produce = || {
        let result = program.run([begin, BURSTS, gap * BURST, now() + 100_000, 0, 0, 0]);
        done.store(true, Ordering::Release);
        result
    };
    let consume = || {
        let mut seen = Stream::from(begin);
        loop {
            let last = done.load(Ordering::Acquire);
            if !read(&mut seen) && last {
                return Ok((seen, now()));
            }
        }
    };
    let ([.., start, end, dropped], (seen, read)) = threads::both(cpu, produce, consume)?;
    let lost = lost() + dropped;
    ensure!(seen.is_right() && seen.count() > 0, "a torn record, or one out of order: {seen:?}");
    ensure!(seen.count() + lost == RECORDS, "{} records and {lost} lost, of {RECORDS}", seen.count());
    Ok(Block {
        produced: RECORDS as f64 * 1000.0 / (end - start) as f64,
        delivered: seen.count() as f64 * 1000.0 / (read - start) as f64,
        lost: lost as f64 * 100.0 / RECORDS as f64,
    })
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    if threads::other().is_none() {
        report.skip("loss", "one CPU only");
        return Ok(());
    }
    let skel = load!(loss::LossSkelBuilder);
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let consumer = RefCell::new(MappedRingBuffer::new(&skel.maps.ringbuf)?);
    let programs = [&skel.progs.paced_mapring, &skel.progs.paced_ringbuf].map(Program::new);

    let ours = |work: &Work, gap, first: &mut u64| {
        let reader = RefCell::new(ring.reader_from(Start::Now));
        let read = |seen: &mut Stream| {
            let each = |event: Event<&Record, &[u8]>| {
                seen.add(event.record);
                work.run(event.record[0]);
            };
            reader.borrow_mut().for_each(usize::MAX, each) > 0
        };
        block(programs[0], gap, first, read, || reader.borrow().lost())
    };
    let theirs = |work: &Work, gap, first: &mut u64| {
        let read = |seen: &mut Stream| {
            let each = |record: &Record| {
                seen.add(record);
                work.run(record[0]);
            };
            consumer.borrow_mut().consume(each) > 0
        };
        block(programs[1], gap, first, read, || 0)
    };
    // Blocks take milliseconds, so few of them are enough.
    let plan = Plan { least: plan.least.div_ceil(4), warm_up: plan.warm_up.min(1), ..plan.within(0.5) };

    let at_full_speed = WORK.map(|ns| (ns, 0));
    for ((ns, _), [a, b]) in at_full_speed.iter().zip(measure(plan, &at_full_speed, &ours, &theirs)?) {
        let facts = |blocks: &[Block]| {
            let median = |of: fn(&Block) -> f64| Spread::of(blocks.iter().map(of)).median;
            let (produced, delivered) = (median(|block| block.produced), median(|block| block.delivered));
            let lost = median(|block| block.lost);
            format!("{produced:.1} M/s offered, {delivered:.1} M/s delivered, {lost:.1} % lost")
        };
        let each = |blocks: &[Block]| blocks.iter().map(|block| 1000.0 / block.delivered).collect::<Vec<_>>();
        let what = format!("a reader that works {ns} ns on each of 56 B, each delivered: {}", facts(&a));
        let peer = format!("ringbuf NO_WAKEUP, read over the mapping: {}", facts(&b));
        report.add([Row::new(&what, &each(&a), &peer, &each(&b))]);
    }

    let rates = GAPS.map(|gap| (CHARTED, gap));
    let blocks = measure(plan, &rates, &ours, &theirs)?;
    let chart = |id: &str, title: &str, y: &str, of: fn(&Block) -> f64| {
        let title = format!("{title}, of a reader that works {CHARTED} ns on each");
        let line = |side: usize| {
            let point = |pair: &[Vec<Block>; 2]| {
                let produced = Spread::of(pair[side].iter().map(|block| block.produced)).median;
                (produced, Spread::of(pair[side].iter().map(of)))
            };
            let mut points: Vec<_> = blocks.iter().map(point).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        let produced = ("million records a second, offered", Scale::Log2);
        Chart::new(id, &title, produced, (y, Scale::Linear))
            .line("mapring, overwrites the oldest", line(0))
            .line("BPF ringbuf, drops the newest", line(1))
    };
    report.chart(chart("loss", "What is lost", "% lost", |block| block.lost));
    let delivered = "million records a second, delivered";
    report.chart(chart("loss-delivered", "What arrives", delivered, |block| block.delivered));
    Ok(())
}

/// Alternates blocks of both sides for each work time and gap.
fn measure(
    plan: Plan,
    cases: &[(u32, u64)],
    ours: &dyn Fn(&Work, u64, &mut u64) -> Result<Block>,
    theirs: &dyn Fn(&Work, u64, &mut u64) -> Result<Block>,
) -> Result<Vec<[Vec<Block>; 2]>> {
    let found = vec![RefCell::new(Vec::new()); cases.len() * 2];
    let firsts = [RefCell::new(1), RefCell::new(1)];
    let mut sides: Vec<_> = (0..cases.len() * 2)
        .map(|n| {
            let ((ns, gap), side, found, firsts) = (cases[n / 2], n % 2, &found, &firsts);
            let run = [ours, theirs][side];
            move || {
                // Calibrate right before use, since the CPUs' speed changes.
                let block = run(&Work::of(ns), gap, &mut firsts[side].borrow_mut())?;
                found[n].borrow_mut().push(block);
                Ok(1000.0 / block.delivered)
            }
        })
        .collect();
    let mut sides: Vec<_> = sides.iter_mut().map(|side| side as &mut dyn FnMut() -> Result<f64>).collect();
    let measured = interleave_all(plan, &mut sides)?;
    drop(sides);
    // Without the warm-up.
    let rest = |n: usize| {
        let blocks = found[n].borrow();
        blocks[blocks.len() - measured[n].len()..].to_vec()
    };
    Ok((0..cases.len()).map(|case| [rest(2 * case), rest(2 * case + 1)]).collect())
}
