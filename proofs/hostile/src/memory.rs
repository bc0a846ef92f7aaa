//! A region's words behind the library's back: by `pread` and `pwrite` on its memfd, so that no
//! mapping of this process takes part.

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
    /// Those of `region`.
    ///
    /// # Panics
    /// If there are no descriptors left.
    pub fn of(region: &Region) -> Self {
        Self(region.as_fd().try_clone_to_owned().unwrap().into())
    }

    /// All of them.
    ///
    /// # Panics
    /// If the kernel does not give them.
    pub fn words(&self) -> Vec<u64> {
        let bytes = usize::try_from(self.0.metadata().unwrap().len()).unwrap();
        let mut words = vec![0; bytes / 8];
        self.0.read_exact_at(bytemuck::cast_slice_mut(&mut words), 0).unwrap();
        words
    }

    /// Puts `word` at `at`.
    ///
    /// # Panics
    /// If the kernel does not take it.
    pub fn put(&self, at: usize, word: u64) {
        self.0.write_all_at(&word.to_ne_bytes(), at as u64 * 8).unwrap();
    }

    /// Puts all words at once.
    ///
    /// # Panics
    /// If the kernel does not take them.
    pub fn put_all(&self, words: &[u64]) {
        self.0.write_all_at(bytemuck::cast_slice(words), 0).unwrap();
    }

    /// Another descriptor of the same memory.
    ///
    /// # Panics
    /// If there are none left.
    pub fn fd(&self) -> OwnedFd {
        self.0.try_clone().unwrap().into()
    }
}

/// A memfd that nobody's library made, of these bytes, sealed against resizing or not.
///
/// # Panics
/// If the kernel does not give it.
pub fn forge(bytes: &[u8], sealed: bool) -> OwnedFd {
    let fd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    if sealed {
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK).unwrap();
    }
    file.into()
}

/// A sealed memfd called `name` that starts with `words` and is `bytes` bytes long, all but the start a hole. With
/// huge pages if `flags` say so, and nothing in it then.
///
/// # Errors
/// If the kernel does not give it.
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
