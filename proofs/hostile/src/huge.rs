//! Borrows a huge page from the kernel for a test, and returns it.
#![allow(unsafe_code)]

use std::fs;
use std::os::fd::OwnedFd;

use mapring_core::protocol::WordsMut;
use memmap2::MmapOptions;
use rustix::fs::MemfdFlags;

use crate::forge_sparse;

/// The number of huge pages that the kernel may allocate on demand, and frees by itself.
const OVERCOMMIT: &str = "/proc/sys/vm/nr_overcommit_hugepages";

/// While this lives, the kernel may allocate a few more huge pages than before.
#[derive(Debug)]
pub struct HugePage {
    before: u64,
}

impl HugePage {
    /// Bytes of a huge page.
    pub const BYTES: usize = 2 << 20;

    /// Raises the kernel's limit.
    ///
    /// # Errors
    /// Returns why no huge page is available, for `SKIPPED`.
    pub fn borrow() -> Result<Self, String> {
        let text = fs::read_to_string(OVERCOMMIT).map_err(|e| format!("{OVERCOMMIT}: {e}"))?;
        let before = text.trim().parse::<u64>().map_err(|e| format!("{OVERCOMMIT}: {e}"))?;
        fs::write(OVERCOMMIT, (before + 2).to_string()).map_err(|e| format!("{OVERCOMMIT}: {e}"))?;
        Ok(Self { before })
    }

    /// A sealed memfd of one huge page that starts with `words`, called `name`.
    ///
    /// # Errors
    /// Returns why no huge page is available.
    pub fn forge(&self, name: &str, words: &[u64]) -> Result<OwnedFd, String> {
        let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let fd =
            forge_sparse(name, flags, &[], Self::BYTES as u64).map_err(|e| format!("memfd_create: {e}"))?;
        // hugetlbfs files do not support `write`.
        let map = MmapOptions::new().len(Self::BYTES).populate().map_raw(&fd);
        let map = map.map_err(|e| format!("mmap: {e}"))?;
        let allocated = rustix::fs::fstat(&fd).map_err(|e| format!("fstat: {e}"))?.st_blocks;
        if allocated == 0 {
            return Err("no huge page is free".to_owned());
        }
        // SAFETY: a writable mapping of that size, which starts on a page boundary; the page is present, and nothing
        // else has the file.
        let shared = unsafe { WordsMut::from_raw(map.as_mut_ptr().cast(), Self::BYTES / 8) };
        let all = words.iter().enumerate();
        all.for_each(|(at, &word)| shared.store(at, word, std::sync::atomic::Ordering::Relaxed));
        Ok(fd)
    }
}

impl Drop for HugePage {
    fn drop(&mut self) {
        // Best effort; the file could be written before.
        let _ = fs::write(OVERCOMMIT, self.before.to_string());
    }
}
