//! What an event costs as measured: two threads wake each other before the programs are attached, and after.

use std::io::{self, Read, Write, pipe};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::recording::Recording;
use crate::rings;

/// Blocks of which the fastest counts, and turns in a block: 30 ms in all.
const BLOCKS: u32 = 20;
const TURNS: u32 = 300;

/// The time of the fastest turn, without the recorder.
pub(crate) struct Before {
    cpu: usize,
    turn: Duration,
}

impl Before {
    /// Measures. The programs must not be attached yet.
    pub(crate) fn measure() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let cpu = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).unwrap_or(0);
        Ok(Self { cpu, turn: fastest_turn(cpu)? })
    }

    /// Measures again, with the recording in this directory. Returns the nanoseconds of an event, if they are more than noise.
    pub(crate) fn compare(self, dir: &Path) -> Result<Option<f64>> {
        let rings = rings::open(&Recording::open(dir)?)?;
        let recorded =
            || -> u64 { rings.iter().filter_map(|ring| ring.written().get(self.cpu).copied()).sum() };
        let before = recorded();
        let turn = fastest_turn(self.cpu)?;
        let events = recorded().wrapping_sub(before);
        Ok(per_event(turn.saturating_sub(self.turn), events))
    }
}

/// Nanoseconds of each of the events that all turns had, of which each costs `more`. `None` if the turns have no such
/// event, or noise hides it.
#[allow(clippy::cast_precision_loss)] // it is shown with a few digits
fn per_event(more: Duration, events: u64) -> Option<f64> {
    let turns = f64::from(BLOCKS * TURNS);
    let of_turn = events as f64 / turns;
    (of_turn >= 1.0 && !more.is_zero()).then(|| more.as_nanos() as f64 / of_turn)
}

/// The time of a turn in the fastest block: two threads on this CPU wake each other through pipes.
fn fastest_turn(cpu: usize) -> io::Result<Duration> {
    let mut only = CpuSet::new();
    only.set(cpu);
    // A thread of its own, so that the caller stays where it is. The other thread is on the same CPUs as its parent.
    let both = || {
        sched_setaffinity(None, &only)?;
        let [(mut there, mut to_there), (mut here, mut to_here)] = [pipe()?, pipe()?];
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut byte = [0];
                while there.read_exact(&mut byte).and_then(|()| to_here.write_all(&byte)).is_ok() {}
            });
            let mut fastest = Duration::MAX;
            for _ in 0..BLOCKS {
                let start = Instant::now();
                for _ in 0..TURNS {
                    to_there.write_all(&[0])?;
                    here.read_exact(&mut [0])?;
                }
                fastest = fastest.min(start.elapsed() / TURNS);
            }
            drop(to_there); // ends the other thread
            Ok(fastest)
        })
    };
    thread::scope(|scope| scope.spawn(both).join().expect("nothing in it panics"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_its_part_of_what_a_turn_takes_longer() {
        let turns = u64::from(BLOCKS * TURNS);
        assert_eq!(per_event(Duration::from_nanos(900), 10 * turns), Some(90.0));
        assert_eq!(per_event(Duration::ZERO, 10 * turns), None);
        assert_eq!(per_event(Duration::from_nanos(900), turns / 2), None);
    }

    #[test]
    fn threads_take_turns() {
        let before = Before::measure().unwrap();
        assert!(!before.turn.is_zero());
    }
}
