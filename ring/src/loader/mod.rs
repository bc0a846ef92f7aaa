//! What a loader does with BPF objects that use mapring's headers.
//!
//! ```text
//! open ── prepare ── load ── initialize ── freeze_and_pin
//!         shards     (libbpf)  preambles,    readers without privilege
//!         for all CPUs         maps of CPUs
//! ```
//!
//! 1. Between open and load, [`prepare`] gives every map a shard for each possible CPU.
//! 2. After load, [`initialize`] writes what readers in other processes need to know,
//!    makes the per-CPU maps of NUMA rings, and lets programs write resizable rings.
//! 3. [`Ring::freeze_and_pin`](crate::Ring::freeze_and_pin) hands the map to other processes.

mod atomics;
mod guard;
mod limits;
mod nodes;
mod prepare;

use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, MapType, Object};

pub use self::nodes::place_on_node;
pub use self::prepare::{Prepare, prepare, prepare_object};
pub use crate::region::PinOptions;

use crate::error::{Error, Result};
use crate::region::{MapLocator, OpenOptions, Source, section_name};
use crate::ring::{initialize_nodes, initialize_resizable};
use crate::text::printable;

/// Makes a loaded map ready for readers: writes its preamble, if it has none. Of a resizable ring or a NUMA ring, give the
/// map of maps that programs reserve from. For all maps of a skeleton see [`initialize`]. Makes system calls.
///
/// - Resizable ring: opens its gate. Until then programs drop (and count) records. Finishes a resize that another
///   process began and did not finish.
/// - NUMA ring: makes the maps of all CPUs, each on the NUMA node of its CPU. Until then, CPUs other than the first drop (and
///   count) records. Waits for an RCU grace period: milliseconds. Needs CAP_BPF to make maps, and CAP_SYS_ADMIN to open
///   them by id. Two processes must not do this at once.
///
/// # Errors
/// [`Error::NotFitted`] for an object that was not [prepared](prepare); [`Error::NoPreamble`]; as for
/// [`OpenOptions::open`].
pub fn initialize_map(source: impl Into<Source>) -> Result<()> {
    let maps = match source.into().array_of_maps()? {
        Ok(maps) => maps,
        Err(source) => return OpenOptions::new().write_preamble(true).open(source).map(drop),
    };
    let first = OpenOptions::new().find(MapLocator::Inner(maps.clone()))?;
    let geometry = first.geometry();
    if geometry.is_of_cpu() {
        initialize_nodes(&maps)
    } else if geometry.is_resizable() {
        initialize_resizable(&maps)
    } else {
        Err(maps.holds_no_ring())
    }
}

/// [`initialize_map`] for all maps of a loaded skeleton that mapring's macros declared. Call it before programs are attached,
/// or they drop (and count) what they write to resizable rings and NUMA rings.
///
/// # Errors
/// As there.
pub fn initialize<'obj>(skel: &impl Skel<'obj>) -> Result<()> {
    initialize_object(skel.object())
}

/// [`initialize`] for an object without a skeleton.
///
/// # Errors
/// As there.
pub fn initialize_object(object: &Object) -> Result<()> {
    for map in object.maps() {
        let source = Source::from(&map);
        if source.is_declared()? {
            initialize_map(source)?;
        }
    }
    Ok(())
}

/// The map that holds a section of an object's global data, by the section's name (`.bss`): for
/// [`Globals::open`](crate::globals::Globals::open). Makes system calls.
///
/// # Errors
/// [`Error::NoSuch`] with the maps that exist, [`Error::NoTypes`].
pub fn section(object: &Object, name: &str) -> Result<Source> {
    let mut others = Vec::new();
    for map in object.maps().filter(|map| map.map_type() == MapType::Array) {
        let map_name = map.name().to_string_lossy().into_owned();
        // `.data.mine` is called that; `.data` has the object's name before it.
        if map_name.ends_with(name) {
            let (opened, _) = Source::from(&map).map()?;
            if section_name(&opened)? == name {
                return Ok(Source::from(&map));
            }
        }
        others.push(map_name);
    }
    Err(Error::NoSuch { thing: "section", name: printable(name), there: printable(&others.join(", ")) })
}
