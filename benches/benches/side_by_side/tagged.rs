//! The cost of matching tagged records: two variants of 56 bytes, beside the same records matched by hand.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Result, ensure};
use mapring::{Access, Ring, Start, Tagged};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::peers::Sink;
use crate::programs::{RECORDS, Record, Seen};

#[derive(mapring::Tagged)]
enum Either<'r> {
    #[tag(1)]
    One(&'r Record),
    #[tag(2)]
    Other(&'r Record),
}

/// A tag and a record.
type Words = [u64; 1 + size_of::<Record>() / 8];

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let plain = Ring::<Words>::create_memfd(usize::try_from(RECORDS)?.next_power_of_two(), 1)?;
    let fd = plain.region().as_fd().try_clone_to_owned()?;
    let tagged = Ring::<Tagged<Either<'_>>>::open(fd)?;
    ensure!(tagged.access() == Access::Mapped, "{}", tagged.access());
    let writer = plain.writer(0)?;
    // Each side reads the same records again, by a reader that starts with the oldest.
    let mut expected = [Seen::default(); 2];
    for n in 0..RECORDS {
        let record: Record = std::array::from_fn(|word| n + word as u64);
        // No pattern that a branch predictor could learn.
        let tag = 1 + (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63);
        let mut words = [tag; size_of::<Words>() / 8];
        words[1..].copy_from_slice(&record);
        ensure!(writer.push(&words).is_some(), "dropped");
        expected[usize::try_from(tag - 1)?].add(&record);
    }
    let timed = |start: Instant, seen: [Seen; 2]| {
        let ns = start.elapsed().as_nanos() as f64 / RECORDS as f64;
        ensure!(seen == expected, "{seen:?}, not {expected:?}");
        Ok(ns)
    };
    let mut ours = || {
        let mut reader = tagged.reader_from(Start::First);
        let [mut one, mut other] = [Seen::default(); 2];
        let start = Instant::now();
        reader.for_each(usize::MAX, |event| match event.record.variant() {
            Ok(Either::One(record)) => one.add(record),
            Ok(Either::Other(record)) => other.add(record),
            Err(_) => {}
        });
        timed(start, [one, other])
    };
    let mut by_hand = || {
        let mut reader = plain.reader_from(Start::First);
        let [mut one, mut other] = [Seen::default(); 2];
        let start = Instant::now();
        reader.for_each(usize::MAX, |event| {
            let [tag, record @ ..] = event.record;
            match tag {
                1 => one.add(record),
                2 => other.add(record),
                _ => {}
            }
        });
        timed(start, [one, other])
    };
    let [ours, by_hand] = interleave(plan, [&mut ours, &mut by_hand])?;
    let what = "consume one of two variants of 56 B, `variant()`";
    report.add([Row::new(what, &ours, "the same records of one type, tag compared by hand", &by_hand)]);
    Ok(())
}
