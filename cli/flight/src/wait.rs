//! Waits until something stops the recording, for scripts and units: asleep, until the program that stops it wakes this process.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mapring::time::Clock;
use mapring_kit::output;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::machine::Machine;
use crate::pins;
use crate::recording::{Recording, within};
use crate::stopped;

/// Options of `mapring flight wait`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Give up after this time, with exit code 1
    #[arg(long, value_name = "TIME", value_parser = output::span)]
    timeout: Option<Duration>,
}

/// Waits until the recording has stopped, and what follows a trigger is recorded. Prints the cause. Returns at once if it has stopped
/// already.
///
/// # Errors
/// If nothing is recorded, this user may not read it, nothing stops it in time, or it ends meanwhile.
pub(crate) fn run(dir: &Path, args: &Args) -> Result<()> {
    let recording = Recording::open(dir)?;
    let shown = || recording.dir().path().join(pins::BELL).display().to_string();
    let bell = recording.dir().open_pin(pins::BELL).with_context(shown)?;
    let gone = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&gone, within(recording.dir(), "."), inotify::WatchFlags::DELETE)?; // only `stop` removes pins
    let end = args.timeout.map(|timeout| (Instant::now() + timeout, timeout));
    loop {
        let stop = stopped::read(&recording)?;
        let over = stop.and_then(|stop| stop.end());
        let now = Clock::Monotonic.now();
        if let Some(stop) = stop.filter(|_| over.is_some_and(|over| over <= now)) {
            let cause = stop.cause(&Machine::here().wall()).unwrap_or_default();
            return writeln!(io::stdout(), "stopped by {cause}").context("stdout");
        }
        // After a trigger, what follows it.
        let rest = over.map(|over| Duration::from_nanos(over.saturating_sub(now)));
        let left = end.map(|(end, _)| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let (_, timeout) = end.unwrap_or((Instant::now(), Duration::ZERO));
            bail!("nothing has stopped the recording in {}", humantime::format_duration(timeout));
        }
        let most = rest.into_iter().chain(left).min();
        let most = most.map(Timespec::try_from).transpose()?;
        let bell = PollFd::new(&bell, if over.is_some() { PollFlags::empty() } else { PollFlags::IN });
        let mut both = [PollFd::new(&gone, PollFlags::IN), bell];
        match poll(&mut both, most.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            polled => _ = polled?,
        }
        if !both[0].revents().is_empty() {
            bail!("the recording has ended");
        }
    }
}
