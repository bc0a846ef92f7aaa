//! When a recording ends.

use std::io;
use std::time::{Duration, Instant};

use mapring_kit::signals::Interrupted;

/// When to stop.
pub(super) struct Stop {
    interrupted: Interrupted,
    at: Option<Instant>,
}

impl Stop {
    /// At a signal, or after this time.
    pub(super) fn new(after: Option<Duration>) -> io::Result<Self> {
        let at = after.and_then(|time| Instant::now().checked_add(time));
        Ok(Self { interrupted: Interrupted::new()?, at })
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_interrupted() || self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// Whether the user wants to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.is_set()
    }

    /// Sleeps, until it is due.
    pub(super) fn sleep(&self, time: Duration) {
        let rest = self.at.map_or(time, |at| time.min(at.saturating_duration_since(Instant::now())));
        self.interrupted.sleep(rest);
    }
}
