//! `mapring record`, `inspect` and `replay`: rings, cells and counters in files that describe themselves.

mod convert;
mod format;
pub(crate) mod inspect;
mod output;
mod reader;
pub(crate) mod record;
pub(crate) mod replay;
mod sample;
#[cfg(test)]
mod seeds;
mod source;
mod source_kind;
mod stop;
mod summaries;
mod write_ring;
mod writer;

pub use self::inspect::{convert, summarize};
pub use self::reader::End;
