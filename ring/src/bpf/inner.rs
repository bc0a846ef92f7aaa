//! Maps found through other maps.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use bytemuck::{bytes_of, bytes_of_mut, cast_slice};
use mapring_sys::bpf::Elements;

use super::{MapFd, lookup};
use crate::error::{Cause, Error, Result};
use crate::loader::LoadedObject;

/// Where to find a map, now and after another map replaced it.
#[derive(Clone)]
pub(crate) enum MapLocator {
    /// Pinned.
    Pin(PathBuf),
    /// In a map of maps, under a key.
    Inner(MapOfMaps),
    /// Held by this process, with the object that it has loaded.
    Loaded(Arc<MapFd>),
}

/// A map of maps, and a key.
#[derive(Clone)]
pub(crate) struct MapOfMaps {
    maps: Arc<Elements<OwnedFd>>,
    what: Arc<str>,
    entries: usize,
    key: Arc<[u8]>,
    /// The object whose maps may be in it, if this process has loaded it.
    object: Option<Arc<LoadedObject>>,
}

impl MapLocator {
    /// How many times the search is repeated for a map that was replaced, and freed, before it was opened.
    pub(crate) const AGAIN: usize = 16;

    /// Opens the map that is there now. Makes system calls.
    pub(crate) fn open(&self) -> Result<MapFd> {
        match self {
            Self::Pin(path) => MapFd::pinned(path),
            Self::Loaded(map) => map.try_clone(),
            Self::Inner(outer) => {
                // Another map may have replaced this one between the two calls, and this one may be freed.
                (0..Self::AGAIN).fold(outer.open(), |opened, _| match opened {
                    Err(e) if is_gone(&e) => outer.open(),
                    opened => opened,
                })
            }
        }
    }
}

impl MapOfMaps {
    pub(crate) fn new(opened: MapFd, key: &[u8]) -> Result<Self> {
        if !opened.holds_maps() {
            return Err(opened.wrong_type("array_of_maps or hash_of_maps"));
        }
        let expected = opened.info.key_size as usize;
        if expected != key.len() {
            return Err(Error::from(Cause::InnerKey { what: opened.what, found: key.len(), expected }));
        }
        let entries = opened.info.max_entries as usize;
        let maps = Arc::new(Elements::new(opened.fd, &opened.info));
        Ok(Self { maps, what: opened.what.into(), entries, key: key.into(), object: opened.object })
    }

    /// The same map of maps, whose maps are all opened by their ids.
    pub(crate) fn without_object(self) -> Self {
        Self { object: None, ..self }
    }

    /// The error for an array of maps that contains no such ring.
    pub(crate) fn holds_no_ring(&self) -> Error {
        Error::from(Cause::MapType {
            what: self.what.to_string(),
            found: "an array of maps that holds an ordinary ring".to_owned(),
            expected: "a resizable ring or a PER_CPU_MAPS ring",
            hint: "; open one of its entries with Source::inner",
        })
    }

    /// The same map of maps with another key of the same length.
    pub(crate) fn at(&self, key: &[u8]) -> Self {
        assert_eq!(key.len(), self.key.len());
        Self { key: key.into(), ..self.clone() }
    }

    /// How many maps fit into it.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// The object whose maps may be in it, if this process has loaded it.
    pub(crate) fn object(&self) -> Option<&Arc<LoadedObject>> {
        self.object.as_ref()
    }

    /// Its name in messages.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Opens the map under the key.
    fn open(&self) -> Result<MapFd> {
        MapFd::of(self.object.as_ref(), self.id()?)
    }

    /// The id of the map under the key.
    fn id(&self) -> Result<u32> {
        let mut id = 0_u32;
        self.maps.lookup(&self.key, bytes_of_mut(&mut id)).map_err(|error| Error::from(Cause::Open {
            what: format!("the inner map under key {:?}", self.key),
            error,
            hint: "; nobody has put a map there: libbpf puts the first map there, a loader without libbpf-rs must do so itself; then mapring_loader::initialize, or initialize_map, makes the maps of a PER_CPU_MAPS ring",
        }))?;
        Ok(id)
    }

    /// Removes the map under the key. Waits as [`put`](Self::put) does.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        self.maps.delete(&self.key)
    }

    /// Its descriptor.
    pub(crate) fn into_fd(self) -> Result<OwnedFd> {
        self.maps.as_fd().try_clone_to_owned().map_err(|e| Error::system("dup", e))
    }

    /// Puts maps under these keys, in one call if the kernel has batches: see [`put`](Self::put).
    pub(crate) fn put_all<const KEY: usize>(&self, maps: &[([u8; KEY], impl AsFd)]) -> Result<()> {
        assert_eq!(KEY, self.key.len());
        let (keys, fds): (Vec<_>, Vec<_>) =
            maps.iter().map(|(key, map)| (*key, map.as_fd().as_raw_fd())).unzip();
        match self.maps.update_batch(keys.as_flattened(), cast_slice(&fds)) {
            Err(e) if lookup::is_no_batch(&e) => {
                maps.iter().try_for_each(|(key, map)| self.at(key).put(map.as_fd()))
            }
            done => done.map_err(|e| Error::system("bpf(BPF_MAP_UPDATE_BATCH)", e)),
        }
    }

    /// Puts `map` under the key. When this returns, no program uses the earlier map any more, except programs that may
    /// sleep: the kernel waits for the others (`maybe_wait_bpf_programs`).
    pub(crate) fn put(&self, map: BorrowedFd<'_>) -> Result<()> {
        let done = self.maps.update(&self.key, bytes_of(&map.as_raw_fd()));
        done.map_err(|e| Error::system("bpf(BPF_MAP_UPDATE_ELEM)", e))
    }
}

/// Whether a map could not be opened because it does not exist.
pub(crate) fn is_gone(e: &Error) -> bool {
    matches!(e.cause(), Cause::Open { error, .. } if error.kind() == ErrorKind::NotFound)
}
