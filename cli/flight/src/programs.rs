//! The programs that record, and what they cost by the kernel's own statistics.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Sub;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};

use crate::pins;
use crate::recording::Recording;

/// The programs that are attached by pinned links.
pub(crate) struct Programs(Vec<Program>);

struct Program {
    name: String,
    id: u32,
}

/// What programs have cost since statistics are enabled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    runs: u64,
    /// Events that a program could not see since it was loaded, because they interrupted this program itself.
    pub(crate) missed: u64,
}

impl Programs {
    /// Finds the programs by the pins of their links.
    ///
    /// # Errors
    /// Without the privilege to see them.
    pub(crate) fn attached(recording: &Recording) -> Result<Self> {
        let links = recording.links()?;
        let program = |(name, _): (OsString, _)| {
            let id = links.open_pin(&name).and_then(|link| pins::program_of(&link));
            let id = id.with_context(|| links.path().join(&name).display().to_string())?;
            let id = id.with_context(|| format!("{} is not a link", links.path().join(&name).display()))?;
            Ok(Program { name: name.to_string_lossy().into_owned(), id })
        };
        Ok(Self(links.entries()?.into_iter().map(program).collect::<Result<_>>()?))
    }

    /// The names of a group's programs.
    pub(crate) fn names(&self, group: &str) -> Vec<String> {
        let of_group = self.0.iter().filter(|program| program.group() == group);
        let mut names: Vec<_> = of_group.map(|program| program.name.clone()).collect();
        names.sort();
        names
    }

    /// What each group has cost. Programs that the kernel does not show cost nothing.
    pub(crate) fn costs(&self) -> BTreeMap<&str, Cost> {
        let mut costs = BTreeMap::<_, Cost>::new();
        for info in loaded_programs().flatten() {
            let Some(program) = self.0.iter().find(|program| program.id == info.id()) else { continue };
            let cost = costs.entry(program.group()).or_default();
            cost.time += info.run_time();
            cost.runs += info.run_count();
            cost.missed += missed(&info).unwrap_or(0);
        }
        costs
    }
}

impl Program {
    fn group(&self) -> &str {
        self.name.split('_').next().unwrap_or_default()
    }
}

/// The events that a program missed, in kernels since 5.12.
fn missed(info: &ProgramInfo) -> Option<u64> {
    pins::number_in_fdinfo(info.fd().ok()?.as_fd(), "recursion_misses:").ok()?
}

impl Sub for Cost {
    type Output = Self;

    /// The cost between two samples. `missed` stays the count since the start.
    fn sub(self, earlier: Self) -> Self {
        let time = self.time.saturating_sub(earlier.time);
        Self { time, runs: self.runs.saturating_sub(earlier.runs), missed: self.missed }
    }
}

impl Cost {
    #[allow(clippy::cast_precision_loss)] // it is shown with a few digits
    pub(crate) fn ns_per_run(self) -> Option<f64> {
        (self.runs > 0).then(|| self.time.as_nanos() as f64 / self.runs as f64)
    }
}

/// Makes the kernel measure programs until the result is dropped.
///
/// # Errors
/// Without the privilege to do so, in words.
pub(crate) fn enable_statistics() -> Result<OwnedFd, String> {
    enable_stats(Stats::RunTime).map_err(|error| {
        format!("the kernel's statistics take CAP_SYS_ADMIN and Linux 5.8 ({})", error.io_error)
    })
}
