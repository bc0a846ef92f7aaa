//! loom's memory and threads, or the real ones.
#![allow(clippy::disallowed_types)]

#[cfg(loom)]
pub use loom::{
    sync::atomic::{AtomicU64, Ordering, fence},
    thread,
};

#[cfg(not(loom))]
pub use std::{
    sync::atomic::{AtomicU64, Ordering, fence},
    thread,
};
