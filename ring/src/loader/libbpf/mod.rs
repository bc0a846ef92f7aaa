//! All code that uses objects and maps of libbpf-rs.

#[cfg(test)]
mod agree;
mod atomics;
mod guard;
mod limits;
mod prepare;
mod types;

use std::os::fd::AsFd;
use std::sync::Arc;

use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, MapHandle, MapImpl, MapType, Object};

pub use self::prepare::{Prepare, place_on_node, prepare, prepare_object};

use self::types::{types_of_loaded, value_type};
#[cfg(doc)]
use super::initialize_map;
use super::initialize_wakeable;
use crate::bpf::describe::ObjectTypes;
use crate::bpf::{BELLS, MapFd, MapOfMaps, MapSource, READERS, section_name};
use crate::error::{Cause, Error, Result};
use crate::region::{OpenOptions, Source};
use crate::text::printable;

/// What follows the name of a map of maps in the name of its first map (`resizable.bpf.h`, `numa.bpf.h`).
const FIRST: &str = "__first";

/// [`initialize_map`] for all maps of a loaded skeleton that mapring's macros declared. Call it before programs are
/// attached: until then they drop (and count) what they write to resizable rings and NUMA rings.
///
/// Needs no capability but CAP_BPF. It needs CAP_SYS_ADMIN only for resizable rings and NUMA rings that are initialized
/// again: their maps are then opened by id. To open such a ring by its map of maps needs CAP_SYS_ADMIN in any case.
///
/// # Errors
/// As for [`initialize_map`]; [`ErrorKind::System`](crate::ErrorKind::System) if the object's BTF can't be read.
pub fn initialize<'obj>(skel: &impl Skel<'obj>) -> Result<()> {
    initialize_object(skel.object())
}

/// [`initialize`] for an object without a skeleton.
///
/// # Errors
/// As for [`initialize`].
pub fn initialize_object(object: &Object) -> Result<()> {
    let Some(types) = types_of_loaded(object)?.map(Arc::new) else { return Ok(()) };
    // In place of a map that is not created (`set_autocreate`), libbpf has another file.
    let maps = || object.maps().filter(|map| MapFd::is_one(map.as_fd()));
    let named = |name: &str| maps().find(|map| map.name().to_string_lossy() == name);
    for map in maps() {
        let Some(described) = types.region(value_type(&map)) else { continue };
        let name = map.name().to_string_lossy();
        if described.inner.is_none() {
            OpenOptions::new().write_preamble(true).open(loaded(&map, Some(types.clone())))?;
        } else if let Some(maps) = name.strip_suffix(FIRST).and_then(named) {
            // Programs use the map of maps; the kernel took this one as a template, and libbpf put it there.
            let (first, _) = loaded(&map, Some(types.clone())).map()?;
            let (maps, _) = Source::from(&maps).map()?;
            crate::ring::initialize(&MapOfMaps::new(maps, &[0; 4])?.with_first(first))?;
        }
    }
    for readers in maps() {
        let name = readers.name().to_string_lossy();
        if let Some(name) = name.strip_suffix(READERS)
            && let (Some(ring), Some(bells)) = (named(name), named(&format!("{name}{BELLS}")))
        {
            initialize_wakeable(&ring, &readers, &bells)?;
        }
    }
    Ok(())
}

/// The map that holds a section of an object's global data, by the section's name (`.bss`): for
/// [`Globals::open`](crate::globals::Globals::open), which then needs no CAP_SYS_ADMIN. Makes system calls.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) with the maps that exist,
/// [`ErrorKind::Layout`](crate::ErrorKind::Layout).
pub fn section(object: &Object, name: &str) -> Result<Source> {
    let types = types_of_loaded(object)?.map(Arc::new);
    let mut others = Vec::new();
    for map in object.maps().filter(|map| map.map_type() == MapType::Array) {
        let map_name = map.name().to_string_lossy().into_owned();
        // The map of `.data.mine` has this name; the map of `.data` has the object's name before it.
        if map_name.ends_with(name) {
            let source = || loaded(&map, types.clone());
            if section_name(&source().map()?.0)? == name {
                return Ok(source());
            }
        }
        others.push(map_name);
    }
    Err(Error::from(Cause::NoSuch {
        thing: "section",
        name: printable(name),
        there: printable(&others.join(", ")),
    }))
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

fn loaded(map: &impl MapCore, types: Option<Arc<ObjectTypes>>) -> Source {
    let name = map.name().to_string_lossy().into_owned();
    MapSource::Loaded(map.as_fd().try_clone_to_owned(), name, types).into()
}
