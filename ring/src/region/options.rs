//! How a region is opened.

use std::os::fd::AsFd;

use super::source::{Place, Source};
#[cfg(doc)]
use super::{Access, Refusal};
use super::{Region, memfd};
use crate::bpf;
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::record::{Expected, Record};

/// How a region is opened.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct OpenOptions {
    pub(crate) write: bool,
    pub(crate) allow_unsealed: bool,
    pub(crate) expected: Option<Expected>,
    /// What is asked for BPF maps alone.
    pub(crate) map: bpf::Options,
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
            Place::Map(place) => return place.open(self),
        };
        if memfd::is_one(fd.as_fd()) {
            return memfd::open(fd, self);
        }
        bpf::open_fd(fd, self)
    }
}
