//! The directory in which pins are made before they get their names, and in which they lie before they are removed.
//!
//! ```text
//! events             the pin of a ring
//! events__readers    those of its other maps
//! events__bells
//! events__next/      only its owner may change what is in it. It is also the lock: one process at a time changes the pin
//!     new            the pin that gets the name `events`, with its owner, group and mode
//!     new__readers   get their names right after: until then readers find them here
//!     new__bells
//!     old            what had the name `events`
//! ```
//!
//! A process can die at any step. The next one that changes this pin, or `mapring clean`, then finishes it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, flock};
use rustix::io::Errno;

use crate::pins::{PinAccess, PinDir};

/// What follows the name, or the pin, of a ring in that of the map of its readers.
pub const READERS: &str = "__readers";
/// The same in that of its map of bells.
pub const BELLS: &str = "__bells";
/// What follows the name of a pin in that of the directory beside it.
pub const NEXT: &str = "__next";
/// The name of the new pin in that directory.
pub const NEW: &str = "new";
const OLD: &str = "old";
/// How often, and after which time, the lock is tried.
const TRIES: u32 = 200;
const NAP: Duration = Duration::from_millis(5);

/// A locked directory beside a pin. Dropping it finishes, or takes back, what was begun, and removes it.
#[derive(Debug)]
pub struct Stage {
    dir: PinDir,
    /// The name of the pin, and that of this directory.
    pin: OsString,
    name: OsString,
    inside: PinDir,
    _lock: OwnedFd,
}

impl Stage {
    /// Waits a second for another process that changes this pin.
    ///
    /// # Errors
    /// As for [`PinDir::open`]; if the other process needs longer.
    pub fn beside(pin: &Path) -> io::Result<Self> {
        let (dir, pin) = PinDir::of(pin)?;
        let name = joined(&pin, NEXT);
        for _ in 0..TRIES {
            if let Some((inside, lock)) = locked(&dir, &name)? {
                let stage = Self { dir, pin, name, inside, _lock: lock };
                stage.finish()?;
                return Ok(stage);
            }
            sleep(NAP);
        }
        let message = format!("another process is at work in {}", dir.path().join(name).display());
        Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
    }

    /// An error if something has the name with this suffix. An empty directory has only a name.
    pub fn expect_free(&self, suffix: &str) -> io::Result<()> {
        let name = joined(&self.pin, suffix);
        let is_empty = || self.dir.dir(&name).and_then(|dir| dir.entries()).is_ok_and(|all| all.is_empty());
        if self.dir.has(&name)? && !is_empty() { Err(Errno::EXIST.into()) } else { Ok(()) }
    }

    /// Removes the pins of the readers and bells of an earlier ring with this name.
    pub fn remove_companions(&self) -> io::Result<()> {
        [READERS, BELLS].iter().try_for_each(|suffix| self.dir.remove(joined(&self.pin, suffix)))
    }

    /// Pins the first map under the name, and the others under this name and their suffixes. Others get access before the
    /// names are public.
    pub fn publish(
        &self,
        maps: &[(&str, BorrowedFd<'_>)],
        access: PinAccess,
        replace: bool,
    ) -> io::Result<()> {
        for (suffix, map) in maps {
            let name = joined(NEW.as_ref(), suffix);
            self.inside.pin(map, &name)?;
            self.inside.set_access_of(&name, access)?;
        }
        if maps.len() > 1 {
            self.inside.set_access(None, 0o711)?;
        }
        match self.inside.rename(NEW, &self.dir, &self.pin, replace) {
            // The maps of a PER_CPU_MAPS ring are pinned there.
            Err(e) if replace && e.kind() == io::ErrorKind::IsADirectory => self.exchange()?,
            renamed => renamed?,
        }
        self.finish()
    }

    /// Exchanges what is new with the pin. Before Linux 5.16, nothing has the name for a moment. What another user put there may
    /// be more than can be removed.
    fn exchange(&self) -> io::Result<()> {
        self.dir.expect_ours(&self.pin)?;
        match self.inside.exchange(NEW.as_ref(), &self.dir, &self.pin) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                self.dir.rename(&self.pin, &self.inside, OLD, true)?;
                self.inside.rename(NEW, &self.dir, &self.pin, false)?;
                self.inside.remove_all(OLD)
            }
            exchanged => exchanged,
        }
    }

    /// Makes a directory of pins, calls `fill` with it, and gives it the name. Replaces another one at once (Linux 5.16).
    pub fn publish_dir(&self, replace: bool, fill: impl FnOnce(&PinDir) -> io::Result<()>) -> io::Result<()> {
        let new = self.inside.make(NEW, 0o755)?;
        fill(&new)?;
        let is_there = self.dir.has(&self.pin)?;
        if is_there {
            let was = self.dir.access(&self.pin)?;
            new.set_access(was.group, 0o700 | was.mode & !0o022 | (was.mode & 0o444) >> 2)?;
        }
        if is_there && replace {
            self.exchange()
        } else {
            // In place of an empty directory, too.
            self.inside.rename(NEW, &self.dir, &self.pin, is_there)
        }
    }

    /// The access to the pin that is there.
    pub fn access(&self) -> io::Result<PinAccess> {
        self.dir.access(&self.pin)
    }

    /// Takes the pin away, lets `is_right` look at what was taken, and removes it if so. Otherwise puts it back, unless its
    /// name was taken meanwhile. Returns whether it was removed.
    ///
    /// # Errors
    /// Those of the kernel, and of `is_right`.
    pub fn remove_if<E: From<io::Error>>(
        &self,
        is_right: impl FnOnce(OwnedFd) -> Result<bool, E>,
    ) -> Result<bool, E> {
        match self.dir.rename(&self.pin, &self.inside, OLD, true) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            moved => moved?,
        }
        let right = self.inside.open_pin(OLD).map_err(E::from).and_then(is_right);
        if !matches!(right, Ok(true)) {
            self.put_back()?;
            return right;
        }
        self.inside.remove(OLD)?;
        Ok(true)
    }

    fn put_back(&self) -> io::Result<()> {
        match self.inside.rename(OLD, &self.dir, &self.pin, false) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.inside.remove_all(OLD),
            done => done,
        }
    }

    /// Finishes what a process began: if the pin is public, its companions become so; otherwise all is taken back.
    fn finish(&self) -> io::Result<()> {
        let is_public = match self.inside.entries()?.iter().find(|(name, _)| name == NEW) {
            // A directory that was exchanged for the pin. Those that are to be public have no companions.
            Some((_, kind)) => *kind == FileType::Directory,
            None => self.dir.has(&self.pin)?,
        };
        if !is_public {
            for suffix in [READERS, BELLS] {
                self.inside.remove(joined(NEW.as_ref(), suffix))?;
            }
        }
        for suffix in [READERS, BELLS] {
            let name = joined(NEW.as_ref(), suffix);
            if self.inside.has(&name)? {
                self.inside.rename(&name, &self.dir, joined(&self.pin, suffix), true)?;
            }
        }
        self.inside.remove_all(NEW)?;
        if self.inside.has(OLD)? { self.put_back() } else { Ok(()) }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.finish().and_then(|()| self.dir.remove_dir(&self.name));
    }
}

/// The pin beside which this directory is, if a process died that changed it.
#[must_use]
pub fn abandoned(dir: &Path) -> Option<PathBuf> {
    let name = dir.file_name()?.as_bytes().strip_suffix(NEXT.as_bytes())?;
    let inside = PinDir::open(dir).ok()?;
    let known = [NEW, OLD, "new__readers", "new__bells"];
    let is_one = inside.entries().ok()?.iter().all(|(name, _)| known.iter().any(|known| name == known));
    let is_free = flock(inside.readable().ok()?, FlockOperation::NonBlockingLockShared).is_ok();
    (is_one && is_free).then(|| dir.with_file_name(OsStr::from_bytes(name)))
}

/// Makes and locks the directory. `None` if another process has the lock, or has just removed it.
fn locked(dir: &PinDir, name: &OsStr) -> io::Result<Option<(PinDir, OwnedFd)>> {
    let inside = match dir.make(name, 0o700) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => dir.dir(name),
        made => made,
    };
    let inside = match inside {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        inside => inside?,
    };
    let lock = inside.readable()?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        done => done?,
    }
    Ok(inside.is_still(dir, name)?.then_some((inside, lock)))
}

pub(super) fn joined(name: &OsStr, suffix: impl AsRef<OsStr>) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

/// The path of a pin next to that of a ring.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(suffix);
    path.into()
}
