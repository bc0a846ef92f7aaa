//! How a region is opened, and by what: a pin, a map of maps, an id, a descriptor, a loaded map.

use std::os::fd::{AsFd, OwnedFd};
#[cfg(feature = "bpf")]
use std::{path::Path, sync::Arc};

#[cfg(doc)]
use super::{Access, Refusal};
#[cfg(feature = "bpf")]
use super::{Origin, bpf};
use super::{Region, memfd};
use crate::error::{Error, Result};
#[cfg(feature = "bpf")]
use crate::layout::Geometry;
use crate::layout::Kind;
use crate::record::{Expected, Record};

/// How a region is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub(super) write: bool,
    pub(super) allow_unsealed: bool,
    #[cfg_attr(not(feature = "bpf"), allow(dead_code))]
    pub(super) expected: Option<Expected>,
    #[cfg(feature = "bpf")]
    pub(super) described: Option<Geometry>,
    #[cfg(feature = "bpf")]
    pub(super) loader: bool,
}

impl Options {
    /// Read-only, and no memfd that others could shrink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a writable mapping. If the kernel refuses it, the region is opened for reading
    /// all the same and [`Region::writable`] says why.
    pub fn write(self, write: bool) -> Self {
        Self { write, ..self }
    }

    /// Accepts a memfd that is not safe from those who hold it:
    ///
    /// - one that is not sealed against resizing, and one of huge pages. Whoever holds it can then kill this
    ///   process with SIGBUS, by shrinking it or by punching pages out;
    /// - one that is sparse: more than 64 MiB of its region are not allocated. A read of a page that is not there
    ///   allocates it, and charges this process (its cgroup) for it.
    pub fn allow_unsealed(self, allow_unsealed: bool) -> Self {
        Self { allow_unsealed, ..self }
    }

    /// Compares the records of a BPF map with `T`, field by field, where the map has BTF and this
    /// process may read it: [`Region::compared`] says what came of it. The handles' own `open`
    /// functions do that by themselves; this is for those that are made by `from_region`.
    pub fn record<T: Record>(self) -> Self {
        Self { expected: Some(Expected::of::<T>(None)), ..self }
    }

    /// The same for records that are held by `kind`.
    pub(crate) fn record_of<T: Record>(self, kind: Kind) -> Self {
        Self { expected: Some(Expected::of::<T>(Some(kind))), ..self }
    }

    /// Says what is in a BPF map without a preamble, in place of its BTF: for maps that another loader
    /// made of an object with mapring's macros, or whose programs write by `docs/abi.md`. Where there is
    /// a preamble, that holds. (Arrays with no protocol of mapring's are [`Array`](crate::Array)s.)
    #[cfg(feature = "bpf")]
    pub fn described(self, geometry: Geometry) -> Self {
        Self { described: Some(geometry), ..self }
    }

    /// Writes the preamble if there is none: for loaders without libbpf-rs, which open their maps by
    /// descriptor. Others then open the map by its pin, and need no description.
    #[cfg(feature = "bpf")]
    pub fn loader(self, loader: bool) -> Self {
        Self { loader, ..self }
    }

    /// Opens the BPF map pinned at `path`. Makes system calls.
    ///
    /// A pin whose mode allows reading only is opened for that, and then read by system calls:
    /// [`Access::Syscall`] with [`Refusal::ReadOnlyFd`].
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotARegion`], [`Error::MapType`], [`Error::Preamble`],
    /// [`Error::Contradiction`], each naming what was found; [`Error::Layout`] if the records are not
    /// the [`record`](Self::record)'s.
    #[cfg(feature = "bpf")]
    pub fn open_pinned(self, path: impl AsRef<Path>) -> Result<Region> {
        self.find(bpf::Found::Pin(path.as_ref().to_owned()))
    }

    /// Opens the BPF map that is in `maps`, an `ARRAY_OF_MAPS` or `HASH_OF_MAPS`, under `key`. Makes
    /// system calls; needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// As for [`open_pinned`](Self::open_pinned).
    #[cfg(feature = "bpf")]
    pub fn open_inner(self, maps: impl AsFd, key: &[u8]) -> Result<Region> {
        self.find(bpf::Found::Inner(bpf::Outer::new(maps.as_fd(), key)?))
    }

    /// Opens what is there now.
    #[cfg(feature = "bpf")]
    pub(crate) fn find(self, place: bpf::Found) -> Result<Region> {
        self.adopt(place.open()?, place)
    }

    /// Opens a map that is, or will be, in this place.
    #[cfg(feature = "bpf")]
    pub(super) fn adopt(self, opened: bpf::Opened, place: bpf::Found) -> Result<Region> {
        let id = opened.info.info.id;
        let mut region = bpf::open(opened, self)?;
        if let Some(inner) = Arc::get_mut(&mut region.0) {
            // Who finds another one there later is not its loader.
            inner.origin = Some(Origin { place, id, options: self.loader(false) });
        }
        Ok(region)
    }

    /// Opens the BPF map with this id. Makes system calls; needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// As for [`open_pinned`](Self::open_pinned).
    #[cfg(feature = "bpf")]
    pub fn open_id(self, id: u32) -> Result<Region> {
        bpf::open(bpf::Opened::id(id)?, self)
    }

    /// Opens a BPF map or a memfd, made by any loader or process. Makes system calls.
    ///
    /// Of a memfd as much is mapped as its region has, by its preamble, and no page is touched yet. Whoever made it
    /// can still make its readers pay for its memory, by punching pages out (`F_SEAL_FUTURE_WRITE` forbids that):
    /// [`Geometry::bytes`](crate::layout::Geometry::bytes) says how much that can be.
    ///
    /// # Errors
    /// As for [`open_pinned`](Self::open_pinned); [`Error::Unsealed`], [`Error::HugePages`],
    /// [`Error::Sparse`] and [`Error::Truncated`] for a memfd.
    pub fn open_fd(self, fd: OwnedFd) -> Result<Region> {
        if memfd::is_one(fd.as_fd()) {
            return memfd::open(fd, self);
        }
        #[cfg(feature = "bpf")]
        return match bpf::Opened::fd(fd) {
            Err(Error::NotARegion { what, hint, .. }) => {
                Err(Error::NotARegion { what, expected: "a BPF map or a memfd", hint })
            }
            opened => bpf::open(opened?, self),
        };
        #[cfg(not(feature = "bpf"))]
        return Err(Error::NotARegion {
            what: format!("fd {}", std::os::fd::AsRawFd::as_raw_fd(&fd)),
            expected: "a memfd",
            hint: " (BPF maps need mapring's cargo feature `bpf`)",
        });
    }

    /// Opens a map of a loaded libbpf-rs object, and writes its preamble if that is missing:
    /// this is the loader's way. Makes system calls.
    ///
    /// # Errors
    /// As for [`open_pinned`](Self::open_pinned).
    #[cfg(feature = "bpf")]
    pub fn open(self, map: &impl libbpf_rs::MapCore) -> Result<Region> {
        bpf::open(bpf::Opened::map(map)?, self.loader(true))
    }
}
