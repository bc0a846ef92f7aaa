//! The machine's CPUs and NUMA nodes, as the kernel numbers them.

#[cfg(feature = "bpf")]
use std::collections::BTreeMap;
use std::io;

use crate::error::{Cause, Error, Result};
#[doc(hidden)] // for `mapring doctor`
pub use crate::sysfs::listed_cpus;
use crate::sysfs::read;

/// The possible CPUs: all that this machine can ever have, in ascending order, sometimes with gaps. Per-CPU maps have a
/// copy of each value for each of them. Reads a file of sysfs.
///
/// A process that may create BPF maps also measures the number of these CPUs, once. If it differs (a container may have
/// another file mounted there), the CPUs are numbered from 0.
///
/// # Errors
/// [`ErrorKind::System`](crate::ErrorKind::System) if sysfs is not mounted, or the file is not a list of CPUs.
pub fn possible_cpus() -> Result<Vec<usize>> {
    let listed = listed_cpus()?;
    #[cfg(feature = "bpf")]
    if let Some(count) = crate::bpf::possible_count() {
        return Ok(crate::bpf::numbered(listed, count));
    }
    Ok(listed)
}

/// The CPUs that are online: some of the possible ones. Values written by the other CPUs stay in place and no longer
/// change. Reads a file of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn online_cpus() -> Result<Vec<usize>> {
    read("/sys/devices/system/cpu/online")
}

/// The online NUMA nodes, in ascending order: `[0]` on machines with one node, and on kernels without NUMA support.
/// Reads a file of sysfs.
///
/// # Errors
/// As for [`possible_cpus`].
pub fn online_nodes() -> Result<Vec<usize>> {
    known(read("/sys/devices/system/node/online"), || online_cpus().map(|_| vec![0]))
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
    known(read(&format!("/sys/devices/system/node/node{node}/cpulist")), online_cpus)
}

/// The node of each online CPU.
#[cfg(feature = "bpf")]
pub(crate) fn nodes_of_cpus() -> Result<BTreeMap<usize, usize>> {
    let mut nodes = BTreeMap::new();
    for node in online_nodes()? {
        nodes.extend(cpus_of_node(node)?.into_iter().map(|cpu| (cpu, node)));
    }
    Ok(nodes)
}

/// The result of a read from sysfs, or `otherwise` on a kernel without the file (no NUMA support).
fn known(said: Result<Vec<usize>>, otherwise: impl FnOnce() -> Result<Vec<usize>>) -> Result<Vec<usize>> {
    match said {
        Err(e) if e.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => otherwise(),
        said => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let (possible, online) = (possible_cpus().unwrap(), online_cpus().unwrap());
        assert!(!online.is_empty() && online.iter().all(|cpu| possible.contains(cpu)));
        let nodes = online_nodes().unwrap();
        let mut of_nodes: Vec<_> = nodes.iter().flat_map(|node| cpus_of_node(*node).unwrap()).collect();
        of_nodes.sort_unstable();
        assert_eq!(of_nodes, online);
        let beyond = nodes.last().unwrap() + 1;
        let refused = cpus_of_node(beyond).unwrap_err();
        assert!(matches!(refused.into_cause(), Cause::Node { node, .. } if node == beyond));
    }
}
