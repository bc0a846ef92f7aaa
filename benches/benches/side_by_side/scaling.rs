//! The cost of a sweep on machines with more CPUs than this one: a model built from parts that are measured here, and
//! checked against rings of up to 1024 shards over a memfd.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Reader, Ring, Writer};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave_all};
use serde_json::json;

use crate::peers::Sink as _;
use crate::programs::{Record, Seen};
use crate::threads;

/// Records per sweep over all shards, unless the load is idle.
const RECORDS: usize = 256;
/// Slots per shard: one shard can hold all records.
const SLOTS: usize = 512;
const SHARDS: [usize; 6] = [1, 4, 16, 64, 256, 1024];
/// The numbers of shards where the parts are measured; the model extrapolates the rest.
const MEASURED: [usize; 3] = [16, 64, 256];
/// Shards whose state, about 200 bytes each, fits a first-level cache of 32 KiB.
const FIRST_LEVEL: usize = 150;

/// The distribution of records over shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Idle,
    One,
    Zipf,
    Even,
}

const LOADS: [(Load, &str); 4] = [
    (Load::Even, "256 records, evenly"),
    (Load::Zipf, "256 records, the n-th shard 1/n as many"),
    (Load::One, "256 records, all in one shard"),
    (Load::Idle, "nothing"),
];

impl Load {
    /// The number of records in each of `shards` shards: [`RECORDS`] in all, or none.
    fn counts(self, shards: usize) -> Vec<usize> {
        // Busy shards are spread out, not adjacent.
        let at = |rank: usize| (rank * 619) % shards;
        let mut counts = vec![0; shards];
        let mut left = RECORDS;
        match self {
            Self::Idle => return counts,
            Self::One => {}
            Self::Even => {
                let each = RECORDS / shards.min(RECORDS);
                for rank in 0..shards.min(RECORDS) {
                    counts[at(rank)] += each;
                    left -= each;
                }
            }
            Self::Zipf => {
                let whole: f64 = (1..=shards).map(|rank| 1.0 / rank as f64).sum();
                for rank in 0..shards {
                    #[allow(clippy::cast_possible_truncation)] // at most RECORDS
                    let share = (RECORDS as f64 / whole / (rank + 1) as f64) as usize;
                    counts[at(rank)] += share;
                    left -= share;
                }
            }
        }
        counts[0] += left;
        counts
    }
}

/// A ring, and the records for each sweep.
struct Case {
    reader: Reader<Record>,
    writers: Vec<Writer<Record>>,
    counts: Vec<usize>,
    next: u64,
    /// The writing CPU; `None` for this one.
    from: Option<usize>,
}

impl Case {
    fn new(shards: usize, load: Load, from: Option<usize>) -> Result<Self> {
        let ring = Ring::<Record>::create_memfd(SLOTS, shards)?;
        ensure!(ring.access() == Access::Mapped, "{}", ring.access());
        let writers = (0..shards).map(|shard| ring.writer(shard)).collect::<Result<Vec<_>, _>>()?;
        // Memory that was never written has no pages of its own. Shards in use are at different slots: at the same one,
        // all of them would share a few sets of the caches.
        for (shard, writer) in writers.iter().enumerate() {
            let pushed = (0..SLOTS + shard * 619 % SLOTS).filter_map(|_| writer.push(&[0; 7]));
            ensure!(pushed.count() >= SLOTS, "a record was dropped");
        }
        let mut reader = ring.reader_from(mapring::Start::Now);
        ensure!(reader.for_each(usize::MAX, |_| {}) == 0, "records of nobody");
        Ok(Self { reader, writers, counts: load.counts(shards), next: 1, from })
    }

    /// Writes the records of a sweep, and returns the expected [`Seen`].
    fn write(&mut self) -> Result<Seen> {
        let Self { writers, counts, next, .. } = self;
        let write = || {
            let mut expected = Seen::default();
            for (writer, count) in writers.iter().zip(counts) {
                for _ in 0..*count {
                    let record = std::array::from_fn(|i| *next + i as u64);
                    ensure!(writer.push(&record).is_some(), "a record was dropped");
                    expected.add(&record);
                    *next += 1;
                }
            }
            Ok(expected)
        };
        match self.from {
            None => write(),
            Some(cpu) => Ok(threads::both(cpu, write, || Ok(()))?.0),
        }
    }

    /// Nanoseconds per sweep.
    fn sweep(&mut self, times: usize) -> Result<f64> {
        let mut ns = 0;
        for _ in 0..times {
            let expected = self.write()?;
            let mut seen = Seen::default();
            let start = Instant::now();
            self.reader.for_each(usize::MAX, |event| seen.add(event.record));
            ns += start.elapsed().as_nanos();
            ensure!(seen == expected, "{seen:?}, not {expected:?}");
        }
        ensure!(self.reader.lost() == 0, "{} lost", self.reader.lost());
        Ok(ns as f64 / times as f64)
    }

    /// The same without records, without reading the clock each time.
    fn idle(&mut self) -> Result<f64> {
        let times = 128 * 1024 / self.counts.len();
        // Other sides have used the caches since.
        let mut found: usize = (0..4).map(|_| self.reader.for_each(usize::MAX, |_| {})).sum();
        let start = Instant::now();
        found += (0..times).map(|_| self.reader.for_each(usize::MAX, |_| {})).sum::<usize>();
        let ns = start.elapsed().as_nanos() as f64 / times as f64;
        ensure!(found == 0 && self.reader.lost() == 0, "found {found}");
        Ok(ns)
    }

    fn block(&mut self) -> Result<f64> {
        if self.counts.iter().all(|count| *count == 0) { self.idle() } else { self.sweep(8) }
    }

    fn busy(&self) -> usize {
        self.counts.iter().filter(|count| **count > 0).count()
    }
}

/// The parts of the model, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// A shard without records, if the reader does nothing else: with the shards' state in the first-level cache, and
    /// with a larger state.
    idle: [f64; 2],
    /// A shard without records, if the CPU has done other work since.
    away: f64,
    /// A shard with records, without the cost of the records.
    busy: f64,
    record: f64,
}

impl Parts {
    fn sweep(self, shards: usize, busy: usize, records: usize) -> f64 {
        let idle = if records == 0 { self.idle[usize::from(shards > FIRST_LEVEL)] } else { self.away };
        idle * (shards - busy) as f64 + self.busy * busy as f64 + self.record * records as f64
    }

    /// From the medians of sweeps over [`MEASURED`] shards.
    fn from(median: impl Fn(usize, Load) -> f64) -> Self {
        let [few, more, many] = MEASURED;
        let idle = [few, many].map(|shards| median(shards, Load::Idle) / shards as f64);
        let (one, even) = (median(few, Load::One), median(few, Load::Even));
        let away = ((median(more, Load::One) - one) / (more - few) as f64).max(idle[0]);
        // one = (few - 1) away + busy + records, and even = few busy + records.
        let busy = (away + (even - one) / (few - 1) as f64).max(away);
        let record = (one - (few - 1) as f64 * away - busy) / RECORDS as f64;
        Self { idle, away, busy, record }
    }
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let here = sides(plan, None)?;
    report.add([Row::absolute("an idle shard, in a sweep over 1024", &here.idle_shard(1024))
        .target("idle_shard", 2.0)
        .tried(
            "An idle shard costs one load of its slot and 16 bytes of the reader's state. Up to 256 shards (see below) \
             these are in the first two caches. The slots of 1024 shards are in 1024 pages and lines.",
        )]);
    let few = SHARDS.into_iter().filter(|shards| *shards < 1024);
    report.add(few.map(|shards| {
        Row::absolute(&format!("an idle shard, in a sweep over {shards}"), &here.idle_shard(shards))
    }));
    let mut text = String::from(include_str!("scaling.md"));
    here.tell("written by the CPU that reads", &mut text);
    report.chart(here.chart("scaling", "A sweep over shards whose records were written by the same CPU"));
    report.note("scaling", here.json());
    match threads::other() {
        None => report.skip("a sweep over what another CPU wrote", "there is one CPU only"),
        Some(cpu) => {
            let there = sides(plan.within(2.0), Some(cpu))?;
            there.tell("written by another CPU", &mut text);
            report.chart(
                there.chart("scaling-far", "A sweep over shards whose records were written by another CPU"),
            );
            report.note("scaling_other_cpu", there.json());
        }
    }
    report.section("Machines with more CPUs than this one", &text);
    Ok(())
}

/// The measurements for each number of shards and load.
struct Measured {
    sweeps: Vec<(usize, Load, usize, Vec<f64>)>,
    parts: Parts,
}

fn sides(plan: Plan, from: Option<usize>) -> Result<Measured> {
    let mut cases = Vec::new();
    for (load, _) in LOADS {
        for shards in SHARDS {
            cases.push((shards, load, Case::new(shards, load, from)?));
        }
    }
    let busy: Vec<_> = cases.iter().map(|(_, _, case)| case.busy()).collect();
    let mut blocks: Vec<_> = cases.iter_mut().map(|(_, _, case)| move || case.block()).collect();
    let mut blocks: Vec<_> =
        blocks.iter_mut().map(|block| block as &mut dyn FnMut() -> Result<f64>).collect();
    let samples = interleave_all(plan, &mut blocks)?;
    let sweeps: Vec<_> = cases
        .iter()
        .zip(busy)
        .zip(samples)
        .map(|(((shards, load, _), busy), samples)| (*shards, *load, busy, samples))
        .collect();
    let median = |shards: usize, load: Load| {
        let of = sweeps.iter().find(|(its_shards, its_load, ..)| *its_shards == shards && *its_load == load);
        of.map_or(f64::NAN, |(.., samples)| Spread::of(samples.iter().copied()).median)
    };
    let parts = Parts::from(median);
    Ok(Measured { sweeps, parts })
}

impl Measured {
    fn idle_shard(&self, shards: usize) -> Vec<f64> {
        let sweep = self.sweeps.iter().find(|(of, load, ..)| *of == shards && *load == Load::Idle);
        sweep.map_or_else(Vec::new, |(.., ns)| ns.iter().map(|ns| ns / shards as f64).collect())
    }

    fn of(&self, load: Load) -> impl Iterator<Item = (f64, Spread, f64)> {
        let records = if load == Load::Idle { 0 } else { RECORDS };
        let sweeps = self.sweeps.iter().filter(move |(_, of, ..)| *of == load);
        sweeps.map(move |(shards, _, busy, ns)| {
            let model = self.parts.sweep(*shards, *busy, records);
            (*shards as f64, Spread::of(ns.iter().copied()), model)
        })
    }

    fn chart(&self, id: &str, title: &str) -> Chart {
        let chart = Chart::new(id, title, ("shards", Scale::Log2), ("ns a sweep", Scale::Log));
        LOADS.into_iter().fold(chart, |chart, (load, name)| {
            let measured = self.of(load).map(|(shards, ns, _)| (shards, ns));
            chart.line(name, measured).model(self.of(load).map(|(shards, _, model)| (shards, model)))
        })
    }

    fn tell(&self, who: &str, text: &mut String) {
        let Parts { idle: [idle, idle2], away, busy, record } = self.parts;
        let _ = write!(
            text,
            "\nRecords {who}: `idle` = {idle:.2} ns ({idle2:.2} from {FIRST_LEVEL} shards on), `away` = {away:.1} ns, \
             `busy` = {busy:.1} ns, `record` = {record:.2} ns.\n\n\
             | a sweep finds | {} |\n|---|{}\n",
            SHARDS.map(|shards| format!("{shards} shards")).join(" | "),
            "--:|".repeat(SHARDS.len())
        );
        for (load, name) in LOADS {
            let cells = self.of(load).map(|(_, ns, model)| {
                format!("{:.0} ({:+.0} %)", ns.median, (model / ns.median - 1.0) * 100.0)
            });
            let _ = writeln!(text, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn json(&self) -> serde_json::Value {
        let Parts { idle, away, busy, record } = self.parts;
        let sweeps = LOADS.into_iter().flat_map(|(load, name)| {
            self.of(load).map(move |(shards, ns, model)| {
                json!({ "load": name, "shards": shards, "ns": ns.median, "low": ns.low, "high": ns.high, "model": model })
            })
        });
        json!({ "idle_ns": idle, "away_ns": away, "busy_ns": busy, "record_ns": record, "sweeps": sweeps.collect::<Vec<_>>() })
    }
}
