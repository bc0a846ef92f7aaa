//! The harness of `cargo bench -p mapring-benches`: runs two or more ways to do the same thing in turn, block by block,
//! and reports their ratios.
//!
//! Timings drift, most of all on virtual machines, so a single block proves little. Blocks of each side that run right
//! after each other have the same conditions. The result is therefore the median of the ratios within a round, and
//! their spread.

mod axis;
mod chart;
mod compare;
mod copies;
mod criterion;
mod machine;
mod markdown;

mod placement;
mod report;
mod row;
mod stats;
mod svg;
mod versions;

pub use chart::{Chart, Scale};
pub use compare::{Plan, interleave, interleave_all};
pub use copies::{OFFSETS, Placed, best_place};
pub use machine::{Machine, bpf_is_missing};
pub use placement::{cpus, hurry, pin, pin_to, ping_pong};
pub use report::Report;
pub use row::{KEYS, Row};
pub use stats::Spread;
pub use versions::version_of;
