//! Where the pins of the recorder are, and the lock that its commands take.
//!
//! ```text
//! flight/             any user may enter it; it is also the lock
//!   new/              what a start has not finished
//!   recording/        a finished start renames new/ to this
//!     maps/sched …    readable by the group
//!     links/sched_switch …
//!     cost            a symbolic link to no file: its text is what an event costs, in nanoseconds
//! ```

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::exit::Refused;

/// What statfs says of a BPF file system.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

pub(crate) const MAPS: &str = "maps";
pub(crate) const LINKS: &str = "links";
const COST: &str = "cost";

/// Options that all commands of the recorder have.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Where the recorder's pins are, in a BPF file system
    #[arg(long, value_name = "DIR", global = true, env = "MAPRING_FLIGHT_PINS", default_value = DEFAULT)]
    pub(crate) pins: PathBuf,
}

const DEFAULT: &str = "/sys/fs/bpf/mapring/flight";

pub(crate) fn recording(dir: &Path) -> PathBuf {
    dir.join("recording")
}

/// What a start has not finished.
pub(crate) fn unfinished(dir: &Path) -> PathBuf {
    dir.join("new")
}

/// The directory of the recorder, if this is the pin of a ring that a start has not finished.
pub(crate) fn of_unfinished(pin: &Path) -> Option<&Path> {
    let maps = pin.parent().filter(|maps| maps.ends_with(MAPS) && maps.with_file_name(LINKS).is_dir())?;
    let dir = maps.parent()?.parent()?;
    maps.starts_with(unfinished(dir)).then_some(dir)
}

/// The rings, a pin for each group of events.
pub(crate) fn maps(dir: &Path) -> PathBuf {
    recording(dir).join(MAPS)
}

/// The links, a pin for each program.
pub(crate) fn links(dir: &Path) -> PathBuf {
    recording(dir).join(LINKS)
}

/// The nanoseconds of an event that `start` measured, if they are known.
pub(crate) fn cost(dir: &Path) -> Option<f64> {
    fs::read_link(recording(dir).join(COST)).ok()?.to_str()?.parse().ok()
}

/// An error for a directory that this process can't change.
pub(crate) fn denied(error: io::Error, dir: &Path) -> anyhow::Error {
    refused(error, dir, "run as root, or as the user that started the recording")
}

/// An error for a directory that this process can't create.
fn not_created(error: io::Error, dir: &Path) -> anyhow::Error {
    refused(error, dir, "run as root, or name a directory of yours in a BPF file system with --pins")
}

/// An error for a directory that this process can't read.
pub(crate) fn unreadable(error: io::Error, dir: &Path) -> anyhow::Error {
    refused(error, dir, "run as root, or as a member of the group that `start --group` named")
}

fn refused(error: io::Error, dir: &Path, fix: &str) -> anyhow::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Refused(format!("{}: {error}: {fix}", dir.display())).into();
    }
    anyhow::Error::from(error).context(dir.display().to_string())
}

/// Whether a `start` or `stop` works in the directory now. `None` if this process can't know.
pub(crate) fn is_at_work(dir: &Path) -> Option<bool> {
    let held = File::open(dir).ok()?;
    match rustix::fs::flock(&held, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(true),
        locked => locked.ok().map(|()| false),
    }
}

/// The lock of the commands that change pins, and the directory that they are in. While one of them has it, the others are
/// refused. It ends with the process.
pub(crate) struct Lock {
    dir: PathBuf,
    _held: File,
}

impl Lock {
    /// Creates the directory if it does not exist.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        loop {
            create(dir)?;
            let held = File::open(dir).map_err(|error| denied(error, dir))?;
            match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    bail!("{}: another `mapring flight start` or `stop` is at work there", dir.display())
                }
                locked => locked.with_context(|| dir.display().to_string())?,
            }
            // It may have been removed before it was locked.
            let is_there =
                dir.metadata().is_ok_and(|now| held.metadata().is_ok_and(|it| it.ino() == now.ino()));
            if is_there {
                return Ok(Self { dir: dir.to_owned(), _held: held });
            }
        }
    }

    /// Removes the pins of a killed start and, unless something is recorded there, the directory.
    pub(crate) fn clear_unfinished(self) -> Result<()> {
        remove(&unfinished(&self.dir))?;
        if recording(&self.dir).exists() { Ok(()) } else { self.remove() }
    }

    /// Removes all pins, and the directory. Returns whether there were any.
    pub(crate) fn clear(self) -> Result<bool> {
        let removed = [remove(&unfinished(&self.dir))?, remove(&recording(&self.dir))?];
        self.remove()?;
        Ok(removed.contains(&true))
    }

    /// Removes the empty directory. Of the default one, also the directory above, unless others use it.
    fn remove(self) -> Result<()> {
        fs::remove_dir(&self.dir).with_context(|| self.dir.display().to_string())?;
        if self.dir == Path::new(DEFAULT)
            && let Some(above) = self.dir.parent()
        {
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }
}

#[cfg(feature = "bpf")]
impl Lock {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the directory of a recording anew. Removes what a start left that was killed.
    pub(crate) fn begin(&self) -> Result<PathBuf> {
        let new = unfinished(&self.dir);
        remove(&new)?;
        for dir in [&new, &new.join(MAPS), &new.join(LINKS)] {
            DirBuilder::new().mode(0o700).create(dir).with_context(|| dir.display().to_string())?;
        }
        Ok(new)
    }

    /// Makes it the recording.
    pub(crate) fn finish(&self, new: &Path) -> Result<()> {
        fs::rename(new, recording(&self.dir)).with_context(|| new.display().to_string())
    }

    /// Keeps the nanoseconds of an event with the recording: a BPF file system holds no files, but symbolic links.
    pub(crate) fn keep_cost(&self, ns: f64) -> Result<()> {
        let link = recording(&self.dir).join(COST);
        std::os::unix::fs::symlink(format!("{ns:.1}"), &link).with_context(|| link.display().to_string())
    }
}

/// Creates the directory and those above it, which any user may pass through.
fn create(dir: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut there = dir;
    while !there.try_exists().map_err(|error| not_created(error, there))? {
        missing.push(there);
        there = there.parent().unwrap_or(Path::new("/"));
    }
    let kind = rustix::fs::statfs(there).with_context(|| there.display().to_string())?.f_type;
    if kind != BPF_FS_MAGIC {
        let default = Path::new("/sys/fs/bpf");
        if !rustix::fs::statfs(default).is_ok_and(|found| found.f_type == BPF_FS_MAGIC) {
            let mount = "mount -t bpf -o mode=0755 bpf /sys/fs/bpf";
            return Err(
                Refused(format!("no BPF file system is mounted at {}: {mount}", default.display())).into()
            );
        }
        bail!(
            "{} is not in a BPF file system: choose a directory below {}",
            dir.display(),
            default.display()
        );
    }
    for new in missing.into_iter().rev() {
        let created = match DirBuilder::new().mode(0o711).create(new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created,
        };
        // The mode does not depend on the umask.
        match created.and_then(|()| fs::set_permissions(new, Permissions::from_mode(0o711))) {
            // A `stop` has removed it, or the one above, meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !new.is_symlink() => return create(dir),
            created => created.map_err(|error| not_created(error, new))?,
        }
    }
    Ok(())
}

/// Removes a directory of pins: links first, so that programs stop before their maps go. Returns whether it was there.
fn remove(dir: &Path) -> Result<bool> {
    for part in [dir.join(LINKS), dir.join(MAPS)] {
        let Ok(pins) = fs::read_dir(&part) else { continue };
        for pin in pins {
            let pin = pin?.path();
            fs::remove_file(&pin).map_err(|error| denied(error, &pin))?;
        }
        fs::remove_dir(&part).map_err(|error| denied(error, &part))?;
    }
    let cost = dir.join(COST);
    match fs::remove_file(&cost) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(denied(error, &cost)),
        _ => {}
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).map_err(|error| denied(error, dir)),
    }
}
