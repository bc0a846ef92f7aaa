//! The options for opening a region.

#[cfg(doc)]
use super::region::Region;
use crate::abi::{Geometry, Kind};
use crate::record::{Expected, Record};

/// The options for opening a region.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct OpenOptions {
    pub(crate) write: bool,
    pub(crate) allow_unsealed: bool,
    pub(crate) expected: Option<Expected>,
    pub(crate) any_record: bool,
    /// For BPF maps without a preamble.
    pub(super) layout: Option<Geometry>,
    pub(super) write_preamble: bool,
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

    /// Describes a BPF map without a preamble, instead of its BTF: for maps that another loader created from an object
    /// with mapring's macros, or whose programs follow `docs/abi.md`. If there is a preamble, this description is
    /// ignored, or with [`write_preamble`](Self::write_preamble) compared: another shape is
    /// [`ErrorKind::NotReusable`](crate::ErrorKind::NotReusable). (For arrays without a protocol of mapring, use [`Array`](crate::Array).)
    pub fn assume_layout(self, geometry: Geometry) -> Self {
        Self { layout: Some(geometry), ..self }
    }

    /// Writes the preamble if there is none: for loaders that describe their maps with
    /// [`assume_layout`](Self::assume_layout). Other loaders call `mapring_loader::initialize`.
    /// Readers then open the map by its pin, without a description.
    pub fn write_preamble(self, write_preamble: bool) -> Self {
        Self { write_preamble, ..self }
    }

    /// [`expect_record`](Self::expect_record), for records in a region of this `kind`.
    pub(crate) fn record_of<T: Record>(self, kind: Kind) -> Self {
        Self { expected: Some(Expected::of::<T>(Some(kind))), ..self }
    }
}
