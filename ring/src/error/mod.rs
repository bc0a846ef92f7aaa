//! What can go wrong when a region is opened or made, and what to do about it.

mod cause;

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error as ThisError;

pub(crate) use self::cause::Cause;
use crate::abi::{GeometryError, PreambleError};
use crate::access::Refusal;

/// Why a region can't be opened, made or used.
///
/// Its text is complete: what was found, what was expected, what the kernel reported, and the remedy where there is one.
/// So there is no [`source`](std::error::Error::source), which would be printed again: [`io_error`](Self::io_error) and
/// [`preamble_error`](Self::preamble_error) return it.
#[derive(Clone)]
pub struct Error(Arc<Cause>);

/// The kinds of [`Error`]s, for programs that react to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source could not be opened: nothing is there, or access is denied. [`Error::io_error`] says which.
    Open,
    /// The source is something else: a file, a map of another type, a region of another kind.
    WrongType,
    /// The region has no valid preamble: its loader has not initialized it, it is of another version, or it was overwritten.
    Preamble,
    /// The region's preamble, its size, its BTF and what the kernel reports of it contradict each other.
    Contradiction,
    /// The Rust type does not have the layout of the C type.
    Layout,
    /// A size or number for which there is no region, or no map on this kernel.
    Shape,
    /// A ring, counters, histograms, gauges or top keys without a shard for each possible CPU: the loader did not call `mapring_loader::prepare`.
    NotFitted,
    /// An object reuses a map that holds another region than the object declares: another kind, size, number of slots or
    /// shards, other fields, or a ring without its maps of readers and bells.
    NotReusable,
    /// A memfd that another process can use to kill its readers, or to take their memory.
    /// [`OpenOptions::allow_unsealed`](crate::OpenOptions::allow_unsealed) accepts it.
    Untrusted,
    /// Another process has not finished a resize.
    ResizeUnfinished,
    /// Other writers are in the way: of this process, or for commands of another one, which the message names.
    OtherWriters,
    /// A shard, cell, counter, latch, variable or NUMA node that does not exist.
    OutOfRange,
    /// The region can't be read. [`Error::refusal`] says why.
    NotReadable,
    /// The region can't be written by this process. [`Error::refusal`] says why.
    NotWritable,
    /// Userspace writes the region no more, for good. What programs write is still read.
    Sealed,
    /// The region could not be sealed, or a seal would be worth nothing.
    CannotSeal,
    /// The ring can't be resized: it was not declared so.
    NotResizable,
    /// No program wakes this reader: the ring was not declared wakeable.
    NotWakeable,
    /// As many readers as possible have a seat in the ring already: 64.
    NoSeat,
    /// The ring does not keep its oldest records: it was not declared so.
    NotKeepOldest,
    /// Programs no longer wait for this reader: it held them back for longer than its lease.
    LeaseEnded,
    /// The kernel or the architecture lacks what the programs need.
    Unsupported,
    /// A table of programs does not take the program.
    Program,
    /// A system call failed.
    System,
    /// The library with which a loader loads its object failed.
    Loader,
}

impl Error {
    /// A loader's own error, of one of these kinds.
    pub fn new(kind: ErrorKind, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::from(Cause::Other { kind, error: error.into() })
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// Why the kernel, or the library, refused to map, to read or to write.
    pub fn refusal(&self) -> Option<Refusal> {
        match *self.0 {
            Cause::NotReadable { refusal, .. }
            | Cause::NotWritable { refusal, .. }
            | Cause::Sealed { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What the kernel returned, if a system call failed.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.io_error()
    }

    /// What is wrong with the preamble, for [`ErrorKind::Preamble`] of a region that could be read.
    pub fn preamble_error(&self) -> Option<&PreambleError> {
        match &*self.0 {
            Cause::Preamble { error, .. } => Some(error),
            _ => None,
        }
    }

    pub(crate) fn cause(&self) -> &Cause {
        &self.0
    }

    pub(crate) fn not_writable(what: &str, refusal: Refusal) -> Self {
        let what = what.to_owned();
        Self::from(match refusal {
            Refusal::Frozen | Refusal::Sealed => Cause::Sealed { what, refusal },
            _ => Cause::NotWritable { what, refusal },
        })
    }

    /// The error for a map that holds something else than a loader declares.
    pub(crate) fn mismatch(what: &str, found: String, declared: String) -> Self {
        Self::from(Cause::Mismatch { what: what.to_owned(), found, declared, is_left: false })
    }

    /// The same error for a map that the object leaves alone.
    pub(crate) fn of_left(self) -> Self {
        match self.cause() {
            Cause::Mismatch { what, found, declared, .. } => {
                let [what, found, declared] = [what, found, declared].map(Clone::clone);
                Self::from(Cause::Mismatch { what, found, declared, is_left: true })
            }
            _ => self,
        }
    }

    pub(crate) fn system(call: &'static str, error: impl Into<io::Error>) -> Self {
        Self::from(Cause::System { call, error: error.into(), hint: "" })
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }
}

impl From<GeometryError> for Error {
    fn from(error: GeometryError) -> Self {
        Cause::from(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a read returned no value.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ReadError {
    /// A writer was in the cell at each attempt to read it. It may be slow, or it died before it finished. Reading
    /// again may succeed.
    #[error("a writer was in the cell at each of {tries} tries")]
    Busy {
        /// How many attempts were made.
        tries: u32,
    },
    /// The index of a shard, cell or counter is out of range.
    #[error("no {thing} {index}: there are {count}")]
    Index {
        /// `shard`, `cell` or `counter`.
        thing: &'static str,
        /// The index that was passed.
        index: usize,
        /// How many exist.
        count: usize,
    },
    /// The system call that replaces a mapped read failed. Never on a mapped region.
    #[error("lookup: {0}")]
    Lookup(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Lookup(error)
    }
}
