//! What the tests against dead writers and hostile neighbours share.
//!
//! - `victim`: a writer in a process of its own, single-stepped, and killed after its n-th store.
//! - `huge`: a huge page of the machine's, for as long as a test takes.
//! - `memory`: a region's words behind the library's back.
//! - `read_all`: everything that can be read from a region of unknown content, with its bounds.
//! - `scribble`: a neighbour that writes random words everywhere.
#![deny(unsafe_code)]

mod huge;
mod memory;
mod read_all;
mod record;
mod scribble;
mod victim;

pub use huge::HugePage;
pub use memory::{Memory, forge, forge_sparse};
pub use read_all::{Counted, Reads, read_all, slot_words};
pub use record::Record;
pub use scribble::{Neighbour, hostile_word};
pub use victim::{Death, kill_after, run};
