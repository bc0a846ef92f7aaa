//! The machine's CPUs and memory nodes, as the kernel counts them.

use std::io;

use crate::error::{Error, Result};

/// The CPUs that this machine can ever have, in ascending order; not always without gaps. Per-CPU
/// maps have a copy of everything for each. Reads a file of sysfs.
///
/// # Errors
/// [`Error::System`] where sysfs is not mounted.
pub fn possible_cpus() -> Result<Vec<usize>> {
    read("/sys/devices/system/cpu/possible")
}

/// The CPUs that run now, some of the possible ones. What the others wrote, they wrote before they
/// went: it stays where it is and no longer changes. Reads a file of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn online_cpus() -> Result<Vec<usize>> {
    read("/sys/devices/system/cpu/online")
}

/// The memory nodes that are there, in ascending order: `[0]` on machines with one, and on kernels that
/// know of none. Reads a file of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn online_nodes() -> Result<Vec<usize>> {
    match read("/sys/devices/system/node/online") {
        Err(Error::System { error, .. })
            if error.kind() == io::ErrorKind::NotFound && online_cpus().is_ok() =>
        {
            Ok(vec![0])
        }
        read => read,
    }
}

fn read(path: &'static str) -> Result<Vec<usize>> {
    let error = |error| Error::System { call: path, error, hint: "; is sysfs mounted at /sys?" };
    let list = std::fs::read_to_string(path).map_err(error)?;
    parse(&list).ok_or_else(|| error(io::Error::other(format!("not a list of numbers: {list:?}"))))
}

/// Reads a list such as `0-3,8`; `None` for what is no list, or an empty one.
fn parse(list: &str) -> Option<Vec<usize>> {
    /// More than the kernel can be built for, so that no typing error fills the memory.
    const MOST: usize = 1 << 16;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
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
        for wrong in ["", "\n", "x", "3-1", "0-", "-1", "0,,1", "0-99999999999"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn this_machine() {
        let (possible, online) = (possible_cpus().unwrap(), online_cpus().unwrap());
        assert!(!online.is_empty() && online.iter().all(|cpu| possible.contains(cpu)));
        assert!(!online_nodes().unwrap().is_empty());
    }
}
