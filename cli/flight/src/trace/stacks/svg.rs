//! Flame graphs.

use anyhow::{Result, ensure};
use inferno::flamegraph::{Options, from_lines};

/// A flame graph of folded stacks, whose counts are of this unit. It needs no network: a browser opens it, zooms and searches.
///
/// # Errors
/// If no line has a count.
pub(crate) fn svg(title: &str, unit: &str, lines: &[String]) -> Result<String> {
    ensure!(!lines.is_empty(), "no stacks to draw");
    let mut options = Options::default();
    options.title = title.to_owned();
    options.count_name = unit.to_owned();
    options.deterministic = true;
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(String::from_utf8(svg)?)
}
