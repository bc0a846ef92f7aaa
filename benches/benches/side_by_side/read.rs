//! Reads the latest value of a cell, and counters: mapped, and by system calls.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Cells, Counters};
use mapring_benches::{Plan, Report, Row, best_place, interleave};

use crate::peers::{Batch, Lookup};
use crate::programs::{Record, load, run};

/// Nanoseconds per `operation`, of `count` times.
pub(crate) fn time(count: u32, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..count {
        operation()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// The same for operations that return a number, and the sum of these. The sum stays in a register: in memory, each
/// addition would wait for the one before.
fn time_sum(count: u32, mut operation: impl FnMut() -> Result<u64>) -> Result<(f64, u64)> {
    let (start, mut sum) = (Instant::now(), 0_u64);
    for _ in 0..count {
        sum = sum.wrapping_add(operation()?);
    }
    Ok((start.elapsed().as_nanos() as f64 / f64::from(count), sum))
}

/// Records of 56 bytes in a row: each begins elsewhere in its cache line.
pub(crate) const PLACES: usize = 8;

/// The cell that the program writes.
const CELL: usize = 2;

pub(crate) fn cells(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(read::ReadSkelBuilder);
    let map = &skel.maps.cells;
    let cells = Cells::<Record>::open(map)?;
    ensure!(cells.access() == Access::Mapped, "{}", cells.access());
    let geometry = *cells.region().geometry();
    let element = u32::try_from(geometry.first() + CELL)?;

    let n = std::cell::Cell::new(0);
    // A new value before each block; the sum of the words read must match it.
    let next = || -> Result<u64> {
        n.set(n.get() + 1);
        run(&skel.progs.set_cell, [n.get()])?;
        Ok(n.get() + n.get() + 6)
    };
    let check = |count: u32, sum: u64, each: u64| -> Result<()> {
        ensure!(sum == each.wrapping_mul(count.into()), "{sum}, not {count} times {each}");
        Ok(())
    };
    let mut mapped = || {
        let each = next()?;
        let (ns, sum) = time_sum(20_000, || {
            let value = cells.read(black_box(CELL))?;
            let value = black_box(&value);
            Ok(value[0].wrapping_add(value[6]))
        })?;
        check(20_000, sum, each)?;
        Ok(ns)
    };
    let lookup = Lookup::new(map)?;
    let mut by_lookup = || {
        let each = next()?;
        let (ns, sum) = time_sum(200, || {
            let mut value = [0; 8];
            lookup.look(black_box(element), &mut value)?;
            let value = black_box(&value);
            Ok(value[1].wrapping_add(value[7]))
        })?;
        check(200, sum, each)?;
        Ok(ns)
    };
    let mut by_memcpy_at = |cell: usize| {
        let each = next()?;
        let table = [cells.read(CELL)?; PLACES];
        let (ns, sum) = time_sum(20_000, || {
            let value = table[black_box(cell)];
            let value = black_box(&value);
            Ok(value[0].wrapping_add(value[6]))
        })?;
        check(20_000, sum, each)?;
        Ok(ns)
    };
    let place = best_place(0..PLACES, &mut by_memcpy_at)?;
    let mut by_memcpy = || by_memcpy_at(place);
    let [ours, lookup, memcpy] = interleave(plan, [&mut mapped, &mut by_lookup, &mut by_memcpy])?;
    report.add([
        Row::new("read a cell of 56 B", &ours, "`bpf_map_lookup_elem`, same map", &lookup)
            .target("cell_read_lookup", 1.0 / 300.0)
            .tried(
                "Where a system call takes 300 ns, a memcpy from private memory does not reach this either: see the \
                 next row.",
            ),
        Row::new("read a cell of 56 B", &ours, "memcpy from private memory", &memcpy)
            .target("cell_read_memcpy", 1.5)
            .tried(
                "The index is checked once, an element's size is known to the compiler, whether the region is mapped \
                 is the same check as the index, and on x86-64 words are loaded two at once. That brought it from \
                 1.98 to 1.32; elsewhere each word is a load of its own.",
            ),
    ]);
    Ok(())
}

/// Counters: `COUNTERS` in `bpf/read.bpf.c`.
const COUNT: usize = 1024;

pub(crate) fn counters(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(read::ReadSkelBuilder);
    let counters = Counters::open(&skel.maps.counters)?;
    ensure!(counters.access() == Access::Mapped, "{}", counters.access());

    let expected = std::cell::RefCell::new(vec![0_u64; COUNT]);
    let next = || -> Result<()> {
        run(&skel.progs.count, [1])?;
        expected.borrow_mut().iter_mut().zip(1..).for_each(|(sum, more)| *sum += more);
        Ok(())
    };
    let check = |who: &str, sums: &[u64]| -> Result<()> {
        ensure!(sums == *expected.borrow(), "{who}: wrong sums");
        Ok(())
    };
    let mut sums = vec![0; COUNT];
    let mut mapped = || {
        next()?;
        let ns = time(200, || Ok(counters.sums(black_box(&mut sums))?))?;
        check("mapped", &sums)?;
        Ok(ns)
    };
    let mut array = Batch::new(&skel.maps.array)?;
    let mut by_batch = || {
        next()?;
        let ns = time(2, || array.look())?;
        check("LOOKUP_BATCH", array.values())?;
        Ok(ns)
    };
    let cpus = counters.shards();
    let mut totals = vec![0; COUNT];
    let mut value = vec![0; cpus];
    let percpu = Lookup::new(&skel.maps.percpu)?;
    let mut by_percpu_lookup = || {
        next()?;
        let ns = time(1, || {
            for (key, total) in (0..).zip(&mut totals) {
                percpu.look(key, &mut value)?;
                *total = value.iter().sum();
            }
            Ok(())
        })?;
        check("PERCPU_ARRAY, lookups", &totals)?;
        Ok(ns)
    };
    let mut per_cpu = Batch::new(&skel.maps.percpu)?;
    let mut batch_totals = vec![0; COUNT];
    let mut by_percpu_batch = || {
        next()?;
        let ns = time(2, || {
            per_cpu.look()?;
            for (total, value) in batch_totals.iter_mut().zip(per_cpu.values().chunks(cpus)) {
                *total = value.iter().sum();
            }
            Ok(())
        })?;
        check("PERCPU_ARRAY, LOOKUP_BATCH", &batch_totals)?;
        Ok(ns)
    };
    let mut same = Batch::new(&skel.maps.counters)?;
    let mut same_totals = vec![0; COUNT];
    let mut by_same_batch = || {
        next()?;
        let ns = time(50, || {
            same.look()?;
            same_totals.fill(0);
            // The preamble's element, then one bank per CPU.
            for bank in same.values().chunks(COUNT).skip(1) {
                same_totals.iter_mut().zip(bank).for_each(|(total, value)| *total += value);
            }
            Ok(())
        })?;
        check("LOOKUP_BATCH of the same map", &same_totals)?;
        Ok(ns)
    };
    let [ours, batch, percpu_lookup, percpu_batch, same_batch] = interleave(
        plan,
        [&mut mapped, &mut by_batch, &mut by_percpu_lookup, &mut by_percpu_batch, &mut by_same_batch],
    )?;
    let what = "sum 1024 counters over all CPUs";
    report.add([
        Row::new(what, &ours, "`LOOKUP_BATCH` of an ARRAY of 1024", &batch)
            .target("counters_batch", 1.0 / 100.0),
        Row::new(what, &ours, "1024 lookups in a PERCPU_ARRAY", &percpu_lookup)
            .target("counters_percpu", 1.0 / 200.0),
        Row::new(what, &ours, "`LOOKUP_BATCH` of a PERCPU_ARRAY", &percpu_batch),
        Row::new(what, &ours, "`LOOKUP_BATCH` of the same banks", &same_batch),
    ]);
    Ok(())
}
