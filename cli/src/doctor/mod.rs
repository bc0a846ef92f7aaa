//! `mapring doctor`: what this kernel, user and machine can do, and the command that fixes what is missing.

mod kernel;
mod machine;
mod pins;
mod user;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

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

/// What was found out about one feature.
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
        Self { area, feature, state: State::Ok, seen: seen.into(), lost: "", fix: None }
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
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Reports. The exit code is 0 whatever is missing: the report was made.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let findings = [kernel::findings(), user::findings(), machine::findings(), pins::findings()].concat();
    if args.json {
        let mut out = io::stdout().lock();
        for finding in &findings {
            writeln!(out, "{}", serde_json::to_string(finding)?)?;
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
