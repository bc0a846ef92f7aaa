//! `mapring doctor`: what this kernel, user and machine can do, and the command that fixes what is missing.

mod kernel;
mod machine;
mod pins;
mod user;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

use mapring_kit::text::{json_line, printable};

/// Options of `mapring doctor`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object in each line, for each feature
    #[arg(long)]
    json: bool,
}

/// Whether a feature can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Missing,
    Unknown,
}

/// What was found out about one feature. Its texts are escaped: they quote files, and names of other users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// `kernel`, `user`, `machine`, `build` or `pins`.
    area: &'static str,
    feature: &'static str,
    state: State,
    /// What was seen.
    seen: String,
    /// What can't be done without it. Empty if it is ok.
    #[serde(skip_serializing_if = "str::is_empty")]
    lost: &'static str,
    /// The command or the change that fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(area: &'static str, feature: &'static str, seen: impl Into<String>) -> Self {
        Self {
            area,
            feature,
            state: State::Ok,
            seen: printable(&seen.into()).into_owned(),
            lost: "",
            fix: None,
        }
    }

    fn missing(
        area: &'static str,
        feature: &'static str,
        seen: impl Into<String>,
        lost: &'static str,
    ) -> Self {
        Self { state: State::Missing, lost, ..Self::ok(area, feature, seen) }
    }

    fn unknown(
        area: &'static str,
        feature: &'static str,
        seen: impl Into<String>,
        lost: &'static str,
    ) -> Self {
        Self { state: State::Unknown, lost, ..Self::ok(area, feature, seen) }
    }

    /// With the command that fixes it.
    fn fixed_by(self, fix: impl Into<String>) -> Self {
        let fix = fix.into().lines().map(printable).collect::<Vec<_>>().join("\n");
        Self { fix: Some(fix), ..self }
    }
}

/// A path as one word of a shell, whatever its name is. `None` if a terminal does not show the name as it is.
fn word(path: &Path) -> Option<String> {
    let path = path.to_str().filter(|path| printable(path) == *path)?;
    let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c));
    Some(if is_plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) })
}

/// Reports. The exit code is 0 whatever is missing: the report was made.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let findings = [kernel::findings(), user::findings(), machine::findings(), pins::findings()].concat();
    if args.json {
        let mut out = io::stdout().lock();
        for finding in &findings {
            writeln!(out, "{}", json_line(&serde_json::to_value(finding)?))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = anstream::stdout().lock();
    let mut area = "";
    for finding in &findings {
        if finding.area != area {
            area = finding.area;
            let (bold, end) = (Style::new().bold(), anstyle::Reset);
            writeln!(out, "{bold}{}{end}", area.to_uppercase())?;
        }
        write!(out, "{finding}")?;
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let [ok, missing, unknown] = [State::Ok, State::Missing, State::Unknown].map(count);
    writeln!(out, "\nok: {ok}, missing: {missing}, unknown: {unknown}")?;
    Ok(ExitCode::SUCCESS)
}

/// `  missing  bpffs: not mounted. Maps can't be pinned.`, then a line with the fix.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (color, word) = match self.state {
            State::Ok => (AnsiColor::Green, "ok"),
            State::Missing => (AnsiColor::Red, "missing"),
            State::Unknown => (AnsiColor::Yellow, "unknown"),
        };
        let (style, end) = (color.on_default(), anstyle::Reset);
        writeln!(f, "  {style}{word:<8}{end} {}: {}", self.feature, self.seen)?;
        if !self.lost.is_empty() {
            writeln!(f, "           {}", self.lost)?;
        }
        if let Some(fix) = &self.fix {
            writeln!(f, "           fix: {}", fix.replace('\n', "\n                "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_quotes_files_and_names() {
        let hostile = "a\x1b[2J\u{9b}1m\u{202e}\nb";
        let finding = Finding::missing("pins", "x", hostile, "l").fixed_by(format!("two\n{hostile}"));
        assert_eq!(finding.seen, "a\\u{1b}[2J\\u{9b}1m\\u{202e}\\nb");
        assert!(
            finding.to_string().chars().all(|c| c == '\n' || c == '\x1b' || !c.is_control()),
            "{finding}"
        );
        assert_eq!(word(Path::new("/a/b")).as_deref(), Some("/a/b"));
        assert_eq!(word(Path::new("/x;id>&2;#")).as_deref(), Some("'/x;id>&2;#'"));
        assert_eq!(word(Path::new("/é '$(id)")).as_deref(), Some(r"'/é '\''$(id)'"));
        assert_eq!(word(Path::new(hostile)), None);
    }
}
