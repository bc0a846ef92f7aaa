//! Messages between host and guest on the console: one marked line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::programs::Program;

/// The path of the plan in the guest.
pub(super) const PLAN: &str = "/plan.json";

/// Starts a message's line: a character that no kernel message contains.
const MARK: char = '\u{1e}';

/// What to run.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    /// The test programs, at the paths where they were built.
    pub(super) binaries: Vec<Program>,
    /// Arguments for libtest, such as filters.
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// The folder in which cargo would start the tests.
    pub(super) dir: PathBuf,
}

/// The guest's messages, in this order; `Started` and `Ended` once per test.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    Booted(Machine),
    Probed(Vec<Probed>),
    Started(String),
    Ended(Test),
    Finished { tests: usize, warnings: Vec<String> },
}

/// The kernel that was booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) release: String,
    /// The output of `uname -v`: build number, preemption, date.
    pub(super) version: String,
    pub(super) cpus: usize,
    /// The CPUs of each NUMA node; empty if the kernel has no NUMA support.
    pub(super) nodes: Vec<String>,
    /// Where programs are preempted, as the kernel reports it: `none`, `voluntary`, `full` or `lazy`; `None` if this
    /// was chosen when the kernel was built.
    pub(super) preempt: Option<String>,
}

/// Whether the kernel has a feature.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Probed {
    pub(super) feature: String,
    pub(super) answer: Answer,
}

/// The kernel's message, unless the answer is yes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    Supported,
    Unsupported(String),
    CouldNotTell(String),
}

/// A test that was started.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) end: End,
    pub(super) milliseconds: u64,
}

/// How a test ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    Passed,
    /// It ran nothing, or not everything, for this reason.
    Skipped(String),
    /// The end of its output.
    Failed(String),
    /// The kernel lacks this feature, according to the test's output and a probe. Only the host says this.
    Lacking(String),
    /// It was running when the time was over or the machine died. Only the host says this.
    Unfinished,
}

/// A message as a line.
pub(super) fn line(message: &Message) -> String {
    format!("{MARK}{}", serde_json::to_string(message).expect("messages have string keys only"))
}

/// The message in a line of the console; `None` for output of the kernel or the firmware.
pub(super) fn parse(line: &str) -> Option<Result<Message, serde_json::Error>> {
    let (_, json) = line.split_once(MARK)?;
    Some(serde_json::from_str(json.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_console() {
        let end = End::Failed("two\nlines and a \u{1e}\r\n".into());
        let message = Message::Ended(Test { name: "basic::works".into(), end, milliseconds: 7 });
        let output = line(&message);
        assert!(!output.contains('\n'));
        assert_eq!(parse(&format!("\x1b[2J{output}\r")).unwrap().unwrap(), message);
        assert!(parse("[    0.1] Booting").is_none());
        assert!(parse(&output[..output.len() - 9]).unwrap().is_err());
    }
}
