//! Messages between host and guest on the console: one marked line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The path of the plan in the guest.
pub(crate) const PLAN: &str = "/plan.json";

/// Starts a message's line: a character that no kernel message contains.
const MARK: char = '\u{1e}';

/// What to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) binaries: Vec<TestBinary>,
    /// Arguments for libtest, such as filters.
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// The folder in which cargo would start the tests.
    pub(crate) dir: PathBuf,
}

/// A test binary, at the path where it was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TestBinary {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// The guest's messages, in this order; `Started` and `Ended` once per test.
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
    /// The output of `uname -v`: build number, preemption, date.
    pub(crate) version: String,
    pub(crate) cpus: usize,
    /// The CPUs of each NUMA node; empty if the kernel has no NUMA support.
    pub(crate) nodes: Vec<String>,
    /// Where programs are preempted, as the kernel reports it: `none`, `voluntary`, `full` or `lazy`; `None` if this
    /// was chosen when the kernel was built.
    #[serde(default)]
    pub(crate) preempt: Option<String>,
}

/// Whether the kernel has a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probed {
    pub(crate) feature: String,
    pub(crate) answer: Answer,
}

/// The kernel's message, unless the answer is yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Supported,
    Unsupported(String),
    CouldNotTell(String),
}

/// The end of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) milliseconds: u64,
}

/// How a test ended, for the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Passed,
    /// It ran nothing, or not everything, for this reason.
    Skipped(String),
    /// The end of its output.
    Failed(String),
}

/// A message as a line.
pub(crate) fn line(message: &Message) -> String {
    format!("{MARK}{}", serde_json::to_string(message).expect("messages have string keys only"))
}

/// The message in a line of the console; `None` for output of the kernel or the firmware.
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
