//! The maps that an object reuses instead of creating its own: whether they hold what the object declares.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use libbpf_rs::{Object, OpenObject};

use super::FIRST;
use super::types::{is_declared, pin_path, preset, types_of};
use crate::bpf::btf::{Btf, Type};
use crate::bpf::describe::LoadedObject;
use crate::bpf::{
    BELLS, Declared, MapFd, MapLocator, MapOfMaps, READERS, belong_together, is_gone, with_suffix,
};
use crate::cpus::possible_cpus;
use crate::error::{Cause, Error, Result};
use crate::text::printable;

/// The maps that an object declares, with the types of their values (0 if they have none), in the order in which libbpf has
/// them. libbpf's own names and types are those of the map that is reused.
pub(super) fn declared(btf: &Btf) -> Vec<(String, u32)> {
    let Some(section) = btf.types().find(|ty| ty.name() == b".maps" && ty.variables().next().is_some())
    else {
        return Vec::new();
    };
    let mut maps: Vec<_> = section.variables().collect();
    maps.sort_by_key(|map| map.offset);
    let value = |map: Type<'_>| Some(map.resolved().field("value")?.ty.target()?.id);
    let of = |name: &[u8], map| (String::from_utf8_lossy(name).into_owned(), value(map).unwrap_or_default());
    maps.into_iter().map(|map| of(map.name, map.ty)).collect()
}

/// The maps of an object that are not new, by their declared names.
pub(super) struct Reused<'o> {
    btf: &'o Btf,
    declared: &'o [(String, u32)],
    shards: usize,
    maps: Vec<(&'o str, MapFd)>,
    /// The object, if it is loaded.
    known: Option<&'o LoadedObject>,
}

impl<'o> Reused<'o> {
    fn new(btf: &'o Btf, declared: &'o [(String, u32)], known: Option<&'o LoadedObject>) -> Result<Self> {
        // CPU numbers may have gaps, and a program uses the number of its CPU as an index.
        let shards = possible_cpus()?.last().map_or(1, |last| last + 1);
        Ok(Self { btf, declared, shards, maps: Vec::new(), known })
    }

    /// The maps that an open object will use because of `reuse_fd`, or because one is pinned where libbpf will look.
    pub(super) fn of_open(object: &OpenObject, btf: &'o Btf, declared: &'o [(String, u32)]) -> Result<Self> {
        let mut reused = Self::new(btf, declared, None)?;
        for (map, (name, _)) in object.maps().filter(is_declared).zip(declared) {
            let found = match (preset(&map), pin_path(&map)) {
                (Some(fd), _) => Some(loaded(fd, name, None)?),
                // libbpf says what it can't open there.
                (None, Some(pin)) => MapFd::pinned(&pin).ok(),
                (None, None) => None,
            };
            reused.maps.extend(found.map(|map| (name.as_str(), map)));
        }
        Ok(reused)
    }

    /// The maps of a loaded object that were not created with its types. A map of maps has no types in any case.
    pub(super) fn of_loaded(
        object: &Object,
        known: &'o Arc<LoadedObject>,
        declared: &'o [(String, u32)],
    ) -> Result<Self> {
        let mut reused = Self::new(known.btf(), declared, Some(known))?;
        for (map, (name, _)) in object.maps().filter(is_declared).zip(declared) {
            if MapFd::is_one(map.as_fd()) {
                let found = loaded(map.as_fd(), name, Some(known.clone()))?;
                reused.maps.extend((!known.made(&found)).then_some((name.as_str(), found)));
            }
        }
        Ok(reused)
    }

    fn declaration(&self, name: &str) -> Option<Declared<'o>> {
        let value =
            |name: &str| self.declared.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        let wakeable = value(&format!("{name}{READERS}")).is_some();
        Some(Declared { btf: self.btf, value: value(name)?, shards: self.shards, wakeable })
    }

    fn map(&self, name: &str) -> Option<&MapFd> {
        self.maps.iter().find(|(other, _)| *other == name).map(|(_, map)| map)
    }

    /// Refuses maps that hold something else than the object declares, and rings without their other maps.
    pub(super) fn check(&self) -> Result<()> {
        for (name, map) in &self.maps {
            match self.declaration(&format!("{name}{FIRST}")) {
                Some(of_each) => self.each_inner(map, &of_each)?,
                None => self.declaration(name).map_or(Ok(()), |declared| declared.fits(map))?,
            }
        }
        let rings = self.declared.iter().map(|(name, _)| name);
        for name in rings.filter(|name| self.declaration(name).is_some_and(|it| it.wakeable && it.is_ring()))
        {
            let [readers, bells] = [READERS, BELLS].map(|suffix| format!("{name}{suffix}"));
            let all = [name, &readers, &bells].map(|name| (name.as_str(), self.map(name)));
            // Bells are a map of maps: whether a loaded object has made them is not known.
            if self.known.is_none() || all[..2].iter().any(|(_, map)| map.is_some()) {
                belong_together(all)?;
            }
        }
        Ok(())
    }

    /// Checks the rings in a map of maps that are not new.
    fn each_inner(&self, maps: &MapFd, of_each: &Declared<'_>) -> Result<()> {
        let first = MapOfMaps::new(maps.try_clone()?, &[0; 4])?;
        for key in 0..first.entries() {
            let key = u32::try_from(key).expect("maps are indexed by u32").to_ne_bytes();
            match MapLocator::Inner(first.at(&key)).open() {
                Err(e) if is_gone(&e) => {}
                Ok(map) if self.known.is_some_and(|known| known.made(&map)) => {}
                map => of_each.fits(&map?)?,
            }
        }
        Ok(())
    }
}

/// What is pinned at `path` for the region that an open object declares as `name`: each map with the declared name of the one
/// that can reuse it. Of a wakeable ring also what is pinned beside it. Makes system calls.
///
/// # Errors
/// [`ErrorKind::NotReusable`](crate::ErrorKind::NotReusable) with both sides if the object declares something else;
/// [`ErrorKind::Open`](crate::ErrorKind::Open) if nothing is pinned there.
#[allow(dead_code)]
pub(super) fn pinned(object: &OpenObject, name: &str, path: &Path) -> Result<Vec<(String, OwnedFd)>> {
    let btf = types_of(object)?;
    let declared = btf.as_ref().map(declared).unwrap_or_default();
    let named = |name: &str| declared.iter().find(|(other, _)| other == name).map(|(name, _)| name.as_str());
    let (Some(btf), Some(name)) = (&btf, named(name)) else {
        let there = declared.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::from(Cause::NoSuch {
            thing: "map",
            name: printable(name),
            there: printable(&there),
        }));
    };
    let mut reused = Reused::new(btf, &declared, None)?;
    let first = named(&format!("{name}{FIRST}"));
    if let Some(first) = first.filter(|_| path.is_dir()) {
        return Err(Error::from(Cause::Companions {
            what: printable(&path.to_string_lossy()),
            missing: printable(name),
            why: "the map of maps of a NUMA ring is not pinned with its rings",
            names: format!("{} and {}", printable(name), printable(first)),
        }));
    }
    // The pin of a resizable ring is that of the ring in use.
    reused.maps.push((first.unwrap_or(name), MapFd::pinned(path)?));
    for suffix in [READERS, BELLS] {
        if let Some(name) = named(&format!("{name}{suffix}")) {
            reused.maps.extend(at_pin(&with_suffix(path, suffix))?.map(|map| (name, map)));
        }
    }
    reused.check()?;
    Ok(reused.maps.into_iter().map(|(name, map)| (name.to_owned(), map.fd)).collect())
}

/// The map that is pinned at `path`, if there is one.
fn at_pin(path: &Path) -> Result<Option<MapFd>> {
    match MapFd::pinned(path) {
        Err(e) if is_gone(&e) => Ok(None),
        map => map.map(Some),
    }
}

fn loaded(fd: BorrowedFd<'_>, name: &str, known: Option<Arc<LoadedObject>>) -> Result<MapFd> {
    MapFd::loaded(fd.try_clone_to_owned().map_err(|e| Error::system("dup", e))?, name, known)
}
