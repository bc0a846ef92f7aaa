//! Work that is nothing but switches between two threads on one CPU.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};

use super::median;

/// Parts of the work, and turns of each thread in a part. The median of the parts counts: other programs interrupt some.
const PARTS: u32 = 50;
const TURNS: u32 = 400;

/// Two threads that yield to each other. Returns the nanoseconds of each switch, and the number of switches.
pub(super) fn yields() -> Result<(f64, u64)> {
    let turns = || (0..TURNS).for_each(|_| thread::yield_now());
    timed(|at| {
        thread::scope(|scope| {
            scope.spawn(|| (0..PARTS).for_each(|_| turns()));
            for _ in 0..PARTS {
                turns();
                at.push(Instant::now());
            }
        });
        Ok(())
    })
}

/// Two threads that pass a byte back and forth through pipes. Returns the nanoseconds of each switch, and the number of
/// switches: most of them have a wakeup.
pub(super) fn pipes() -> Result<(f64, u64)> {
    let (mut from_main, mut to_other) = pipe()?;
    let (mut from_other, mut to_main) = pipe()?;
    timed(|at| {
        thread::scope(|scope| {
            let other = scope.spawn(move || {
                let mut byte = [0];
                (0..PARTS * TURNS)
                    .try_for_each(|_| from_main.read_exact(&mut byte).and_then(|()| to_main.write_all(&byte)))
            });
            let mut byte = [0];
            for _ in 0..PARTS {
                (0..TURNS).try_for_each(|_| {
                    to_other.write_all(&byte).and_then(|()| from_other.read_exact(&mut byte))
                })?;
                at.push(Instant::now());
            }
            Ok(other.join().expect("the other thread")?)
        })
    })
}

/// Does the work, which notes the end of each part.
fn timed(work: impl FnOnce(&mut Vec<Instant>) -> Result<()>) -> Result<(f64, u64)> {
    let switches = || -> Result<i64> {
        let used = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(used.voluntary_context_switches() + used.involuntary_context_switches())
    };
    let (before, mut at) = (switches()?, vec![Instant::now()]);
    work(&mut at)?;
    let switches = u64::try_from(switches()? - before)?.max(1);
    let parts: Vec<_> = at.windows(2).map(|at| (at[1] - at[0]).as_nanos() as f64).collect();
    Ok((median(&parts) * f64::from(PARTS) / switches as f64, switches))
}
