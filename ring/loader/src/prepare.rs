//! Prepares an object before it is loaded: its maps get a shard for each possible CPU of the machine.

use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{MapType, OpenMapMut, OpenObject, OpenProgram, libbpf_sys};
use mapring::Result;
use mapring::abi::Geometry;
use mapring::cpus::{nodes_of_cpus, online_cpus, online_nodes, possible_cpus};
use mapring::loader::{Declarations, FIRST, Reused};
use mapring_core::text::printable;
use mapring_sys::btf::Btf;

use crate::error::{Refused, libbpf};
use crate::types::{is_declared, pin_path, preset, types_of};
use crate::{atomics, guard, limits};

/// [`Prepare::skeleton`] with default options. Call it between `open` and `load`, after all other changes to the object
/// (`set_autoload`, `set_prog_type`).
///
/// # Errors
/// As for [`Prepare::skeleton`].
pub fn prepare<'obj>(open: &mut impl OpenSkel<'obj>) -> Result<u64> {
    Prepare::new().skeleton(open)
}

/// [`Prepare::object`] with default options.
///
/// # Errors
/// As for [`Prepare::object`].
pub fn prepare_object(object: &mut OpenObject) -> Result<u64> {
    Prepare::new().object(object)
}

/// Options for preparing an object for the machine on which it will be loaded.
///
/// Every ring and every bank of counters gets a shard for each CPU up to the last possible one. A map that is not
/// prepared has one shard, and counts the writes of other CPUs as dropped. Maps that the headers' macros did not
/// declare are not changed.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Prepare {
    node: Option<usize>,
    guard: Option<bool>,
}

impl Prepare {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the memory of every prepared map on this node, on machines with several nodes: preferably the node of the
    /// CPUs whose programs write most, or of the reader. This does not affect per-CPU maps and `PER_CPU_MAPS` rings, where each
    /// CPU writes to its own node anyway, nor resizable rings. To place a single map see [`place_on_node`].
    pub fn node(self, node: usize) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Whether programs claim slots in the guard, if the kernel has it, or by compare-and-swap. Both are correct
    /// everywhere, and may write one ring: only speed differs. By default, programs use the guard unless the CPU's
    /// mitigations make calls of kernel functions slow (AMD's *Safe RET*, for example).
    pub fn guard(self, guard: bool) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Prepares the object of a skeleton, and returns the bytes of kernel memory that its maps of mapring will take once they
    /// are loaded and initialized. The kernel allocates all of it then, for each *possible* CPU, whether or not the CPU
    /// exists, and charges it to the cgroup of the loader (before Linux 5.11, to its RLIMIT_MEMLOCK). Maps that the object
    /// reuses are not counted.
    ///
    /// Reads a few files of sysfs. On kernels that may be too old for fetching
    /// atomics, it loads a program of five instructions to find out.
    ///
    /// # Errors
    /// [`ErrorKind::System`](mapring::ErrorKind::System) without sysfs; [`ErrorKind::Shape`](mapring::ErrorKind::Shape) if
    /// a map would have more elements than maps can have, or for a key or value size that this kernel does not accept for
    /// arrays; [`ErrorKind::Unsupported`](mapring::ErrorKind::Unsupported) for an object compiled for x86 on another
    /// machine, and for programs that this kernel does not load, for example because of their license; [`ErrorKind::OutOfRange`](mapring::ErrorKind::OutOfRange)
    /// for a node that does not exist; [`ErrorKind::NotReusable`](mapring::ErrorKind::NotReusable), with both sides, for a map
    /// that the object reuses and that holds something else than the object declares. The fields of records are
    /// compared only with CAP_SYS_ADMIN.
    pub fn skeleton<'obj>(self, open: &mut impl OpenSkel<'obj>) -> Result<u64> {
        self.object(open.open_object_mut())
    }

    /// [`skeleton`](Self::skeleton) for an object without one.
    ///
    /// # Errors
    /// As for [`skeleton`](Self::skeleton).
    pub fn object(self, object: &mut OpenObject) -> Result<u64> {
        let Some(btf) = types_of(object)? else { return Ok(0) };
        guard::check_license(object, &btf)?;
        let fetches = |program: &OpenProgram<'_>| {
            program.autoload() && program.insns().iter().any(|insn| atomics::is_fetching(insn.code, insn.imm))
        };
        if let Some(program) = object.progs().find(fetches) {
            atomics::check(&program.name().to_string_lossy())?;
        }
        choose_guard(object, &btf, self.guard.unwrap_or_else(|| !guard::is_slow()));
        let declared = Declarations::new(btf.into())?;
        let mut reused = Reused::new(&declared, None);
        for (map, name) in object.maps().filter(is_declared).zip(declared.names()) {
            match (preset(&map), pin_path(&map)) {
                (Some(fd), _) => reused.add(name, fd)?,
                (None, Some(pin)) => reused.add_pinned(name, &pin)?,
                (None, None) => {}
            }
        }
        reused.check()?;
        let mut shapes = Vec::new();
        let mut bytes = 0;
        for (map, declared_name) in object.maps().filter(is_declared).zip(declared.names()) {
            let Some(region) = declared.get(declared_name) else { continue };
            let Some(geometry) = region.geometry()? else { continue };
            // Messages name the map of maps, which programs use.
            let name = declared_name
                .strip_suffix(FIRST)
                .filter(|_| region.in_map_of_maps())
                .unwrap_or(declared_name);
            if region.needs_x86() && !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
                return Err(Refused::MemoryOrder { map: name.to_owned() }.into());
            }
            limits::check(name, geometry.kind().is_per_cpu(), map.key_size(), map.value_size())?;
            if preset(&map).is_none() {
                bytes += memory_of(&geometry)?;
            }
            let count = |entries| u32::try_from(entries).expect("no more than maps have");
            if geometry.options().has_per_cpu_maps() {
                shapes.push((name.into(), count(declared.shards()), None));
            }
            let node = self.node_of(&geometry)?;
            shapes.push((map.name().to_os_string(), count(geometry.entries()), node));
        }
        for mut map in object.maps_mut() {
            if let Some((_, entries, node)) = shapes.iter().find(|(name, ..)| *name == map.name())
                && preset(&map).is_none()
            {
                map.set_max_entries(*entries).map_err(libbpf)?;
                if let Some(node) = *node {
                    place_on_node(&mut map, node)?;
                }
            }
        }
        Ok(bytes)
    }

    /// The node for a map of this shape; `None` leaves the choice to the kernel.
    fn node_of(&self, geometry: &Geometry) -> Result<Option<usize>> {
        let options = geometry.options();
        if options.has_per_cpu_maps() {
            checked_node(0)?; // libbpf creates a template map on node 0
            let (cpus, nodes) = (possible_cpus()?, nodes_of_cpus()?);
            return Ok(cpus.first().and_then(|first| nodes.get(first)).copied());
        }
        // An array of maps accepts only maps with the same flags as its first.
        Ok(self.node.filter(|_| !geometry.kind().is_per_cpu() && !options.is_resizable()))
    }
}

/// The bytes that the maps of a region take, in whole pages.
fn memory_of(geometry: &Geometry) -> Result<u64> {
    Ok(if geometry.kind().is_per_cpu() {
        geometry.bytes() as u64 * possible_cpus()?.len() as u64
    } else if geometry.options().has_per_cpu_maps() {
        in_pages(geometry) * online_cpus()?.len() as u64
    } else {
        in_pages(geometry)
    })
}

fn in_pages(geometry: &Geometry) -> u64 {
    geometry.bytes().next_multiple_of(rustix::param::page_size()) as u64
}

/// Sets the constant that selects the guard in the object's programs. Objects without this constant are not changed.
fn choose_guard(object: &mut OpenObject, btf: &Btf, guarded: bool) {
    let Some(at) = guard::constant(btf) else { return };
    let constants = object.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
    if let Some(mut map) = constants
        && let Some(word) = map.initial_value_mut().and_then(|bytes| bytes.get_mut(at..at + 4))
    {
        word.copy_from_slice(&u32::from(!guarded).to_ne_bytes());
    }
}

/// Puts the memory of a map that is not loaded yet on this node. For all maps of an object see [`Prepare::node`]. Reads
/// a file of sysfs.
///
/// A map is one allocation, on one node. A ring whose shards are on the nodes of their CPUs is a `PER_CPU_MAPS` ring. By default
/// the kernel uses the node of the CPU on which the object is loaded. If the node is full, the kernel silently uses
/// other nodes for the remaining pages.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](mapring::ErrorKind::OutOfRange) for a node that does not exist;
/// [`ErrorKind::WrongType`](mapring::ErrorKind::WrongType) for a per-CPU map: each CPU's part of it is already on the
/// node of that CPU.
pub fn place_on_node(map: &mut OpenMapMut<'_>, node: usize) -> Result<()> {
    let node = checked_node(node)?;
    if map.map_type() == MapType::PercpuArray {
        return Err(Refused::PerCpu { map: printable(&map.name().to_string_lossy()) }.into());
    }
    map.set_numa_node(node).map_err(libbpf)?;
    // Without the flag the kernel ignores the number.
    let flags = map.map_flags() | libbpf_sys::BPF_F_NUMA_NODE;
    map.set_map_flags(flags).map_err(libbpf)
}

/// The node, if it exists.
fn checked_node(node: usize) -> Result<u32> {
    let there = online_nodes()?;
    let small = u32::try_from(node).ok().filter(|_| there.contains(&node));
    small.ok_or_else(|| Refused::Node { node, there }.into())
}
