//! Before an object is loaded: its maps get as many shards as the machine has possible CPUs.
#![allow(unsafe_code)]

use libbpf_rs::btf::Btf;
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{AsRawLibbpf, OpenObject, libbpf_sys};

use super::nodes::{checked_node, place_on_node};
use super::{atomics, guard, limits};
use crate::cpus::{nodes_of_cpus, possible_cpus};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::region::describe::{self, Inner};

/// [`Prepare::skeleton`] with nothing asked for. Call it between `open` and `load`, after all else
/// that changes the object (`set_autoload`, `set_prog_type`).
///
/// # Errors
/// See there.
pub fn prepare<'obj>(open: &mut impl OpenSkel<'obj>) -> Result<()> {
    Prepare::new().skeleton(open)
}

/// [`Prepare::object`] with nothing asked for.
///
/// # Errors
/// See there.
pub fn prepare_object(object: &mut OpenObject) -> Result<()> {
    Prepare::new().object(object)
}

/// How an object is fitted to the machine that it is about to be loaded on.
///
/// Every ring and every bank of counters gets a shard for each CPU up to the last possible one; what is not fitted
/// has one shard, and counts what other CPUs write as dropped. Maps that the headers' macros did not make are left
/// alone.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Prepare {
    node: Option<usize>,
    guard: Option<bool>,
}

impl Prepare {
    /// What the machine and the object allow.
    pub fn new() -> Self {
        Self::default()
    }

    /// The memory of every map that is fitted on this node, where a machine has several: best that of
    /// the CPUs whose programs write most, or of the reader. Per-CPU maps are left alone and the rings of
    /// NUMA rings (what each CPU writes is on its own node anyway), and resizable
    /// rings. For a node a map see [`place_on_node`].
    pub fn node(self, node: usize) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Whether programs claim slots in the guard, where the kernel has it; else by compare-and-swap. Both are right
    /// everywhere, and may write one ring: this is about speed. Without it, programs use the guard unless the CPU's
    /// mitigations make calls of kernel functions slow (AMD's *Safe RET*, for example).
    pub fn guard(self, guard: bool) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Fits the object of a skeleton. Reads a few files of sysfs, and asks the kernel whether it has fetching atomics
    /// by loading a program of three instructions, on kernels old enough to lack them.
    ///
    /// # Errors
    /// [`Error::System`] without sysfs; [`Error::Geometry`] if a map would have more elements than maps can have;
    /// [`Error::MemoryOrder`] for an object compiled for x86 on another machine; [`Error::NoFetchingAtomics`] for
    /// programs that this kernel will not load; [`Error::MapSize`] for a key or value that this kernel makes no
    /// array of; [`Error::Node`] for a node that is not there.
    pub fn skeleton<'obj>(self, open: &mut impl OpenSkel<'obj>) -> Result<()> {
        self.object(open.open_object_mut())
    }

    /// [`skeleton`](Self::skeleton) for an object without one.
    ///
    /// # Errors
    /// As there.
    pub fn object(self, object: &mut OpenObject) -> Result<()> {
        // Numbers of CPUs may have gaps, and a program goes by its CPU's number.
        let shards = possible_cpus()?.last().map_or(1, |last| last + 1);
        let raw = object.as_libbpf_object();
        // SAFETY: the object is open for as long as `object` is borrowed, and its BTF is never
        // changed after opening it.
        let btf = Btf::from_bpf_object(unsafe { raw.as_ref() })?;
        let Some(btf) = btf else { return Ok(()) };
        atomics::check(object)?;
        guard::choose(object, &btf, self.guard.unwrap_or_else(|| !guard::is_slow()));
        let mut shapes = Vec::new();
        for map in object.maps() {
            // SAFETY: the map belongs to the open object.
            let value = unsafe { libbpf_sys::bpf_map__btf_value_type_id(map.as_libbpf_object().as_ptr()) };
            let Some(description) = describe::from_btf(&btf, value) else { continue };
            let name = map.name().to_string_lossy();
            // What programs call it is the map of maps.
            let name =
                description.inner.and_then(|_| name.strip_suffix("__first")).unwrap_or(&name).to_owned();
            if description.tso && !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
                return Err(Error::MemoryOrder { map: name });
            }
            let geometry = description.geometry(shards as u64)?;
            limits::check(&name, geometry.kind().is_per_cpu(), map.key_size(), map.value_size())?;
            let count = |entries| u32::try_from(entries).expect("no more than maps have");
            if description.inner == Some(Inner::OfCpu) {
                shapes.push((name.into(), count(shards), None));
            }
            let node = self.node_of(description.inner, geometry.kind())?;
            shapes.push((map.name().to_os_string(), count(geometry.entries()), node));
        }
        for mut map in object.maps_mut() {
            if let Some((_, entries, node)) = shapes.iter().find(|(name, ..)| *name == map.name()) {
                map.set_max_entries(*entries)?;
                if let Some(node) = *node {
                    place_on_node(&mut map, node)?;
                }
            }
        }
        Ok(())
    }

    /// The node of a map of this kind, if it is not all the same.
    fn node_of(&self, inner: Option<Inner>, kind: Kind) -> Result<Option<usize>> {
        match inner {
            None => Ok(self.node.filter(|_| !kind.is_per_cpu())),
            // An array of maps takes only maps with the flags of its first.
            Some(Inner::Resizable) => Ok(None),
            Some(Inner::OfCpu) => {
                checked_node(0)?; // where libbpf makes a map to show the kernel
                let (cpus, nodes) = (possible_cpus()?, nodes_of_cpus()?);
                Ok(cpus.first().and_then(|first| nodes.get(first)).copied())
            }
        }
    }
}
