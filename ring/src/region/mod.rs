//! Regions: memory with a preamble, mapped or behind system calls. They know nothing of records.

// Maps alone use some of it.
#![cfg_attr(not(feature = "bpf"), allow(dead_code, unused_imports))]

mod access;
mod mapping;
mod memfd;
mod options;
mod scalar;
mod source;
mod writers;

use std::any::TypeId;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub use access::{Access, Refusal};
pub(crate) use mapping::Mapping;
pub(crate) use mapping::{Shared, SharedMut, SharedRows};
pub use options::OpenOptions;
use parking_lot::MutexGuard;
pub(crate) use source::Place;
pub use source::Source;
pub(crate) use writers::{Identity, Writer};

use crate::bpf::{Lookup, Origin};
use crate::error::{Cause, Error, ReadError, Result};
use crate::layout::{Gate, Geometry, Kind, Preamble};
use crate::protocol::WordsMut;
use crate::protocol::ring::gate;
use crate::record::{LayoutCheck, UncheckedReason};
use crate::sync::{Ordering, fence};

/// Shared memory that holds a ring, cells or counters. Clones are handles to the same mapping.
///
/// A region is read-only unless [`OpenOptions::write`] was asked for. Dropping the last handle
/// unmaps it; a pinned map or a memfd that others hold lives on.
#[derive(Clone)]
pub struct Region(Arc<Inner>);

struct Inner {
    what: String,
    preamble: Preamble,
    memory: Memory,
    writable: Result<(), Refusal>,
    /// What the records were compared with, and for which type.
    compared: (Option<TypeId>, LayoutCheck),
    identity: Identity,
    fd: OwnedFd,
    /// The pin or the map of maps that it was opened by.
    origin: Option<Origin>,
}

pub(crate) enum Memory {
    Mapped(Mapping),
    Lookup(Lookup, Refusal),
}

impl Memory {
    pub(crate) fn access(&self) -> Access {
        match self {
            Self::Mapped(_) => Access::Mapped,
            Self::Lookup(_, refusal) => Access::Syscall(*refusal),
        }
    }
}

impl Region {
    /// [`OpenOptions::open`], read-only.
    ///
    /// # Errors
    /// See there.
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        OpenOptions::new().open(source)
    }

    /// Makes a region between ordinary processes: a memfd of the shape `geometry`, sealed
    /// against resizing, mapped here for writing. `record` names the record type, for people.
    /// Hand its [descriptor](AsFd) to whoever is to open it. Makes system calls.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn create_memfd(geometry: Geometry, record: &str) -> Result<Self> {
        memfd::create(geometry, record)
    }

    /// Seals a memfd region so that nobody can map it for writing any more. Mappings that exist,
    /// such as this process's own, go on writing. Makes a system call.
    ///
    /// # Errors
    /// [`Error::System`], for a region that is no memfd, too.
    pub fn seal_future_writes(&self) -> Result<()> {
        memfd::seal_future_writes(self.as_fd())
    }

    /// The region that is now pinned where this one was opened, or in the map of maps that this one was
    /// found in, if that is another map: a loader that starts anew replaces its pins, and what was
    /// mapped before stays as it is and no longer changes. `None` while it is the same one, and for a
    /// region that was opened in another way. Makes system calls.
    ///
    /// # Errors
    /// [`Error::Open`] if nothing is there any more, and all that
    /// [`OpenOptions::open`] can say of what is.
    pub fn replaced(&self) -> Result<Option<Self>> {
        self.0.origin.as_ref().map_or(Ok(None), Origin::replaced)
    }

    /// The region's shape.
    pub fn geometry(&self) -> &Geometry {
        &self.0.preamble.geometry
    }

    /// What the preamble says.
    pub fn preamble(&self) -> &Preamble {
        &self.0.preamble
    }

    /// What the records were compared with `T` by, when the region was opened.
    pub fn layout_check<T: 'static>(&self) -> LayoutCheck {
        match self.0.compared {
            (Some(id), _) if id != TypeId::of::<T>() => LayoutCheck::Size(UncheckedReason::NotAsked),
            (_, compared) => compared,
        }
    }

    /// How the region is read, and if by system calls, why.
    pub fn access(&self) -> Access {
        self.0.memory.access()
    }

    /// Whether the region is mapped for writing, and if not, why.
    ///
    /// # Errors
    /// The [`Refusal`]; [`Refusal::NotAsked`] if [`OpenOptions::write`] was not.
    pub fn writable(&self) -> Result<(), Refusal> {
        self.0.writable
    }

    /// Writes that found no place: from CPUs beyond the last shard, to indices beyond the end, or
    /// into a cell that was busy. Mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn dropped(&self) -> Result<u64, ReadError> {
        Ok(self.live(Preamble::DROPPED)?)
    }

    /// Whether another ring took the place of this one, a [resizable](Geometry::resizable) one: it holds
    /// what programs wrote until then, and they write no more. Mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn retired(&self) -> Result<bool, ReadError> {
        Ok(self.gate()? == Gate::Retired)
    }

    /// What its gate says. A system call if the region is not mapped.
    #[inline]
    pub(crate) fn gate(&self) -> io::Result<Gate> {
        match &self.0.memory {
            Memory::Mapped(mapping) => Ok(gate(mapping.words())),
            Memory::Lookup(lookup, _) => Ok(Gate::for_readers(lookup.preamble()?[Gate::WORD])),
        }
    }

    /// The tickets that were given out in the rings before this resizable one, and whether that is all.
    pub(crate) fn before(&self) -> Result<u64> {
        self.live(Gate::BEFORE).map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))
    }

    /// A word of the preamble that changes. A system call if the region is not mapped.
    pub(crate) fn live(&self, word: usize) -> io::Result<u64> {
        match &self.0.memory {
            Memory::Mapped(mapping) => Ok(mapping.words().load(word, Ordering::Relaxed)),
            Memory::Lookup(lookup, _) => Ok(lookup.preamble()?[word]),
        }
    }

    /// Says where it was found.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.origin = Some(origin);
        }
    }

    /// Where it was found, to look there again.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// How it is read.
    pub(crate) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// What tells its memory from that of other regions.
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity
    }

    /// What messages call it.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    pub(crate) fn view(&self) -> View {
        match &self.0.memory {
            Memory::Mapped(mapping) => View::Mapped(mapping.shared(self)),
            Memory::Lookup(..) => View::Lookup(self.clone()),
        }
    }

    pub(crate) fn lookup(&self) -> Option<&Lookup> {
        match &self.0.memory {
            Memory::Mapped(_) => None,
            Memory::Lookup(lookup, _) => Some(lookup),
        }
    }

    /// Counts a writer of this process in, of the part `part` of this region's memory.
    pub(crate) fn count_writer(&self, part: usize) -> Writer {
        Writer::new(self.0.identity, part)
    }

    /// Keeps other writers of this process out, if there are none yet of this `thing`.
    pub(crate) fn expect_alone<'a>(
        &self,
        writer: &'a Writer,
        thing: &'static str,
    ) -> Result<MutexGuard<'a, ()>> {
        let what = || self.0.what.clone();
        writer.alone().map_err(|count| Error::from(Cause::OtherWriters { what: what(), thing, count }))
    }

    pub(crate) fn shared_mut(&self) -> Result<SharedMut> {
        let refused = |refusal| Error::not_writable(&self.0.what, refusal);
        self.0.writable.map_err(refused)?;
        match &self.0.memory {
            Memory::Mapped(mapping) => mapping.shared_mut(self).ok_or(refused(Refusal::NotAsked)),
            Memory::Lookup(_, refusal) => Err(refused(*refusal)),
        }
    }

    pub(crate) fn expect(&self, kind: Kind) -> Result<()> {
        let found = self.geometry().kind();
        if found != kind {
            return Err(Error::from(Cause::Kind { what: self.0.what.clone(), found, expected: kind }));
        }
        Ok(())
    }

    pub(crate) fn expect_record<T>(&self, kind: Kind) -> Result<()> {
        self.expect(kind)?;
        let found = self.geometry().record();
        if found != size_of::<T>() {
            return Err(Error::from(Cause::RecordSize {
                what: self.0.what.clone(),
                found,
                record: self.0.preamble.name.clone(),
                rust: std::any::type_name::<T>(),
                expected: size_of::<T>(),
            }));
        }
        Ok(())
    }

    pub(crate) fn new(
        what: String,
        preamble: Preamble,
        memory: Memory,
        writable: Result<(), Refusal>,
        compared: (Option<TypeId>, LayoutCheck),
        identity: Identity,
        fd: OwnedFd,
    ) -> Self {
        Self(Arc::new(Inner { what, preamble, memory, writable, compared, identity, fd, origin: None }))
    }
}

/// Where a handle reads from.
pub(crate) enum View {
    Mapped(Shared),
    Lookup(Region),
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("what", &self.0.what)
            .field("preamble", &self.0.preamble)
            .field("access", &self.access())
            .field("writable", &self.writable())
            .finish()
    }
}

/// Writes a preamble, its first word last: who sees that sees the rest.
pub(crate) fn write_preamble(words: WordsMut<'_>, preamble: &Preamble) {
    let encoded = preamble.encode();
    for (at, &word) in encoded.iter().enumerate().skip(1).filter(|&(at, _)| at != Preamble::DROPPED) {
        words.store(at, word, Ordering::Relaxed);
    }
    fence(Ordering::Release); // SYNC preamble: pairs with the fence in `preamble_words`
    words.store(0, encoded[0], Ordering::Relaxed);
}

/// Nanoseconds since boot: tells one life of a region from the next.
pub(crate) fn generation() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
