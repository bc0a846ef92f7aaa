//! Maps of any type with values of any type, as bytes: for tools that show every map.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};

use mapring_sys::btf::Btf;

use crate::access::Access;
use crate::bpf::MapFd;
use crate::bpf::compare::no_types;
use crate::error::{ReadError, Result};
use crate::record::UncheckedReason;
use crate::region::MapUser;
use crate::region::maps::{map_or_lookup, users};
use crate::region::{Memory, Source};

/// A BPF map of any type, of any loader, for tools that do not know its values: what the kernel says of it, its types,
/// and the bytes of an array's values. Opened for reading; an array is mapped if the kernel allows it.
///
/// Values are read without a protocol: see [`Array`](super::Array). Opening needs the privileges of its [`Source`].
pub struct AnyMap {
    map: MapFd,
    /// `None` for a map that isn't an array.
    memory: Option<Memory>,
}

/// What the kernel says of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapFacts {
    /// Its id.
    pub id: u32,
    /// Its type as libbpf names it, such as `array`.
    pub kind: String,
    /// Its name: at most 15 bytes, escaped for terminals. Empty if the kernel does not tell it.
    pub name: String,
    /// The bytes of a key.
    pub key_size: usize,
    /// The bytes of a value; of a per-CPU map, on each CPU.
    pub value_size: usize,
    /// The largest number of entries.
    pub max_entries: usize,
    /// The flags (`BPF_F_…`) with which it was made.
    pub flags: u32,
}

impl AnyMap {
    /// Opens a map. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open); [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a program
    /// or a link.
    pub fn open(source: impl Into<Source>) -> Result<Self> {
        let map = source.into().map()?.0;
        if map.expect_array().is_err() {
            return Ok(Self { map, memory: None });
        }
        let (memory, _) = map_or_lookup(map.fd.as_fd(), &map.info, &map.what, false)?;
        Ok(Self { map, memory: Some(memory) })
    }

    /// What the kernel says of it.
    pub fn facts(&self) -> MapFacts {
        let info = &self.map.info;
        MapFacts {
            id: info.id,
            kind: info.ty.name(),
            name: mapring_core::text::printable(&crate::record::string(&info.name)),
            key_size: info.key_size as usize,
            value_size: info.value_size as usize,
            max_entries: info.max_entries as usize,
            flags: info.flags,
        }
    }

    /// The loaded programs that use it: see [`Region::programs`](crate::Region::programs).
    ///
    /// # Errors
    /// As for [`Region::programs`](crate::Region::programs).
    pub fn programs(&self) -> crate::Result<Vec<MapUser>> {
        users(self.map.info.id)
    }

    /// Its BTF, and the id of its values' type there; 0 if they have none. Makes system calls. The kernel gives the
    /// types only to processes with CAP_SYS_ADMIN. The type `Btf` is of the crate `mapring-sys`.
    ///
    /// # Errors
    /// Why this process has no types.
    pub fn types(&self) -> Result<(Btf, u32), UncheckedReason> {
        let btf = Btf::load(self.map.info.btf_id).map_err(|e| no_types(&e))?;
        Ok((btf, self.map.info.value_type))
    }

    /// How its values are read; `None` if it is no array.
    pub fn access(&self) -> Option<Access> {
        self.memory.as_ref().map(Memory::access)
    }

    /// The CPUs that have their own values, in ascending order; `None` for a map that all CPUs share.
    pub fn cpus(&self) -> Option<&[usize]> {
        match self.memory.as_ref()? {
            Memory::Mapped(_) => None,
            Memory::Lookup(lookup, _) => lookup.cpus(),
        }
    }

    /// The words of the value at `index`, the last one filled up with any bytes; of a per-CPU array, the words of each
    /// [CPU](Self::cpus) in turn. If mapped: loads, and no system call. Otherwise one system call. A map that isn't an
    /// array has no values here.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    pub fn read(&self, index: usize, words: &mut Vec<u64>) -> Result<(), ReadError> {
        self.read_run(index, 1, words)
    }

    /// The same of `count` values from `first` on. If the array is not mapped: one system call for up to 64 of them, or
    /// one for each if the kernel has no batches of this array.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_run(&self, first: usize, count: usize, words: &mut Vec<u64>) -> Result<(), ReadError> {
        words.clear();
        let info = &self.map.info;
        let (stride, entries) = ((info.value_size as usize).div_ceil(8), info.max_entries as usize);
        let is_within = first.checked_add(count).is_some_and(|end| end <= entries);
        let Some(memory) = self.memory.as_ref().filter(|_| is_within) else {
            let entries = if self.memory.is_some() { entries } else { 0 };
            return Err(ReadError::Index { thing: "value", index: first.max(entries), count: entries });
        };
        match memory {
            Memory::Mapped(mapping) => {
                let values = mapping.words().slice(first * stride, count * stride);
                words.extend((0..count * stride).map(|at| values.load(at, Ordering::Relaxed)));
                fence(Ordering::Acquire);
            }
            Memory::Lookup(lookup, _) => {
                words.resize(count * stride * lookup.cpus().map_or(1, <[_]>::len), 0);
                lookup.run(first, count, words)?;
            }
        }
        Ok(())
    }
}

impl AsFd for AnyMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd.as_fd()
    }
}

impl fmt::Debug for AnyMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyMap").field("facts", &self.facts()).field("access", &self.access()).finish()
    }
}
