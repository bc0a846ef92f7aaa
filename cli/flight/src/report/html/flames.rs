//! Flame graphs inside of a page. `inferno` draws them; what its picture has beside the frames is left out: its script and its style would be
//! refused, and the page's own script zooms.

use anyhow::{Context, Result};

use super::super::super::trace::stacks::svg;
use super::escaped;

/// A graph has at most so many bytes.
const LIMIT: usize = 1 << 20;

/// The frames of these folded stacks, the most frequent ones of them if all are too many; and how many stacks that are.
///
/// # Errors
/// If there are no stacks.
pub(super) fn graph(title: &str, unit: &str, lines: &[String]) -> Result<(String, usize)> {
    let mut shown = lines.len();
    loop {
        let graph =
            inert(title, &svg(title, unit, &lines[..shown])?).context("a flame graph without frames")?;
        if graph.len() <= LIMIT || shown == 1 {
            return Ok((graph, shown));
        }
        shown /= 2;
    }
}

/// The frames of a picture by `inferno`: an element with their groups, each of a title, a rectangle and a text.
fn inert(title: &str, svg: &str) -> Option<String> {
    let (head, rest) = svg.split_once("<svg id=\"frames\"")?;
    let (_, height) = head.split_once(" height=\"")?;
    let (height, _) = height.split_once('"')?;
    let (attributes, frames) = rest.split_once('>')?;
    let (_, total) = attributes.split_once("total_samples=\"")?;
    let (total, _) = total.split_once('"')?;
    let frames = frames.trim_end().strip_suffix("</svg>")?.trim_end().strip_suffix("</svg>")?;
    let title = escaped(title);
    Some(format!(
        "<svg class=\"flame\" role=\"img\" aria-label=\"{title}\" width=\"100%\" height=\"{height}\" data-total=\"{total}\">{frames}</svg>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_its_frames_and_nothing_that_acts() {
        let lines =
            ["a;<script>alert(1)</script>;c 6".to_owned(), "a;<svg id=\"frames\" onload=x> 2".to_owned()];
        let (graph, shown) = graph("what \"ran\"", "samples", &lines).unwrap();
        assert_eq!((shown, graph.matches("<g>").count()), (2, 5), "{graph}");
        assert!(
            graph.starts_with("<svg class=\"flame\" role=\"img\" aria-label=\"what &quot;ran&quot;\""),
            "{graph}"
        );
        assert!(graph.contains("data-total=\"8\"") && graph.contains("fg:w=\"6\""), "{graph}");
        for part in ["<script", "<style", "onload=\"", "<defs", "id=\"", "<!"] {
            assert!(!graph.contains(part), "{part}: {graph}");
        }
        assert_eq!(graph.matches("<svg").count(), 1, "{graph}");
    }

    #[test]
    fn a_graph_of_too_many_stacks_shows_the_most_frequent_ones() {
        let lines: Vec<_> = (0..5_000).map(|n| format!("a;{n:0200} 7")).collect();
        let (graph, shown) = graph("all", "samples", &lines).unwrap();
        assert!(graph.len() <= LIMIT && shown < lines.len() && shown > 100, "{} bytes, {shown}", graph.len());
    }
}
