//! The directory of a recording. A command opens it once, and its pins by the descriptor: no other user can have made or
//! exchanged them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use mapring_sys::PinDir;

use crate::made_by;
use crate::pins::{CLOCKS, COST, HZ, LINKS, MADE_BY, MAPS, RECORDING, TRIGGERS, denied, unreadable};

pub(crate) struct Recording(PinDir);

impl Recording {
    /// The one in the recorder's directory.
    ///
    /// # Errors
    /// If nothing is recorded, this process may not see it, another user could exchange its pins, or another mapring has
    /// started it.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let none =
            || format!("{}: nothing is recorded: `mapring flight start` starts a recording", dir.display());
        Self::find(dir)?.with_context(none)
    }

    /// The same. `None` if nothing is recorded.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn find(dir: &Path) -> Result<Option<Self>> {
        let found = PinDir::open(dir).and_then(|dir| dir.dir(RECORDING));
        let found = if_there(found).map_err(|error| unreadable(error, dir))?.map(Self);
        if let Some(recording) = &found {
            let kept = if_there(fs::read_link(within(&recording.0, MADE_BY)));
            let kept = kept.map_err(|error| unreadable(error, dir))?;
            let kept = kept.as_ref().map(|kept| kept.to_string_lossy());
            if let Some(complaint) = made_by::complaint(kept.as_deref()) {
                bail!("{}: {complaint}", dir.display());
            }
        }
        Ok(found)
    }

    pub(crate) fn dir(&self) -> &PinDir {
        &self.0
    }

    /// A map. `None` if it is not recorded.
    ///
    /// # Errors
    /// If this process may not open it.
    pub(crate) fn map(&self, name: &str) -> Result<Option<OwnedFd>> {
        let found = self.0.dir(MAPS).and_then(|maps| maps.open_pin(name));
        if_there(found).map_err(|error| unreadable(error, &self.0.path().join(MAPS).join(name)))
    }

    /// The links, a pin for each program.
    ///
    /// # Errors
    /// If this process may not see them.
    pub(crate) fn links(&self) -> Result<PinDir> {
        let links = self.0.dir(LINKS).and_then(|links| links.readable().map(|_| links));
        links.map_err(|error| denied(error, &self.0.path().join(LINKS)))
    }

    /// When it was started.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub(crate) fn since(&self) -> Result<SystemTime> {
        let found = fs::metadata(within(&self.0, ".")).and_then(|found| found.modified());
        found.with_context(|| self.0.path().display().to_string())
    }

    /// The nanoseconds of an event that `start` measured, if they are known.
    pub(crate) fn cost(&self) -> Option<f64> {
        self.kept(COST)?.parse().ok()
    }

    /// How many samples of each CPU are taken in a second, if they are.
    pub(crate) fn hz(&self) -> Option<u32> {
        self.kept(HZ)?.parse().ok()
    }

    /// The text that `start` kept of the clocks.
    pub(crate) fn clocks(&self) -> Option<String> {
        self.kept(CLOCKS)
    }

    /// What stops it, as `start` kept it: a line with the nanoseconds that follow, and one for each trigger.
    pub(crate) fn triggers(&self) -> Option<String> {
        self.kept(TRIGGERS)
    }

    fn kept(&self, name: &str) -> Option<String> {
        fs::read_link(within(&self.0, name)).ok()?.into_os_string().into_string().ok()
    }
}

/// An entry of a directory that is open, for calls that take a path.
pub(crate) fn within(dir: &PinDir, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", dir.as_fd().as_raw_fd()).into()
}

fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}
