//! The keys that have most, of 8192: a program adds to a key on each CPU.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, MapFlags, ProgramMut};
use mapring::{Access, TopKeys};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::programs::{load, run as run_program};

/// `ADDITIONS` in `bpf/top.bpf.c`.
const ADDITIONS: u64 = 64;
/// Runs of a program in a block.
const RUNS: u64 = 128;

/// The key of addition `n`.
fn key_of(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    n >> 20 & n >> 40 & 8191
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(top::TopSkelBuilder);
    let top = TopKeys::open(&skel.maps.top)?;
    ensure!(top.access() == Access::Mapped, "{}", top.access());

    // Each run makes the next additions. Returns the nanoseconds for each.
    let expected = [const { RefCell::new(None) }; 2];
    let first = [const { Cell::new(1) }; 2];
    let observe = |which: usize, program: &ProgramMut<'_>| -> Result<f64> {
        let mut expected = expected[which].borrow_mut();
        let expected = expected.get_or_insert_with(HashMap::<u64, u64>::new);
        let mut sum = 0;
        for _ in 0..RUNS {
            let begin = first[which].replace(first[which].get() + ADDITIONS);
            let [_, ns] = run_program(program, [begin, 0])?;
            (begin..begin + ADDITIONS).for_each(|n| *expected.entry(key_of(n)).or_default() += 1);
            sum += ns;
        }
        Ok(sum as f64 / (RUNS * ADDITIONS) as f64)
    };
    let mut by_top = || observe(0, &skel.progs.observe_top);
    let mut by_percpu = || observe(1, &skel.progs.observe_percpu);
    let [add, add_percpu] = interleave(plan.within(0.3), [&mut by_top, &mut by_percpu])?;

    let [ours, percpu] = expected.map(|counts| counts.into_inner().unwrap_or_default());
    let ranking = top.largest(10)?;
    ensure!(ranking.total == ours.values().sum::<u64>(), "{ranking:?}");
    for top in &ranking.keys {
        let count = ours.get(&top.key).copied().unwrap_or_default();
        ensure!((top.count - top.error..=top.count).contains(&count), "{count}: {top:?}");
    }
    for (key, count) in percpu {
        let values = skel.maps.percpu.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
        let found: u64 = values.iter().map(|value| bytemuck::pod_read_unaligned::<u64>(value)).sum();
        ensure!(found == count, "{key}: {found}, not {count}");
    }

    report.add([Row::new(
        "a program adds to one of 8192 keys, `mapring_top_add` with 2560 counts on each CPU",
        &add,
        "lookup in a PERCPU_HASH of 16,384 keys, an atomic addition",
        &add_percpu,
    )]);
    Ok(())
}
