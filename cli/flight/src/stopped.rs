//! Whether the recording has stopped, and why: the value that programs write once.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mapring::{Cells, ReadError, Record};
use mapring_kit::output;
use nix::sys::signal::Signal;

use crate::event::Comm;
use crate::machine::Wall;
use crate::pins;
use crate::record::HOLD;
use crate::recording::Recording;
use crate::text::escape;
use crate::triggers::{self, MOST};

/// `struct stop` of `bpf/stop.bpf.h`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Stop {
    /// When programs stop recording; 0 if they go on.
    at: u64,
    ns: u64,
    value: u64,
    pub(crate) kind: u32,
    pub(crate) condition: u32,
    pub(crate) cpu: u32,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    unused: u32,
    comm: [u64; 2],
    /// How often each condition was met.
    pub(crate) met: [u64; MOST],
    /// For programs: the end that one of them has seen pass.
    over: u64,
}

/// The end of the recording. `None` if an older version of mapring records.
///
/// # Errors
/// If this process may not read it.
pub(crate) fn read(recording: &Recording) -> Result<Option<Stop>> {
    let Some(map) = recording.map(pins::STOP)? else { return Ok(None) };
    let shown = || recording.dir().path().join(pins::MAPS).join(pins::STOP).display().to_string();
    let cells = Cells::open(map).with_context(shown)?;
    for _ in 0..1000 {
        match cells.read(0) {
            Err(ReadError::Busy { .. }) => thread::sleep(Duration::from_millis(1)), // its program is preempted
            stop => return Ok(Some(stop.with_context(shown)?)),
        }
    }
    bail!("{}: a program has been writing it for a second: try again", shown())
}

impl Stop {
    /// As a file has it.
    pub(crate) fn words(&self) -> Vec<u64> {
        bytemuck::cast_slice(std::slice::from_ref(self)).to_vec()
    }

    /// `None` if these are not such words.
    pub(crate) fn of(words: &[u64]) -> Option<Self> {
        bytemuck::try_pod_read_unaligned(bytemuck::cast_slice(words)).ok()
    }

    /// When the recording ends or has ended, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) fn end(&self) -> Option<u64> {
        (self.at != 0).then_some(self.at)
    }

    /// When the condition was met: time zero of a dump.
    pub(crate) fn zero(&self) -> Option<u64> {
        self.end().map(|_| self.ns)
    }

    /// What was recorded after that.
    pub(crate) fn after(&self) -> Duration {
        Duration::from_nanos(self.at.saturating_sub(self.ns))
    }

    /// The name of the thread that met the condition, escaped.
    pub(crate) fn thread(&self) -> String {
        name(&bytemuck::cast(self.comm))
    }

    /// `oom of 4711 (postgres) on 25 November, 03:12:07 UTC`, if something has set the end.
    pub(crate) fn cause(&self, wall: &Wall) -> Option<String> {
        let time = wall.at(self.zero()?).map_or_else(|| NO_DATE.to_owned(), date);
        Some(format!("{} on {time}", cause_text(self.kind, self.value, self.pid, &self.thread())))
    }
}

/// The name of a thread, escaped.
pub(crate) fn name(comm: &Comm) -> String {
    escape(comm.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// A condition that was met, in words.
pub(crate) fn cause_text(kind: u32, value: u64, pid: u32, thread: &str) -> String {
    let (name, is_time) = match triggers::kind(kind) {
        _ if kind == HOLD => ("hold", false),
        Some(kind) => (kind.name, kind.is_time),
        None => ("a trigger of a newer version of mapring", false),
    };
    let whose =
        if thread.is_empty() { format!("{name} of {pid}") } else { format!("{name} of {pid} ({thread})") };
    let how = match (is_time, value) {
        (true, ns) => format!(" after {}", time(ns)),
        (false, 0) => String::new(),
        (false, signal) => {
            let signal = i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok());
            signal.map(|signal| format!(" by {signal}")).unwrap_or_default()
        }
    };
    whose + &how
}

/// A time with the digits that matter.
fn time(ns: u64) -> String {
    let unit = [1_000_000_000, 1_000_000, 1_000, 1].into_iter().find(|unit| ns >= *unit * 10).unwrap_or(1);
    humantime::format_duration(Duration::from_nanos(ns / unit * unit)).to_string()
}

/// In place of a time that is not known.
const NO_DATE: &str = "an unknown date";

/// `25 November, 03:12:07 UTC`.
pub(crate) fn date(wall: std::time::SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    // 2026-11-25T03:12:07Z
    let Some(text) = output::wall(wall, humantime::format_rfc3339_seconds) else { return NO_DATE.to_owned() };
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let month = part(5..7).parse().ok().and_then(|month: usize| MONTHS.get(month.checked_sub(1)?));
    format!("{} {}, {} UTC", part(8..10).trim_start_matches('0'), month.unwrap_or(&""), part(11..19))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_cause_is_said() {
        assert_eq!(cause_text(7, 0, 4711, "postgres"), "oom of 4711 (postgres)");
        assert_eq!(cause_text(7, 0, 4711, ""), "oom of 4711");
        assert_eq!(cause_text(6, 11, 1, "a"), "exit of 1 (a) by SIGSEGV");
        assert_eq!(cause_text(1, 61_234_567, 1, "a"), "runqueue of 1 (a) after 61ms");
        assert_eq!(cause_text(3, 2_123_456_789, 1, "a"), "syscall of 1 (a) after 2s 123ms");
        assert_eq!(cause_text(HOLD, 0, 1, "mapring"), "hold of 1 (mapring)");
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_040_327);
        assert_eq!(date(day), "25 November, 03:12:07 UTC");
        assert_eq!(date(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "an unknown date");
    }
}
