//! Where the pins of the recorder are, and the lock that its commands take.
//!
//! ```text
//! flight/             any user may enter it
//!   flight-lock/      there while a command changes pins, and locked: only its owner may enter it, so no other user can lock it
//!     new/            what a start has not finished
//!   recording/        a finished start renames new/ to this
//!     maps/sched …    readable by the group; maps/stop is the end of the recording
//!     links/sched_switch …
//!     control         the program that `hold`, `resume` and `mark` run
//!     sampler         the program that takes samples, if it does
//!     bell            a BPF ringbuf: it wakes `wait`
//!     present         a map: who was present at the start, with names
//!     hz              a symbolic link to no file: its text is how often it does, in a second
//!     triggers        another one: its text is what stops the recording
//!     cost            another one: its text is what an event costs, in nanoseconds
//!     made-by         another one: the version of mapring, and a hash of what it records
//!     clocks          another one: how far the wall clock and CLOCK_BOOTTIME were ahead of CLOCK_MONOTONIC at the start
//! ```

use std::fs;
use std::io;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mapring::Region;
use mapring::liveness::is_alive;
#[cfg(feature = "bpf")]
use mapring_sys::PinAccess;
use mapring_sys::PinDir;
use rustix::fs::{FileType, FlockOperation};
use rustix::io::Errno;

use mapring_kit::exit::Refused;

#[cfg(feature = "bpf")]
use crate::made_by;

/// What statfs says of a BPF file system.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

pub(crate) const RECORDING: &str = "recording";
pub(crate) const LOCK: &str = "flight-lock";
const NEW: &str = "new";
/// The directory of a recording that has its maps.
pub const MAPS: &str = "maps";
/// The one that has the links of its programs.
pub const LINKS: &str = "links";
/// Its program for `hold`, `resume` and `mark`.
pub const CONTROL: &str = "control";
pub(crate) const SAMPLER: &str = "sampler";
/// The map that has the end of the recording.
pub(crate) const STOP: &str = "stop";
/// The BPF ringbuf that is not empty after something has stopped the recording.
pub(crate) const BELL: &str = "bell";
/// The map that has the names of those that were present at the start.
pub(crate) const PRESENT: &str = "present";
pub(crate) const TRIGGERS: &str = "triggers";
pub(crate) const HZ: &str = "hz";
pub(crate) const COST: &str = "cost";
pub(crate) const CLOCKS: &str = "clocks";
pub(crate) const MADE_BY: &str = "made-by";

/// Options that all commands of the recorder have.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Where the recorder's pins are, in a BPF file system
    #[arg(long, value_name = "DIR", global = true, env = "MAPRING_FLIGHT_PINS", default_value = DEFAULT)]
    pub(crate) pins: PathBuf,
}

const DEFAULT: &str = "/sys/fs/bpf/mapring/flight";

/// The access to a pin in a recording's directory that its readers need not write.
#[cfg(feature = "bpf")]
pub(crate) fn read_only(readers: Option<u32>) -> PinAccess {
    PinAccess { owner: None, group: readers, mode: if readers.is_some() { 0o640 } else { 0o600 } }
}

/// A recording that has been started.
pub fn recording(dir: &Path) -> PathBuf {
    dir.join(RECORDING)
}

/// What is there while a command changes pins, and after it was killed.
pub fn lock(dir: &Path) -> PathBuf {
    dir.join(LOCK)
}

/// The directory of the recorder, if this is the lock that a killed command left: also before the first pin.
pub fn of_unfinished(lock: &Path) -> Option<&Path> {
    let dir = lock.parent().filter(|_| lock.ends_with(LOCK))?;
    PinDir::open(lock).is_ok_and(|lock| is_left(&lock).unwrap_or(false)).then_some(dir)
}

/// Whether a command was killed that made what is in this lock: its maps have no living loader, and no other programs.
fn is_left(lock: &PinDir) -> Result<bool> {
    let has_only = |dir: &PinDir, known: &[&str]| {
        let entries = dir.entries()?;
        io::Result::Ok(entries.iter().all(|(name, _)| known.iter().any(|known| name == known)))
    };
    if !has_only(lock, &[NEW])? || !lock.has(NEW)? {
        return Ok(lock.entries()?.is_empty());
    }
    let new = lock.dir(NEW)?;
    if !has_only(&new, &[MAPS, LINKS, CONTROL, SAMPLER, BELL, PRESENT, HZ, TRIGGERS, CLOCKS, MADE_BY])? {
        return Ok(false);
    }
    let mut pins = Vec::new();
    open_below(&new, &mut pins)?;
    let (mut maps, mut programs) = (Vec::new(), Vec::new());
    for pin in pins {
        match program_of(&pin)? {
            Some(id) => programs.push(id),
            None => maps.push(Region::open(pin)?),
        }
    }
    for map in maps {
        let has_ended = map.loader()?.is_some_and(|loader| !is_alive(loader));
        if !has_ended || map.programs()?.iter().any(|program| !programs.contains(&program.id)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens all pins in a directory, and in those below.
fn open_below(dir: &PinDir, pins: &mut Vec<OwnedFd>) -> io::Result<()> {
    for (name, kind) in dir.entries()? {
        match kind {
            FileType::Directory => open_below(&dir.dir(name)?, pins)?,
            FileType::Symlink => {}
            _ if name == PRESENT || name == BELL => {} // no regions
            _ => pins.push(dir.open_pin(name)?),
        }
    }
    Ok(())
}

/// The id of a program, also of one that a link attaches. `None` of a map.
pub(crate) fn program_of(pin: &OwnedFd) -> io::Result<Option<u32>> {
    Ok(number_in_fdinfo(pin.as_fd(), "prog_id:")?.and_then(|id| id.try_into().ok()))
}

/// What the kernel says of a descriptor in the line that begins with this word, if there is one.
pub(crate) fn number_in_fdinfo(fd: BorrowedFd<'_>, word: &str) -> io::Result<Option<u64>> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    Ok(text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok()))
}

/// An error for a directory that this process can't change.
pub(crate) fn denied(error: io::Error, dir: &Path) -> anyhow::Error {
    refused(error, dir, "run as root, or as the user that started the recording")
}

/// An error for a directory that this process can't create.
fn not_created(error: io::Error, dir: &Path) -> anyhow::Error {
    if error.kind() == io::ErrorKind::InvalidInput {
        let default = Path::new("/sys/fs/bpf");
        if !rustix::fs::statfs(default).is_ok_and(|found| found.f_type == BPF_FS_MAGIC) {
            let mount = "mount -t bpf -o mode=0755 bpf /sys/fs/bpf";
            let why = format!("no BPF file system is mounted at {}: {mount}", default.display());
            return Refused(why).into();
        }
        return anyhow::anyhow!(
            "{} is not in a BPF file system: choose a directory below {}",
            dir.display(),
            default.display()
        );
    }
    refused(error, dir, "run as root, or name a directory of yours in a BPF file system with --pins")
}

/// An error for a directory that this process can't read.
pub(crate) fn unreadable(error: io::Error, dir: &Path) -> anyhow::Error {
    let fix = match Errno::from_io_error(&error) {
        Some(Errno::PERM) => "before Linux 5.19 opening a pin needs CAP_BPF: run as root",
        _ => "run as root, or as a member of the group that `start --group` named",
    };
    refused(error, dir, fix)
}

fn refused(error: io::Error, dir: &Path, fix: &str) -> anyhow::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Refused(format!("{}: {error}: {fix}", dir.display())).into();
    }
    anyhow::Error::from(error).context(dir.display().to_string())
}

/// Whether a `start` or `stop` works in the directory now. `None` if this process can't know.
pub fn is_at_work(dir: &Path) -> Option<bool> {
    let held = PinDir::open(&lock(dir)).and_then(|lock| lock.readable()).ok()?;
    match rustix::fs::flock(&held, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(true),
        locked => locked.ok().map(|()| false),
    }
}

/// The lock of the commands that change pins. While one of them has it, the others are refused. Dropping it removes it; that
/// of a process that was killed stays, unlocked.
pub struct Lock {
    path: PathBuf,
    /// The directory that the pins are in.
    dir: PinDir,
    inside: PinDir,
    /// A process that was killed left it.
    was_left: bool,
    _held: OwnedFd,
}

impl Lock {
    /// Creates the directory if it does not exist. Any user may pass through it.
    pub fn take(path: &Path) -> Result<Self> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        loop {
            let dir = PinDir::create(path, 0o711).map_err(|error| not_created(error, path))?;
            let (inside, was_left) = match dir.make(LOCK, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (dir.dir(LOCK), true),
                made => (made, false),
            };
            let locked = match inside.and_then(|inside| Ok((inside.readable()?, inside))) {
                Err(error) if gone(&error) => continue, // another process has removed it
                locked => locked,
            };
            let (held, inside) = locked.map_err(|error| denied(error, path))?;
            match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    bail!("{}: another `mapring flight start` or `stop` is at work there", path.display())
                }
                locked => locked.with_context(|| path.display().to_string())?,
            }
            // It may have been removed before it was locked.
            if inside.is_still(&dir, LOCK)? {
                return Ok(Self { path: path.to_owned(), dir, inside, was_left, _held: held });
            }
        }
    }

    /// Whether something is recorded.
    pub(crate) fn is_recording(&self) -> Result<bool> {
        Ok(self.dir.has(RECORDING)?)
    }

    /// Removes the pins of a killed start and, unless something is recorded there, the directory.
    pub fn clear_unfinished(self) -> Result<()> {
        // Others may have changed it before it was locked.
        ensure!(is_left(&self.inside)?, "{}: it is in use", self.inside.path().display());
        remove(&self.inside, NEW)?;
        if !self.is_recording()? {
            self.end();
        }
        Ok(())
    }

    /// Removes all pins, and the directory. Returns whether there was something.
    pub(crate) fn clear(self) -> Result<bool> {
        let removed = [self.was_left, remove(&self.inside, NEW)?, remove(&self.dir, RECORDING)?];
        self.end();
        Ok(removed.contains(&true))
    }

    /// Removes the directory, unless it has something else. Of the default one, also the directory above.
    fn end(self) {
        let path = self.path.clone();
        drop(self);
        let Ok((above, name)) = PinDir::of(&path) else { return }; // the root of a file system stays
        if above.remove_dir(name).is_ok()
            && path == Path::new(DEFAULT)
            && let Ok((above, name)) = PinDir::of(above.path())
        {
            let _ = above.remove_dir(name);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.dir.remove_dir(LOCK);
    }
}

/// Removes a directory of pins: links first, so that programs stop before their maps go. Returns whether it was there.
fn remove(from: &PinDir, name: &str) -> Result<bool> {
    let path = from.path().join(name);
    let dir = match from.dir(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        dir => dir.map_err(|error| denied(error, &path))?,
    };
    // Another version may have more.
    let all = dir.entries().map_err(|error| denied(error, &path))?.into_iter().map(|(part, _)| part);
    for part in iter::once(LINKS.into()).chain(all) {
        dir.remove_all(&part).map_err(|error| denied(error, &path.join(&part)))?;
    }
    from.remove_dir(name).map_err(|error| denied(error, &path))
}

#[cfg(feature = "bpf")]
impl Lock {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the directory of a recording anew. Removes what a start left that was killed.
    pub(crate) fn begin(&self) -> Result<PinDir> {
        remove(&self.inside, NEW)?;
        let make = || {
            let new = self.inside.make(NEW, 0o700)?;
            new.make(MAPS, 0o700)?;
            new.make(LINKS, 0o700)?;
            io::Result::Ok(new)
        };
        make().with_context(|| self.inside.path().join(NEW).display().to_string())
    }

    /// Makes it the recording.
    pub(crate) fn finish(&self) -> Result<()> {
        let renamed = self.inside.rename(NEW, &self.dir, RECORDING, false);
        renamed.with_context(|| self.inside.path().join(NEW).display().to_string())
    }

    /// Keeps the nanoseconds of an event with the recording.
    pub(crate) fn keep_cost(&self, ns: f64) -> Result<()> {
        let kept = self.dir.dir(RECORDING).and_then(|dir| dir.link(&format!("{ns:.1}"), COST));
        kept.with_context(|| recording(&self.path).join(COST).display().to_string())
    }

    /// Keeps what [`Recording`](super::recording::Recording) says of samples, clocks, triggers and this version with the recording
    /// that is being made.
    pub(crate) fn keep_texts(new: &PinDir, hz: Option<u32>, clocks: &str, triggers: &str) -> Result<()> {
        let hz = hz.map(|hz| (hz.to_string(), HZ));
        let texts =
            [(clocks.to_owned(), CLOCKS), (triggers.to_owned(), TRIGGERS), (made_by::text(), MADE_BY)];
        let texts = texts.into_iter().chain(hz);
        texts.into_iter().try_for_each(|(text, name)| {
            new.link(&text, name).with_context(|| new.path().join(name).display().to_string())
        })
    }
}
