//! The time namespace of this process: how far its clocks are ahead of those of BPF programs.

use std::fs;
use std::io;

use super::Clock;
use crate::error::{Error, Result};

/// Nanoseconds that the kernel adds to the clocks of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    monotonic: i64,
    boottime: i64,
}

impl Offsets {
    pub(super) fn of(&self, clock: Clock) -> i64 {
        match clock {
            Clock::Monotonic => self.monotonic,
            Clock::Boottime => self.boottime,
        }
    }

    /// The text of `timens_offsets`: a line with name, seconds and nanoseconds for each clock. Linux 5.6 has the clocks'
    /// numbers as names.
    fn parse(text: &str) -> Option<Self> {
        let mut offsets = Self::default();
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let clock = match fields.next()? {
                "monotonic" | "1" => &mut offsets.monotonic,
                "boottime" | "7" => &mut offsets.boottime,
                _ => continue,
            };
            let (seconds, rest): (i64, i64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            *clock = seconds.checked_mul(1_000_000_000)?.checked_add(rest)?;
        }
        Some(offsets)
    }
}

/// The offsets of this process.
pub(super) fn offsets() -> Result<Offsets> {
    let text = match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) => text,
        // A kernel without time namespaces.
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::exists("/proc/self/stat").unwrap_or(false) => {
            return Ok(Offsets::default());
        }
        Err(e) => return Err(failed(e)),
    };
    // The file has the offsets of the namespace for children.
    let [own, children] = ["/proc/self/ns/time", "/proc/self/ns/time_for_children"]
        .map(|path| fs::read_link(path).map_err(failed));
    if own? != children? {
        return Err(failed(io::Error::other("this process is not in the time namespace of its children")));
    }
    Offsets::parse(&text).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

pub(super) fn failed(e: io::Error) -> Error {
    Error::system("reading the time namespace in /proc/self", e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_all_kernels_are_read() {
        let parsed = |monotonic, boottime| Some(Offsets { monotonic, boottime });
        let text = "monotonic           0         0\nboottime            0         0\n";
        assert_eq!(Offsets::parse(text), parsed(0, 0));
        let text = "monotonic      172800         5\nboottime      -604800 999999999\n";
        assert_eq!(Offsets::parse(text), parsed(172_800_000_000_005, -604_799_000_000_001));
        assert_eq!(Offsets::parse("1 -3 0\n7 4 1\n9 new new\n"), parsed(-3_000_000_000, 4_000_000_001));
        for wrong in ["monotonic 1\n", "monotonic 1 x\n", "\n", "boottime 9999999999999 0\n"] {
            assert_eq!(Offsets::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(offsets().unwrap().of(Clock::Monotonic), Clock::Monotonic.ahead().unwrap());
    }
}
