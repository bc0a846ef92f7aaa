//! The machine's CPUs and NUMA nodes, as the kernel numbers them.

use std::collections::BTreeMap;
use std::io;

use mapring_sys::cpus;

use crate::error::{Cause, Error, Result};

/// The possible CPUs: all that this machine can ever have, in ascending order, sometimes with gaps. Per-CPU maps have a
/// copy of each value for each of them. Reads a file of sysfs.
///
/// A process that may create BPF maps also measures the number of these CPUs, once. If it differs (a container may have
/// another file mounted there), the CPUs are numbered from 0.
///
/// # Errors
/// [`ErrorKind::System`](crate::ErrorKind::System) if sysfs is not mounted, or the file is not a list of CPUs.
pub fn possible_cpus() -> Result<Vec<usize>> {
    cpus::possible_cpus().map_err(not_a_list)
}

/// The CPUs that are online: some of the possible ones. Values written by the other CPUs stay in place and no longer
/// change. Reads a file of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn online_cpus() -> Result<Vec<usize>> {
    cpus::online_cpus().map_err(not_a_list)
}

/// The online NUMA nodes, in ascending order: `[0]` on machines with one node, and on kernels without NUMA support.
/// Reads a file of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn online_nodes() -> Result<Vec<usize>> {
    cpus::online_nodes().map_err(not_a_list)
}

/// The online CPUs of a NUMA node, in ascending order: none for a node that has only memory. On kernels without NUMA
/// support all CPUs belong to node 0. Reads a file of sysfs.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the node does not exist; as for [`possible_cpus`].
pub fn cpus_of_node(node: usize) -> Result<Vec<usize>> {
    let there = online_nodes()?;
    if !there.contains(&node) {
        return Err(Error::from(Cause::Node { node, there }));
    }
    cpus::cpus_of_node(node).map_err(not_a_list)
}

/// The node of each online CPU. Reads files of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn nodes_of_cpus() -> Result<BTreeMap<usize, usize>> {
    let mut nodes = BTreeMap::new();
    for node in online_nodes()? {
        nodes.extend(cpus_of_node(node)?.into_iter().map(|cpu| (cpu, node)));
    }
    Ok(nodes)
}

fn not_a_list(error: io::Error) -> Error {
    Error::system("reading a list of numbers", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_exist_is_named() {
        let beyond = online_nodes().unwrap().last().unwrap() + 1;
        let refused = cpus_of_node(beyond).unwrap_err();
        assert!(matches!(refused.cause(), Cause::Node { node, .. } if *node == beyond));
    }
}
