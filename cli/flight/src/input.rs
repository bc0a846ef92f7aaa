//! What the commands read: the running recorder, or a file of `save`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use mapring::time::Clock;

use crate::clocks;
use crate::memory;
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
    /// Events up to here are complete, if rings are copied.
    copied: Option<u64>,
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
        Ok(Self { pins: Some(pins), rings, names, stop, saved: None, copied: None, symbols: None })
    }

    /// A file of `save`.
    pub(crate) fn of_file(
        rings: Vec<GroupRings>,
        names: Names,
        stop: Option<Stop>,
        about: About,
        symbols: Saved,
    ) -> Self {
        let copied = Some(about.until);
        Self { pins: None, rings, names, stop, saved: Some(about), copied, symbols: Some(symbols) }
    }

    /// Copies the rings of a recording that goes on, those with the shortest history first, as far as a quarter of the free memory
    /// has room for them. What is read later is not overwritten then.
    pub(crate) fn copied(mut self) -> Self {
        let is_over = self.stop.and_then(|stop| stop.end()).is_some_and(|end| end <= Clock::Monotonic.now());
        if self.copied.is_some() || is_over {
            return self;
        }
        let mut room = memory::free() / 4; // each copy is there twice for a moment
        let order = rings::shortest_first(&self.rings);
        let until = rings::present();
        for at in order {
            let ring = &mut self.rings[at];
            let Some(left) = room.checked_sub(ring.bytes()) else { continue };
            if let Some(copy) = ring.copied(until) {
                (*ring, room) = (copy, left);
            }
        }
        self.copied = Some(until);
        self
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
        self.copied.unwrap_or_else(rings::present)
    }
}
