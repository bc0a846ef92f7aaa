//! Finds the programs that use a map, and whether they are attached.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

use bytemuck::{bytes_of, bytes_of_mut};
use mapring_core::text::printable;
use mapring_sys::bpf::{self, Elements, Object};
use mapring_sys::kinds::MapType;

use crate::error::{Cause, Error, Result};
use crate::record;
use crate::region::MapUser;

/// The programs that use the map `id`, with their links.
pub(crate) fn users(id: u32) -> Result<Vec<MapUser>> {
    users_of(id).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; which programs use a map is known to processes with CAP_SYS_ADMIN: run as root"
            }
            _ => "",
        };
        Error::from(Cause::System { call: "bpf(BPF_PROG_GET_NEXT_ID)", error, hint })
    })
}

fn users_of(map: u32) -> io::Result<Vec<MapUser>> {
    let mut known = HashMap::from([(map, true)]);
    let mut users = Vec::new();
    each(Object::Program, |id| {
        let (info, maps) = bpf::program_maps(bpf::program_by_id(id)?.as_fd())?;
        for other in maps {
            let uses = match known.get(&other) {
                Some(uses) => *uses,
                None => *known.entry(other).or_insert(contains(other, map)?),
            };
            if uses {
                users.push(MapUser { id, name: printable(&record::string(&info.name)), links: 0 });
                break;
            }
        }
        Ok(())
    })?;
    if !users.is_empty() {
        each(Object::Link, |id| {
            let program = bpf::link_info(bpf::link_by_id(id)?.as_fd())?.program;
            users.iter_mut().filter(|user| user.id == program).for_each(|user| user.links += 1);
            Ok(())
        })?;
    }
    Ok(users)
}

/// Whether the map `outer` is an array of maps that contains the map `inner`.
fn contains(outer: u32, inner: u32) -> io::Result<bool> {
    let fd = gone(bpf::map_by_id(outer))?;
    let Some(fd) = fd else { return Ok(false) };
    let info = bpf::map_info(fd.as_fd())?;
    if info.ty != MapType::ARRAY_OF_MAPS {
        return Ok(false);
    }
    let entries = Elements::new(fd, &info);
    for key in 0..info.max_entries {
        let mut id = 0_u32;
        if gone(entries.lookup(bytes_of(&key), bytes_of_mut(&mut id)))?.is_some() && id == inner {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Calls `f` with the id of each object of this sort. Objects that are freed meanwhile are left out.
fn each(sort: Object, mut f: impl FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    let mut last = 0;
    while let Some(id) = gone(bpf::next_id(sort, last))? {
        gone(f(id))?;
        last = id;
    }
    Ok(())
}

/// `None` if the object does not exist, or not any more.
fn gone<X>(result: io::Result<X>) -> io::Result<Option<X>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
