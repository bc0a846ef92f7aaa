//! Mapped memory.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use mapring_core::protocol::{Words, WordsMut};
use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

use crate::abi::WORD;

/// Memory mapped until it is dropped.
pub(crate) struct Mapping {
    map: MmapRaw,
    write: bool,
}

impl Mapping {
    /// Maps `bytes` from the start of `fd`: for reading, unless `write`.
    ///
    /// It does not populate the mapping. For a BPF map, `mmap` itself maps all pages. For a memfd of another process,
    /// populating would allocate each missing page and charge this process for it.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize, write: bool) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(bytes);
        let map = if write {
            options.map_raw(fd.as_raw_fd())?
        } else {
            options.map_raw_read_only(fd.as_raw_fd())?
        };
        Ok(Self { map, write })
    }

    /// Maps the page number `page` of `fd`.
    pub(crate) fn page(fd: BorrowedFd<'_>, page: usize, write: bool) -> io::Result<Self> {
        let bytes = rustix::param::page_size();
        let mut options = MmapOptions::new();
        options.offset((page * bytes) as u64).len(bytes);
        let map = if write {
            options.map_raw(fd.as_raw_fd())?
        } else {
            options.map_raw_read_only(fd.as_raw_fd())?
        };
        Ok(Self { map, write })
    }

    /// A page of zeros for this process. In a child of `fork` it has zeros again.
    pub(super) fn wiped_on_fork() -> io::Result<Self> {
        let map = MmapOptions::new().len(rustix::param::page_size()).map_anon()?;
        let map = MmapRaw::from(map);
        // SAFETY: nothing uses the mapping yet, and in this process it keeps its content.
        unsafe { madvise(map.as_mut_ptr().cast(), map.len(), Advice::LinuxWipeOnFork)? };
        Ok(Self { map, write: true })
    }

    /// Maps `bytes` of a memfd that this process created, for writing, and allocates all of its memory: so that writers
    /// take no page faults, and other processes accept the memfd.
    pub(super) fn populated(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(bytes).populate().map_raw(fd.as_raw_fd())?;
        Ok(Self { map, write: true })
    }

    pub(crate) fn words(&self) -> Words<'_> {
        // SAFETY: a mapping starts on a page and stays until `self` is dropped. It can't shrink: BPF maps never do, and
        // memfds are sealed (or the caller accepted the risk of SIGBUS). Rust code of this process writes it only
        // through `WordsMut`, and variables of sections by atomics of their own size (`scalar`).
        unsafe { Words::from_raw(self.map.as_ptr().cast(), self.map.len() / WORD) }
    }

    /// `None` if this is not mapped for writing.
    pub(crate) fn words_mut(&self) -> Option<WordsMut<'_>> {
        // SAFETY: as above, and it was mapped for writing.
        self.write.then(|| unsafe { WordsMut::from_raw(self.map.as_ptr().cast(), self.map.len() / WORD) })
    }

    /// Loads the variable of `size` (1, 2, 4 or 8) bytes at `at`, a multiple of `size`, by one relaxed load. It must not
    /// overlap any other variable or words that are accessed.
    ///
    /// # Panics
    /// If the place is outside of the mapping.
    #[inline]
    pub(crate) fn load(&self, at: usize, size: usize) -> [u8; WORD] {
        let from = self.scalar(at, size);
        // SAFETY: aligned, since the mapping starts on a page; and this process accesses a variable only so.
        unsafe { super::scalar::load(from, size) }
    }

    /// Stores the first `size` bytes of `value` in such a variable, by one release store. Returns `false` if this is
    /// not mapped for writing.
    ///
    /// # Panics
    /// If the place is outside of the mapping.
    pub(crate) fn store(&self, at: usize, size: usize, value: [u8; WORD]) -> bool {
        let to = self.scalar(at, size);
        if self.write {
            // SAFETY: as for `load`, and mapped for writing.
            unsafe { super::scalar::store(to, size, value) };
        }
        self.write
    }

    #[inline]
    fn scalar(&self, at: usize, size: usize) -> *mut u8 {
        assert!(matches!(size, 1 | 2 | 4 | 8) && at.is_multiple_of(size) && at + size <= self.map.len());
        // SAFETY: in the mapping, as was checked.
        unsafe { self.map.as_mut_ptr().add(at) }
    }

    /// The words, for longer than this borrow.
    ///
    /// # Safety
    /// The caller uses them only while it keeps this mapping.
    pub(super) unsafe fn words_kept(&self) -> Words<'static> {
        // SAFETY: as for `words`; guaranteed by the caller.
        unsafe { Words::from_raw(self.map.as_ptr().cast(), self.map.len() / WORD) }
    }

    /// The same for writing. `None` if this is not mapped for it.
    ///
    /// # Safety
    /// As for [`words_kept`](Self::words_kept).
    pub(super) unsafe fn words_mut_kept(&self) -> Option<WordsMut<'static>> {
        // SAFETY: as for `words_mut`; guaranteed by the caller.
        self.write.then(|| unsafe { WordsMut::from_raw(self.map.as_ptr().cast(), self.map.len() / WORD) })
    }
}
