//! Regions between ordinary processes: memfds, sealed against resizing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::mapping::Mapping;
use super::options::OpenOptions;
use super::preamble::{generation, write_preamble};
use super::region::{Memory, Region};
use super::shared::SharedMut;
use super::writers::Identity;
use crate::abi::{Geometry, Kind, Preamble, PreambleError, RingOptions, WORD, readers};
use crate::access::Refusal;
use crate::error::{Cause, Error, Result};
use crate::record::{Compared, Expected, LayoutCheck, UncheckedReason};

/// The seals that protect readers from SIGBUS.
const FIXED_SIZE: SealFlags = SealFlags::GROW.union(SealFlags::SHRINK);

/// The type of hugetlbfs in `fstatfs`.
const HUGETLBFS: u32 = 0x9584_58f6;
/// Bytes of the blocks that `fstat` counts.
const BLOCK: u64 = 512;
/// How many bytes of a region may be unallocated. Reading a missing page allocates it and charges the reader. For more,
/// the caller must give consent.
const MISSING_MAX: u64 = 64 << 20;

/// The hint for a file that does not start like a region.
const NOT_OURS: &str = "; this file is not a region: Region::create_memfd makes one";

/// The comparison for every memfd: by size only.
fn compared(expected: Option<&Expected>) -> Compared {
    Compared::new(expected, None, LayoutCheck::Size(UncheckedReason::Memfd))
}

impl Region {
    /// Creates a region between ordinary processes: a memfd of the shape `geometry`, sealed against resizing, mapped
    /// here for writing. `record` is the name of the record type, for people only. Hand its [descriptor](AsFd) to the
    /// processes that will open it. Its pages are on the node of this process, or where its memory policy (`numactl`) says.
    /// Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(geometry: Geometry, record: &str) -> Result<Self> {
        create(geometry, record)
    }

    /// Seals a memfd region (`F_SEAL_FUTURE_WRITE`), so that no process can map it for writing, write it by a system
    /// call or punch pages out of it any more. Existing mappings, such as this process's own, can still write, but not
    /// punch. Makes a system call.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System), also if the region is not a memfd.
    pub fn seal_future_writes(&self) -> Result<()> {
        rustix::fs::fcntl_add_seals(self, SealFlags::FUTURE_WRITE)
            .map_err(|e| Error::system("fcntl(F_ADD_SEALS)", e))
    }

    /// The table of the readers of a ring that wakes them, for writing. Maps the file once more, if this process has mapped it for
    /// reading. Makes system calls then.
    pub(crate) fn readers_in_memfd(&self) -> Result<SharedMut> {
        let (first, count) = self.table_of_readers()?;
        let shared = self.shared_mut().or_else(|_| for_writing(self)?.shared_mut())?;
        Ok(shared.slice(first, count))
    }

    /// The first word of this table, and how many it has.
    pub(crate) fn table_of_readers(&self) -> Result<(usize, usize)> {
        let why = "it was created with neither WAKEABLE nor KEEP_OLDEST";
        let no = || Error::from(Cause::NotWakeable { what: self.what().to_owned(), why });
        readers::in_memfd(self.geometry()).ok_or_else(no)
    }

    /// Refuses a ring in a memfd with options that its writers do not follow.
    pub(crate) fn expect_options_of_memfd(&self) -> Result<()> {
        expect_possible(self.what(), self.geometry().options())
    }
}

/// Whether `fd` is a memfd or tmpfs file: no other file has seals.
pub(super) fn is_one(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok()
}

fn create(geometry: Geometry, record: &str) -> Result<Region> {
    only_shared("memfd", geometry.kind())?;
    expect_possible("memfd", geometry.options())?;
    let bytes = bytes(&geometry);
    fits_in_memory(bytes)?;
    let fd = rustix::fs::memfd_create("mapring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| Error::system("memfd_create", e))?;
    rustix::fs::ftruncate(&fd, bytes as u64).map_err(|e| Error::system("ftruncate", e))?;
    rustix::fs::fcntl_add_seals(&fd, FIXED_SIZE).map_err(|e| Error::system("fcntl(F_ADD_SEALS)", e))?;
    let mapping = Mapping::populated(fd.as_fd(), bytes).map_err(|e| Error::system("mmap", e))?;
    let preamble = Preamble { geometry, generation: generation(), name: record.to_owned() };
    if let Some(words) = mapping.words_mut() {
        if let Some((first, _)) = readers::in_memfd(&geometry) {
            words.store(first + readers::LOOK, readers::NEVER, Ordering::Relaxed);
        }
        write_preamble(words, &preamble);
    }
    let identity = Identity::file(fd.as_fd())?;
    Ok(Region::new(
        "memfd".to_owned(),
        preamble,
        Memory::Mapped(mapping),
        Ok(()),
        compared(None),
        identity,
        fd,
    ))
}

/// The bytes of the file: the region, and the table of its readers if its writers know them.
fn bytes(geometry: &Geometry) -> usize {
    readers::in_memfd(geometry).map_or(geometry.bytes(), |(first, count)| (first + count) * WORD)
}

/// Refuses options of a ring that no writer of a memfd follows.
fn expect_possible(what: &str, options: RingOptions) -> Result<()> {
    let refused =
        options.has_per_cpu_maps() || options.is_resizable() || options.keeps_oldest() && options.has_tails();
    if refused { Err(Error::from(Cause::NotInMemfd { what: what.to_owned(), options })) } else { Ok(()) }
}

/// The same region, mapped for writing if that is allowed.
fn for_writing(ring: &Region) -> Result<Region> {
    let fd = ring.as_fd().try_clone_to_owned().map_err(|e| Error::system("dup", e))?;
    let bytes = match ring.memory() {
        Memory::Mapped(mapping) => mapping.words().len() * WORD,
        Memory::Lookup(..) => bytes(ring.geometry()),
    };
    let (mapping, writable) = map(&fd, bytes, true)?;
    let (what, preamble) = (ring.what().to_owned(), ring.preamble().clone());
    Ok(Region::new(what, preamble, Memory::Mapped(mapping), writable, compared(None), ring.identity(), fd))
}

/// Refuses a region that is larger than the machine's memory. Otherwise the kernel would kill processes to make room
/// for it.
fn fits_in_memory(bytes: usize) -> Result<()> {
    let info = rustix::system::sysinfo();
    let memory = (u128::from(info.totalram) + u128::from(info.totalswap)) * u128::from(info.mem_unit);
    if bytes as u128 <= memory {
        return Ok(());
    }
    Err(Error::from(Cause::System {
        call: "memfd_create",
        error: Errno::NOMEM.into(),
        hint: "; the region is larger than this machine's memory: ask for less",
    }))
}

pub(super) fn open(fd: OwnedFd, options: OpenOptions) -> Result<Region> {
    let what = format!("memfd {}", fd.as_raw_fd());
    // Read the seals first: with them, the size is final.
    let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|e| Error::system("fcntl(F_GET_SEALS)", e))?;
    if !seals.contains(FIXED_SIZE) && !options.allow_unsealed {
        return Err(Error::from(Cause::Unsealed { what, remedy: how_to_seal(seals) }));
    }
    let huge_page = huge_page(&fd)?;
    if huge_page.is_some() && !options.allow_unsealed {
        return Err(Error::from(Cause::HugePages { what }));
    }
    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::system("fstat", e))?;
    let found = stat.st_size.cast_unsigned();
    let truncated = |expected: usize| {
        Error::from(Cause::Truncated { what: what.clone(), found, expected: expected as u64, hint: "" })
    };
    // By `pread`, not by a mapping: the size to map is not known yet.
    let mut words = [0; Preamble::WORDS];
    let read = rustix::io::pread(&fd, bytemuck::cast_slice_mut::<u64, u8>(&mut words), 0);
    if read.map_err(|e| Error::system("pread", e))? < Preamble::BYTES {
        return Err(truncated(Preamble::BYTES));
    }
    let preamble = Preamble::decode(&words).map_err(|error| {
        let hint = if matches!(error, PreambleError::Magic { .. }) { NOT_OURS } else { "" };
        Error::from(Cause::Preamble { what: what.clone(), error, hint })
    })?;
    only_shared(&what, preamble.geometry.kind())?;
    let bytes = bytes(&preamble.geometry);
    if bytes as u64 > found {
        return Err(truncated(bytes));
    }
    let missing = (bytes as u64).saturating_sub(stat.st_blocks.cast_unsigned().saturating_mul(BLOCK));
    if missing > MISSING_MAX && !options.allow_unsealed {
        return Err(Error::from(Cause::Sparse { what, bytes: bytes as u64, missing }));
    }
    // The kernel can't unmap a part of a huge page, so map a whole number of them.
    let (mapping, writable) = map(&fd, bytes.next_multiple_of(huge_page.unwrap_or(1)), options.write)?;
    let identity = Identity::file(fd.as_fd())?;
    let compared = Compared { any: options.any_record, ..compared(options.expected.as_ref()) };
    Ok(Region::new(what, preamble, Memory::Mapped(mapping), writable, compared, identity, fd))
}

/// The page size of the file, if it is in hugetlbfs. Any process that has such a file open can punch its pages out for
/// good.
fn huge_page(fd: &OwnedFd) -> Result<Option<usize>> {
    let fs = rustix::fs::fstatfs(fd).map_err(|e| Error::system("fstatfs", e))?;
    // The type of the field differs between architectures; the number fits into 32 bits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let is_huge = fs.f_type as u32 == HUGETLBFS;
    Ok(is_huge.then_some(usize::try_from(fs.f_bsize).unwrap_or(1).max(1)))
}

/// The remedy for an unsealed file. All files of a tmpfs have `F_SEAL_SEAL` set, so no seals can be added.
fn how_to_seal(seals: SealFlags) -> &'static str {
    if seals.contains(SealFlags::SEAL) {
        "files of a tmpfs (/dev/shm) and memfds without MFD_ALLOW_SEALING can't be sealed, so use a memfd as \
         Region::create_memfd makes it"
    } else {
        "have its creator seal it"
    }
}

/// Refuses the per-CPU kinds: they exist only in per-CPU maps.
fn only_shared(what: &str, kind: Kind) -> Result<()> {
    if kind.is_per_cpu() {
        return Err(Error::from(Cause::MapType {
            what: what.to_owned(),
            found: "not a BPF map".to_owned(),
            expected: "percpu_array",
            hint: "; cells and counters for each CPU exist in BPF maps only",
        }));
    }
    Ok(())
}

/// Maps for writing if that is requested and allowed, else for reading.
fn map(fd: &OwnedFd, bytes: usize, write: bool) -> Result<(Mapping, Result<(), Refusal>)> {
    let mut writable = Err(Refusal::NotAsked);
    if write {
        match Mapping::new(fd.as_fd(), bytes, true) {
            Ok(mapping) => return Ok((mapping, Ok(()))),
            Err(e) => {
                writable = Err(match e.raw_os_error() {
                    Some(e) if e == Errno::PERM.raw_os_error() => Refusal::Sealed,
                    Some(e) if e == Errno::ACCESS.raw_os_error() => Refusal::ReadOnlyMemfd,
                    e => Refusal::Errno(e.unwrap_or(0)),
                });
            }
        }
    }
    let mapping = Mapping::new(fd.as_fd(), bytes, false).map_err(|e| Error::system("mmap", e))?;
    Ok((mapping, writable))
}
