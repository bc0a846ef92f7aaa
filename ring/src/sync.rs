//! The loom switch: the only place that names an atomic type, so that what the models check is
//! what ships. `RUSTFLAGS="--cfg loom"` turns it.

#[cfg(loom)]
#[allow(clippy::disallowed_types)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(not(loom))]
#[allow(clippy::disallowed_types)]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};
