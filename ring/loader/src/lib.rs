//! Loads BPF objects that use [mapring](https://docs.rs/mapring)'s headers, with libbpf-rs. To build libbpf, you need a C
//! compiler, libelf and zlib; readers need only the crate `mapring`.
//!
//! ```text
//! open ── prepare ── load ── initialize ── freeze_and_pin
//!         shards     (libbpf)  preambles,    readers without privilege
//!         for all CPUs         maps of CPUs
//! ```
//!
//! 1. Between open and load, [`prepare`] gives every map a shard for each possible CPU. In a loader that starts again,
//!    [`reuse`](fn@reuse) before it takes over what is pinned.
//! 2. After load, [`initialize`] writes the preambles for readers in other processes, creates the per-CPU maps of NUMA
//!    rings, and lets programs write resizable rings.
//! 3. [`Ring::freeze_and_pin`](mapring::Ring::freeze_and_pin) makes the map available to other processes.
//!
//! All functions make system calls. A loader that uses aya calls [`initialize_map`] for each map instead: it needs only the
//! crate `mapring`.
#![deny(unsafe_code)]

mod atomics;
mod error;
mod guard;
mod limits;
mod prepare;
mod reuse;
mod types;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libbpf_rs::skel::Skel;
use libbpf_rs::{Map, MapCore, MapFlags, MapType, Object};
use mapring::loader::{
    BELLS, Declarations, FIRST, LoadedObject, READERS, Reused, initialize_map, initialize_wakeable,
    section_name,
};
use mapring::{OpenOptions, Result, Source};
use mapring_core::text::printable;
use mapring_sys::fdinfo::is_map;

/// The version of libbpf-rs whose maps and objects this crate's functions take. Use it as `mapring_loader::libbpf_rs`, or
/// depend on the same version. Types of another version are different types: rustc then reports that `MapCore` or
/// `OpenObject` do not match.
pub use libbpf_rs;

pub use self::prepare::{Prepare, place_on_node, prepare, prepare_object};
pub use self::reuse::{Reuse, reuse};

use self::error::{Refused, libbpf};
use self::types::{is_declared, types_of_loaded};

/// [`initialize_map`] for all maps of a loaded skeleton that mapring's macros declared. Call it before programs are
/// attached: until then they drop (and count) what they write to resizable rings and `PER_CPU_MAPS` rings.
///
/// Needs no capability but CAP_BPF. It needs CAP_SYS_ADMIN only for resizable rings and `PER_CPU_MAPS` rings that are initialized
/// again: their maps are then opened by id. To open the maps afterwards without CAP_SYS_ADMIN see [`map()`].
///
/// An object can reuse pinned maps (libbpf's `reuse_pinned_map`, `reuse_fd` and pins by name) if it declares the same: kind,
/// options, slots, record and fields. Of a wakeable ring it must reuse all three maps. Otherwise this writes nothing.
///
/// # Errors
/// As for [`initialize_map`]; [`ErrorKind::System`](mapring::ErrorKind::System) if the object's BTF can't be read;
/// [`ErrorKind::NotReusable`](mapring::ErrorKind::NotReusable), with both sides, as for [`Prepare::skeleton`].
pub fn initialize<'obj>(skel: &impl Skel<'obj>) -> Result<()> {
    initialize_object(skel.object())
}

/// [`initialize`] for an object without a skeleton.
///
/// # Errors
/// As for [`initialize`].
pub fn initialize_object(object: &Object) -> Result<()> {
    let Some(known) = with_maps(object, |_| true)? else { return Ok(()) };
    let declared = Declarations::new(known.btf().clone())?;
    let maps = object.maps().filter(is_declared).zip(declared.names());
    let maps: Vec<_> = maps.filter(|(map, _)| is_map(map.as_fd())).collect();
    // Before anything is written.
    let mut reused = Reused::new(&declared, Some(&known));
    for (map, name) in &maps {
        reused.add(name, map.as_fd())?;
    }
    reused.check()?;
    let named = |name: &str| maps.iter().find(|(_, other)| *other == name).map(|(map, _)| map);
    let source = |map: &Map<'_>| loaded(map, Some(known.clone()));
    for (map, name) in &maps {
        let Some(region) = declared.get(name).filter(|region| region.options().is_some()) else { continue };
        if !region.in_map_of_maps() {
            OpenOptions::new().write_preamble(true).open(source(map))?;
        } else if let Some(maps) = name.strip_suffix(FIRST).and_then(named) {
            // Programs use the map of maps; the kernel took this one as a template. libbpf put it there, unless rustc, which can't
            // declare that, compiled the object.
            let first = 0_u32.to_ne_bytes();
            if maps.lookup(&first, MapFlags::ANY).map_err(libbpf)?.is_none() {
                let fd = map.as_fd().as_raw_fd().to_ne_bytes();
                maps.update(&first, &fd, MapFlags::ANY).map_err(libbpf)?;
            }
            initialize_map(source(maps))?;
        }
    }
    for (readers, name) in &maps {
        if let Some(name) = name.strip_suffix(READERS)
            && let (Some(ring), Some(bells)) = (named(name), named(&format!("{name}{BELLS}")))
        {
            initialize_wakeable(loaded(ring, None), loaded(readers, None), loaded(bells, None))?;
        }
    }
    Ok(())
}

/// A map of a loaded object, by its name. Opened from this source, a ring needs no CAP_SYS_ADMIN in the loader: records are
/// compared with the object's types, and the ring's readers and bells, or the map of a resizable ring, are found through the
/// object's descriptors. But a resizable ring that was resized or wakes readers, and a `PER_CPU_MAPS` ring, need CAP_SYS_ADMIN. Makes system calls,
/// and duplicates the descriptors of these maps.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](mapring::ErrorKind::OutOfRange) with the maps that exist,
/// [`ErrorKind::System`](mapring::ErrorKind::System).
pub fn map(object: &Object, name: &str) -> Result<Source> {
    let Some(map) = created(object).find(|map| map.name().to_string_lossy() == name) else {
        let others: Vec<_> = created(object).map(|map| map.name().to_string_lossy().into_owned()).collect();
        return Err(no_such("map", name, &others).into());
    };
    let its = [FIRST, READERS, BELLS].map(|suffix| format!("{name}{suffix}"));
    Ok(loaded(&map, with_maps(object, |name| its.iter().any(|its| its == name))?))
}

/// The maps that were created. In place of another one (`set_autocreate`) libbpf has another file.
fn created(object: &Object) -> impl Iterator<Item = Map<'_>> {
    object.maps().filter(|map| is_map(map.as_fd()))
}

/// The types of an object, and its maps with the names that `wanted` picks. `None` if the object has no types.
fn with_maps(object: &Object, wanted: impl Fn(&str) -> bool) -> Result<Option<Arc<LoadedObject>>> {
    let Some(mut known) = types_of_loaded(object)? else { return Ok(None) };
    for map in created(object).filter(|map| wanted(&map.name().to_string_lossy())) {
        known.add(map.as_fd(), &map.name().to_string_lossy())?;
    }
    Ok(Some(known.into()))
}

/// The map that holds a section of an object's global data, by the section's name (`.bss`): for
/// [`Globals::open`](mapring::globals::Globals::open), which then needs no CAP_SYS_ADMIN. Makes system calls.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](mapring::ErrorKind::OutOfRange) with the maps that exist,
/// [`ErrorKind::Layout`](mapring::ErrorKind::Layout).
pub fn section(object: &Object, name: &str) -> Result<Source> {
    let known = with_maps(object, |_| false)?;
    let mut others = Vec::new();
    for map in object.maps().filter(|map| map.map_type() == MapType::Array) {
        let map_name = map.name().to_string_lossy().into_owned();
        // The map of `.data.mine` has this name; the map of `.data` has the object's name before it.
        if map_name.ends_with(name) {
            let source = || loaded(&map, known.clone());
            if section_name(source())? == name {
                return Ok(source());
            }
        }
        others.push(map_name);
    }
    Err(no_such("section", name, &others).into())
}

fn no_such(thing: &'static str, name: &str, others: &[String]) -> Refused {
    Refused::NoSuch { thing, name: printable(name), there: printable(&others.join(", ")) }
}

fn loaded(map: &impl MapCore, object: Option<Arc<LoadedObject>>) -> Source {
    Source::loaded(map.as_fd(), &map.name().to_string_lossy(), object)
}
