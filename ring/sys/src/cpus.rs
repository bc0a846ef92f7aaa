//! The machine's CPUs and NUMA nodes, as the kernel numbers them: lists of numbers in sysfs.

use std::io::Read as _;
use std::{fmt, io};

use crate::copies::{numbered, possible_count};

/// The possible CPUs: all that this machine can ever have, in ascending order. Reads a file of sysfs. A process that may
/// create maps also measures their number, once. If it differs, the CPUs are numbered from 0.
///
/// # Errors
/// As for [`listed_cpus`].
pub fn possible_cpus() -> io::Result<Vec<usize>> {
    let listed = listed_cpus()?;
    Ok(match possible_count() {
        Some(count) => numbered(listed, count),
        None => listed,
    })
}

/// The CPUs that are online. Reads a file of sysfs.
///
/// # Errors
/// As for [`listed_cpus`].
pub fn online_cpus() -> io::Result<Vec<usize>> {
    some_cpus("/sys/devices/system/cpu/online")
}

/// The online NUMA nodes: `[0]` on kernels without NUMA support. Reads a file of sysfs.
///
/// # Errors
/// As for [`listed_cpus`].
pub fn online_nodes() -> io::Result<Vec<usize>> {
    known(read("/sys/devices/system/node/online"), || online_cpus().map(|_| vec![0]))
}

/// The online CPUs of a NUMA node: all of them on kernels without NUMA support. Reads a file of sysfs.
///
/// # Errors
/// As for [`listed_cpus`].
pub fn cpus_of_node(node: usize) -> io::Result<Vec<usize>> {
    known(read(&format!("/sys/devices/system/node/node{node}/cpulist")), online_cpus)
}

/// The result of a read from sysfs, or `otherwise` on a kernel without the file (no NUMA support).
fn known(
    found: io::Result<Vec<usize>>,
    otherwise: impl FnOnce() -> io::Result<Vec<usize>>,
) -> io::Result<Vec<usize>> {
    match found {
        Err(e) if e.kind() == io::ErrorKind::NotFound => otherwise(),
        found => found,
    }
}

/// The possible CPUs as sysfs lists them, which can be wrong: a container may have another file mounted there. At least
/// one. Reads a file of sysfs.
///
/// # Errors
/// With the path, if there is no sysfs, or the file is not a list of CPUs.
pub fn listed_cpus() -> io::Result<Vec<usize>> {
    some_cpus("/sys/devices/system/cpu/possible")
}

/// The CPUs in this file; an error if there are none.
fn some_cpus(path: &str) -> io::Result<Vec<usize>> {
    read(path).and_then(|listed| match listed.is_empty() {
        true => Err(not_a_list(path, io::ErrorKind::InvalidData, &"an empty list")),
        false => Ok(listed),
    })
}

/// Reads the list in this file.
fn read(path: &str) -> io::Result<Vec<usize>> {
    // Another file may be mounted there, of any size.
    const LONGEST: u64 = 1 << 16;
    let mut list = String::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut list));
    file.map_err(|e| not_a_list(path, e.kind(), &e))?;
    let shown = || list.chars().take(64).collect::<String>();
    parse(&list).ok_or_else(|| {
        not_a_list(path, io::ErrorKind::InvalidData, &format_args!("no list of numbers: {:?}", shown()))
    })
}

fn not_a_list(path: &str, kind: io::ErrorKind, why: &dyn fmt::Display) -> io::Error {
    let hint = if kind == io::ErrorKind::NotFound { "; is sysfs mounted at /sys?" } else { "" };
    io::Error::new(kind, format!("{path}: {why}{hint}"))
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
    fn this_machine() {
        assert!(some_cpus("/dev/null").unwrap_err().to_string().contains("no list of numbers: \"\""));
        let (possible, online) = (possible_cpus().unwrap(), online_cpus().unwrap());
        assert!(!online.is_empty() && online.iter().all(|cpu| possible.contains(cpu)));
        let nodes = online_nodes().unwrap();
        let mut of_nodes: Vec<_> = nodes.iter().flat_map(|node| cpus_of_node(*node).unwrap()).collect();
        of_nodes.sort_unstable();
        assert_eq!(of_nodes, online);
    }

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
