//! Before an object is loaded: its maps get as many shards as the machine has possible CPUs.
#![allow(unsafe_code)]

use libbpf_rs::btf::Btf;
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{AsRawLibbpf, OpenObject, libbpf_sys};

use super::describe;
use crate::error::{Error, Result};

/// Gives every ring and every bank of counters of a skeleton a shard for each possible CPU. Call
/// it between `open` and `load`; what is not fitted has one shard, and counts what other CPUs
/// write as dropped. Maps that the headers' macros did not make are left alone.
///
/// # Errors
/// [`Error::Geometry`] if the map would have more elements than maps can have;
/// [`Error::MemoryOrder`] for an object compiled for x86 on another machine.
pub fn fit_to_machine<'obj>(open: &mut impl OpenSkel<'obj>) -> Result<()> {
    fit_object(open.open_object_mut())
}

/// [`fit_to_machine`] for an object without a skeleton.
///
/// # Errors
/// As for [`fit_to_machine`].
pub fn fit_object(object: &mut OpenObject) -> Result<()> {
    let shards = libbpf_rs::num_possible_cpus()? as u64;
    let raw = object.as_libbpf_object();
    // SAFETY: the object is open for as long as `object` is borrowed, and its BTF is never
    // changed after opening it.
    let Some(btf) = Btf::from_bpf_object(unsafe { raw.as_ref() })? else { return Ok(()) };
    let mut fitted = Vec::new();
    for map in object.maps() {
        // SAFETY: the map belongs to the open object.
        let value = unsafe { libbpf_sys::bpf_map__btf_value_type_id(map.as_libbpf_object().as_ptr()) };
        let Some(description) = describe::from_btf(&btf, value) else { continue };
        let name = map.name().to_os_string();
        if description.tso && !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            return Err(Error::MemoryOrder { map: name.to_string_lossy().into_owned() });
        }
        let geometry = description.geometry(shards)?;
        fitted.push((name, geometry.entries()));
    }
    for mut map in object.maps_mut() {
        if let Some((_, entries)) = fitted.iter().find(|(name, _)| *name == map.name()) {
            let entries = u32::try_from(*entries).expect("a geometry has no more");
            map.set_max_entries(entries)?;
        }
    }
    Ok(())
}
