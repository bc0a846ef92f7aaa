//! Ctrl-C and the signals that end a command: it ends what it does, and loses nothing.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::exit;

/// Signals within this time are one wish to end: timeout(1) sends one to the command, and one to its group.
const TOGETHER: Duration = Duration::from_secs(1);

/// Sets `over` at a signal. A signal that was ignored when the command began stays ignored: nohup(1) and shells do this. A
/// signal long after the first one ends the process at once.
pub fn set_at_end(over: &Arc<AtomicBool>) -> io::Result<()> {
    let (mut seen, arrived) = UnixStream::pair()?;
    let ignored = ignored();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & 1 << (signal - 1) == 0 {
            flag::register(signal, over.clone())?;
            low_level::pipe::register(signal, arrived.try_clone()?)?;
        }
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first = None;
        // A socket that can't be read gives no more signals.
        while seen.read_exact(&mut [0]).is_ok() {
            if first.get_or_insert_with(Instant::now).elapsed() > TOGETHER {
                low_level::exit(exit::FAILED.into());
            }
        }
    })?;
    Ok(())
}

/// The signals that this process ignores, a bit for each. None if procfs is not mounted.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Whether the user wants the command to end: Ctrl-C, or a signal.
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Watches the signals from now on.
    pub fn new() -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        set_at_end(&over)?;
        Ok(Self(over))
    }

    /// Whether it is so now.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// As a signal does.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Sleeps; returns whether the user wants to end.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.is_set() {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            thread::sleep(rest.min(Duration::from_millis(50)));
        }
        self.is_set()
    }
}
