//! What the commands read: the running recorder, or a file of `save`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::clocks;
use crate::names::Names;
use crate::present;
use crate::recording::Recording;
use crate::rings::{self, GroupRings};
use crate::save::{self, About};
use crate::stopped::{self, Stop};
use crate::symbols::Saved;

/// The option of the commands that read a file, too.
#[derive(clap::Args)]
pub(crate) struct From {
    /// Read this file of `flight save`, of whatever machine, instead of the running recorder
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
}

/// A recording.
pub(crate) struct Input {
    /// `None`: it is a file.
    pub(crate) pins: Option<Recording>,
    pub(crate) rings: Vec<GroupRings>,
    pub(crate) names: Names,
    /// What stops it.
    pub(crate) stop: Option<Stop>,
    /// `None`: it is running.
    pub(crate) saved: Option<About>,
    /// The names of stacks, if it is a file.
    pub(crate) symbols: Option<Saved>,
}

impl Input {
    /// # Errors
    /// If nothing is recorded, or this user may not read it; if the file is not whole.
    pub(crate) fn open(dir: &Path, from: Option<&Path>) -> Result<Self> {
        if let Some(file) = from {
            return save::read(file);
        }
        let pins = Recording::open(dir)?;
        let (rings, stop) = (rings::open_all(&pins)?, stopped::read(&pins)?);
        let names = Names::new().with_ended(present::read(&pins));
        Ok(Self { pins: Some(pins), rings, names, stop, saved: None, symbols: None })
    }

    /// Says on stderr what happened to the clocks since the start.
    pub(crate) fn report_clocks(&self) {
        let start =
            self.saved.as_ref().map_or_else(|| self.pins.as_ref()?.clocks(), |about| about.clocks.clone());
        clocks::report(start.as_deref(), self.names.machine().clocks);
    }

    /// How many samples of each CPU were taken in a second, if any were.
    pub(crate) fn hz(&self) -> Option<u32> {
        self.saved.as_ref().map_or_else(|| self.pins.as_ref()?.hz(), |about| about.hz)
    }

    /// After this call all earlier events are found. Sleeps, if it is running.
    pub(crate) fn present(&self) -> u64 {
        self.saved.as_ref().map_or_else(rings::present, |about| about.until)
    }
}
