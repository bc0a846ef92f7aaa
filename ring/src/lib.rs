//! mapring
#![deny(unsafe_code)]
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod handle;
pub mod layout;
pub mod protocol;
#[cfg(not(loom))]
mod region;
mod sync;
#[cfg(not(loom))]
pub use error::{Error, ReadError, Result};
#[cfg(not(loom))]
pub use handle::*;
pub use protocol::ring::{Start, Tally};
#[cfg(not(loom))]
pub use region::*;
