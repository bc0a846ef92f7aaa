//! Work that is nothing but switches between two threads on one CPU.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};

/// Turns of each thread.
const TURNS: u64 = 20_000;

/// Two threads that yield to each other. Returns the nanoseconds of each switch, and the number of switches.
pub(super) fn yields() -> Result<(f64, u64)> {
    let turns = || (0..TURNS).for_each(|_| thread::yield_now());
    timed(|| {
        thread::scope(|scope| {
            scope.spawn(turns);
            turns();
        });
        Ok(())
    })
}

/// Two threads that pass a byte back and forth through pipes. Returns the nanoseconds of each switch, and the number of
/// switches: most of them have a wakeup.
pub(super) fn pipes() -> Result<(f64, u64)> {
    let (mut from_main, mut to_other) = pipe()?;
    let (mut from_other, mut to_main) = pipe()?;
    timed(|| {
        thread::scope(|scope| {
            let other = scope.spawn(move || {
                let mut byte = [0];
                (0..TURNS)
                    .try_for_each(|_| from_main.read_exact(&mut byte).and_then(|()| to_main.write_all(&byte)))
            });
            let mut byte = [0];
            (0..TURNS).try_for_each(|_| {
                to_other.write_all(&byte).and_then(|()| from_other.read_exact(&mut byte))
            })?;
            Ok(other.join().expect("the other thread")?)
        })
    })
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<(f64, u64)> {
    let switches = || -> Result<i64> {
        let used = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(used.voluntary_context_switches() + used.involuntary_context_switches())
    };
    let (before, start) = (switches()?, Instant::now());
    work()?;
    let time = start.elapsed();
    let switches = u64::try_from(switches()? - before)?.max(1);
    Ok((time.as_nanos() as f64 / switches as f64, switches))
}
