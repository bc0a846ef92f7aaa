//! Writes the part of `docs/kernels.md` that comes from real runs.

use std::fs;
use std::ops::Range;

use anyhow::{Context, Result};

use super::features::{FEATURES, Feature, version};
use super::kernels::Arch;
use super::protocol::Answer;
use super::report::{Counts, Row};
use crate::cmd;

const PLACE: &str = "docs/kernels.md";

/// Replaces the text between the processor's marks; the rest of the file stays.
pub(super) fn write(rows: &[Row], arch: Arch) -> Result<()> {
    let path = cmd::root().join(PLACE);
    let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mark = match arch {
        Arch::X86 => "matrix",
        Arch::Arm => "matrix aarch64",
    };
    let after = replaced(&before, mark, &text(rows))?;
    fs::write(&path, after).with_context(|| path.display().to_string())
}

/// The range of a document between `<!-- mark -->` and `<!-- /mark -->`.
fn part(text: &str, mark: &str) -> Result<Range<usize>> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let start = text.find(&begin).with_context(|| format!("{PLACE} has no {begin}"))? + begin.len();
    let length = text[start..].find(&end).with_context(|| format!("{PLACE} has no {end}"))?;
    Ok(start..start + length)
}

fn replaced(before: &str, mark: &str, with: &str) -> Result<String> {
    let mut text = before.to_owned();
    text.replace_range(part(before, mark)?, with);
    Ok(text)
}

/// The kernel's number, as a heading.
fn heading(row: &Row) -> String {
    let (major, minor) = version(&row.machine.release).unwrap_or_default();
    let special = match row.kernel.rsplit_once('-') {
        Some((_, "rt")) => " RT",
        Some((_, "preempt")) => ", preempt=full",
        Some((_, "a53")) => ", no LSE",
        _ => "",
    };
    format!("{major}.{minor}{special}")
}

fn text(rows: &[Row]) -> String {
    let mut text = "\n| kernel | release | architecture | passed | failed | lacking | skipped |\n|---|---|---|--:|--:|--:|--:|\n"
        .to_owned();
    let mut notes = String::new();
    for row in rows {
        let Counts { passed, failed, lacking, skipped } = row.counts();
        let (heading, release, arch) = (heading(row), &row.machine.release, &row.arch);
        text +=
            &format!("| {heading} | {release} | {arch} | {passed} | {failed} | {lacking} | {skipped} |\n");
        for (feature, count) in row.lacking() {
            notes += &format!("- {heading}: no {feature}: {count} tests cannot run.\n");
        }
    }
    for (row, why) in rows.iter().filter_map(|row| Some((row, row.died.as_ref()?))) {
        notes += &format!("- {}: booted a second time: it had died ({why}).\n", heading(row));
    }
    let headings: Vec<_> = rows.iter().map(heading).collect();
    text += &format!(
        "\n{notes}\nWhich feature needs which kernel, as these kernels themselves answered:\n\n\
         | feature | since | {} |\n|---|---|{}\n",
        headings.join(" | "),
        "---|".repeat(rows.len())
    );
    for feature in &FEATURES {
        let cell = |row: &Row| match row.answer(feature.name) {
            Some(Answer::Supported) => "yes",
            Some(Answer::Unsupported(_)) => "–",
            Some(Answer::CouldNotTell(_)) | None => "?",
        };
        text += &format!("{}{} |\n", since(feature), rows.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    text += "\n| feature | what for | without it | what a kernel without it says |\n|---|---|---|---|\n";
    for feature in &FEATURES {
        let words = rows.iter().rev().find_map(|row| match row.answer(feature.name) {
            Some(Answer::Unsupported(words)) => Some(format!("`{words}`")),
            _ => None,
        });
        text += &format!("{}{} |\n", purpose(feature), words.unwrap_or_default());
    }
    text
}

/// The start of a feature's row in the first table.
fn since(Feature { name, since: (major, minor), .. }: &Feature) -> String {
    format!("| {name} | {major}.{minor} | ")
}

/// The same in the second.
fn purpose(Feature { name, used, without, .. }: &Feature) -> String {
    format!("| {name} | {used} | {without} | ")
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{End, Machine, Probed, Test};
    use super::*;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let around = "before\n<!-- matrix aarch64 -->\n<!-- /matrix aarch64 -->\n<!-- matrix -->\nold\n<!-- /matrix -->\nafter\n";
        let new = around.replace("old", "new");
        assert_eq!(replaced(around, "matrix", "new\n").unwrap(), new);
        assert_eq!(replaced(&new, "matrix", "new\n").unwrap(), new);
        assert!(
            replaced("<!-- matrix -->\n", "matrix", "").unwrap_err().to_string().contains("<!-- /matrix -->")
        );
        assert!(replaced("", "matrix", "").is_err());
    }

    /// Features that changed since the last run of `--write-docs` are missing there.
    #[test]
    fn the_document_has_the_features_that_there_are() {
        let text = fs::read_to_string(cmd::root().join(PLACE)).unwrap();
        let table = &text[part(&text, "matrix").unwrap()];
        let missing: Vec<_> = FEATURES
            .iter()
            .flat_map(|feature| [since(feature), purpose(feature)])
            .filter(|row| !table.lines().any(|line| line.starts_with(row)))
            .collect();
        assert!(missing.is_empty(), "run `cargo xtask vm --write-docs`; {PLACE} lacks {missing:#?}");
        let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains(" | yes |")).count();
        assert_eq!(rows, FEATURES.len(), "{PLACE} has features that are no more");
    }

    #[test]
    fn what_kernels_said_becomes_tables() {
        let feature = &FEATURES[0];
        let row = |kernel: &str, release: &str, end, answer| Row {
            kernel: kernel.into(),
            machine: Machine { release: release.into(), ..Machine::default() },
            arch: "x86_64".into(),
            tests: vec![Test { name: "a".into(), end, milliseconds: 1 }],
            features: vec![Probed { feature: feature.name.to_owned(), answer }],
            ..Row::default()
        };
        let no = || Answer::Unsupported("no words".into());
        let text = text(&[
            row("5.10", "5.10.0-32-cloud", End::Lacking(feature.name.into()), no()),
            row("sid-rt", "7.2.13", End::Passed, Answer::Supported),
        ]);
        for expected in [
            "| 5.10 | 5.10.0-32-cloud | x86_64 | 0 | 0 | 1 | 0 |\n".to_owned(),
            "| 7.2 RT | 7.2.13 | x86_64 | 1 | 0 | 0 | 0 |\n".to_owned(),
            format!("- 5.10: no {}: 1 tests cannot run.\n", feature.name),
            format!("| {} | 5.5 | – | yes |\n", feature.name),
            "| `no words` |\n".to_owned(),
        ] {
            assert!(text.contains(&expected), "{expected} in {text}");
        }
    }
}
