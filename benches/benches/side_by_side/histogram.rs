//! A histogram of 64 power-of-two buckets: a program counts on each CPU, the reader reads all buckets.

use std::cell::{Cell, RefCell};
use std::hint::black_box;

use anyhow::{Result, ensure};
use libbpf_rs::ProgramMut;
use mapring::{Access, Counters};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::{Batch, Lookup};
use crate::programs::{load, run as run_program};
use crate::read::time;

/// `BUCKETS` and `VALUES` in `bpf/histogram.bpf.c`.
const BUCKETS: usize = 64;
const VALUES: u64 = 1024;

/// The bucket of value number `n`.
fn bucket(n: u64) -> usize {
    let value = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n.wrapping_mul(7) & 63);
    value.checked_ilog2().unwrap_or(0) as usize
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(histogram::HistogramSkelBuilder);
    let counters = Counters::open(&skel.maps.histogram)?;
    ensure!(counters.access() == Access::Mapped, "{}", counters.access());
    let cpus = counters.shards();

    let (first, expected) = (Cell::new(1), RefCell::new([0_u64; BUCKETS]));
    let costs = [const { RefCell::new(Vec::new()) }; 2];
    // New values in both before each block; this also measures the cost of counting one.
    let observe = || -> Result<()> {
        let begin = first.replace(first.get() + VALUES);
        let count = |program: &ProgramMut<'_>| -> Result<f64> {
            let [_, ns] = run_program(program, [begin, 0])?;
            Ok(ns as f64 / VALUES as f64)
        };
        costs[0].borrow_mut().push(count(&skel.progs.observe_counters)?);
        costs[1].borrow_mut().push(count(&skel.progs.observe_percpu)?);
        (begin..begin + VALUES).for_each(|n| expected.borrow_mut()[bucket(n)] += 1);
        Ok(())
    };
    let check = |who: &str, sums: &[u64]| -> Result<()> {
        ensure!(sums == *expected.borrow(), "{who}: {sums:?}, not {:?}", expected.borrow());
        Ok(())
    };

    let mut sums = [0; BUCKETS];
    let mut ours = || {
        observe()?;
        let ns = time(2000, || Ok(counters.sums(black_box(&mut sums))?))?;
        check("sums", &sums)?;
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

    let what = "read a log2 histogram of 64 buckets, counted on each CPU";
    let [count_ours, count_theirs] = costs.map(RefCell::into_inner);
    report.add([
        Row::new(what, &ours, "`LOOKUP_BATCH` of a PERCPU_ARRAY", &by_batch),
        Row::new(what, &ours, "64 lookups in a PERCPU_ARRAY", &by_lookup),
        Row::new(
            "a program counts a value in a log2 histogram, `mapring_counter_inc`",
            &count_ours,
            "lookup in a PERCPU_ARRAY, the same atomic addition",
            &count_theirs,
        ),
    ]);
    Ok(())
}
