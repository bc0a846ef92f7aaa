//! Names in a directory that is opened once. Another user may exchange directories of a path at any time, so two calls with the
//! same path can act in two directories.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use rustix::fd::AsFd;
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, fsync, linkat, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::text::printable_path;

/// A name in a directory.
#[derive(Clone)]
pub struct Destination {
    directory: Rc<OwnedFd>,
    /// As the user named it.
    path: PathBuf,
}

impl Destination {
    /// The name that this path has in its directory, which is opened.
    pub fn of(path: &Path) -> Result<Self> {
        let destination = |directory| Self { directory: Rc::new(directory), path: path.to_owned() };
        let shown = || printable_path(path);
        ensure!(path.file_name().is_some(), "{}: not the name of a file", shown());
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, directory.unwrap_or(Path::new(".")), flags, Mode::empty());
        directory.map(destination).with_context(shown)
    }

    /// Another name in the directory.
    pub(super) fn named(&self, name: &OsStr) -> Self {
        Self { directory: self.directory.clone(), path: self.path.with_file_name(name) }
    }

    /// The name with this end.
    pub fn with(&self, end: &str) -> Self {
        let mut name = self.name().to_owned();
        name.push(end);
        self.named(&name)
    }

    /// The name while a file grows.
    pub fn part(&self) -> Self {
        self.with(".part")
    }

    /// As the user named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name alone.
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// The directory of the name.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// For messages.
    pub fn shown(&self) -> String {
        printable_path(&self.path)
    }

    /// What has this name. It is not opened, so nothing waits; it stays the same one, whatever gets the name.
    pub(super) fn find(&self) -> io::Result<Option<(File, Metadata)>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&self.directory, self.name(), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            found => File::from(found?),
        };
        let metadata = found.metadata()?;
        Ok(Some((found, metadata)))
    }

    /// Whether a regular file has this name.
    pub fn is_file(&self) -> bool {
        matches!(self.find(), Ok(Some((_, metadata))) if metadata.is_file())
    }

    /// Locks the file that has this name, if there is one: no command writes it while the lock is held.
    pub fn lock_file(&self) -> Result<Option<File>> {
        let found = self.find().with_context(|| self.shown())?;
        let Some((found, _)) = found.filter(|(_, metadata)| metadata.is_file()) else { return Ok(None) };
        // Another user's lease would make this wait.
        let file = reopen(&found, OFlags::NONBLOCK).with_context(|| self.shown())?;
        self.lock(&file)?;
        Ok(Some(file))
    }

    pub(super) fn lock(&self, file: &File) -> Result<()> {
        let locked = flock(file, FlockOperation::NonBlockingLockExclusive);
        ensure!(locked.is_ok(), "{}: another `mapring` writes it", self.shown());
        Ok(())
    }

    /// A new file.
    pub(super) fn create(&self, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.directory, self.name(), flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Removes what has this name.
    pub fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, self.name(), AtFlags::empty())?)
    }

    /// Gives it another name in the directory; `force` replaces what has it.
    pub fn rename(&self, to: &Self, force: bool) -> io::Result<()> {
        let (directory, from, to) = (&self.directory, self.name(), to.name());
        if force {
            return Ok(renameat(directory, from, directory, to)?);
        }
        match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
            // Some file systems can't do that.
            Err(Errno::INVAL | Errno::NOSYS) => {
                linkat(directory, from, directory, to, AtFlags::empty())?;
                self.remove()
            }
            renamed => Ok(renamed?),
        }
    }

    /// Puts the names on the disk, if the file system can do that.
    pub(super) fn sync_names(&self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let _ = openat(&self.directory, ".", flags, Mode::empty()).and_then(fsync);
    }
}

/// Opens for writing what was found.
pub(super) fn reopen(found: &File, flags: OFlags) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flags.bits().cast_signed());
    options.open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}
