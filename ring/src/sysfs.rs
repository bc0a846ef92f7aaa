//! The lists of numbers in sysfs.

use std::io::Read as _;
use std::{fmt, io};

use crate::error::{Cause, Error, Result};

/// The possible CPUs as sysfs lists them, which can be wrong. At least one.
pub fn listed_cpus() -> Result<Vec<usize>> {
    let path = "/sys/devices/system/cpu/possible";
    read(path).and_then(|listed| match listed.is_empty() {
        true => Err(not_a_list(path, io::ErrorKind::InvalidData, &"an empty list")),
        false => Ok(listed),
    })
}

/// Reads the list in this file.
pub(crate) fn read(path: &str) -> Result<Vec<usize>> {
    // Another file may be mounted there, of any size.
    const LONGEST: u64 = 1 << 16;
    let mut list = String::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut list));
    file.map_err(|e| not_a_list(path, e.kind(), &e))?;
    let shown = || list.chars().take(64).collect::<String>();
    parse(&list).ok_or_else(|| not_a_list(path, io::ErrorKind::InvalidData, &format_args!("{:?}", shown())))
}

fn not_a_list(path: &str, kind: io::ErrorKind, why: &dyn fmt::Display) -> Error {
    Error::from(Cause::System {
        call: "reading a list of numbers",
        error: io::Error::new(kind, format!("{path}: {why}")),
        hint: if kind == io::ErrorKind::NotFound { "; is sysfs mounted at /sys?" } else { "" },
    })
}

/// Parses a list such as `0-3,8`. Returns `None` if it is not a list.
fn parse(list: &str) -> Option<Vec<usize>> {
    /// More than any kernel configuration allows, so that a malformed list can't fill the memory.
    const MOST: usize = 1 << 16;
    let mut cpus = Vec::new();
    for range in list.trim().split(',').filter(|_| list != "\n") {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(parse("\n"), Some(vec![]));
        for wrong in ["", "x", "3-1", "0-", "-1", "0,,1", "0-99999999999"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
