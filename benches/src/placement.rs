//! The CPUs of threads, and the distance between CPUs.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crossbeam_utils::CachePadded;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this thread may run on.
///
/// # Errors
/// Fails if the kernel doesn't report them.
pub fn cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// Pins this thread to CPU `cpu`.
///
/// # Errors
/// Fails if the kernel refuses.
pub fn pin_to(cpu: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).with_context(|| format!("pinning a thread to CPU {cpu}"))
}

/// Pins this thread to the last of the CPUs that it may run on, since interrupts usually go to the first. Returns that
/// CPU.
///
/// # Errors
/// Fails if the kernel refuses.
pub fn pin() -> Result<usize> {
    let last = cpus()?.pop().context("no CPU to run on")?;
    pin_to(last)?;
    Ok(last)
}

/// Raises the priority of this thread, and of threads that it starts later, if permitted.
pub fn hurry() {
    let _ = setpriority_process(None, -15);
}

/// Round trips of the line in one [`ping_pong`].
const ROUNDS: u32 = 2000;

/// Nanoseconds that a cache line takes from one CPU to another: two threads of this process, one on each CPU, pass it
/// back and forth. It is the limit of every latency between the two. On a virtual machine it changes as the host moves
/// virtual CPUs, so measure it beside everything that depends on it.
///
/// # Errors
/// Fails if a thread can't be pinned, or `there` and `back` are the same CPU.
///
/// # Panics
/// Panics if one of its threads does.
pub fn ping_pong(there: usize, back: usize) -> Result<f64> {
    ensure!(there != back, "two threads on CPU {there} would wait for the scheduler");
    let line = CachePadded::new(AtomicU32::new(0));
    let ready = Barrier::new(2);
    let turns = |cpu, mine: u32| -> Result<f64> {
        let pinned = pin_to(cpu);
        ready.wait();
        pinned?;
        let start = Instant::now();
        for turn in (mine..2 * ROUNDS).step_by(2) {
            while line.load(Ordering::Acquire) != turn {
                std::hint::spin_loop();
            }
            line.store(turn + 1, Ordering::Release);
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(2 * ROUNDS))
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| turns(back, 1));
        let this = scope.spawn(|| turns(there, 0));
        let ns = this.join().expect("nothing in it panics");
        other.join().expect("nothing in it panics")?;
        ns
    })
}

/// Nanoseconds of a [`ping_pong`] between CPUs that are far apart: at least these.
const FAR: f64 = 100.0;

/// The blocks of a run in which its CPUs were close together, and those in which they were far apart, by the
/// [`ping_pong`] beside each block: the host of a virtual machine moves its CPUs. (Above the last range, all were
/// interrupted, and show nothing.)
pub(crate) fn by_distance(ping: &[f64]) -> [(&'static str, Vec<usize>); 2] {
    [("close together", 0.0..FAR), ("far apart", FAR..4.0 * FAR)].map(|(place, distance)| {
        (place, (0..ping.len()).filter(|&block| distance.contains(&ping[block])).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_near_or_far() {
        let [(_, near), (_, far)] = by_distance(&[20.0, 180.0, 99.0, 9000.0, 100.0]);
        assert_eq!((near, far), (vec![0, 2], vec![1, 4]));
    }

    #[test]
    fn a_line_goes_to_and_fro() {
        match cpus().unwrap()[..] {
            [a, .., b] => assert!(ping_pong(a, b).unwrap() > 0.0),
            _ => eprintln!("SKIPPED: one CPU only"),
        }
        assert!(ping_pong(0, 0).is_err());
    }
}
