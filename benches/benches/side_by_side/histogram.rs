//! A histogram with 8 buckets for each power of two: a program counts on each CPU, the reader reads all buckets.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hint::black_box;

use anyhow::{Result, ensure};
use libbpf_rs::ProgramMut;
use mapring::abi::histogram::{BUCKETS, values};
use mapring::{Access, Histogram, Histograms};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{Batch, Lookup};
use crate::programs::{load, run as run_program};
use crate::read::time;

/// `VALUES` in `bpf/histogram.bpf.c`.
const VALUES: u64 = 1024;

/// Value number `n`.
fn value(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n.wrapping_mul(7) & 63)
}

/// The counts of all buckets.
fn counts(histogram: &Histogram) -> Vec<u64> {
    let mut filled: HashMap<_, _> = histogram.buckets().collect();
    (0..BUCKETS).map(|bucket| filled.remove(&values(bucket)).unwrap_or(0)).collect()
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(histogram::HistogramSkelBuilder);
    let histograms = Histograms::open(&skel.maps.histogram)?;
    ensure!(histograms.access() == Access::Mapped, "{}", histograms.access());
    let cpus = histograms.shards();

    let (first, expected) = (Cell::new(1), RefCell::new(Histogram::new()));
    let costs = [const { RefCell::new(Vec::new()) }; 2];
    // New values in both before each block; this also measures the cost of counting one.
    let observe = || -> Result<()> {
        let begin = first.replace(first.get() + VALUES);
        let count = |program: &ProgramMut<'_>| -> Result<f64> {
            let [_, ns] = run_program(program, [begin, 0])?;
            Ok(ns as f64 / VALUES as f64)
        };
        costs[0].borrow_mut().push(count(&skel.progs.observe_histogram)?);
        costs[1].borrow_mut().push(count(&skel.progs.observe_percpu)?);
        (begin..begin + VALUES).for_each(|n| expected.borrow_mut().add(value(n)));
        Ok(())
    };
    let check = |who: &str, sums: &[u64]| -> Result<()> {
        ensure!(sums == counts(&expected.borrow()), "{who}: {sums:?}, not {:?}", expected.borrow());
        Ok(())
    };

    let mut snapshot = Histogram::new();
    let mut ours = || {
        observe()?;
        let ns = time(2000, || Ok(histograms.snapshot_into(0, black_box(&mut snapshot))?))?;
        check("snapshot", &counts(&snapshot))?;
        Ok(ns)
    };
    let mut batch = Batch::new(&skel.maps.percpu)?;
    let mut totals = [0; BUCKETS];
    let mut by_batch = || {
        observe()?;
        let ns = time(20, || {
            batch.look()?;
            for (total, value) in totals.iter_mut().zip(batch.values().chunks(cpus)) {
                *total = value.iter().sum();
            }
            Ok(())
        })?;
        check("LOOKUP_BATCH", &totals)?;
        Ok(ns)
    };
    let lookup = Lookup::new(&skel.maps.percpu)?;
    let (mut totals, mut value) = ([0; BUCKETS], vec![0; cpus]);
    let mut by_lookup = || {
        observe()?;
        let ns = time(5, || {
            for (key, total) in (0..).zip(&mut totals) {
                lookup.look(key, &mut value)?;
                *total = value.iter().sum();
            }
            Ok(())
        })?;
        check("lookups", &totals)?;
        Ok(ns)
    };
    let [ours, by_batch, by_lookup] =
        interleave(plan.within(0.3), [&mut ours, &mut by_batch, &mut by_lookup])?;

    let what = "read a histogram of 496 buckets, counted on each CPU, `snapshot_into`";
    let [count_ours, count_theirs] = costs.map(RefCell::into_inner);
    report.add([
        Row::new(what, &ours, "`LOOKUP_BATCH` of a PERCPU_ARRAY", &by_batch)
            .target("histogram_read", 1.0 / 200.0),
        Row::new(what, &ours, "496 lookups in a PERCPU_ARRAY", &by_lookup),
        Row::new(
            "a program counts a value in a histogram of 496 buckets, `mapring_histogram_add`",
            &count_ours,
            "the same bucket, lookup in a PERCPU_ARRAY, the same atomic addition",
            &count_theirs,
        )
        .target("histogram_add", 1.0),
    ]);
    Ok(())
}
