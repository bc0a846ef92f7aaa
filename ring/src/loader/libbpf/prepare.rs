//! Before an object is loaded: its maps get as many shards as the machine has possible CPUs.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::{io, slice};

use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{AsRawLibbpf, MapType, OpenMapMut, OpenObject, OpenProgram, libbpf_sys};

use super::{atomics, guard, limits};
use crate::bpf::btf::Btf;
use crate::bpf::describe::{self, Inner};
use crate::cpus::{nodes_of_cpus, online_nodes, possible_cpus};
use crate::error::{Cause, Error, Result};
use crate::layout::Kind;
use crate::text::printable;

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
        let Some(btf) = types_of(object)? else { return Ok(()) };
        let fetches = |program: &OpenProgram<'_>| {
            program.autoload() && program.insns().iter().any(|insn| atomics::is_fetching(insn.code, insn.imm))
        };
        if let Some(program) = object.progs().find(fetches) {
            atomics::check(&program.name().to_string_lossy())?;
        }
        choose_guard(object, &btf, self.guard.unwrap_or_else(|| !guard::is_slow()));
        let mut shapes = Vec::new();
        for map in object.maps() {
            // SAFETY: the map belongs to the open object.
            let value = unsafe { libbpf_sys::bpf_map__btf_value_type_id(map.as_libbpf_object().as_ptr()) };
            let Some(description) = describe::from_btf(&btf, value) else { continue };
            let name = map.name().to_string_lossy();
            // What programs call it is the map of maps.
            let name =
                description.inner.and_then(|_| name.strip_suffix("__first")).unwrap_or(&name).to_owned();
            let tso = btf.get(value).and_then(|value| value.field(describe::TSO)).is_some();
            if tso && !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
                return Err(Error::from(Cause::MemoryOrder { map: name }));
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

/// The types of an open object, if it has any.
fn types_of(object: &OpenObject) -> Result<Option<Btf>> {
    let failed = |error| Error::system("reading the BTF of the object", error);
    let no_memory = || failed(io::ErrorKind::OutOfMemory.into());
    // SAFETY: the object is open as long as it is borrowed.
    let btf = unsafe { libbpf_sys::bpf_object__btf(object.as_libbpf_object().as_ptr()) };
    if btf.is_null() {
        return Ok(None);
    }
    // A copy, as libbpf would keep the bytes of the object's own and load those, whatever it changes until then.
    // SAFETY: no preconditions.
    let copy = NonNull::new(unsafe { libbpf_sys::btf__new_empty() }).ok_or_else(no_memory)?;
    // SAFETY: both are live BTF.
    let copied = unsafe { libbpf_sys::btf__add_btf(copy.as_ptr(), btf) };
    let mut size = 0;
    // SAFETY: the copy is live, and the bytes are its own.
    let bytes = unsafe { libbpf_sys::btf__raw_data(copy.as_ptr(), &raw mut size) };
    let bytes = (copied >= 0 && !bytes.is_null()).then(|| {
        // SAFETY: libbpf says that there are as many bytes, and they are there as long as the copy is.
        unsafe { slice::from_raw_parts(bytes.cast::<u8>(), size as usize) }.to_vec()
    });
    // SAFETY: the copy is ours, and used no more.
    unsafe { libbpf_sys::btf__free(copy.as_ptr()) };
    match Btf::new(bytes.ok_or_else(no_memory)?) {
        None => {
            Err(failed(io::Error::other("it has kinds of types that this version of mapring does not know")))
        }
        btf => Ok(btf),
    }
}

/// Tells the object's programs whether to use the guard. Those that know none are left alone.
fn choose_guard(object: &mut OpenObject, btf: &Btf, guarded: bool) {
    let Some(at) = guard::constant(btf) else { return };
    let constants = object.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
    if let Some(mut map) = constants
        && let Some(word) = map.initial_value_mut().and_then(|bytes| bytes.get_mut(at..at + 4))
    {
        word.copy_from_slice(&u32::from(!guarded).to_ne_bytes());
    }
}

/// Has the memory of a map, that is not loaded yet, be on this node. For one map; [`Prepare::node`]
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
        return Err(Error::from(Cause::MapType {
            what: format!("map {}", printable(&map.name().to_string_lossy())),
            found: "a map of type percpu_array".to_owned(),
            expected: "array",
            hint: "; each CPU's values are on the node of that CPU already",
        }));
    }
    map.set_numa_node(node)?;
    // Without the flag the kernel does not look at the number.
    let flags = map.map_flags() | libbpf_sys::BPF_F_NUMA_NODE;
    Ok(map.set_map_flags(flags)?)
}

/// The node, if it is there.
fn checked_node(node: usize) -> Result<u32> {
    let there = online_nodes()?;
    let small = u32::try_from(node).ok().filter(|_| there.contains(&node));
    small.ok_or(Error::from(Cause::Node { node, there }))
}
