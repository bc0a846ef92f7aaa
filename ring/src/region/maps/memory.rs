//! Maps as memory: mapped, or read by lookups if the kernel refuses the mapping.

use std::io;
use std::os::fd::BorrowedFd;

use mapring_sys::fdinfo::is_frozen;
use mapring_sys::kinds::MapType;
use mapring_sys::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, ENOTSUPP, MapInfo};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::abi::WORD;
use crate::access::Refusal;
use crate::bpf::lookup::Lookup;
use crate::error::{Cause, Error, Result};
use crate::region::{Mapping, Memory};

/// Maps an array, also for writing if that is requested and allowed. Otherwise reads it by lookups.
pub(crate) fn map_or_lookup(
    fd: BorrowedFd<'_>,
    info: &MapInfo,
    what: &str,
    write: bool,
) -> Result<(Memory, Result<(), Refusal>)> {
    let mut writable = Err(Refusal::NotAsked);
    let mut mapping = None;
    // In the mapping each value starts on a word.
    let bytes = (info.value_size as usize).next_multiple_of(WORD) * info.max_entries as usize;
    if write {
        match Mapping::new(fd, bytes, true) {
            Ok(mapped) => (mapping, writable) = (Some(mapped), Ok(())),
            Err(e) => writable = Err(refusal(&e, info, fd, true)),
        }
    }
    let memory = match mapping.map_or_else(|| Mapping::new(fd, bytes, false), Ok) {
        Ok(mapping) => Memory::Mapped(mapping),
        Err(e) => {
            let fd_of_lookup = fd.try_clone_to_owned().map_err(|e| Error::system("dup", e))?;
            let refusal = refusal(&e, info, fd, false);
            let lookup = Lookup::new(fd_of_lookup, info).map_err(|e| unreadable(e, refusal, what))?;
            Memory::Lookup(lookup, refusal)
        }
    };
    Ok((memory, writable))
}

/// The error of a lookup in a map that was not mapped for this reason.
pub(super) fn unreadable(e: io::Error, refusal: Refusal, what: &str) -> Error {
    match refusal {
        Refusal::WriteOnlyFd => Error::from(Cause::NotReadable { what: what.to_owned(), refusal }),
        _ => Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e),
    }
}

/// The reason for an error of mmap, for this map and descriptor. `docs/kernels.md` has the table.
fn refusal(e: &io::Error, info: &MapInfo, fd: BorrowedFd<'_>, write: bool) -> Refusal {
    let errno = e.raw_os_error().unwrap_or(0);
    let flag = |flag: u32| info.flags & flag != 0;
    let mode = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::ACCMODE);
    match Errno::from_raw_os_error(errno) {
        _ if errno == ENOTSUPP && info.ty == MapType::ARRAY => Refusal::SpecialFields,
        _ if errno == ENOTSUPP => Refusal::MapType,
        Errno::INVAL if !flag(BPF_F_MMAPABLE) => Refusal::NotMmapable,
        // The kernel drops VM_SHARED from a mapping of a read-only file, and then refuses the mapping.
        Errno::INVAL | Errno::ACCESS if mode == Ok(OFlags::RDONLY) => Refusal::ReadOnlyFd,
        Errno::ACCESS if mode == Ok(OFlags::WRONLY) => Refusal::WriteOnlyFd,
        Errno::ACCESS if write && flag(BPF_F_RDONLY_PROG) => Refusal::ReadOnlyForPrograms,
        Errno::PERM if write && is_frozen(fd) != Some(false) => Refusal::Frozen,
        _ => Refusal::Errno(errno),
    }
}
