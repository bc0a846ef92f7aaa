//! Regions between ordinary processes: memory files, sealed against resizing.

use std::any::TypeId;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::{Mapping, Memory, Options, Refusal, Region, generation, preamble_words, write_preamble};
use crate::error::{Error, Result};
use crate::layout::{Geometry, Kind, Preamble};
use crate::record::{Compared, NotCompared};
use crate::sync::{Ordering, fence};

/// What keeps a reader from SIGBUS.
const FIXED_SIZE: SealFlags = SealFlags::GROW.union(SealFlags::SHRINK);

/// What its records are compared with.
const NO_BTF: (Option<TypeId>, Compared) = (None, Compared::Size(NotCompared::Memfd));

/// Whether `fd` is a memory file: nothing else has seals.
pub(super) fn is_one(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok()
}

pub(super) fn create(geometry: Geometry, record: &str) -> Result<Region> {
    only_shared("memfd", geometry.kind())?;
    let fd = rustix::fs::memfd_create("mapring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| Error::system("memfd_create", e))?;
    rustix::fs::ftruncate(&fd, geometry.bytes() as u64).map_err(|e| Error::system("ftruncate", e))?;
    rustix::fs::fcntl_add_seals(&fd, FIXED_SIZE).map_err(|e| Error::system("fcntl(F_ADD_SEALS)", e))?;
    let mapping = Mapping::new(fd.as_fd(), geometry.bytes(), true).map_err(|e| Error::system("mmap", e))?;
    let preamble = Preamble { geometry, generation: generation(), name: record.to_owned() };
    if let Some(words) = mapping.words_mut() {
        write_preamble(words, &preamble);
    }
    Ok(Region::new("memfd".to_owned(), preamble, Memory::Mapped(mapping), Ok(()), NO_BTF, fd))
}

pub(super) fn open(fd: OwnedFd, options: Options) -> Result<Region> {
    let what = format!("memfd {}", fd.as_raw_fd());
    // Seals first: after them the size is final.
    let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|e| Error::system("fcntl(F_GET_SEALS)", e))?;
    if !seals.contains(FIXED_SIZE) && !options.allow_unsealed {
        return Err(Error::Unsealed { what });
    }
    let found = rustix::fs::fstat(&fd).map_err(|e| Error::system("fstat", e))?.st_size.cast_unsigned();
    let truncated =
        |expected: usize| Error::Truncated { what: what.clone(), found, expected: expected as u64 };
    let bytes = usize::try_from(found).map_err(|_| truncated(Preamble::BYTES))?;
    if bytes < Preamble::BYTES {
        return Err(truncated(Preamble::BYTES));
    }
    let (mapping, writable) = map(&fd, bytes, options.write)?;
    let words = preamble_words(mapping.words());
    fence(Ordering::Acquire);
    let preamble =
        Preamble::decode(&words).map_err(|error| Error::Preamble { what: what.clone(), error, hint: "" })?;
    only_shared(&what, preamble.geometry.kind())?;
    if preamble.geometry.bytes() > bytes {
        return Err(truncated(preamble.geometry.bytes()));
    }
    Ok(Region::new(what, preamble, Memory::Mapped(mapping), writable, NO_BTF, fd))
}

/// What each CPU has for itself is in per-CPU maps only.
fn only_shared(what: &str, kind: Kind) -> Result<()> {
    if kind.is_per_cpu() {
        return Err(Error::MapType {
            what: what.to_owned(),
            found: "memfd".to_owned(),
            expected: "percpu_array",
        });
    }
    Ok(())
}

/// Maps for writing if that is asked for and allowed, else for reading.
fn map(fd: &OwnedFd, bytes: usize, write: bool) -> Result<(Mapping, Result<(), Refusal>)> {
    let mut writable = Err(Refusal::NotAsked);
    if write {
        match Mapping::new(fd.as_fd(), bytes, true) {
            Ok(mapping) => return Ok((mapping, Ok(()))),
            Err(e) => {
                writable = Err(match e.raw_os_error() {
                    Some(e) if e == Errno::PERM.raw_os_error() => Refusal::Sealed,
                    Some(e) if e == Errno::ACCESS.raw_os_error() => Refusal::ReadOnlyFd,
                    e => Refusal::Errno(e.unwrap_or(0)),
                });
            }
        }
    }
    let mapping = Mapping::new(fd.as_fd(), bytes, false).map_err(|e| Error::system("mmap", e))?;
    Ok((mapping, writable))
}

pub(super) fn seal_writes(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fcntl_add_seals(fd, SealFlags::FUTURE_WRITE)
        .map_err(|e| Error::system("fcntl(F_ADD_SEALS)", e))
}
