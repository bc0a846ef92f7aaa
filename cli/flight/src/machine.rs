//! The machine that recorded, and its clocks: this machine, or the one where `save` wrote the file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mapring::time::{Change, Clock, WallClock};
use serde::{Deserialize, Serialize};

use crate::clocks::Clocks;
use crate::text::escape;

/// What commands need to know of the machine that recorded. Texts are escaped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) host: String,
    /// As uname(2) has them.
    pub(crate) sysname: String,
    pub(crate) release: String,
    pub(crate) version: String,
    pub(crate) machine: String,
    pub(crate) cpus: usize,
    /// The version of the command.
    pub(crate) mapring: String,
    /// CLOCK_MONOTONIC, in nanoseconds, and by how much other clocks were ahead of it.
    pub(crate) now: u64,
    pub(crate) clocks: Clocks,
    /// It is the one that this process is on.
    #[serde(skip)]
    pub(crate) is_here: bool,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| escape(text.to_bytes());
        Self {
            host: text(uname.nodename()),
            sysname: text(uname.sysname()),
            release: text(uname.release()),
            version: text(uname.version()),
            machine: text(uname.machine()),
            cpus: mapring::cpus::possible_cpus().map_or(0, |cpus| cpus.len()),
            mapring: env!("CARGO_PKG_VERSION").to_owned(),
            now: Clock::Monotonic.now(),
            clocks: Clocks::now(),
            is_here: true,
        }
    }

    /// Converts times of its CLOCK_MONOTONIC to wall times.
    pub(crate) fn wall(&self) -> Wall {
        if self.is_here {
            Wall::Here(WallClock::new(Clock::Monotonic).ok())
        } else {
            Wall::Saved(self.clocks)
        }
    }
}

/// Wall times.
pub(crate) enum Wall {
    /// `None` if it is not known what the clock of the records is in this time namespace.
    Here(Option<WallClock>),
    /// As the clocks were when the recording was saved.
    Saved(Clocks),
}

impl Wall {
    pub(crate) fn at(&self, ns: u64) -> Option<SystemTime> {
        match self {
            Self::Here(wall) => Some(wall.as_ref()?.to_wall(ns).value),
            Self::Saved(clocks) => {
                let epoch = UNIX_EPOCH.checked_add(Duration::from_nanos(ns))?;
                let wall = Duration::from_nanos(clocks.wall.unsigned_abs());
                let time = if clocks.wall < 0 { epoch.checked_sub(wall) } else { epoch.checked_add(wall) };
                time.filter(|time| *time >= UNIX_EPOCH) // no calendar here has earlier ones
            }
        }
    }

    /// Compares the clocks again.
    pub(crate) fn update(&mut self) -> Option<Change> {
        match self {
            Self::Here(wall) => wall.as_mut()?.update(),
            Self::Saved(_) => None,
        }
    }
}
