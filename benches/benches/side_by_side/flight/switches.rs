//! Work that is nothing but switches between two threads on one CPU, or nothing but system calls.

use std::hint::black_box;
use std::io::{Read, Write, pipe};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::getppid;

use super::median;

/// Parts of the work, and turns of each thread in a part. The median of the parts counts: other programs interrupt some.
const PARTS: u32 = 50;
const TURNS: u32 = 400;
const CALLS: u32 = 2000;

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

/// A thread that makes the shortest system call. Returns the nanoseconds of each, and the number of events: begins and ends.
pub(super) fn calls() -> Result<(f64, u64)> {
    let parts = parts(|at| {
        for _ in 0..PARTS {
            (0..CALLS).for_each(|_| _ = black_box(getppid()));
            at.push(Instant::now());
        }
        Ok(())
    })?;
    Ok((median(&parts) / f64::from(CALLS), u64::from(2 * PARTS * CALLS)))
}

/// Does work of switches, which notes the end of each part.
fn timed(work: impl FnOnce(&mut Vec<Instant>) -> Result<()>) -> Result<(f64, u64)> {
    let switches = || -> Result<i64> {
        let used = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(used.voluntary_context_switches() + used.involuntary_context_switches())
    };
    let before = switches()?;
    let parts = parts(work)?;
    let switches = u64::try_from(switches()? - before)?.max(1);
    Ok((median(&parts) * f64::from(PARTS) / switches as f64, switches))
}

/// Does the work. Returns the nanoseconds of each part.
fn parts(work: impl FnOnce(&mut Vec<Instant>) -> Result<()>) -> Result<Vec<f64>> {
    let mut at = vec![Instant::now()];
    work(&mut at)?;
    Ok(at.windows(2).map(|at| (at[1] - at[0]).as_nanos() as f64).collect())
}
