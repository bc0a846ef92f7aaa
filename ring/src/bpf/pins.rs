//! Directories of pins: each is opened once, checked, and then used by its descriptor. So a process with privilege
//! changes nothing but pins, whatever other users do to the names meanwhile.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, chmodat, chownat, fchmod, fchown,
    fstat, fstatfs, mkdirat, openat, readlinkat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::sys;
use crate::text::printable;

/// The file systems whose names only the kernel makes.
const PROC: i64 = 0x9fa0;
const SYSFS: i64 = 0x6265_6572;
const BPF_FS: i64 = 0xcafe_4a11;
/// As many symbolic links as the kernel follows.
const MOST_LINKS: usize = 40;
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
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) mode: u32,
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
    pub(super) fn unchecked_dir(&self, name: &OsStr) -> io::Result<Self> {
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

    /// The access to what has this name.
    pub(super) fn access(&self, name: &OsStr) -> io::Result<PinAccess> {
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(PinAccess { owner: Some(found.st_uid), group: Some(found.st_gid), mode: found.st_mode & 0o7777 })
    }

    /// Pins a map, a program or a link. Only its owner may use the pin.
    ///
    /// # Errors
    /// Also if the name exists.
    pub fn pin(&self, object: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
        sys::pin(object.as_fd(), self.fd.as_fd(), name.as_ref())
    }

    /// Gives others access to the pin `name`. Only for a directory that no other user may write.
    pub(super) fn set_access_of(&self, name: &OsStr, access: PinAccess) -> io::Result<()> {
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
        sys::open_writable_or_not(|flags| sys::open_pin_in(self.fd.as_fd(), name.as_ref(), flags))
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
            let said = format!("{} is not in a BPF file system", self.shown());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
        }
        Ok(self)
    }

    /// Refuses a directory in which another user could exchange names.
    fn expect_safe(&self, found: &Stat) -> io::Result<()> {
        self.expect_owner(found)?;
        if found.st_mode & 0o022 != 0 && found.st_mode & 0o1000 == 0 {
            return Err(io::Error::other(format!(
                "other users may write {0} (mode {1:o}) and could exchange the pins in it: chmod go-w {0}",
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

/// Opens a directory name by name, and checks each. Makes those that are missing in a BPF file system, if it gets a mode.
fn walk(path: &Path, mode: Option<u32>) -> io::Result<PinDir> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let names = |path: &Path| -> Vec<_> {
        path.components().rev().map(|name: Component<'_>| name.as_os_str().to_owned()).collect()
    };
    // An absolute path begins with the name `/`.
    let mut left = names(&std::path::absolute(path)?);
    let mut at = PinDir { fd: openat(CWD, "/", flags, Mode::empty())?, path: "/".into() };
    let mut links = 0;
    while let Some(name) = left.pop() {
        let (found, made) = match (openat(&at.fd, &name, flags, Mode::empty()), mode) {
            (Err(Errno::NOENT), Some(_)) => {
                at = at.expect_pins()?;
                let made = match mkdirat(&at.fd, &name, Mode::RWXU) {
                    Err(Errno::EXIST) => false,
                    made => made.map(|()| true)?,
                };
                (openat(&at.fd, &name, flags, Mode::empty()), made)
            }
            (found, _) => (found, false),
        };
        let mut next = PinDir { fd: found?, path: at.path.join(&name) };
        let found = fstat(&next.fd)?;
        let system = fstatfs(&next.fd)?.f_type;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                next.expect_owner(&found)?;
                if system == PROC {
                    // The text of such a link isn't where it leads.
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    next.fd = openat(&at.fd, &name, flags, Mode::empty())?;
                    next.expect_safe(&fstat(&next.fd)?)?;
                    at = next;
                } else {
                    let text = readlinkat(&next.fd, "", Vec::new())?;
                    left.extend(names(Path::new(OsStr::from_bytes(text.as_bytes()))));
                }
            }
            FileType::Directory => {
                if system != PROC && system != SYSFS {
                    next.expect_safe(&found)?;
                }
                if let Some(mode) = mode.filter(|_| made) {
                    next.set_access(None, mode)?; // it does not depend on the umask
                }
                at = next;
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(at)
}
