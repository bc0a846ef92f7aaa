//! `mapring ls`, `show`, `stat`, `tail` and `top`: every region and mmapable array of this machine, made visible.

mod filter;
mod find;
pub(crate) mod ls;
mod rates;
mod screen;
pub(crate) mod show;
pub(crate) mod stat;
pub(crate) mod tail;
mod target;
mod text;
pub(crate) mod top;
mod untyped;
mod value;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether the user wants the command to end: Ctrl-C, or a signal.
struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    fn new() -> io::Result<Self> {
        let set = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, set.clone())?; // the second time at once
            signal_hook::flag::register(signal, set.clone())?;
        }
        Ok(Self(set))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps; returns whether the user wants to end.
    fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.is_set() {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            std::thread::sleep(rest.min(Duration::from_millis(50)));
        }
        self.is_set()
    }
}
