//! The offsets of wall time from a clock, and when each held. The caller reads the clocks.
//!
//! NTP changes the rates of all clocks alike. Their offsets change only when the wall clock is set or, for
//! CLOCK_MONOTONIC, while the machine is suspended. So between such events an offset is constant.
//!
//! |  | offset of CLOCK_MONOTONIC | offset of CLOCK_BOOTTIME |
//! |---|---|---|
//! | the wall clock is set, or a leap second is inserted | changes | changes |
//! | the machine is suspended | grows by the time of the suspend | stays |
//!
//! If a comparison finds another offset, the time since the comparison before it is ambiguous (`Basis::Changed`): the
//! error reaches from the older offset to the newer one. The next comparison adds a change that is smaller than the
//! errors to the error.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

/// A reading of all clocks, in nanoseconds: first the clock itself, then CLOCK_BOOTTIME, CLOCK_REALTIME, and the clock
/// once more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub before: u64,
    pub boot: u64,
    pub wall: i64,
    pub after: u64,
}

/// What an [`Estimate`](super::Estimate) is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// The clocks were compared before and after this time, with the same result.
    Compared,
    /// Between two comparisons the wall clock was set, or the machine was suspended, and this time is between them. The
    /// error covers both sides.
    Changed,
    /// No comparison came after this time: call [`update`](super::WallClock::update). If the wall clock was set since
    /// the last one, the estimate is wrong by that.
    After,
    /// This time is before the first comparison that is remembered. If the wall clock was set in between, or the machine
    /// was suspended, the estimate is wrong by that.
    Before,
}

/// What happened between two calls of [`update`](super::WallClock::update).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// How long the machine was suspended. Always zero for [`Clock::Boottime`](super::Clock::Boottime), which goes on.
    pub suspended: Duration,
    /// By how many nanoseconds the wall clock was set forward. Negative: back.
    pub stepped: i64,
}

/// Two numbers, and a true value that is not outside of them.
#[derive(Clone, Copy, Debug)]
struct Between {
    low: i128,
    high: i128,
}

impl Between {
    /// How far another clock, read as `other` within a reading, is ahead of the clock itself.
    fn new(other: i128, reading: &Reading) -> Self {
        Self { low: other - i128::from(reading.after), high: other - i128::from(reading.before) }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    fn width(&self) -> i128 {
        self.high - self.low
    }

    fn middle(&self) -> i128 {
        self.low + self.width() / 2
    }

    fn error(&self) -> i128 {
        self.high - self.middle()
    }

    fn include(&mut self, other: &Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }

    fn tighten(&mut self, other: &Self) {
        if other.width() < self.width() {
            *self = *other;
        }
    }
}

/// The time in which an offset held.
#[derive(Clone, Debug)]
struct Era {
    /// The clock after the first comparison, and before the last one.
    first: u64,
    last: u64,
    /// All comparisons.
    wall: Between,
    /// The narrowest ones, which notice changes.
    wall_tight: Between,
    boot_tight: Between,
}

impl Era {
    fn new(reading: &Reading) -> Self {
        let (wall, boot) = (reading.wall(), reading.boot());
        Self { first: reading.after, last: reading.before, wall, wall_tight: wall, boot_tight: boot }
    }

    /// Whether a reading is from this era.
    fn holds(&self, reading: &Reading) -> bool {
        reading.before >= self.last
            && self.wall_tight.overlaps(&reading.wall())
            && self.boot_tight.overlaps(&reading.boot())
    }

    fn extend(&mut self, reading: &Reading) {
        self.last = reading.before;
        self.wall.include(&reading.wall());
        self.wall_tight.tighten(&reading.wall());
        self.boot_tight.tighten(&reading.boot());
    }
}

impl Reading {
    fn wall(&self) -> Between {
        Between::new(self.wall.into(), self)
    }

    fn boot(&self) -> Between {
        Between::new(self.boot.into(), self)
    }

    fn width(&self) -> u64 {
        self.after - self.before
    }

    /// The narrowest of several readings, or the first one that is not wider than `enough`. None if the clock only goes
    /// backwards.
    fn tightest(enough: i128, mut read: impl FnMut() -> Self) -> Option<Self> {
        let mut best: Option<Self> = None;
        for _ in 0..TRIES {
            let reading = read();
            if reading.before <= reading.after && best.is_none_or(|best| reading.width() < best.width()) {
                best = Some(reading);
            }
            if best.is_some_and(|best| i128::from(best.width()) <= enough) {
                break;
            }
        }
        best
    }
}

/// The most readings of one comparison.
const TRIES: usize = 16;
/// A reading of so few nanoseconds is not repeated.
const FINE: i128 = 100;

/// All offsets that are remembered, in the order of time.
#[derive(Clone, Debug)]
pub(super) struct History(VecDeque<Era>);

impl History {
    /// The most changes that are remembered.
    pub(super) const CHANGES: usize = 64;

    /// Allocates, so that no later call does.
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(Self::CHANGES + 1))
    }

    /// Compares the clocks. Returns what has changed since the last comparison. One reading, as a rule.
    pub(super) fn update(&mut self, mut read: impl FnMut() -> Reading) -> Option<Change> {
        let Some(era) = self.0.back_mut() else {
            self.0.extend(Reading::tightest(0, read).map(|reading| Era::new(&reading)));
            return None;
        };
        let enough = (2 * era.wall_tight.width()).max(FINE);
        let reading = Reading::tightest(enough, &mut read)?;
        if era.holds(&reading) {
            era.extend(&reading);
            return None;
        }
        let new = Era::new(&Reading::tightest(0, read)?);
        let change = change(era, &new);
        if new.first < era.last {
            self.0.clear(); // it is another clock: this process has moved
        }
        if self.0.len() > Self::CHANGES {
            self.0.pop_front();
        }
        self.0.push_back(new);
        Some(change)
    }

    /// The wall time at a time of the clock, in nanoseconds, and its largest error.
    pub(super) fn wall(&self, clock: u64) -> (i128, i128, Basis) {
        let at = i128::from(clock);
        // The first era also holds for all times before it.
        let k = self.0.partition_point(|era| era.first <= clock).saturating_sub(1);
        let Some(era) = self.0.get(k) else { return (at, i128::MAX, Basis::Before) };
        let (middle, error) = (era.wall.middle(), era.wall.error());
        match (self.basis(k, at), self.0.get(k + 1)) {
            (Basis::Changed, Some(next)) => {
                let apart = (next.wall.middle() - middle).abs() + next.wall.error();
                (at + middle, error.max(apart), Basis::Changed)
            }
            (basis, _) => (at + middle, error, basis),
        }
    }

    /// The clock at a wall time, and its largest error. The last such time, if the wall clock was set back.
    pub(super) fn clock(&self, wall: i128) -> (u64, i128, Basis) {
        let mut found: Option<(i128, i128, Basis)> = None;
        for (k, era) in self.0.iter().enumerate().rev() {
            let (at, error) = (wall - era.wall.middle(), era.wall.error());
            // It can have held from the last comparison before it until the first one after it.
            let from = k.checked_sub(1).map_or(i128::MIN, |k| i128::from(self.0[k].last) - error);
            let next = self.0.get(k + 1);
            let until = next.map_or(i128::MAX, |next| i128::from(next.first) + error);
            if (from..=until).contains(&at) {
                found = Some(match found {
                    None => (at, error, self.basis(k, at)),
                    Some((later, most, _)) => (later, most.max((later - at).abs() + error), Basis::Changed),
                });
            } else if let Some(next) = next
                && found.is_none()
                && at > until
            {
                // The wall clock was set forward, past this time.
                let first = i128::from(next.first);
                found = Some((first, first - i128::from(era.last) + error, Basis::Changed));
            }
        }
        let (at, error, basis) = found.unwrap_or((wall, i128::MAX, Basis::Before));
        let clock = u64::try_from(at.max(0)).unwrap_or(u64::MAX);
        (clock, error.saturating_add((at - i128::from(clock)).abs()), basis)
    }

    /// What is known about the time `at`, with the offset of era `k`.
    fn basis(&self, k: usize, at: i128) -> Basis {
        let era = &self.0[k];
        if k == 0 && at < era.first.into() {
            Basis::Before
        } else if (era.first.into()..=era.last.into()).contains(&at) {
            Basis::Compared
        } else if k + 1 == self.0.len() && at > era.last.into() {
            Basis::After
        } else {
            Basis::Changed
        }
    }
}

/// What changed from one era to the next.
fn change(old: &Era, new: &Era) -> Change {
    let (old_boot, new_boot) = (&old.boot_tight, &new.boot_tight);
    let slept = if new_boot.low > old_boot.high { new_boot.middle() - old_boot.middle() } else { 0 };
    let stepped = new.wall_tight.middle() - old.wall_tight.middle() - slept;
    let errors =
        [old.wall_tight, new.wall_tight, *old_boot, *new_boot].iter().map(Between::error).sum::<i128>();
    Change {
        suspended: Duration::from_nanos(u64::try_from(slept).unwrap_or(u64::MAX)),
        // A change of both within the errors is a suspend.
        stepped: if slept != 0 && stepped.abs() <= errors { 0 } else { saturated(stepped) },
    }
}

fn saturated(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}
