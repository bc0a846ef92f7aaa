//! The machine's CPUs and memory nodes, as the kernel counts them.

#[cfg(feature = "bpf")]
use std::collections::BTreeMap;
use std::{fmt, io};

use crate::error::{Cause, Error, Result};

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
    known(read("/sys/devices/system/node/online"), || online_cpus().map(|_| vec![0]))
}

/// The CPUs that run now of a memory node, in ascending order: none on nodes with memory alone. On kernels
/// that know of no nodes all are of node 0. Reads a file of sysfs.
///
/// # Errors
/// [`Error::Node`] for a node that is not there; as for [`possible_cpus`].
pub fn cpus_of_node(node: usize) -> Result<Vec<usize>> {
    let there = online_nodes()?;
    if !there.contains(&node) {
        return Err(Error::from(Cause::Node { node, there }));
    }
    known(read(&format!("/sys/devices/system/node/node{node}/cpulist")), online_cpus)
}

/// The node of each CPU that runs now.
#[cfg(feature = "bpf")]
pub(crate) fn nodes_of_cpus() -> Result<BTreeMap<usize, usize>> {
    let mut nodes = BTreeMap::new();
    for node in online_nodes()? {
        nodes.extend(cpus_of_node(node)?.into_iter().map(|cpu| (cpu, node)));
    }
    Ok(nodes)
}

/// What a kernel says that knows of nodes, else something else.
fn known(said: Result<Vec<usize>>, otherwise: impl FnOnce() -> Result<Vec<usize>>) -> Result<Vec<usize>> {
    match said {
        Err(e) if e.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => otherwise(),
        said => said,
    }
}

fn read(path: &str) -> Result<Vec<usize>> {
    let error = |kind, why: &dyn fmt::Display| {
        Error::from(Cause::System {
            call: "reading a list of numbers",
            error: io::Error::new(kind, format!("{path}: {why}")),
            hint: "; is sysfs mounted at /sys?",
        })
    };
    let list = std::fs::read_to_string(path).map_err(|e| error(e.kind(), &e))?;
    parse(&list).ok_or_else(|| error(io::ErrorKind::InvalidData, &format_args!("{list:?}")))
}

/// Reads a list such as `0-3,8`; `None` for what is no list.
fn parse(list: &str) -> Option<Vec<usize>> {
    /// More than the kernel can be built for, so that no typing error fills the memory.
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

    #[test]
    fn this_machine() {
        let (possible, online) = (possible_cpus().unwrap(), online_cpus().unwrap());
        assert!(!online.is_empty() && online.iter().all(|cpu| possible.contains(cpu)));
        let nodes = online_nodes().unwrap();
        let mut of_nodes: Vec<_> = nodes.iter().flat_map(|node| cpus_of_node(*node).unwrap()).collect();
        of_nodes.sort_unstable();
        assert_eq!(of_nodes, online);
        let beyond = nodes.last().unwrap() + 1;
        assert!(matches!(cpus_of_node(beyond), Err(e) if e.kind() == crate::ErrorKind::OutOfRange));
    }
}
