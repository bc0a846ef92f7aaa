//! Runs the compiled BPF code of mapring's headers, instruction by instruction, against the production readers. The
//! models check clang's output, not the C source.
//!
//! [`object`] extracts programs from the objects that the build script compiled with every clang of the machine.
//! [`machine`] runs them on words that production readers read, with the memory [`order`] of x86 or of any machine.
//! [`ring`] has a ring of such words and a reader that checks the guarantees, [`region`] has cells, latches and
//! counters, [`mutate`] weakens programs one instruction at a time.
//!
//! With `--cfg loom` every access to a map is a step of loom's, and the models in `tests/` run once for each
//! interleaving and for each value that a weakly ordered machine may load. Without, they run on real threads, a few
//! hundred times.
#![allow(clippy::missing_panics_doc)] // a panic here means that a model failed

pub mod alu;
pub mod cell;
mod check;
pub mod commands;
pub mod decode;
pub mod gauge;
pub mod history;
pub mod keeping;
pub mod looks;
pub mod machine;
pub mod map;
pub mod models;
pub mod mutate;
pub mod nest;
pub mod object;
pub mod order;
pub mod percpu;
pub mod region;
pub mod resizable;
pub mod ring;
pub mod stuck;
pub mod sync;
pub mod tails;
pub mod top;
pub mod trace;
pub mod waking;

pub use check::{alone, check};
