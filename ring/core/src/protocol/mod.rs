//! The algorithms, on any words of memory. They do not depend on maps, mappings or files, and the models in
//! `loom-tests/` compile these files unchanged.
//!
//! Each ordering has a name, in a `SYNC` comment on both of its sides, here and in the BPF headers. `sync/orderings.rs` has
//! the table.

pub mod cell;
pub mod commands;
pub mod counters;
pub mod gauge;
pub mod histogram;
pub mod latch;
pub mod readers;
pub mod ring;
pub mod top;
mod torn_copy;
mod words;

pub use torn_copy::{Elements, TripleRead, batch, first_of};
pub use words::{Element, Rows, Words, WordsMut, is_any};
