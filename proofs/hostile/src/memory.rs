//! Direct access to a region's words by `pread` and `pwrite` on its memfd, without the library and without a mapping in
//! this process.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use mapring::Region;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// The words of a memfd.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// The words of `region`.
    ///
    /// # Panics
    /// Panics if no descriptors are left.
    pub fn of(region: &Region) -> Self {
        Self(region.as_fd().try_clone_to_owned().unwrap().into())
    }

    /// Reads all words.
    ///
    /// # Panics
    /// Panics if the kernel can't read them.
    pub fn words(&self) -> Vec<u64> {
        let bytes = usize::try_from(self.0.metadata().unwrap().len()).unwrap();
        let mut words = vec![0; bytes / 8];
        self.0.read_exact_at(bytemuck::cast_slice_mut(&mut words), 0).unwrap();
        words
    }

    /// Writes `word` at `at`.
    ///
    /// # Panics
    /// Panics if the kernel refuses.
    pub fn put(&self, at: usize, word: u64) {
        self.0.write_all_at(&word.to_ne_bytes(), at as u64 * 8).unwrap();
    }

    /// Writes all words at once.
    ///
    /// # Panics
    /// Panics if the kernel refuses.
    pub fn put_all(&self, words: &[u64]) {
        self.0.write_all_at(bytemuck::cast_slice(words), 0).unwrap();
    }

    /// Another descriptor of the same memory.
    ///
    /// # Panics
    /// Panics if no descriptors are left.
    pub fn fd(&self) -> OwnedFd {
        self.0.try_clone().unwrap().into()
    }
}

/// A memfd made without the library, of these bytes, sealed against resizing or not.
///
/// # Panics
/// Panics if the kernel can't create it.
pub fn forge(bytes: &[u8], sealed: bool) -> OwnedFd {
    let fd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    if sealed {
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK).unwrap();
    }
    file.into()
}

/// A sealed memfd called `name` that starts with `words` and is `bytes` bytes long; the rest is a hole. If `flags`
/// request huge pages, it is empty.
///
/// # Errors
/// Fails if the kernel can't create it.
pub fn forge_sparse(name: &str, flags: MemfdFlags, words: &[u64], bytes: u64) -> rustix::io::Result<OwnedFd> {
    let fd = memfd_create(name, flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, bytes)?;
    if !flags.contains(MemfdFlags::HUGETLB) {
        File::from(fd.try_clone().expect("a descriptor"))
            .write_all_at(bytemuck::cast_slice(words), 0)
            .unwrap();
    }
    fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(fd)
}
