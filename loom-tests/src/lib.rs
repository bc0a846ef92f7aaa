//! Shared code of the models in `tests/`: runs a model, and has a ring in loom's memory, its producers, and a reader
//! that checks every guarantee.
//!
//! With `--cfg loom` every model runs once for each interleaving, and for each value that a weakly ordered machine may
//! load. Without, the same model runs a hundred times on real threads, so that it is always compiled and never stale.

pub mod bpf;
mod check;
pub mod commands;
pub mod history;
pub mod ring;
pub mod rings;

pub use check::{Seen, check};

/// loom's memory and threads, or the real ones.
pub mod sync {
    #[cfg(loom)]
    #[allow(clippy::disallowed_types)]
    pub use loom::{
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering, fence},
        },
        thread,
    };

    #[cfg(not(loom))]
    #[allow(clippy::disallowed_types)]
    pub use std::{
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering, fence},
        },
        thread,
    };

    /// The words of a new region: zeros.
    pub fn words(count: usize) -> Box<[AtomicU64]> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }
}
