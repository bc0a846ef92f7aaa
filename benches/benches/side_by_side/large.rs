//! Records of 4 KiB, compared with copying as many bytes.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Ring, Start};
use mapring_benches::{OFFSETS, Placed, Plan, Report, Row, best_place, interleave};

use crate::programs::{load, run as run_program};

/// `struct large` in `bpf/stream.bpf.c`.
type Large = [u64; 512];
/// Records per run: `LARGE` there.
const LARGE: usize = 64;

const TRIED: &str = "With AVX a record is copied once, 32 bytes a load, with aligned stores; unaligned loads of 16 bytes took \
    1.80 on an Intel machine. Elsewhere each word is a load of its own.";

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(stream::StreamSkelBuilder);
    let ring = Ring::<Large>::open(&skel.maps.larges)?;
    ensure!(ring.access() == Access::Mapped, "{}", ring.access());
    let first = std::cell::Cell::new(0);
    let next = || -> Result<u64> {
        first.set(first.get() + LARGE as u64);
        run_program(&skel.progs.produce_large, [first.get(), 0])?;
        Ok(first.get())
    };
    let expected = |first: u64| (first..).take(LARGE).map(record).collect::<Vec<_>>();
    // Only the ends of each copy are used inside the measured time.
    let ends = |record: &Large| black_box(record)[0].wrapping_add(record[511]);
    let check = |sum: u64, first: u64| {
        let each = |n| n + n + 511;
        ensure!(sum == (first..).take(LARGE).map(each).sum::<u64>(), "a wrong sum");
        Ok(())
    };

    let mut reader = ring.reader_from(Start::Now);
    let mut whole = ring.reader_from(Start::Now);
    let mut ours = || {
        let first = next()?;
        let (start, mut sum) = (Instant::now(), 0_u64);
        let count = reader.for_each(usize::MAX, |event| sum = sum.wrapping_add(ends(event.record)));
        let ns = start.elapsed().as_nanos() as f64 / LARGE as f64;
        ensure!(count == LARGE && reader.lost() == 0, "{count} records, lost {}", reader.lost());
        check(sum, first)?;
        let records: Vec<_> = whole.drain().map(|event| event.record).collect();
        ensure!(records == expected(first), "wrong records");
        Ok(ns)
    };
    let (mut from, mut to) = (Placed::new(LARGE * 512), Placed::new(512));
    let mut memcpy_at = |[source, destination]: [usize; 2]| {
        let first = first.get() + 1;
        let records = from.at(source);
        records.copy_from_slice(expected(first).as_flattened());
        let copy: &mut Large = to.at(destination).try_into()?;
        let (start, mut sum) = (Instant::now(), 0_u64);
        for record in records.as_chunks().0 {
            *copy = *black_box(record);
            sum = sum.wrapping_add(ends(copy));
        }
        let ns = start.elapsed().as_nanos() as f64 / LARGE as f64;
        check(sum, first)?;
        Ok(ns)
    };
    let places = OFFSETS.iter().flat_map(|&source| OFFSETS.map(|destination| [source, destination]));
    let place = best_place(places, &mut memcpy_at)?;
    let mut memcpy = || memcpy_at(place);
    let [ours, memcpy] = interleave(plan, [&mut ours, &mut memcpy])?;
    report.add([Row::new("consume 4 KiB, `for_each`", &ours, "memcpy of 4 KiB", &memcpy)
        .target("consume_large", 1.5)
        .tried(TRIED)]);
    Ok(())
}

fn record(n: u64) -> Large {
    std::array::from_fn(|i| n + i as u64)
}
