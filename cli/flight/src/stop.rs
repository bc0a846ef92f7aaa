//! Ends the recording.

use std::path::Path;

use anyhow::{Result, bail};
use mapring_kit::output::note;
use mapring_kit::text::one_line;

use crate::pins::{self, Lock};
use crate::recording::Recording;
use crate::rings::{self, GroupRings};

/// Removes links and maps, and says what was recorded.
///
/// # Errors
/// If nothing is recorded, or this process may not end it.
pub(crate) fn run(dir: &Path) -> Result<()> {
    if !dir.try_exists().map_err(|error| pins::denied(error, dir))? {
        bail!("nothing is recorded at {}", dir.display());
    }
    let lock = Lock::take(dir)?;
    let running = lock.is_recording()?;
    let written = |ring: &GroupRings| format!("{} {}", ring.written().iter().sum::<u64>(), ring.name());
    // What can't be read can still be removed.
    let text = match Recording::open(dir).and_then(|recording| rings::open(&recording)) {
        Ok(rings) => {
            let written: Vec<_> = rings.iter().filter(|ring| ring.is_of_events()).map(written).collect();
            format!("Stopped. Recorded events: {}.", written.join(", "))
        }
        Err(error) => format!("Stopped, and not read: {}", one_line(&error)),
    };
    match (lock.clear()?, running) {
        (true, true) => note(text),
        (true, false) => note("Removed what a killed `start` or `stop` left."),
        (false, _) => bail!("nothing is recorded at {}", dir.display()),
    }
    Ok(())
}
