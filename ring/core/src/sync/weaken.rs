//! Mutants of orderings: in builds for loom, the environment weakens the ordering of one site. One build serves all.

use std::env;
use std::io::{self, Write};
use std::process;
use std::sync::{Once, OnceLock};

use super::Ordering;
use super::orderings::{self, At, SITES, Site};

/// The site, and what is left of its ordering: `RingCommit=Relaxed`, `RingClaim=Release`.
const VARIABLE: &str = "MAPRING_WEAKEN";

/// The ordering of a site, or what is left of it.
pub(crate) fn weakened(at: At) -> Ordering {
    // The standard library's, which loom does not see: its threads take turns on one thread, and do not switch in here.
    static WEAKENED: OnceLock<Option<(&Site, Ordering)>> = OnceLock::new();
    static REACHED: Once = Once::new();
    let asked = &SITES[at as usize];
    match WEAKENED.get_or_init(named) {
        Some((site, left)) if site.name == asked.name => {
            REACHED.call_once(|| say(&format!("weakened {}={left:?}", site.name)));
            *left
        }
        _ => asked.order,
    }
}

/// A fence. None if nothing is left of its ordering.
pub(crate) fn fence(order: Ordering) {
    if order != Ordering::Relaxed {
        loom::sync::atomic::fence(order);
    }
}

/// What the variable names. Ends the process if that is nothing: a panic would look like a model that found a mutant.
fn named() -> Option<(&'static Site, Ordering)> {
    let value = env::var(VARIABLE).ok()?;
    let found = orderings::weakened(&value);
    if found.is_none() {
        say(&format!(
            "{VARIABLE}={value}: ring/core/src/sync/orderings.rs has no such site, or this is not weaker"
        ));
        process::exit(2);
    }
    found
}

/// Not by `eprintln!`, which the test harness captures.
fn say(line: &str) {
    _ = writeln!(io::stderr(), "{line}");
}
