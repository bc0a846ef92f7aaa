//! Shared code of the tests against dead writers and hostile processes.
//!
//! - `victim`: a writer in its own process, single-stepped, and killed after its n-th store.
//! - `counted`: a shard whose reader's loads are counted.
//! - `huge`: a huge page borrowed from the kernel during a test.
//! - `memory`: direct access to a region's words, without the library.
//! - `merged`: reads a ring of unknown content in the order of its records' stamps.
//! - `read_all`: reads everything in a region of unknown content, and checks the limits.
//! - `scribble`: a writer that stores random words everywhere.
#![deny(unsafe_code)]

mod counted;
mod huge;
mod memory;
mod merged;
mod read_all;
mod record;
mod scribble;
mod victim;

pub use counted::Counted;
pub use huge::HugePage;
pub use memory::{Memory, forge, forge_sparse};
pub use merged::read_merged;
pub use read_all::{Reads, read_all, slot_words};
pub use record::Record;
pub use scribble::{Neighbour, hostile_word};
pub use victim::{Death, kill_after, run};
