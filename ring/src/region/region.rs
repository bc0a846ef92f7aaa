//! A region: memory with a preamble, mapped or read by system calls, independent of the record type.

use std::any::TypeId;
use std::cmp;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::mapping::Mapping;
#[cfg(doc)]
use super::options::OpenOptions;
use super::origin::Origin;
use super::writers::{Identity, Writer};
use crate::abi::{Gate, Geometry, Kind, Preamble, Process, WORD};
use crate::access::{Access, Refusal};
use crate::bpf::Lookup;
use crate::error::{Cause, Error, ReadError, Result};
use crate::record::{Compared, LayoutCheck, Tailed, UncheckedReason};
use mapring_core::protocol::is_any;
use mapring_core::protocol::ring::tails::Area;
use mapring_core::protocol::ring::{Shard, ShardPlace, gate};
use std::sync::atomic::Ordering;

/// Shared memory that contains a ring, cells, counters, latches or commands. Clones are handles to the same mapping.
///
/// A region is read-only unless it was opened with [`OpenOptions::write`]. Dropping the last handle unmaps it. The
/// memory stays while the map is pinned, or another process has the map or memfd open.
#[derive(Clone)]
pub struct Region(Arc<Inner>);

struct Inner {
    what: String,
    preamble: Preamble,
    memory: Memory,
    writable: Result<(), Refusal>,
    compared: Compared,
    identity: Identity,
    fd: OwnedFd,
    /// The pin or the map of maps from which it was opened.
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
    /// The region's shape.
    pub fn geometry(&self) -> &Geometry {
        &self.0.preamble.geometry
    }

    /// The region's preamble.
    pub fn preamble(&self) -> &Preamble {
        &self.0.preamble
    }

    /// How the records were compared with `T` when the region was opened.
    pub fn layout_check<T: 'static>(&self) -> LayoutCheck {
        match self.0.compared {
            Compared { with: Some(id), .. } if id != TypeId::of::<T>() => {
                LayoutCheck::Size(UncheckedReason::NotAsked)
            }
            Compared { check, .. } => check,
        }
    }

    /// How the region is read: mapped, or by system calls and why.
    pub fn access(&self) -> Access {
        self.0.memory.access()
    }

    /// Whether the region is mapped for writing, and if not, why.
    ///
    /// # Errors
    /// The [`Refusal`]; [`Refusal::NotAsked`] if it was opened without [`OpenOptions::write`].
    pub fn writable(&self) -> Result<(), Refusal> {
        self.0.writable
    }

    /// The number of writes that went nowhere: from CPUs without a shard, to indices out of range, or into a busy cell.
    /// If mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn dropped(&self) -> Result<u64, ReadError> {
        Ok(self.live(Preamble::DROPPED)?)
    }

    /// The process that initialized the region: the one that created the memfd or, for a map, the last one that called
    /// `mapring_loader::initialize` while the map could be mapped for writing; for a ring that
    /// replaced another one, the process that resized it. `None` if the region does not say which. If mapped: two
    /// loads. Otherwise system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn loader(&self) -> Result<Option<Process>, ReadError> {
        Ok(Process::decode(self.live(Preamble::LOADER)?))
    }

    /// Whether another ring has replaced this [resizable](Geometry::resizable) one. If so, it contains the records that
    /// programs wrote until then, and they no longer write to it. If mapped: one load. Otherwise three system calls.
    ///
    /// # Errors
    /// [`ReadError::Lookup`], never on a mapped region.
    pub fn retired(&self) -> Result<bool, ReadError> {
        Ok(self.gate()? == Gate::Retired)
    }

    /// The state of its gate. Makes system calls if the region is not mapped.
    #[inline]
    pub(crate) fn gate(&self) -> io::Result<Gate> {
        match &self.0.memory {
            Memory::Mapped(mapping) => Ok(gate(mapping.words())),
            Memory::Lookup(lookup, _) => Ok(Gate::for_readers(lookup.preamble()?[Gate::WORD])),
        }
    }

    /// The number of tickets that were given out in the rings before this resizable one, with [`Gate::COUNTING`] set
    /// until it is final.
    pub(crate) fn before(&self) -> Result<u64> {
        self.live(Gate::BEFORE).map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))
    }

    /// The word with its gate, which also names another map while one ring replaces the other.
    pub(crate) fn gate_word(&self) -> Result<u64> {
        self.live(Gate::WORD).map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))
    }

    /// A word of the preamble that changes. Makes system calls if the region is not mapped.
    pub(crate) fn live(&self, word: usize) -> io::Result<u64> {
        match &self.0.memory {
            Memory::Mapped(mapping) => Ok(mapping.words().load(word, Ordering::Relaxed)),
            Memory::Lookup(lookup, _) => Ok(lookup.preamble()?[word]),
        }
    }

    /// Sets where it was found.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.origin = Some(origin);
        }
    }

    /// Where it was found, so that `replaced` can check there again.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// Copies the words of a ring while programs write it. In a memfd that is sealed against resizing, the copy of a ring
    /// without options or with `TAILS` is a ring: a reader of it finds the records that had ended before this call, except for
    /// those that programs overwrite meanwhile. Each is whole. Read it with [`Reader::of_the_past`](crate::Reader::of_the_past),
    /// on any machine of the same byte order. Allocates, makes no system call, and disturbs nobody. `None` if this is not a
    /// ring, or not mapped.
    pub fn copy_ring(&self) -> Option<Vec<u64>> {
        self.expect(Kind::Ring).ok()?;
        let Memory::Mapped(mapping) = &self.0.memory else { return None };
        let (geometry, words) = (self.geometry(), mapping.words());
        let mut copy = vec![0; geometry.bytes() / WORD];
        (0..Preamble::WORDS).for_each(|at| copy[at] = words.load(at, Ordering::Relaxed));
        for shard in 0..geometry.shards() {
            let (place, area) = (ShardPlace::new(geometry, shard), Area::new(geometry, shard));
            Shard::new(words, &place).copy_to(area.as_ref(), &mut copy);
        }
        Some(copy)
    }

    /// How it is read.
    pub(crate) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// Distinguishes its memory from the memory of other regions.
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity
    }

    /// Whether it is in a memfd, not in a BPF map.
    pub(crate) fn is_memfd(&self) -> bool {
        !self.0.identity.is_map()
    }

    /// Its name in messages.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    pub(crate) fn lookup(&self) -> Option<&Lookup> {
        match &self.0.memory {
            Memory::Mapped(_) => None,
            Memory::Lookup(lookup, _) => Some(lookup),
        }
    }

    /// Registers a writer of this process for the part `part` of this region's memory.
    pub(crate) fn count_writer(&self, part: usize) -> Writer {
        Writer::new(self.0.identity, part)
    }

    /// Keeps other writers of this process out, if this `thing` has no others yet.
    pub(crate) fn expect_alone<'a>(
        &self,
        writer: &'a Writer,
        thing: &'static str,
    ) -> Result<MutexGuard<'a, ()>> {
        let what = || self.0.what.clone();
        writer.alone().map_err(|count| Error::from(Cause::OtherWriters { what: what(), thing, count }))
    }

    pub(crate) fn expect(&self, kind: Kind) -> Result<()> {
        let found = self.geometry().kind();
        if found != kind {
            return Err(Error::from(Cause::Kind { what: self.0.what.clone(), found, expected: kind }));
        }
        Ok(())
    }

    /// Refuses a region of another kind, or with records of another size than `T`, or than a `T` with a tail. The records
    /// of a ring may be larger if it was opened with this type, and the type's layout allows it.
    pub(crate) fn expect_record<T: 'static>(&self, kind: Kind) -> Result<()> {
        self.expect(kind)?;
        let found = self.geometry().record();
        let expected =
            if self.geometry().tails().is_some() { size_of::<Tailed<T>>() } else { size_of::<T>() };
        let Compared { open, any, .. } = self.0.compared;
        let fits = match found.cmp(&expected) {
            cmp::Ordering::Equal => true,
            cmp::Ordering::Greater => kind == Kind::Ring && open == Some(TypeId::of::<T>()),
            cmp::Ordering::Less => any && is_any::<T>(),
        };
        if !fits {
            return Err(Error::from(Cause::RecordSize {
                what: self.0.what.clone(),
                found,
                record: self.0.preamble.name.clone(),
                rust: std::any::type_name::<T>(),
                expected,
            }));
        }
        Ok(())
    }

    pub(crate) fn new(
        what: String,
        preamble: Preamble,
        memory: Memory,
        writable: Result<(), Refusal>,
        compared: Compared,
        identity: Identity,
        fd: OwnedFd,
    ) -> Self {
        Self(Arc::new(Inner { what, preamble, memory, writable, compared, identity, fd, origin: None }))
    }
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
