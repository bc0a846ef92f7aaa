//! The options for opening a region.

use std::os::fd::AsFd;

use super::source::{AnySource, Source};
#[cfg(doc)]
use super::{Access, Refusal};
use super::{Region, memfd};
use crate::abi::Kind;
use crate::bpf;
use crate::error::{Error, Result};
use crate::record::{Expected, Record};

/// The options for opening a region.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct OpenOptions {
    pub(crate) write: bool,
    pub(crate) allow_unsealed: bool,
    pub(crate) expected: Option<Expected>,
    pub(crate) any_record: bool,
    /// Options for BPF maps only.
    pub(crate) map: bpf::Options,
}

impl OpenOptions {
    /// Read-only; refuses memfds that other processes could shrink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a writable mapping. If the kernel refuses it, the region is opened for reading, and
    /// [`Region::writable`] returns the reason.
    pub fn write(self, write: bool) -> Self {
        Self { write, ..self }
    }

    /// Accepts a memfd with which other processes can harm this one:
    ///
    /// - a memfd that is not sealed against resizing, or has huge pages. Any process that has it open can then kill
    ///   this process with SIGBUS, by shrinking it or by punching pages out;
    /// - a sparse memfd: more than 64 MiB of its region are not allocated. Reading a missing page allocates it, and
    ///   charges this process (its cgroup) for it.
    pub fn allow_unsealed(self, allow_unsealed: bool) -> Self {
        Self { allow_unsealed, ..self }
    }

    /// Compares the records of a BPF map with `T`, field by field, if the map has BTF that this process may read.
    /// [`Region::layout_check`] returns the result. The `open` functions of the handles do this by themselves; use this
    /// option for handles that are made by `from_region`.
    pub fn expect_record<T: Record>(self) -> Self {
        Self { expected: Some(Expected::of::<T>(None)), ..self }
    }

    /// Accepts [`AnyRecord`](crate::any::AnyRecord) as the type of handles that are made by `from_region`, whatever the type
    /// and size of the records.
    pub fn any_record(self) -> Self {
        Self { any_record: true, ..self }
    }

    /// The same for records in a region of this `kind`.
    pub(crate) fn record_of<T: Record>(self, kind: Kind) -> Self {
        Self { expected: Some(Expected::of::<T>(Some(kind))), ..self }
    }

    /// Opens a region. Makes system calls.
    ///
    /// A pin whose mode allows only reading is opened for reading, and then read by system calls: [`Access::Syscall`]
    /// with [`Refusal::ReadOnlyFd`].
    ///
    /// Of a memfd, only the bytes that its region needs by its preamble are mapped, and no page is touched yet. Its
    /// writers can still make readers pay for its memory, by punching pages out: for at most
    /// [`Geometry::bytes`](crate::abi::Geometry::bytes). [`Region::seal_future_writes`] prevents that.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open), [`ErrorKind::WrongType`](crate::ErrorKind::WrongType),
    /// [`ErrorKind::Preamble`](crate::ErrorKind::Preamble),
    /// [`ErrorKind::Contradiction`](crate::ErrorKind::Contradiction), each with what was found;
    /// [`ErrorKind::Layout`](crate::ErrorKind::Layout) if the records are not the [expected ones](Self::expect_record);
    /// [`ErrorKind::NotFitted`](crate::ErrorKind::NotFitted) for a map without preamble that has fewer shards than the
    /// machine has CPUs. For a memfd [`ErrorKind::Untrusted`](crate::ErrorKind::Untrusted).
    pub fn open(self, source: impl Into<Source>) -> Result<Region> {
        let fd = match source.into().0 {
            AnySource::Fd(fd) => fd.map_err(|e| Error::system("dup", e))?,
            AnySource::Map(map) => return map.open(self),
        };
        if memfd::is_one(fd.as_fd()) {
            return memfd::open(fd, self);
        }
        bpf::open_fd(fd, self)
    }
}
