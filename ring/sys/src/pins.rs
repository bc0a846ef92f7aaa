//! Directories of pins: each is opened once, checked, and then used by its descriptor. So a process with privilege
//! changes nothing but pins, whatever other users do to the names meanwhile.

mod walk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mapring_core::text::printable;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, chmodat, chownat, fchmod, fchown,
    fstat, fstatfs, mkdirat, openat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use self::walk::walk;
use crate::bpf;

const BPF_FS: i64 = 0xcafe_4a11;
/// The deepest directories that are removed.
const DEPTH: usize = 8;
/// How many times a directory is made again that another process removed meanwhile.
const AGAIN: usize = 100;

/// A directory in a BPF file system. Nobody but root and this user can exchange names in it or in those above it: each
/// belongs to one of these two, and others may write it only if it is sticky. (In a sticky directory, others make new
/// names, and rename or remove only what belongs to them.)
#[derive(Debug)]
pub struct PinDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Who may use a pin.
#[derive(Clone, Copy, Debug)]
pub struct PinAccess {
    /// The user it belongs to; `None`: this process's.
    pub owner: Option<u32>,
    /// The group it belongs to; `None`: this process's.
    pub group: Option<u32>,
    /// Its permission bits.
    pub mode: u32,
}

impl From<u32> for PinAccess {
    fn from(mode: u32) -> Self {
        Self { owner: None, group: None, mode }
    }
}

impl PinDir {
    /// Opens a directory.
    ///
    /// # Errors
    /// Also if it isn't in a BPF file system, or another user could exchange names on the way to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        walk(path, None)?.expect_pins()
    }

    /// The same, and makes those that are missing, with this mode.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let make = || walk(path, Some(mode));
        // Another process may remove it between two steps.
        let made = (0..AGAIN).fold(make(), |made, _| match made {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make(),
            made => made,
        });
        made?.expect_pins()
    }

    /// The directory of a pin, and the pin's name.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn of(pin: &Path) -> io::Result<(Self, OsString)> {
        let pin = std::path::absolute(pin)?;
        let (Some(dir), Some(name)) = (pin.parent(), pin.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        Ok((Self::open(dir)?, name.to_owned()))
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory `name` in it.
    ///
    /// # Errors
    /// As for [`open`](Self::open); also if it is a symbolic link.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let dir = self.unchecked_dir(name.as_ref())?;
        dir.expect_safe(&fstat(&dir.fd)?)?;
        Ok(dir)
    }

    /// The same, even if another user could exchange names in it: to remove what is there.
    fn unchecked_dir(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty())?;
        Self { fd, path: self.path.join(name) }.expect_pins()
    }

    /// Makes the directory `name` in it.
    ///
    /// # Errors
    /// Also if it exists.
    pub fn make(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<Self> {
        let name = name.as_ref();
        mkdirat(&self.fd, name, Mode::RWXU)?;
        let made = self.dir(name)?;
        if mode != 0o700 {
            made.set_access(None, mode)?;
        }
        Ok(made)
    }

    /// What is in it, and what kind it is of.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn entries(&self) -> io::Result<Vec<(OsString, FileType)>> {
        let mut found = Vec::new();
        for entry in Dir::new(self.readable()?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                found.push((name.to_owned(), entry.file_type()));
            }
        }
        Ok(found)
    }

    /// Whether something has this name.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn has(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        match statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            found => Ok(found.map(|_| true)?),
        }
    }

    /// The access to the pin or directory of this name.
    ///
    /// # Errors
    /// Those of the kernel; also if another user may have put it there, or if it is neither a pin nor a directory.
    pub fn access(&self, name: &OsStr) -> io::Result<PinAccess> {
        let found = self.expect_ours(name)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile | FileType::Directory => {}
            _ => return Err(self.refused(name, "is neither a pin nor a directory")),
        }
        Ok(PinAccess { owner: Some(found.st_uid), group: Some(found.st_gid), mode: found.st_mode & 0o7777 })
    }

    /// What has this name.
    ///
    /// # Errors
    /// Also if another user may have put it there. In a sticky directory each user makes names, also further ones for what
    /// belongs to others, and nobody takes away those of others.
    pub(super) fn expect_ours(&self, name: &OsStr) -> io::Result<Stat> {
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if fstat(&self.fd)?.st_mode & 0o022 == 0 {
            return Ok(found);
        }
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if found.st_uid != 0 && found.st_uid != geteuid().as_raw() {
            let owner = found.st_uid;
            return Err(
                self.refused(name, &format!("belongs to user {owner}, who may have put it there: remove it"))
            );
        }
        if !is_directory && found.st_nlink != 1 {
            return Err(self
                .refused(name, "has another name, too, and another user may have made this one: remove it"));
        }
        Ok(found)
    }

    fn refused(&self, name: &OsStr, why: &str) -> io::Error {
        io::Error::other(format!("{} {why}", printable(&self.path.join(name).to_string_lossy())))
    }

    /// Pins a map, a program or a link. Only its owner may use the pin.
    ///
    /// # Errors
    /// Also if the name exists.
    pub fn pin(&self, object: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
        bpf::pin(object.as_fd(), self.fd.as_fd(), name.as_ref())
    }

    /// Gives others access to the pin `name`. Only for a directory that no other user may write.
    pub fn set_access_of(&self, name: &OsStr, access: PinAccess) -> io::Result<()> {
        let (owner, group) = (access.owner.map(Uid::from_raw), access.group.map(Gid::from_raw));
        if owner.is_some() || group.is_some() {
            chownat(&self.fd, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(chmodat(&self.fd, name, Mode::from_raw_mode(access.mode), AtFlags::empty())?)
    }

    /// Gives others access to the directory.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_access(&self, group: Option<u32>, mode: u32) -> io::Result<()> {
        let dir = self.readable()?;
        if group.is_some() {
            fchown(&dir, None, group.map(Gid::from_raw))?;
        }
        Ok(fchmod(&dir, Mode::from_raw_mode(mode))?)
    }

    /// Opens what is pinned as `name`: for reading only, if its mode allows no more.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open_pin(&self, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
        bpf::open_writable_or_not(|flags| bpf::open_pin_in(self.fd.as_fd(), name.as_ref(), flags))
    }

    /// The same, unless another user may have put it there.
    ///
    /// # Errors
    /// Those of the kernel, and if so.
    pub fn open_our_pin(&self, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
        self.expect_ours(name.as_ref())?;
        self.open_pin(name)
    }

    /// A descriptor for reading the directory, which can be locked.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.fd, ".", flags, Mode::empty())?)
    }

    /// Makes a symbolic link with this text.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn link(&self, text: &str, name: &str) -> io::Result<()> {
        Ok(symlinkat(text, &self.fd, name)?)
    }

    /// Moves a name of this directory to another one.
    ///
    /// # Errors
    /// Also if `new` exists, unless it is to be replaced.
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &Self,
        new: impl AsRef<OsStr>,
        replace: bool,
    ) -> io::Result<()> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        Ok(renameat_with(&self.fd, name.as_ref(), &to.fd, new.as_ref(), flags)?)
    }

    /// Exchanges a name of this directory with one of another (Linux 5.16).
    pub(super) fn exchange(&self, name: &OsStr, other: &Self, with: &OsStr) -> io::Result<()> {
        Ok(renameat_with(&self.fd, name, &other.fd, with, RenameFlags::EXCHANGE)?)
    }

    /// Removes a pin or a symbolic link, if it is there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.unlink(name.as_ref(), AtFlags::empty()).map(drop)
    }

    /// Removes a pin, a symbolic link, or a directory with all that is in it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove_below(name.as_ref(), DEPTH)
    }

    fn remove_below(&self, name: &OsStr, depth: usize) -> io::Result<()> {
        match self.remove(name) {
            Err(e) if e.kind() == io::ErrorKind::IsADirectory && depth > 0 => {
                let dir = self.unchecked_dir(name)?;
                for (entry, _) in dir.entries()? {
                    dir.remove_below(&entry, depth - 1)?;
                }
                self.remove_dir(name).map(drop)
            }
            removed => removed,
        }
    }

    /// Removes an empty directory. Returns whether it was there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        self.unlink(name.as_ref(), AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> io::Result<bool> {
        match unlinkat(&self.fd, name, flags) {
            Err(Errno::NOENT) => Ok(false),
            removed => Ok(removed.map(|()| true)?),
        }
    }

    /// Whether this is still the directory with this name in `above`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn is_still(&self, above: &Self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        match statat(&above.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            now => Ok(same(&now?, &fstat(&self.fd)?)),
        }
    }

    fn expect_pins(self) -> io::Result<Self> {
        if fstatfs(&self.fd)?.f_type != BPF_FS {
            let message = format!("{} is not in a BPF file system", self.shown());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self)
    }

    /// Refuses a directory in which another user could exchange names.
    fn expect_safe(&self, found: &Stat) -> io::Result<()> {
        self.expect_owner(found)?;
        if found.st_mode & 0o022 != 0 && found.st_mode & 0o1000 == 0 {
            return Err(io::Error::other(format!(
                "other users may write {0} (mode {1:o}) and could exchange the pins in it: `chmod go-w` ends that",
                self.shown(),
                found.st_mode & 0o7777
            )));
        }
        Ok(())
    }

    fn expect_owner(&self, found: &Stat) -> io::Result<()> {
        if found.st_uid != 0 && found.st_uid != geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "{} belongs to user {}, who could exchange the pins in it: choose a directory of your own, or of root",
                self.shown(),
                found.st_uid
            )));
        }
        Ok(())
    }

    fn shown(&self) -> String {
        printable(&self.path.to_string_lossy())
    }
}

impl AsFd for PinDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
