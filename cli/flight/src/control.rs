//! Stops the recording by hand, goes on, and writes marks. A program of the recorder does this in the kernel, so userspace
//! writes none of its maps.

use std::io;
use std::path::Path;

use anyhow::{Result, bail};
use aya::maps::{Map, MapData, RingBuf};
use aya::programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun};
use mapring_kit::output::note;

use crate::machine::Machine;
use crate::record::{HOLD, MARK, RESUME};
use crate::recording::{Recording, within};
use crate::{pins, sampling, stopped};

/// Options of `mapring flight mark`.
#[derive(clap::Args)]
pub(crate) struct Mark {
    /// Up to 88 bytes
    #[arg(value_name = "TEXT", value_parser = text)]
    text: [u64; WORDS],
}

/// The words of a mark.
const WORDS: usize = 11;

fn text(text: &str) -> Result<[u64; WORDS], String> {
    let mut bytes = [0; 8 * WORDS];
    match bytes.get_mut(..text.len()) {
        Some(place) if !text.is_empty() => place.copy_from_slice(text.as_bytes()),
        _ => return Err(format!("a mark has 1 to {} bytes", bytes.len())),
    }
    Ok(bytemuck::cast(bytes))
}

/// Writes a mark. Makes a few system calls.
///
/// # Errors
/// If nothing is recorded, the recording has stopped, or this process may not run its program.
pub(crate) fn mark(dir: &Path, args: &Mark) -> Result<()> {
    if !run(&Recording::open(dir)?, MARK, args.text)? {
        bail!("the recording has stopped, and takes no mark: `mapring flight resume` goes on");
    }
    Ok(())
}

/// Stops the recording.
///
/// # Errors
/// As for [`mark`].
pub(crate) fn hold(dir: &Path) -> Result<()> {
    let recording = Recording::open(dir)?;
    let is_done = run(&recording, HOLD, [0; WORDS])?;
    let why =
        stopped::read(&recording)?.and_then(|stop| stop.cause(&Machine::here().wall())).unwrap_or_default();
    if !is_done {
        bail!("the recording has stopped already: {why}");
    }
    note("Held. `mapring flight dump` writes what is recorded. `mapring flight resume` goes on.");
    Ok(())
}

/// Goes on recording, and samples CPUs that were offline.
///
/// # Errors
/// As for [`mark`].
pub(crate) fn resume(dir: &Path) -> Result<()> {
    let recording = Recording::open(dir)?;
    // Before: who waits from now on waits for the next end.
    let bell = within(recording.dir(), pins::BELL);
    if let Ok(mut bell) = MapData::from_pin(bell).map(Map::RingBuf).and_then(RingBuf::try_from) {
        while bell.next().is_some() {}
    }
    let is_done = run(&recording, RESUME, [0; WORDS])?;
    let cpus = sampling::again(dir, &recording)?;
    if !is_done && cpus == 0 {
        bail!("nothing has stopped the recording");
    }
    if cpus > 0 {
        note(format!("{cpus} CPUs that were offline are sampled again."));
    }
    if is_done {
        note("Recording again. All triggers are armed.");
    }
    Ok(())
}

/// Runs the program. Returns whether there was something to do.
fn run(recording: &Recording, kind: u32, text: [u64; WORDS]) -> Result<bool> {
    const DONE: u32 = 0;
    const NOTHING_TO_DO: u32 = 1;
    let pin = recording.dir().path().join(pins::CONTROL);
    let denied = |error: ProgramError| pins::denied(as_io(error), &pin);
    let program = RawTracePoint::from_pin(within(recording.dir(), pins::CONTROL)).map_err(denied)?;
    let mut args = [0; 12];
    args[0] = kind.into();
    args[1..].copy_from_slice(&text);
    for _ in 0..1000 {
        let done = program.test_run(RawTracePointRunOptions { args, cpu: None }).map_err(denied)?;
        match done.return_value {
            DONE => return Ok(true),
            NOTHING_TO_DO => return Ok(false),
            _ => std::thread::yield_now(), // another program is about to set the end
        }
    }
    bail!("other programs have set the end of the recording all the time: try again")
}

/// The kernel's error, below those of aya.
fn as_io(error: ProgramError) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(one) = source {
        if let Some(number) = one.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(number);
        }
        source = one.source();
    }
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_a_length_that_fits() {
        assert_eq!(text("deploy").map(|words| words[0].to_ne_bytes()), Ok(*b"deploy\0\0"));
        assert!(text(&"x".repeat(88)).is_ok_and(|words| words[10] != 0));
        assert!(text(&"x".repeat(89)).is_err() && text("").is_err());
    }
}
