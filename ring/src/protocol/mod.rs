//! The algorithms, on any words of memory. They do not depend on maps, mappings or files, and the models in
//! `loom-tests/` compile these files unchanged.
//!
//! Each ordering has a name, in a `SYNC` comment on both of its sides, here and in the BPF headers:
//!
//! - *publish*: a reader that sees the sequence that ends a write sees all words of the write.
//! - *claim*: a reader that sees a word of a write and then loads the sequence again sees the sequence that began the
//!   write.
//! - *follow*: a writer's words are written after the words of the slot's previous writer.
//! - *extremes*: a reader that sees the minimum of a gauge's window sees a maximum that is at least as large.
//! - *order*: a thread that sees that a ticket has ended and then loads earlier sequences sees that the earlier tickets
//!   were claimed.

pub mod cell;
pub mod commands;
pub mod counters;
pub mod gauge;
pub mod histogram;
pub mod latch;
mod pairs;
pub mod readers;
pub mod ring;
pub mod top;
mod triple;
mod words;

pub use triple::{Elements, TripleRead, batch};
pub use words::{Element, Rows, Words, WordsMut, is_any};
