//! What the parts of the command `mapring` share. It knows nothing of regions or recordings.
//!
//! - [`exit`]: the exit codes, and the errors that stand for them.
//! - [`text`]: text of other processes, escaped; and numbers, cut and wrapped for people.
//! - [`output`]: colours, notes, progress; sizes and times on the command line.
//! - [`signals`]: Ctrl-C and the signals that end a command.
//! - [`privilege`] (feature `bpf`): why libbpf could not load programs.
//! - [`lookup`]: groups of users and hosts, by their names.
//! - [`outfile`] (feature `files`): files that get their name once they are whole.
//! - [`table`] (feature `files`): rows of typed columns as NDJSON, CSV or, with the feature `parquet`, Parquet.
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them

pub mod exit;
pub mod text;
#[macro_use]
pub mod output;
pub mod lookup;
#[cfg(feature = "files")]
pub mod outfile;
#[cfg(feature = "bpf")]
pub mod privilege;
pub mod signals;
#[cfg(feature = "files")]
pub mod table;
