//! Runs code on another CPU at the same time.

use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result};
use mapring_benches::{cpus, pin_to};

static CPUS: OnceLock<Vec<usize>> = OnceLock::new();

/// Records the CPUs of this process. Must be called before the measuring thread is pinned.
pub(crate) fn remember() -> Result<()> {
    CPUS.set(cpus()?).ok().context("called twice")
}

/// The CPUs that threads may run on; the last one measures.
pub(crate) fn all() -> &'static [usize] {
    CPUS.get().expect("main remembers them")
}

/// Another CPU for code that runs beside this thread, if one exists.
pub(crate) fn other() -> Option<usize> {
    match all() {
        [first, .., _] => Some(*first),
        _ => None,
    }
}

/// Runs `there` on CPU `cpu` and `here` on this one, at the same time.
pub(crate) fn both<A: Send, B>(
    cpu: usize,
    there: impl FnOnce() -> Result<A> + Send,
    here: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let there = scope.spawn(move || {
            pin_to(cpu)?;
            there()
        });
        let here = here();
        let there = there.join().expect("what runs there does not panic");
        Ok((there?, here?))
    })
}
