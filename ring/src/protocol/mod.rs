//! The algorithms, over any words: they know nothing of maps, mappings or files, and what the
//! models in `loom-tests/` check is these very files.
//!
//! Each ordering has a name, in a `SYNC` comment on both of its sides, here and in the BPF
//! headers:
//!
//! - *publish*: whoever sees the sequence that ends a write sees what was written.
//! - *claim*: whoever sees a word of a write also sees, when looking again, the sequence that
//!   began it.
//! - *follow*: what a writer writes comes after what the slot's last writer wrote.
//! - *order*: whoever sees that a ticket has ended also sees, when looking again, that those
//!   before it were taken.

pub mod cell;
pub mod counters;
pub mod latch;
mod pairs;
pub mod ring;
mod triple;
mod words;

pub use triple::{Elements, TripleRead, batch};
pub use words::{Element, Rows, Words, WordsMut};
