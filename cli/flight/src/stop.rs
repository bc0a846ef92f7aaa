//! Ends the recording.

use std::path::Path;

use anyhow::{Result, bail};
use mapring_kit::output::note;

use crate::pins::{self, Lock};
use crate::recording::Recording;
use crate::rings;

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
    let written: Vec<_> = Recording::open(dir)
        .and_then(|recording| rings::open(&recording))
        .unwrap_or_default() // what can't be read can still be removed
        .iter()
        .filter(|ring| ring.is_of_events())
        .map(|ring| format!("{} {}", ring.written().iter().sum::<u64>(), ring.name()))
        .collect();
    match (lock.clear()?, running) {
        (true, true) => note(format_args!("Stopped. Recorded events: {}.", written.join(", "))),
        (true, false) => note("Removed what a killed `start` or `stop` left."),
        (false, _) => bail!("nothing is recorded at {}", dir.display()),
    }
    Ok(())
}
