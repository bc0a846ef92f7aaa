//! When a sweep checks later tickets, and since when it has found none.

use std::time::Duration;

use mapring_core::clock::{latest, now};

/// When a sweep checks later tickets in each shard: every millisecond, or every time if a reader sweeps less often.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecheckClock {
    /// Whether this sweep does so.
    pub(super) now: bool,
    /// Sweeps until the clock is read.
    sweeps: u32,
    /// When the clock was read, and when the last such sweep began, in nanoseconds.
    read: u64,
    last: u64,
    /// When a sweep last found new tickets; and whether one did since the clock was read.
    found: u64,
    fresh: bool,
}

impl RecheckClock {
    const EVERY: u64 = 1_000_000;
    /// Sweeps between two readings of the clock, for readers that sweep all the time.
    const SWEEPS: u32 = 64;

    pub(super) fn new() -> Self {
        latest(); // asks for the length of a tick, so that no later call does
        let now = now();
        Self { now: false, sweeps: Self::SWEEPS, read: now, last: now, found: now, fresh: false }
    }

    /// A time that has passed: when the clock was last read.
    pub(super) fn time(&self) -> u64 {
        self.read
    }

    /// Stores the time: for readers that read the clock themselves.
    pub(super) fn set(&mut self, time: u64) {
        self.read = time;
        self.dated(time);
    }

    /// Notes that new tickets were found.
    #[inline(always)]
    pub(super) fn found(&mut self) {
        self.fresh = true;
    }

    /// How long no new tickets were found.
    pub(super) fn idle(&self) -> Duration {
        let since = if self.fresh { u64::MAX } else { self.found };
        Duration::from_nanos(now().saturating_sub(since))
    }

    /// After the clock was read: dates the tickets that were found before.
    fn dated(&mut self, now: u64) {
        if core::mem::take(&mut self.fresh) {
            self.found = now;
        }
    }

    /// Checks later tickets in the next sweep.
    pub(super) fn check(&mut self) {
        (self.now, self.sweeps) = (true, 0);
    }

    #[inline(always)]
    pub(super) fn swept(&mut self) {
        if self.sweeps == 0 {
            self.read_clock();
        } else {
            self.sweeps -= 1;
        }
    }

    #[cold]
    fn read_clock(&mut self) {
        let now = now();
        self.dated(now);
        let seldom = now.saturating_sub(self.read) >= Self::EVERY;
        (self.now, self.read) = (now.saturating_sub(self.last) >= Self::EVERY, now);
        if self.now {
            self.last = now;
        }
        // After such a sweep comes one that does not check later tickets.
        self.sweeps = if self.now || seldom { 0 } else { Self::SWEEPS };
    }
}
