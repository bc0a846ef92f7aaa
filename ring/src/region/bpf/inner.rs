//! Maps found through others: inner maps, and making one that can take another's place.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use libbpf_rs::{MapInfo, libbpf_sys};
use rustix::io::Errno;

use super::{MapFd, Region, lookup};
use crate::error::{Error, Result};
use crate::layout::Preamble;

/// Where a map is found, now and when there is another one in its place.
#[derive(Clone)]
pub(crate) enum MapLocator {
    /// Pinned.
    Pin(PathBuf),
    /// In a map of maps, under a key.
    Inner(MapOfMaps),
}

/// A map of maps, and a key.
#[derive(Clone)]
pub(crate) struct MapOfMaps {
    fd: Arc<OwnedFd>,
    what: Arc<str>,
    entries: usize,
    key: Arc<[u8]>,
}

impl MapLocator {
    /// How often a map is looked for again that was replaced, and is gone, before it was opened.
    const AGAIN: usize = 16;

    /// What is there now. Makes system calls.
    pub(crate) fn open(&self) -> Result<MapFd> {
        match self {
            Self::Pin(path) => MapFd::pinned(path),
            Self::Inner(outer) => {
                let opened = outer.id().and_then(MapFd::id);
                // Another one may have come between the two calls, and this one gone.
                (0..Self::AGAIN).fold(opened, |opened, _| match opened {
                    Err(e) if is_gone(&e) => outer.id().and_then(MapFd::id),
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
        let expected = opened.info.info.key_size as usize;
        if expected != key.len() {
            return Err(Error::InnerKey { what: opened.what, found: key.len(), expected });
        }
        let entries = opened.info.info.max_entries as usize;
        Ok(Self { fd: Arc::new(opened.fd), what: opened.what.into(), entries, key: key.into() })
    }

    /// What is said of an array of maps that is not a ring.
    pub(crate) fn holds_no_ring(&self) -> Error {
        Error::MapType {
            what: self.what.to_string(),
            found: "an array of maps that holds an ordinary ring".to_owned(),
            expected: "a resizable ring or a NUMA ring",
            hint: "; open one of its entries with Source::inner",
        }
    }

    /// The same map of maps, and another key of the same length.
    pub(crate) fn at(&self, key: &[u8]) -> Self {
        assert_eq!(key.len(), self.key.len());
        Self { key: key.into(), ..self.clone() }
    }

    /// How many maps it has place for.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// What messages call it.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The id of the map that is there.
    fn id(&self) -> Result<u32> {
        let mut id = 0_u32;
        // SAFETY: the key is as long as the map's keys, and ids are what maps of maps have for values.
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                self.key.as_ptr().cast(),
                (&raw mut id).cast(),
            )
        };
        lookup::result(ret).map_err(|error| Error::Open {
            what: format!("the inner map under key {:?}", self.key),
            error,
            hint: "; nobody has put a map there: mapring::loader::initialize makes the maps of a NUMA ring",
        })?;
        Ok(id)
    }

    /// Puts maps under these keys, at once if the kernel can: see [`put`](Self::put).
    pub(crate) fn put_all<const KEY: usize>(&self, maps: &[([u8; KEY], Region)]) -> Result<()> {
        assert_eq!(KEY, self.key.len());
        let (keys, fds): (Vec<_>, Vec<_>) =
            maps.iter().map(|(key, map)| (*key, map.as_fd().as_raw_fd())).unzip();
        let mut count = u32::try_from(maps.len()).expect("no more than a map has");
        // SAFETY: there are as many keys and descriptors as said, of the sizes that this map of maps has.
        let ret = unsafe {
            libbpf_sys::bpf_map_update_batch(
                self.fd.as_raw_fd(),
                keys.as_ptr().cast(),
                fds.as_ptr().cast(),
                &raw mut count,
                std::ptr::null(),
            )
        };
        match lookup::result(ret) {
            Err(e) if lookup::is_no_batch(&e) => {
                maps.iter().try_for_each(|(key, map)| self.at(key).put(map.as_fd()))
            }
            done => done.map_err(|e| Error::system("bpf(BPF_MAP_UPDATE_BATCH)", e)),
        }
    }

    /// Puts `map` there. Once that returns, no program works with the map that was there before, but
    /// those that may sleep: the kernel waits for the others (`maybe_wait_bpf_programs`).
    pub(crate) fn put(&self, map: BorrowedFd<'_>) -> Result<()> {
        let fd = map.as_raw_fd();
        // SAFETY: as above; the value is a descriptor of 4 bytes.
        let ret = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                self.key.as_ptr().cast(),
                (&raw const fd).cast(),
                0,
            )
        };
        lookup::result(ret).map_err(|e| Error::system("bpf(BPF_MAP_UPDATE_ELEM)", e))
    }
}

/// Whether that is why a map was not opened: there is none.
pub(crate) fn is_gone(e: &Error) -> bool {
    matches!(e, Error::Open { error, .. } if error.kind() == ErrorKind::NotFound)
}

/// Makes a map with `preamble` and of its shape, otherwise like the one behind `like`: with its flags, its
/// name, and its types if they may be had (CAP_SYS_ADMIN). On `node`, if `like` has a node, too.
pub(crate) fn make_like(like: BorrowedFd<'_>, preamble: &Preamble, node: Option<usize>) -> Result<MapFd> {
    let like = MapInfo::new(like)?;
    let geometry = &preamble.geometry;
    let name = CString::new(like.name()?).unwrap_or_default();
    let fits = |number: usize| u32::try_from(number).expect("a geometry has no more");
    // SAFETY: any id is fine; the result is a descriptor of ours or an error.
    let btf = lookup::descriptor(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(like.info.btf_id) });
    let mut opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: like.info.map_flags,
        // All ones: any, and looked at with this flag only. The kernel does not say which node that one is on.
        numa_node: node.map_or(u32::MAX, fits),
        ..Default::default()
    };
    if let Ok(btf) = &btf {
        opts.btf_fd = btf.as_raw_fd().cast_unsigned();
        opts.btf_key_type_id = like.info.btf_key_type_id;
        opts.btf_value_type_id = like.info.btf_value_type_id;
    }
    // SAFETY: a C string, and options that say how long they are.
    let made = lookup::descriptor(unsafe {
        libbpf_sys::bpf_map_create(
            libbpf_sys::BPF_MAP_TYPE_ARRAY,
            name.as_ptr(),
            4,
            fits(geometry.element()),
            fits(geometry.entries()),
            &raw const opts,
        )
    });
    let opened = MapFd::fd(made.map_err(|error| Error::System {
        call: "bpf(BPF_MAP_CREATE)",
        hint: match Errno::from_io_error(&error) {
            Some(Errno::PERM) => "; making maps needs CAP_BPF: run as root",
            Some(Errno::NOMEM | Errno::TOOBIG) => "; so much memory can't be had: ask for fewer slots",
            _ => "",
        },
        error,
    })?)?;
    super::initialise(opened.fd.as_fd(), &opened.what, geometry.element(), geometry.bytes(), 1, preamble)?;
    Ok(opened)
}
