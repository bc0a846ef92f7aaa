//! Files of `mapring flight save`, read from any bytes.

use std::io::Read;

use anyhow::Result;
use mapring_kit::table::Out;

pub use crate::report::Format as Report;
pub use crate::trace::Format as Dump;

use crate::{dump as dumps, report as reports, save, trace};

/// Writes the events of a file, as `mapring flight dump --from` does.
///
/// # Errors
/// If the file is not whole; if the output can't be written.
pub fn dump(file: impl Read, format: Dump, out: Out) -> Result<()> {
    dumps::write_all(save::input(file)?, None, format, &trace::stacks::Options::default(), out).map(drop)
}

/// The report on a file, as `mapring flight report --from` writes it.
///
/// # Errors
/// If the file is not whole.
pub fn report(file: impl Read, format: Report) -> Result<String> {
    reports::of(save::input(file)?, None, format)
}
