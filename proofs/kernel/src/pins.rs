//! Directories for pins, removed when dropped.

use std::ffi::CStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The magic number of a BPF file system.
const BPF_FS: i64 = 0xcafe_4a11;
const USUAL: &str = "/sys/fs/bpf";

/// Makes a directory that no other test uses. A killed process may have left one of the same name.
fn make_in(parent: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("mapring-test-{}-{number}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => return dir,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => panic!("{}: {e}", dir.display()),
        }
    }
}

/// A directory of its own in `/sys/fs/bpf`.
#[derive(Debug)]
pub struct PinDir(PathBuf);

impl PinDir {
    /// Makes it, and mounts the BPF file system if the machine has none.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        if rustix::fs::statfs(USUAL).is_ok_and(|fs| fs.f_type != BPF_FS) {
            mount("bpf", USUAL, "bpf", MountFlags::empty(), None)
                .unwrap_or_else(|e| panic!("mount -t bpf bpf {USUAL}: {e}"));
        }
        Self(make_in(Path::new(USUAL)))
    }

    /// The path of a pin in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A BPF file system of its own, whose directory everybody may search: often only root may use `/sys/fs/bpf`.
#[derive(Debug)]
pub struct PublicPins(PathBuf);

impl PublicPins {
    /// Mounts it in the folder for temporary files.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self::with_mode(c"mode=0755")
    }

    /// The same with another `mode=` of its directory; the kernel's default is 1777.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn with_mode(option: &CStr) -> Self {
        let dir = make_in(&std::env::temp_dir());
        mount("bpf", &dir, "bpf", MountFlags::empty(), option)
            .unwrap_or_else(|e| panic!("mount -t bpf bpf {}: {e}", dir.display()));
        Self(dir)
    }

    /// The path of a pin in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for PublicPins {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}
