//! Opens regions, of memfds and of maps.

use std::os::fd::AsFd;

use super::options::OpenOptions;
use super::region::Region;
use super::source::{AnySource, Source};
use super::{maps, memfd};
use crate::abi::PreambleError;
#[cfg(doc)]
use crate::access::{Access, Refusal};
use crate::bpf::is_gone;
use crate::error::{Error, Result};

impl OpenOptions {
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
        match source.into().0 {
            AnySource::Fd(fd) => {
                let fd = fd.map_err(|e| Error::system("dup", e))?;
                if memfd::is_one(fd.as_fd()) { memfd::open(fd, self) } else { maps::open_fd(fd, self) }
            }
            of_map => maps::open_source(Source(of_map), self),
        }
    }
}

impl Region {
    /// [`OpenOptions::open`], read-only.
    ///
    /// # Errors
    /// As for [`OpenOptions::open`].
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        OpenOptions::new().open(source)
    }

    /// The region that is now pinned where this one was opened, or that is now in the map of maps in which this one was
    /// found, if it is another map. A loader that starts again replaces its pins; the old map then no longer changes.
    /// `None` while it is the same map, while nothing is there, or a map to which no loader has written a preamble yet, and
    /// for a region that was opened in another way. Makes system calls.
    ///
    /// # Errors
    /// All errors of [`OpenOptions::open`].
    pub fn replaced(&self) -> Result<Option<Self>> {
        match self.successor() {
            // A loader that starts again may have removed its pin, and not made the next one yet.
            Err(e) if is_gone(&e) || e.preamble_error() == Some(&PreambleError::Magic { found: 0 }) => {
                Ok(None)
            }
            found => found,
        }
    }
}
