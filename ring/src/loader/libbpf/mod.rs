//! All code that uses objects and maps of libbpf-rs.

#[cfg(test)]
mod agree;
mod atomics;
mod guard;
mod limits;
mod prepare;

use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, MapHandle, MapImpl, MapType, Object};

pub use self::prepare::{Prepare, place_on_node, prepare, prepare_object};

use super::{initialize_map, initialize_wakeable};
use crate::bpf::{BELLS, MapFd, MapLocator, MapOfMaps, Place, READERS, section_name};
use crate::error::{Cause, Error, Result};
use crate::region::Source;
use crate::text::printable;

/// [`initialize_map`] for all maps of a loaded skeleton that mapring's macros declared. Call it before programs are
/// attached: until then they drop (and count) what they write to resizable rings and NUMA rings.
///
/// # Errors
/// As for [`initialize_map`]; [`ErrorKind::Layout`](crate::ErrorKind::Layout) without CAP_SYS_ADMIN, because the kernel then
/// does not show the types of the maps.
pub fn initialize<'obj>(skel: &impl Skel<'obj>) -> Result<()> {
    initialize_object(skel.object())
}

/// [`initialize`] for an object without a skeleton.
///
/// # Errors
/// As for [`initialize`].
pub fn initialize_object(object: &Object) -> Result<()> {
    for map in object.maps() {
        if is_declared(&map)? {
            initialize_map(&map)?;
        }
    }
    let named = |name: &str| object.maps().find(|map| map.name().to_string_lossy() == name);
    for readers in object.maps() {
        let name = readers.name().to_string_lossy();
        if let Some(name) = name.strip_suffix(READERS)
            && let (Some(ring), Some(bells)) = (named(name), named(&format!("{name}{BELLS}")))
        {
            initialize_wakeable(&ring, &readers, &bells)?;
        }
    }
    Ok(())
}

/// Whether mapring's macros declared the map, for programs to use. This excludes the first map of a map of maps, which
/// only serves the kernel as a template.
fn is_declared(map: &impl MapCore) -> Result<bool> {
    let Ok(fd) = map.as_fd().try_clone_to_owned() else { return Ok(false) };
    let map = MapFd::loaded(fd, &map.name().to_string_lossy())?;
    map.may_read_types()?;
    Ok(match map.region() {
        Some(described) => described.inner.is_none(),
        None if map.holds_maps() => {
            let Ok(maps) = MapOfMaps::new(map, &[0; 4]) else { return Ok(false) };
            MapLocator::Inner(maps).open().is_ok_and(|inner| inner.region().is_some())
        }
        None => false,
    })
}

/// The map that holds a section of an object's global data, by the section's name (`.bss`): for
/// [`Globals::open`](crate::globals::Globals::open). Makes system calls.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) with the maps that exist,
/// [`ErrorKind::Layout`](crate::ErrorKind::Layout).
pub fn section(object: &Object, name: &str) -> Result<Source> {
    let mut others = Vec::new();
    for map in object.maps().filter(|map| map.map_type() == MapType::Array) {
        let map_name = map.name().to_string_lossy().into_owned();
        // The map of `.data.mine` has this name; the map of `.data` has the object's name before it.
        if map_name.ends_with(name) {
            let (opened, _) = Source::from(&map).map()?;
            if section_name(&opened)? == name {
                return Ok(Source::from(&map));
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
        loaded(map)
    }
}

/// Duplicates the file descriptor: a system call.
impl From<&MapHandle> for Source {
    fn from(map: &MapHandle) -> Self {
        loaded(map)
    }
}

fn loaded(map: &impl MapCore) -> Source {
    let name = map.name().to_string_lossy().into_owned();
    Place::Loaded(map.as_fd().try_clone_to_owned(), name).into()
}
