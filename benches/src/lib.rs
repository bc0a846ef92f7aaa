//! The harness of `cargo bench -p mapring-benches`: runs two or more ways to do the same thing in
//! turn, block by block, and reports their ratios.
//!
//! Timings wander, most of all on virtual machines: what a block of one side costs says little, but
//! a block of each side, run right after each other, have the same minute in common. So the result
//! is the median of the ratios within a block, and how far they spread.

mod compare;
mod machine;
mod report;
mod stats;

pub use compare::{Plan, interleave};
pub use machine::{Machine, bpf_is_missing, pin};
pub use report::{Report, Row};
pub use stats::Spread;
