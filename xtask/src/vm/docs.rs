//! `docs/kernels.md`: the part of it that comes from real runs.

use std::fs;

use anyhow::{Context, Result};

use super::features::{FEATURES, Feature, version};
use super::protocol::Answer;
use super::report::{Counts, Row};
use crate::cmd;

const PLACE: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- from here on written by `cargo xtask vm --write-docs` -->\n";
const END: &str = "<!-- up to here written by `cargo xtask vm --write-docs` -->\n";
const TITLE: &str = "# Kernels\n\n";

/// Replaces the part between the marks; without marks, it is added at the end.
pub(crate) fn write(rows: &[Row]) -> Result<()> {
    let path = cmd::root().join(PLACE);
    let before = fs::read_to_string(&path).unwrap_or_else(|_| TITLE.to_owned());
    fs::write(&path, replaced(&before, &text(rows))).with_context(|| path.display().to_string())
}

fn replaced(before: &str, part: &str) -> String {
    let (head, rest) = before.split_once(BEGIN).unwrap_or((before, ""));
    let tail = rest.split_once(END).map_or("", |(_, tail)| tail);
    format!("{head}{BEGIN}{part}{END}{tail}")
}

/// The kernel's number, as a heading.
fn heading(row: &Row) -> String {
    let (major, minor) = version(&row.release).unwrap_or_default();
    let rt = if row.kernel.ends_with("-rt") { " RT" } else { "" };
    format!("{major}.{minor}{rt}")
}

fn text(rows: &[Row]) -> String {
    let mut text = "## Real kernels\n\nEach was booted under QEMU with two CPUs; each test ran by itself. *Lacking* are \
                    tests that need what the kernel\nhas not, as its refusal and a probe of it say.\n\n\
                    | kernel | release | architecture | passed | failed | lacking | skipped |\n|---|---|---|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows {
        let Counts { passed, failed, lacking, skipped } = row.counts();
        let (heading, release, arch) = (heading(row), &row.release, row.arch);
        text +=
            &format!("| {heading} | {release} | {arch} | {passed} | {failed} | {lacking} | {skipped} |\n");
    }
    text.push('\n');
    for row in rows {
        for feature in row.lacking() {
            let count = row.lack(feature);
            text += &format!("- {}: no {feature}: {count} tests cannot run.\n", heading(row));
        }
    }
    let headings: Vec<_> = rows.iter().map(heading).collect();
    text += "\n## Which feature needs which kernel\n\nAnswered by the kernels themselves.\n\n";
    text +=
        &format!("| feature | since | {} |\n|---|---|{}\n", headings.join(" | "), "---|".repeat(rows.len()));
    for feature in &FEATURES {
        let (major, minor) = feature.since;
        let cells: Vec<_> = rows.iter().map(|row| cell(row, feature)).collect();
        text += &format!("| {} | {major}.{minor} | {} |\n", feature.name, cells.join(" | "));
    }
    text += "\n| feature | what for | without it | what a kernel without it says |\n|---|---|---|---|\n";
    for Feature { name, used, without, .. } in &FEATURES {
        let words = rows.iter().rev().find_map(|row| match row.answer(name) {
            Some(Answer::Unsupported(words)) => Some(format!("`{words}`")),
            _ => None,
        });
        text += &format!("| {name} | {used} | {without} | {} |\n", words.unwrap_or_default());
    }
    text
}

fn cell(row: &Row, feature: &Feature) -> &'static str {
    match row.answer(feature.name) {
        Some(Answer::Supported) => "yes",
        Some(Answer::Unsupported(_)) => "–",
        Some(Answer::CouldNotTell(_)) | None => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Probed;
    use super::super::report::{End, Test};
    use super::*;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let first = replaced("# Kernels\n\n", "one\n");
        assert_eq!(first, format!("# Kernels\n\n{BEGIN}one\n{END}"));
        assert_eq!(replaced(&first, "two\n"), format!("# Kernels\n\n{BEGIN}two\n{END}"));
        let around = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(replaced(&around, "new\n"), format!("before\n{BEGIN}new\n{END}after\n"));
    }

    #[test]
    fn what_kernels_said_becomes_tables() {
        let feature = &FEATURES[0];
        let probed = |answer| vec![Probed { feature: feature.name.to_owned(), answer }];
        let row = |kernel: &str, release: &str, end, answer| Row {
            kernel: kernel.into(),
            release: release.into(),
            arch: "x86_64",
            tests: vec![Test { name: "a".into(), end, milliseconds: 1 }],
            features: probed(answer),
            ..Row::default()
        };
        let text = text(&[
            row(
                "5.10",
                "5.10.0-32-cloud",
                End::Lacking(feature.name),
                Answer::Unsupported("no words".into()),
            ),
            row("sid-rt", "7.2.13", End::Passed, Answer::Supported),
        ]);
        assert!(text.contains("| 5.10 | 5.10.0-32-cloud | x86_64 | 0 | 0 | 1 | 0 |\n"), "{text}");
        assert!(text.contains("| 7.2 RT | 7.2.13 | x86_64 | 1 | 0 | 0 | 0 |\n"), "{text}");
        assert!(text.contains(&format!("- 5.10: no {}: 1 tests cannot run.\n", feature.name)), "{text}");
        assert!(text.contains(&format!("| {} | 5.5 | – | yes |\n", feature.name)), "{text}");
        assert!(text.contains("| `no words` |\n"), "{text}");
    }
}
