//! A histogram with 8 buckets for each power of two: a program counts on each CPU, the reader reads all buckets.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use libbpf_rs::ProgramMut;
use mapring::abi::histogram::{BUCKETS, values};
use mapring::{Access, Histogram, Histograms};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{Batch, Lookup};
use crate::programs::{load, run as run_program};
use crate::read::time;

/// `VALUES` in `bpf/histogram.bpf.c`.
const VALUES: u64 = 1024;
/// Runs of a program in a block.
const RUNS: u64 = 16;

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

    // Each run counts the next values. Returns the nanoseconds for each.
    let expected = [const { RefCell::new(None) }; 2];
    let first = [const { Cell::new(1) }; 2];
    let observe = |which: usize, program: &ProgramMut<'_>| -> Result<f64> {
        let mut expected = expected[which].borrow_mut();
        let expected = expected.get_or_insert_with(Histogram::new);
        let mut sum = 0;
        for _ in 0..RUNS {
            let begin = first[which].replace(first[which].get() + VALUES);
            let [_, ns] = run_program(program, [begin, 0])?;
            (begin..begin + VALUES).for_each(|n| expected.add(value(n)));
            sum += ns;
        }
        Ok(sum as f64 / (RUNS * VALUES) as f64)
    };
    let mut by_histogram = || observe(0, &skel.progs.observe_histogram);
    let mut by_percpu = || observe(1, &skel.progs.observe_percpu);
    let [add, add_percpu] = interleave(plan.within(0.3), [&mut by_histogram, &mut by_percpu])?;

    let check = |who: &str, which: usize, sums: &[u64]| -> Result<()> {
        let expected = counts(expected[which].borrow().as_ref().context("no values")?);
        ensure!(sums == expected, "{who}: {sums:?}, not {expected:?}");
        Ok(())
    };

    let mut snapshot = Histogram::new();
    let mut ours = || {
        observe(0, &skel.progs.observe_histogram)?; // new values before each block
        let ns = time(2000, || Ok(histograms.snapshot_into(0, black_box(&mut snapshot))?))?;
        check("snapshot", 0, &counts(&snapshot))?;
        Ok(ns)
    };
    let mut batch = Batch::new(&skel.maps.percpu)?;
    let mut totals = [0; BUCKETS];
    let mut by_batch = || {
        observe(1, &skel.progs.observe_percpu)?;
        let ns = time(20, || {
            batch.look()?;
            for (total, value) in totals.iter_mut().zip(batch.values().chunks(cpus)) {
                *total = value.iter().sum();
            }
            Ok(())
        })?;
        check("LOOKUP_BATCH", 1, &totals)?;
        Ok(ns)
    };
    let lookup = Lookup::new(&skel.maps.percpu)?;
    let (mut totals, mut value) = ([0; BUCKETS], vec![0; cpus]);
    let mut by_lookup = || {
        observe(1, &skel.progs.observe_percpu)?;
        let ns = time(5, || {
            for (key, total) in (0..).zip(&mut totals) {
                lookup.look(key, &mut value)?;
                *total = value.iter().sum();
            }
            Ok(())
        })?;
        check("lookups", 1, &totals)?;
        Ok(ns)
    };
    let [ours, by_batch, by_lookup] =
        interleave(plan.within(0.3), [&mut ours, &mut by_batch, &mut by_lookup])?;

    let what = "read a histogram of 496 buckets, counted on each CPU, `snapshot_into`";
    report.add([
        Row::new(what, &ours, "`LOOKUP_BATCH` of a PERCPU_ARRAY", &by_batch)
            .target("histogram_read", 1.0 / 200.0),
        Row::new(what, &ours, "496 lookups in a PERCPU_ARRAY", &by_lookup),
        Row::new(
            "a program counts a value in a histogram of 496 buckets, `mapring_histogram_add`",
            &add,
            "the same bucket, lookup in a PERCPU_ARRAY, the same atomic addition",
            &add_percpu,
        )
        .target("histogram_add", 1.0)
        .tried(
            "the CPU's number before the bucket, a bank of 2^n bytes, no branch in the bucket; what is left is the \
             bound of the index, and the CPU's number",
        ),
    ]);
    Ok(())
}
