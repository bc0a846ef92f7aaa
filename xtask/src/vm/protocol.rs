//! What the host tells the guest, and what the guest tells it on the console: one line of JSON each, marked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the plan lies in the guest.
pub(crate) const PLAN: &str = "/plan.json";

/// Starts a message's line: a character that no kernel message holds.
const MARK: char = '\u{1e}';

/// What to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) binaries: Vec<TestBinary>,
    /// Arguments for libtest: filters and the like.
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Where cargo would start the tests.
    pub(crate) dir: PathBuf,
}

/// A binary of tests, at the path it was built at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TestBinary {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// What a guest says, in this order; `Started` and `Ended` once for each test.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    Booted(Machine),
    Probed(Vec<Probed>),
    Started { test: String },
    Ended(Ended),
    Finished { tests: usize, warnings: Vec<String> },
}

/// The kernel that was booted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) release: String,
    /// What `uname -v` says: build number, preemption, date.
    pub(crate) version: String,
    pub(crate) cpus: usize,
    /// The CPUs of each memory node; empty where the kernel knows of none.
    pub(crate) nodes: Vec<String>,
    /// Where programs are preempted, as the kernel says: `none`, `voluntary`, `full` or `lazy`; `None` where it was
    /// chosen when the kernel was built.
    #[serde(default)]
    pub(crate) preempt: Option<String>,
}

/// Whether the kernel has a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probed {
    pub(crate) feature: String,
    pub(crate) answer: Answer,
}

/// The kernel's own words where it is not a yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Supported,
    Unsupported(String),
    CouldNotTell(String),
}

/// One test's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) milliseconds: u64,
}

/// How a test ended, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Passed,
    /// It ran nothing, or not all, and says why.
    Skipped(String),
    /// The end of its output.
    Failed(String),
}

/// A message as a line.
pub(crate) fn line(message: &Message) -> String {
    format!("{MARK}{}", serde_json::to_string(message).expect("messages have string keys only"))
}

/// The message in a line of the console; `None` for what the kernel or the firmware said.
pub(crate) fn parse(line: &str) -> Option<Result<Message, serde_json::Error>> {
    let (_, json) = line.split_once(MARK)?;
    Some(serde_json::from_str(json.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_console() {
        let message = Message::Ended(Ended {
            test: "basic::works".into(),
            outcome: Outcome::Failed("two\nlines and a \u{1e}\r\n".into()),
            milliseconds: 7,
        });
        let said = line(&message);
        assert!(!said.contains('\n'));
        assert_eq!(parse(&format!("\x1b[2J{said}\r")).unwrap().unwrap(), message);
        assert!(parse("[    0.1] Booting").is_none());
        assert!(parse(&said[..said.len() - 9]).unwrap().is_err());
    }
}
