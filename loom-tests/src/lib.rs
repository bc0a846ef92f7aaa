//! What the models in `tests/` are made of: how a model is run, a ring in loom's memory, its
//! producers and a reader that checks all that it is promised.
//!
//! With `--cfg loom` every model runs once for each interleaving, and for each value that a weak
//! machine may load. Without, the very same model runs a hundred times on real threads, so
//! that it is always compiled and never stale.

pub mod bpf;
mod check;
pub mod history;
pub mod ring;
pub mod rings;

pub use check::{Seen, check};

/// loom's memory and threads, or the real ones.
pub mod sync {
    #[cfg(loom)]
    #[allow(clippy::disallowed_types)]
    pub use loom::{
        sync::atomic::{AtomicU64, Ordering, fence},
        thread,
    };

    #[cfg(not(loom))]
    #[allow(clippy::disallowed_types)]
    pub use std::{
        sync::atomic::{AtomicU64, Ordering, fence},
        thread,
    };

    /// So many words of a new region: zeros.
    pub fn words(count: usize) -> Box<[AtomicU64]> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }
}
