//! Which memory node a map is on, where a machine has several.

use libbpf_rs::{MapType, OpenMapMut, libbpf_sys};

use crate::cpus::online_nodes;
use crate::error::{Error, Result};
use crate::text::printable;

/// Has the memory of a map, that is not loaded yet, be on this node. For one map; [`Prepare::node`](super::Prepare::node)
/// is for all of an object. Reads a file of sysfs.
///
/// A map is one allocation, and on one node: a ring whose shards are on the nodes of their CPUs is a
/// NUMA ring. Without a node the kernel takes that of the CPU on which the object is
/// loaded. The node has to have room: what does not fit on it goes to others, silently.
///
/// # Errors
/// [`Error::Node`] for a node that is not there; [`Error::MapType`] for a per-CPU map: each CPU's part of
/// it is on that CPU's node already.
pub fn place_on_node(map: &mut OpenMapMut<'_>, node: usize) -> Result<()> {
    let node = checked_node(node)?;
    if map.map_type() == MapType::PercpuArray {
        return Err(Error::MapType {
            what: format!("map {}", printable(&map.name().to_string_lossy())),
            found: "a map of type percpu_array".to_owned(),
            expected: "array",
            hint: "; each CPU's values are on the node of that CPU already",
        });
    }
    map.set_numa_node(node)?;
    // Without the flag the kernel does not look at the number.
    let flags = map.map_flags() | libbpf_sys::BPF_F_NUMA_NODE;
    Ok(map.set_map_flags(flags)?)
}

/// The node, if it is there.
pub(super) fn checked_node(node: usize) -> Result<u32> {
    let there = online_nodes()?;
    let small = u32::try_from(node).ok().filter(|_| there.contains(&node));
    small.ok_or(Error::Node { node, there })
}
