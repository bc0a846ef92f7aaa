//! The public handles: typed by the record, over a region that is mapped or not.

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
mod per_cpu;
#[cfg(feature = "bpf")]
mod resizable;
mod ring;
mod table;
mod watch;

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
pub use per_cpu::PerCpuCells;
#[cfg(feature = "bpf")]
pub use resizable::ResizableRing;
pub use ring::{Drain, Event, Reader, Ring, RingWriter};
pub use table::{Guard, Seqlock, Snapshot, Table, TwoCopies};

/// The ways to open a handle, the same for each.
macro_rules! openers {
    ([$($generics:tt)*] $handle:ty) => {
        impl<$($generics)*> $handle {
            /// Opens the region pinned at `path`, for reading. Makes system calls; reading makes
            /// none if [`access`](Self::access) is mapped.
            ///
            /// # Errors
            /// See [`Options::open_pinned`](crate::Options::open_pinned); also
            /// [`Error::Kind`](crate::Error::Kind) and [`Error::RecordSize`](crate::Error::RecordSize).
            #[cfg(feature = "bpf")]
            pub fn open_pinned(path: impl AsRef<std::path::Path>) -> crate::Result<Self> {
                Self::from_region(crate::Region::open_pinned(path)?)
            }

            /// Opens the region in the BPF map with this id, for reading; needs CAP_SYS_ADMIN.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open_id(id: u32) -> crate::Result<Self> {
                Self::from_region(crate::Region::open_id(id)?)
            }

            /// Opens a BPF map or memfd by its descriptor, for reading.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned); for a memfd also
            /// [`Error::Unsealed`](crate::Error::Unsealed) and
            /// [`Error::Truncated`](crate::Error::Truncated).
            pub fn open_fd(fd: std::os::fd::OwnedFd) -> crate::Result<Self> {
                Self::from_region(crate::Region::open_fd(fd)?)
            }

            /// Opens a map of a loaded libbpf-rs object, for reading, and writes its preamble if
            /// that is missing: the loader's way.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open(map: &impl libbpf_rs::MapCore) -> crate::Result<Self> {
                Self::from_region(crate::Region::open(map)?)
            }

            /// [`open`](Self::open), mapped for writing, too, if the kernel allows it: see
            /// [`Region::writable`](crate::Region::writable).
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open_writable(map: &impl libbpf_rs::MapCore) -> crate::Result<Self> {
                Self::from_region(crate::Options::new().write(true).open(map)?)
            }

            /// [`open_pinned`](Self::open_pinned), mapped for writing, too, if the kernel allows it.
            ///
            /// # Errors
            /// As for [`open_pinned`](Self::open_pinned).
            #[cfg(feature = "bpf")]
            pub fn open_pinned_writable(path: impl AsRef<std::path::Path>) -> crate::Result<Self> {
                Self::from_region(crate::Options::new().write(true).open_pinned(path)?)
            }

            /// [`open_fd`](Self::open_fd), mapped for writing, too, if that is allowed.
            ///
            /// # Errors
            /// As for [`open_fd`](Self::open_fd).
            pub fn open_fd_writable(fd: std::os::fd::OwnedFd) -> crate::Result<Self> {
                Self::from_region(crate::Options::new().write(true).open_fd(fd)?)
            }

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
}
use openers;

/// The comparison of the record type with C's, the same for each typed handle.
#[cfg(feature = "bpf")]
macro_rules! checked {
    ([$($generics:tt)*] $handle:ty, $record:ty) => {
        impl<$($generics)*> $handle {
            /// This handle, if the map's BTF describes the records as the Rust type does: the same
            /// names, places and sizes of all fields, but for padding. Makes system calls, and needs
            /// CAP_SYS_ADMIN to read the BTF.
            ///
            /// # Errors
            /// [`Error::Layout`](crate::Error::Layout) names the first field that differs, and both
            /// sides; [`Error::NoTypes`](crate::Error::NoTypes) where there is nothing to compare
            /// with, or no right to.
            pub fn checked(self) -> crate::Result<Self> {
                self.region.check_record(&<$record>::LAYOUT, std::any::type_name::<$record>())?;
                Ok(self)
            }
        }
    };
}
#[cfg(feature = "bpf")]
use checked;
