//! The public handles: typed by the record, over a region that is mapped or not.

#[cfg(feature = "bpf")]
mod array;
mod cells;
mod counters;
#[cfg(feature = "bpf")]
mod dispatch;
mod fallback;
#[cfg(feature = "bpf")]
mod follower;
#[cfg(feature = "bpf")]
mod globals;
mod latches;
#[cfg(feature = "bpf")]
mod numa;
#[cfg(feature = "bpf")]
mod per_cpu;
mod reader;
#[cfg(feature = "bpf")]
mod resizable;
mod ring;
mod table;
mod watch;

#[cfg(feature = "bpf")]
pub use array::Array;
pub use cells::{Cell, Cells, CellsWriter};
pub use counters::{Counters, CountersWriter};
#[cfg(feature = "bpf")]
pub use dispatch::{Dispatch, Program};
#[cfg(feature = "bpf")]
pub use follower::Follower;
#[cfg(feature = "bpf")]
pub use globals::{Global, Globals, Variable};
pub use latches::{Latches, LatchesWriter};
#[cfg(feature = "bpf")]
pub use numa::{NumaReader, NumaRing};
#[cfg(feature = "bpf")]
pub use per_cpu::PerCpuCells;
pub use reader::{Drain, Reader};
#[cfg(feature = "bpf")]
pub use resizable::ResizableRing;
pub use ring::{Event, Ring, RingWriter};
pub use table::{Guard, Seqlock, Snapshot, Table, TwoCopies};

/// The ways to open a handle, the same for each: those of typed ones compare the record with the map's
/// BTF.
macro_rules! openers {
    ([$($generics:tt)*] $handle:ty, $record:ident, $kind:expr) => {
        openers!(
            [$record: crate::Record, $($generics)*],
            [$record: bytemuck::AnyBitPattern, $($generics)*],
            $handle,
            crate::Options::new().record_of::<$record>($kind)
        );

        impl<$record: bytemuck::AnyBitPattern, $($generics)*> $handle {
            /// What the record type was compared with when this was opened: the fields of the C type,
            /// if the map has BTF that this process may read.
            pub fn compared(&self) -> crate::Compared {
                self.region.compared::<$record>()
            }
        }
    };
    ([$($opens:tt)*], [$($generics:tt)*], $handle:ty, $options:expr) => {
        impl<$($opens)*> $handle {
            /// Opens the region pinned at `path`, for reading. Makes system calls; reading makes
            /// none if [`access`](Self::access) is mapped.
            ///
            /// # Errors
            /// See [`Options::open_pinned`](crate::Options::open_pinned); also
            /// [`Error::Kind`](crate::Error::Kind), [`Error::Layout`](crate::Error::Layout) and
            /// [`Error::RecordSize`](crate::Error::RecordSize).
            #[cfg(feature = "bpf")]
            pub fn open_pinned(path: impl AsRef<std::path::Path>) -> crate::Result<Self> {
                Self::from_region($options.open_pinned(path)?)
            }

            /// Opens the region in the BPF map with this id, for reading; needs CAP_SYS_ADMIN.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open_id(id: u32) -> crate::Result<Self> {
                Self::from_region($options.open_id(id)?)
            }

            /// Opens a BPF map or memfd by its descriptor, for reading.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned); for a memfd also
            /// [`Error::Unsealed`](crate::Error::Unsealed) and
            /// [`Error::Truncated`](crate::Error::Truncated).
            pub fn open_fd(fd: std::os::fd::OwnedFd) -> crate::Result<Self> {
                Self::from_region($options.open_fd(fd)?)
            }

            /// Opens a map of a loaded libbpf-rs object, for reading, and writes its preamble if
            /// that is missing: the loader's way.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open(map: &impl libbpf_rs::MapCore) -> crate::Result<Self> {
                Self::from_region($options.open(map)?)
            }

            /// [`open`](Self::open), mapped for writing, too, if the kernel allows it: see
            /// [`Region::writable`](crate::Region::writable).
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open_writable(map: &impl libbpf_rs::MapCore) -> crate::Result<Self> {
                Self::from_region($options.write(true).open(map)?)
            }

            /// [`open_pinned`](Self::open_pinned), mapped for writing, too, if the kernel allows it.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open_pinned_writable(path: impl AsRef<std::path::Path>) -> crate::Result<Self> {
                Self::from_region($options.write(true).open_pinned(path)?)
            }

            /// [`open_fd`](Self::open_fd), mapped for writing, too, if that is allowed.
            ///
            /// # Errors
            /// As for [`open_fd`](Self::open_fd).
            pub fn open_fd_writable(fd: std::os::fd::OwnedFd) -> crate::Result<Self> {
                Self::from_region($options.write(true).open_fd(fd)?)
            }

        }

        impl<$($generics)*> $handle {
            /// What is now pinned where this was opened, if that is another map:
            /// [`Region::replaced`](crate::Region::replaced). To be asked now and then by whoever
            /// outlives loaders. Makes system calls.
            ///
            /// # Errors
            /// As there, and those of opening it.
            #[cfg(feature = "bpf")]
            pub fn replaced(&self) -> crate::Result<Option<Self>> {
                self.region.replaced()?.map(Self::from_region).transpose()
            }

            /// How reading goes: mapped, or by system calls and why.
            pub fn access(&self) -> crate::Access {
                self.region.access()
            }

            /// The region behind this handle.
            pub fn region(&self) -> &crate::Region {
                &self.region
            }
        }
    };
    ($handle:ty) => {
        openers!([], [], $handle, crate::Options::new());
    };
}
use openers;
