//! The public handles: typed by the record, over a region that is mapped or read by system call.

mod any;
mod array;
mod cells;
mod commands;
mod counters;
pub mod dispatch;
mod gauges;
pub mod globals;
mod histograms;
mod latches;
mod per_cpu;
mod per_cpu_elements;
pub mod table;
mod top;

pub use any::{AnyMap, MapFacts};
pub use array::Array;
pub use cells::{Cells, CellsWriter};
pub use commands::{Commands, CommandsWriter, Full};
pub use counters::{Counters, CountersWriter};
pub use gauges::{GaugeReader, GaugeWindow, Gauges, GaugesWriter, SinceLastRead};
pub use histograms::{Histograms, HistogramsWriter};
pub use latches::{Latches, LatchesWriter};
pub use per_cpu::PerCpuCells;
pub use top::{Ranking, TopKey, TopKeys, TopKeysWriter};

/// The functions that open a handle, the same for each. For typed handles they compare the record with the map's BTF.
macro_rules! openers {
    ([$($generics:tt)*] $handle:ty, $record:ident, $kind:expr) => {
        openers!(
            [$record: crate::Record, $($generics)*],
            [$record: bytemuck::AnyBitPattern, $($generics)*],
            $handle,
            |options| options.record_of::<$record>($kind),
            |handle| &handle.region
        );

        impl<$record: bytemuck::AnyBitPattern, $($generics)*> $handle {
            /// Whether the record type was compared field by field with the C type when this was opened, or only by
            /// size, and why.
            pub fn layout_check(&self) -> crate::record::LayoutCheck {
                self.region.layout_check::<$record>()
            }
        }
    };
    ([$($opens:tt)*], [$($generics:tt)*], $handle:ty, $expects:expr, $region:expr) => {
        impl<$($opens)*> $handle {
            /// Opens it for reading. Makes system calls; reading makes none if [`access`](Self::access) is mapped.
            ///
            /// # Errors
            /// See [`OpenOptions::open`](crate::OpenOptions::open); also
            /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType), [`ErrorKind::Layout`](crate::ErrorKind::Layout).
            pub fn open(source: impl Into<crate::Source>) -> crate::Result<Self> {
                Self::open_with(source, crate::OpenOptions::new())
            }

            /// The same with options. With [`OpenOptions::write`](crate::OpenOptions::write) it is mapped for writing, if
            /// the kernel allows it: see [`Region::writable`](crate::Region::writable).
            ///
            /// # Errors
            /// As for [`open`](Self::open).
            pub fn open_with(
                source: impl Into<crate::Source>,
                options: crate::OpenOptions,
            ) -> crate::Result<Self> {
                let expects: fn(crate::OpenOptions) -> crate::OpenOptions = $expects;
                Self::from_region(expects(options).open(source)?)
            }
        }

        impl<$($generics)*> $handle {
            /// The map that is now pinned where this one was opened, if it is another one: see
            /// [`Region::replaced`](crate::Region::replaced). Processes that live longer than loaders call it now and
            /// then. Makes system calls.
            ///
            /// # Errors
            /// As for [`Region::replaced`](crate::Region::replaced), and all errors of opening it.
            pub fn replaced(&self) -> crate::Result<Option<Self>> {
                self.region().replaced()?.map(Self::from_region).transpose()
            }

            /// How it is read: mapped, or by system calls and why.
            pub fn access(&self) -> crate::Access {
                self.region().access()
            }

            /// The region behind this handle.
            pub fn region(&self) -> &crate::Region {
                let region: fn(&Self) -> &crate::Region = $region;
                region(self)
            }
        }

        crate::region::maps::pinning!([$($generics)*] $handle, "", "", |handle, path, how| {
            crate::region::maps::publish(&[(None, handle.region())], path, how)
        });

        impl<$($generics)*> std::os::fd::AsFd for $handle {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.region().as_fd()
            }
        }
    };
    ($handle:ty) => {
        openers!([], [], $handle, |options| options, |handle| &handle.region);
    };
}
use openers;
