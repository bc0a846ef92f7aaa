//! How a region is opened.

use std::os::fd::AsFd;
#[cfg(feature = "bpf")]
use std::sync::Arc;

use super::source::{Place, Source};
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
#[must_use]
pub struct OpenOptions {
    pub(super) write: bool,
    pub(super) allow_unsealed: bool,
    #[cfg_attr(not(feature = "bpf"), allow(dead_code))]
    pub(super) expected: Option<Expected>,
    #[cfg(feature = "bpf")]
    pub(super) layout: Option<Geometry>,
    #[cfg(feature = "bpf")]
    pub(super) write_preamble: bool,
}

impl OpenOptions {
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
    /// process may read it: [`Region::layout_check`] says what came of it. The handles' own `open`
    /// functions do that by themselves; this is for those that are made by `from_region`.
    pub fn expect_record<T: Record>(self) -> Self {
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
    pub fn assume_layout(self, geometry: Geometry) -> Self {
        Self { layout: Some(geometry), ..self }
    }

    /// Writes the preamble if there is none: for loaders that describe their maps with
    /// [`assume_layout`](Self::assume_layout); others call [`loader::initialize`](crate::loader::initialize). Readers then
    /// open the map by its pin, and need no description.
    #[cfg(feature = "bpf")]
    pub fn write_preamble(self, write_preamble: bool) -> Self {
        Self { write_preamble, ..self }
    }

    /// Opens a region. Makes system calls.
    ///
    /// A pin whose mode allows reading only is opened for that, and then read by system calls:
    /// [`Access::Syscall`] with [`Refusal::ReadOnlyFd`].
    ///
    /// Of a memfd as much is mapped as its region has, by its preamble, and no page is touched yet. Whoever made it
    /// can still make its readers pay for its memory, by punching pages out (`F_SEAL_FUTURE_WRITE` forbids that):
    /// [`Geometry::bytes`](crate::layout::Geometry::bytes) says how much that can be.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotARegion`], [`Error::MapType`], [`Error::Preamble`],
    /// [`Error::Contradiction`], each naming what was found; [`Error::Layout`] if the records are not
    /// the [expected ones](Self::expect_record); [`Error::NotFitted`] for a map without preamble that has fewer shards
    /// than the machine has CPUs. For a memfd [`Error::Unsealed`], [`Error::HugePages`], [`Error::Sparse`] and
    /// [`Error::Truncated`].
    pub fn open(self, source: impl Into<Source>) -> Result<Region> {
        let fd = match source.into().0 {
            Place::Fd(fd) => fd.map_err(|e| Error::system("dup", e))?,
            #[cfg(feature = "bpf")]
            place => {
                let (map, place) = Source(place).map()?;
                return match place {
                    Some(place) => self.adopt(map, place),
                    None => bpf::open(map, self),
                };
            }
        };
        if memfd::is_one(fd.as_fd()) {
            return memfd::open(fd, self);
        }
        #[cfg(feature = "bpf")]
        return match bpf::MapFd::fd(fd) {
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

    /// Opens what is there now.
    #[cfg(feature = "bpf")]
    pub(crate) fn find(self, place: bpf::MapLocator) -> Result<Region> {
        self.adopt(place.open()?, place)
    }

    /// Opens a map that is, or will be, in this place.
    #[cfg(feature = "bpf")]
    pub(super) fn adopt(self, opened: bpf::MapFd, place: bpf::MapLocator) -> Result<Region> {
        let id = opened.info.info.id;
        let mut region = bpf::open(opened, self)?;
        if let Some(inner) = Arc::get_mut(&mut region.0) {
            // Who finds another one there later is not its loader.
            inner.origin = Some(Origin { place, id, options: self.write_preamble(false) });
        }
        Ok(region)
    }
}
