//! All code that uses objects and maps of libbpf-rs.

#[cfg(test)]
mod agree;
mod atomics;
mod guard;
mod limits;
mod prepare;
mod reuse;
mod types;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libbpf_rs::skel::Skel;
use libbpf_rs::{Map, MapCore, MapFlags, MapHandle, MapImpl, MapType, Object};

pub use self::prepare::{Prepare, place_on_node, prepare, prepare_object};
pub use self::reuse::{Reuse, reuse};

use self::reuse::{Reused, declared};
use self::types::{is_declared, types_of_loaded};
use super::{initialize_map, initialize_wakeable};
use crate::bpf::MapFd;
use crate::bpf::describe::{self, LoadedObject};
use crate::bpf::stage::{BELLS, READERS};
use crate::error::{Cause, Error, Result};
use crate::region::maps::section_name;
use crate::region::{AnySource, OpenOptions, Source};
use mapring_core::text::printable;

/// What follows the name of a map of maps in the name of its first map (`detail/place.bpf.h`).
const FIRST: &str = "__first";

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
/// As for [`initialize_map`]; [`ErrorKind::System`](crate::ErrorKind::System) if the object's BTF can't be read;
/// [`ErrorKind::NotReusable`](crate::ErrorKind::NotReusable), with both sides, as for [`Prepare::skeleton`].
pub fn initialize<'obj>(skel: &impl Skel<'obj>) -> Result<()> {
    initialize_object(skel.object())
}

/// [`initialize`] for an object without a skeleton.
///
/// # Errors
/// As for [`initialize`].
pub fn initialize_object(object: &Object) -> Result<()> {
    let Some(known) = with_maps(object, |_| true)? else { return Ok(()) };
    let declared = declared(known.btf());
    // Before anything is written.
    Reused::of_loaded(object, &known, &declared)?.check()?;
    let maps = object.maps().filter(is_declared).zip(&declared);
    let maps: Vec<_> = maps.filter(|(map, _)| MapFd::is_one(map.as_fd())).collect();
    let named = |name: &str| maps.iter().find(|(_, (other, _))| other == name).map(|(map, _)| map);
    for (map, (name, value)) in &maps {
        let Some(described) = describe::from_btf(known.btf(), *value) else { continue };
        if !described.in_map_of_maps() {
            OpenOptions::new().write_preamble(true).open(loaded(map, Some(known.clone())))?;
        } else if let Some(maps) = name.strip_suffix(FIRST).and_then(named) {
            // Programs use the map of maps; the kernel took this one as a template. libbpf put it there, unless rustc, which can't
            // declare that, compiled the object.
            let first = 0_u32.to_ne_bytes();
            if maps.lookup(&first, MapFlags::ANY)?.is_none() {
                maps.update(&first, &map.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY)?;
            }
            initialize_map(loaded(maps, Some(known.clone())))?;
        }
    }
    for (readers, (name, _)) in &maps {
        if let Some(name) = name.strip_suffix(READERS)
            && let (Some(ring), Some(bells)) = (named(name), named(&format!("{name}{BELLS}")))
        {
            initialize_wakeable(ring, readers, bells)?;
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
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) with the maps that exist,
/// [`ErrorKind::System`](crate::ErrorKind::System).
pub fn map(object: &Object, name: &str) -> Result<Source> {
    let Some(map) = created(object).find(|map| map.name().to_string_lossy() == name) else {
        let others: Vec<_> = created(object).map(|map| map.name().to_string_lossy().into_owned()).collect();
        return Err(no_such("map", name, &others));
    };
    let its = [FIRST, READERS, BELLS].map(|suffix| format!("{name}{suffix}"));
    Ok(loaded(&map, with_maps(object, |name| its.iter().any(|its| its == name))?))
}

/// The maps that were created. In place of another one (`set_autocreate`) libbpf has another file.
fn created(object: &Object) -> impl Iterator<Item = Map<'_>> {
    object.maps().filter(|map| MapFd::is_one(map.as_fd()))
}

/// The types of an object, and its maps with the names that `wanted` picks. `None` if the object has no types.
fn with_maps(object: &Object, wanted: impl Fn(&str) -> bool) -> Result<Option<Arc<LoadedObject>>> {
    let Some(mut known) = types_of_loaded(object)? else { return Ok(None) };
    for map in created(object).filter(|map| wanted(&map.name().to_string_lossy())) {
        known.add(Source::from(&map).map()?.0);
    }
    Ok(Some(known.into()))
}

/// The map that holds a section of an object's global data, by the section's name (`.bss`): for
/// [`Globals::open`](crate::globals::Globals::open), which then needs no CAP_SYS_ADMIN. Makes system calls.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) with the maps that exist,
/// [`ErrorKind::Layout`](crate::ErrorKind::Layout).
pub fn section(object: &Object, name: &str) -> Result<Source> {
    let known = with_maps(object, |_| false)?;
    let mut others = Vec::new();
    for map in object.maps().filter(|map| map.map_type() == MapType::Array) {
        let map_name = map.name().to_string_lossy().into_owned();
        // The map of `.data.mine` has this name; the map of `.data` has the object's name before it.
        if map_name.ends_with(name) {
            let source = || loaded(&map, known.clone());
            if section_name(&source().map()?.0)? == name {
                return Ok(source());
            }
        }
        others.push(map_name);
    }
    Err(no_such("section", name, &others))
}

fn no_such(thing: &'static str, name: &str, others: &[String]) -> Error {
    Error::from(Cause::NoSuch { thing, name: printable(name), there: printable(&others.join(", ")) })
}

/// Duplicates the file descriptor: a system call.
impl<T: std::fmt::Debug> From<&MapImpl<'_, T>> for Source {
    fn from(map: &MapImpl<'_, T>) -> Self {
        loaded(map, None)
    }
}

/// Duplicates the file descriptor: a system call.
impl From<&MapHandle> for Source {
    fn from(map: &MapHandle) -> Self {
        loaded(map, None)
    }
}

fn loaded(map: &impl MapCore, object: Option<Arc<LoadedObject>>) -> Source {
    let name = map.name().to_string_lossy().into_owned();
    Source(AnySource::Loaded(map.as_fd().try_clone_to_owned(), name, object))
}
