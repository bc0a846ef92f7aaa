//! Latency from a clock read in a BPF program on one CPU to a clock read by a reader on another.

mod budget;

use std::cell::RefCell;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use mapring::{Access, Ring, Start};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave, ping_pong};

use serde_json::json;

use self::budget::{Bare, Parts};
use crate::peers::MappedRingBuffer;
use crate::programs::{Paced, Pacer, Program, Record, load, now};
use crate::threads;

/// Records per block.
const COUNT: u64 = 2000;
/// Nanoseconds between two records; up to 511 more are added.
const GAP: u64 = 1000;
/// Runs of what is measured alone.
const ALONE: u32 = 1000;

/// Why programs that commit at once reach less on some machines.
const EARLY_TRIED: &str = "The ratio depends on where the CPUs are: 0.57 between far ones, 0.9 between near ones, where a \
    record's two lines travel as fast as the ring buffer's. *Where the nanoseconds go*, below, has each part.";

/// Attempts to lower the latency of programs that work between claim and commit.
const COMMIT_TRIED: &str = "Readers poll the slot alone: 80 to 100 ns on near CPUs, 120 on far ones, where it is the best. \
    By `head` first, in a bare loop over one shard: 60 near, as the ring buffer; 250 far. Slower: one or two pauses in \
    the reader after a slot that is being written, or looking at it again and again until it has ended (90 to 110 near). \
    A pause in the caller's loop takes 10 ns off this row and adds 10 where the clock is read before reserve.";

/// The records of a block that arrived: each must be whole and in order.
pub(crate) struct Arrived {
    ns: Vec<u64>,
    next: u64,
    wrong: bool,
}

impl Arrived {
    fn new(first: u64) -> Self {
        Self { ns: Vec::with_capacity(4096), next: first, wrong: false }
    }

    #[inline]
    pub(crate) fn add(&mut self, record: &Record, now: u64) {
        self.ns.push(now.saturating_sub(record[0]));
        let n = record[1].wrapping_sub(1);
        self.wrong |=
            n != self.next || record[1..].iter().zip(n + 1..).any(|(word, i)| *word != i) || record[0] > now;
        self.next = n.wrapping_add(1);
    }
}

/// The percentiles kept for each block.
const PERCENTS: [f64; 11] = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9];

/// The results of one side's blocks.
pub(crate) struct Side {
    blocks: Vec<[f64; PERCENTS.len()]>,
    all: Histogram<u64>,
}

impl Side {
    pub(crate) fn new() -> Result<RefCell<Self>> {
        // Up to a second, to three digits.
        let all = Histogram::new_with_bounds(1, 1_000_000_000, 3)?;
        Ok(RefCell::new(Self { blocks: Vec::new(), all }))
    }

    /// A percentile of each of the last `count` blocks; the earlier ones are the warm-up.
    pub(crate) fn each(&self, percent: f64, count: usize) -> Vec<f64> {
        let which = PERCENTS.iter().position(|p| *p == percent).expect("one that is noted");
        self.blocks[self.blocks.len() - count..].iter().map(|block| block[which]).collect()
    }

    /// Adds a block, and returns its median.
    pub(crate) fn note(&mut self, mut ns: Vec<u64>) -> f64 {
        ns.iter().for_each(|ns| self.all.saturating_record(*ns));
        ns.sort_unstable();
        self.blocks.push(PERCENTS.map(|percent| quantile(&ns, percent / 100.0)));
        quantile(&ns, 0.5)
    }
}

/// A quantile of sorted values. The clock advances in steps (10 ns on some machines), so many values are equal. This
/// interpolates within the step, as usual for grouped data.
#[allow(clippy::cast_possible_truncation)] // a rank is an index
fn quantile(sorted: &[u64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let value = sorted[rank as usize];
    let (below, upto) = (sorted.partition_point(|v| *v < value), sorted.partition_point(|v| *v <= value));
    let step = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0).min().unwrap_or(0);
    value as f64 + step as f64 * ((rank - below as f64 + 0.5) / (upto - below) as f64 - 0.5)
}

/// The results of a block: the latency of each record, and the cost of one for the program.
pub(crate) struct Block {
    pub(crate) arrived: Vec<u64>,
    pub(crate) produced: f64,
}

/// Runs a block of `count` records, and calls `look` repeatedly until all have arrived.
pub(crate) fn block(
    pacer: Pacer<'_>,
    first: &mut u64,
    count: u64,
    gap: u64,
    mut look: impl FnMut(&mut Arrived) -> Result<()>,
) -> Result<Block> {
    let cpu = threads::other().expect("asked before");
    let begin = *first;
    *first += count;
    let done = AtomicBool::new(false);
    let produce = || {
        let result = pacer.run(begin, count, gap, now() + 150_000);
        done.store(true, Ordering::Release);
        result
    };
    let consume = || {
        let mut arrived = Arrived::new(begin);
        loop {
            let last = done.load(Ordering::Acquire);
            let before = arrived.next;
            look(&mut arrived)?;
            if arrived.next == begin + count || last && arrived.next == before {
                return Ok(arrived);
            }
        }
    };
    let (Paced { ns, failed }, arrived) = threads::both(cpu, produce, consume)?;
    ensure!(!arrived.wrong, "a wrong record, or one out of order");
    ensure!(failed == 0 && arrived.ns.len() as u64 == count, "{} arrived, {failed} failed", arrived.ns.len());
    Ok(Block { arrived: arrived.ns, produced: ns as f64 / count as f64 })
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let Some(cpu) = threads::other() else {
        for key in ["latency_p50", "latency_p99", "latency_commit_p50", "latency_limit"] {
            report.skip(key, "one CPU only");
        }
        return Ok(());
    };
    let skel = load!(latency::LatencySkelBuilder);
    let progs = &skel.progs;
    let ring = Ring::<Record>::open(&skel.maps.ours)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let sides = [Side::new()?, Side::new()?, Side::new()?, Side::new()?, Side::new()?];
    let ours = |side: usize, program| {
        let (pacer, sides, mut first) = (Pacer(Program::new(program)), &sides, 1);
        let mut reader = ring.reader_from(Start::Now);
        move || {
            // Skip the records of the other program.
            while reader.for_each(usize::MAX, |_| {}) > 0 {}
            let lost = reader.lost();
            let block = block(pacer, &mut first, COUNT, GAP, |arrived| {
                if let Some(event) = reader.poll() {
                    arrived.add(&event.record, now());
                }
                Ok(())
            })?;
            ensure!(reader.lost() == lost, "lost {}", reader.lost() - lost);
            Ok(sides[side].borrow_mut().note(block.arrived))
        }
    };
    let theirs = |side: usize, program| -> Result<_> {
        let (pacer, sides, mut first) = (Pacer(Program::new(program)), &sides, 1);
        let mut consumer = MappedRingBuffer::new(&skel.maps.ringbuf)?;
        Ok(move || {
            let block = block(pacer, &mut first, COUNT, GAP, |arrived| {
                consumer.consume(|record| arrived.add(record, now()));
                Ok(())
            })?;
            Ok(sides[side].borrow_mut().note(block.arrived))
        })
    };
    let (mut early, mut late) = (ours(0, &progs.mapring_early), ours(1, &progs.mapring_late));
    let (mut peer_early, mut peer_late) = (theirs(2, &progs.ringbuf_early)?, theirs(3, &progs.ringbuf_late)?);
    let (pacer, mut first) = (Pacer(Program::new(&progs.mapring_early)), 1);
    let mut bare = Bare::new(&ring, &skel.maps.ours.as_fd(), cpu)?;
    let mut bare = || {
        bare.skip();
        let block = block(pacer, &mut first, COUNT, GAP, |arrived| {
            if let Some(record) = bare.poll() {
                arrived.add(&record, now());
            }
            Ok(())
        })?;
        Ok(sides[4].borrow_mut().note(block.arrived))
    };
    // Programs alone, on this CPU: a clock read, and a record with two.
    let alone = |program| {
        let pacer = Pacer(Program::new(program));
        move || Ok(pacer.run(1, ALONE.into(), 0, 0)?.ns as f64 / f64::from(ALONE))
    };
    let here = *threads::all().last().expect("this one");
    // The minimum of several: the others were interrupted.
    let mut ping = || (0..3).try_fold(f64::INFINITY, |best, _| Ok(best.min(ping_pong(cpu, here)?)));
    let (mut clock_there, mut produce) = (alone(&progs.clock_alone), alone(&progs.mapring_early));
    let mut clock_here = || {
        let start = now();
        let last = (0..ALONE).fold(0, |_, _| black_box(now()));
        Ok(last.saturating_sub(start) as f64 / f64::from(ALONE))
    };
    let [early, late, peer_early, peer_late, ping, there, here, produced, bare] = interleave(
        plan,
        [
            &mut early,
            &mut late,
            &mut peer_early,
            &mut peer_late,
            &mut ping,
            &mut clock_there,
            &mut clock_here,
            &mut produce,
            &mut bare,
        ],
    )?;

    let p99 = |side: usize| sides[side].borrow().each(99.0, early.len());
    let limit: Vec<_> = (0..ping.len()).map(|round| ping[round] + there[round] + here[round]).collect();
    let produce: Vec<_> = produced.iter().zip(&there).map(|(record, clock)| record - clock).collect();
    let parts = Parts { line: &ping, clocks: [&there, &here], produce: &produce, bare: &bare, ours: &early };
    parts.report(report);
    let peer = "ringbuf NO_WAKEUP, busy-polled over the mapping";
    let row = |what: &str, ours: &[f64], peer: &str, theirs: &[f64]| {
        Row::new(&format!("one-way latency, {what}"), ours, peer, theirs).beside("ping-pong", &ping)
    };
    report.add([
        row("busy-poll, p50", &early, peer, &peer_early).target("latency_p50", 0.85).tried(EARLY_TRIED),
        row("busy-poll, p99", &p99(0), peer, &p99(2)).target("latency_p99", 1.0),
        row("busy-poll, clock read after reserve, p50", &late, peer, &peer_late)
            .target("latency_commit_p50", 1.0)
            .tried(COMMIT_TRIED),
        row("busy-poll, clock read after reserve, p99", &p99(1), peer, &p99(3)),
        row("busy-poll, p50", &early, "ping-pong one way + two clock reads", &limit)
            .target("latency_limit", 1.3)
            .tried("*Where the nanoseconds go*, below, has each part: two lines travel, not one, and BPF reads the clock."),
        row("busy-poll, p50", &early, "the same ring, a bare loop over the slot, without the library", &bare),
    ]);
    report.add_by_distance("latency", &ping, |place, of| {
        let rows = [
            ("p50", &early, &peer_early),
            ("p99", &p99(0), &p99(2)),
            ("clock read after reserve, p50", &late, &peer_late),
        ];
        rows.map(|(what, ours, theirs)| {
            let what = format!("one-way latency, busy-poll, CPUs {place}, {what}");
            Row::new(&what, &of(ours), peer, &of(theirs))
        })
    });
    let names = [
        "mapring",
        "mapring, clock read after reserve",
        "BPF ringbuf",
        "BPF ringbuf, clock read after reserve",
    ];
    chart(report, "latency", "One-way latency, busy-polling reader", 99.9, names.iter().zip(&sides));
    Ok(())
}

/// Draws the distributions up to the percentile `last`: the median block, and the spread of the blocks, since one
/// preemption of a reader delays a whole block. Adds the tails of all blocks to the report.
pub(crate) fn chart<'s>(
    report: &mut Report,
    id: &str,
    title: &str,
    last: f64,
    sides: impl Iterator<Item = (&'s &'static str, &'s RefCell<Side>)>,
) {
    let mut chart = Chart::new(id, title, ("percentile", Scale::Percentile), ("ns", Scale::Log));
    let mut note = serde_json::Map::new();
    for (name, side) in sides {
        let side = side.borrow();
        let percents = PERCENTS.into_iter().filter(|percent| *percent <= last);
        let blocks = |percent| Spread::of(side.each(percent, side.blocks.len()));
        chart = chart.line(name, percents.map(|percent| (percent, blocks(percent))));
        let at = |percent: f64| side.all.value_at_quantile(percent / 100.0);
        note.insert(
            (*name).to_owned(),
            json!({ "records": side.all.len(), "p50": at(50.0), "p90": at(90.0), "p99": at(99.0),
                    "p99.9": at(99.9), "max": side.all.max() }),
        );
    }
    report.chart(chart);
    report.note(&id.replace('-', "_"), note.into());
}
