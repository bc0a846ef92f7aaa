//! Says if the wall clock was set, or the machine was suspended, since the recording started. The records have
//! CLOCK_MONOTONIC, and nothing tells when that happened. So earlier events then have other wall times than shown.

use std::time::Duration;

use mapring::time::Clock;
use serde::{Deserialize, Serialize};

/// By how much other clocks are ahead of CLOCK_MONOTONIC, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clocks {
    pub(crate) wall: i64,
    pub(crate) boot: i64,
}

/// Clocks can't be read at the same time.
const NOISE: u64 = 1_000_000;

impl Clocks {
    /// The reading that took least time of several.
    pub(crate) fn now() -> Self {
        let reading = |_| {
            let before = Clock::Monotonic.now();
            let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let boot = Clock::Boottime.now();
            let after = Clock::Monotonic.now();
            let wall = wall.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(wall.tv_nsec);
            let wall = wall.wrapping_sub(before.cast_signed());
            // At most a reading of a clock too little: it is never behind.
            (after.saturating_sub(before), Self { wall, boot: boot.saturating_sub(after).cast_signed() })
        };
        (0..16).map(reading).min_by_key(|(took, _)| *took).map_or(Self { wall: 0, boot: 0 }, |(_, now)| now)
    }

    fn parse(text: &str) -> Option<Self> {
        let (wall, boot) = text.split_once(' ')?;
        Some(Self { wall: wall.parse().ok()?, boot: boot.parse().ok()? })
    }

    /// What happened since `earlier`, in sentences.
    fn changes(self, earlier: Self) -> Vec<String> {
        let suspended = self.boot.saturating_sub(earlier.boot);
        let stepped = self.wall.saturating_sub(earlier.wall).saturating_sub(suspended);
        let long = |ns: i64| {
            let ns = ns.unsigned_abs();
            let short = Duration::from_millis((ns + NOISE / 2) / 1_000_000);
            (ns > NOISE).then(|| humantime::format_duration(short).to_string())
        };
        let mut changes = Vec::new();
        if let Some(time) = long(suspended) {
            changes.push(format!(
                "the machine was suspended for {time} since the recording started: the wall times of events before \
                 that are too late by this"
            ));
        }
        if let Some(time) = long(stepped) {
            let (set, wrong) = if stepped > 0 { ("forward", "late") } else { ("back", "early") };
            changes.push(format!(
                "the wall clock was set {set} by {time} since the recording started: the wall times of events before \
                 that are too {wrong} by this"
            ));
        }
        changes
    }
}

/// The clocks now, as [`report`] compares them.
#[cfg(feature = "bpf")]
pub(crate) fn text() -> String {
    let Clocks { wall, boot } = Clocks::now();
    format!("{wall} {boot}")
}

/// Says on stderr what happened to the clocks since the start of the recording, whose [`text`] this is.
pub(crate) fn report(start: Option<&str>, now: Clocks) {
    let start = start.and_then(Clocks::parse);
    for change in start.map(|start| now.changes(start)).unwrap_or_default() {
        eprintln!("mapring: {change}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_said() {
        let start = Clocks { wall: 1_000_000_000_000, boot: 7 };
        let lines = |wall: i64, boot: i64| {
            let now = Clocks { wall: start.wall + wall, boot: start.boot + boot };
            now.changes(start)
        };
        assert!(lines(900_000, 900_000).is_empty() && lines(-900_000, 0).is_empty());
        let second = 1_000_000_000;
        let [set, back, slept] =
            [lines(3600 * second, 0), lines(-2 * second, 0), lines(5 * second, 5 * second)];
        assert!(set[0].contains("set forward by 1h since") && set[0].contains("too late"), "{set:?}");
        assert!(back[0].contains("set back by 2s since") && back[0].contains("too early"), "{back:?}");
        assert!(slept[0].contains("suspended for 5s since"), "{slept:?}");
        assert_eq!((set.len(), back.len(), slept.len(), lines(0, second).len()), (1, 1, 1, 2));
        for text in ["", "1", "1 x", "9223372036854775807 -9223372036854775808"] {
            if let Some(hostile) = Clocks::parse(text) {
                assert_eq!(start.changes(hostile).len(), 2);
            }
        }
    }

    #[test]
    fn nothing_happens_between_two_readings() {
        let before = Clocks::now();
        assert_eq!(Clocks::now().changes(before), [""; 0]);
    }
}
