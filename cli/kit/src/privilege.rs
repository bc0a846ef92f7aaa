//! Why this process may not load BPF programs that trace, in words.

use std::sync::{Mutex, PoisonError};

use libbpf_rs::{ErrorKind, PrintLevel};
use rustix::thread::{CapabilitySet, capabilities};

use crate::exit::Refused;

/// libbpf's messages, shown only if the cause of a failure is unclear.
static MESSAGES: Mutex<String> = Mutex::new(String::new());

/// Keeps libbpf's messages.
pub fn listen() {
    let keep = |_, text: String| MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
}

/// What libbpf says before the verifier's log, and how much of a log is shown: its end has the reason.
const VERIFIER: &str = "BEGIN PROG LOAD LOG";
const LINES: usize = 60;

/// The failure of a subcommand of `mapring` to load programs: with what this process lacks, or after libbpf's messages.
pub fn explained(error: anyhow::Error, command: &str) -> anyhow::Error {
    let denied = |e: &libbpf_rs::Error| e.kind() == ErrorKind::PermissionDenied;
    let messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    // The verifier's refusals have the same number.
    let is_verifier = messages.contains(VERIFIER) && missing(effective()).is_none();
    if !is_verifier && error.chain().filter_map(|e| e.downcast_ref()).any(denied) {
        return Refused(format!("{error:#}: {}", why_denied(command))).into();
    }
    let lines: Vec<_> = messages.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().for_each(|line| eprintln!("{}", crate::text::printable(line)));
    error
}

/// The capabilities for that. CAP_SYS_ADMIN contains them.
const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];

/// Why the kernel refused to load programs, and what to do.
fn why_denied(command: &str) -> String {
    match missing(effective()) {
        Some(missing) => {
            format!("missing {missing}: run as root (sudo mapring {command}), or see mapring doctor")
        }
        None => {
            "CAP_BPF and CAP_PERFMON are there, and something else forbids it: see mapring doctor".to_owned()
        }
    }
}

fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

fn missing(effective: CapabilitySet) -> Option<String> {
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return None;
    }
    let missing: Vec<_> =
        NEEDED.into_iter().filter(|(set, _)| !effective.contains(*set)).map(|(_, name)| name).collect();
    if missing.is_empty() { None } else { Some(missing.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let of = |effective| missing(effective).unwrap_or_default();
        assert_eq!(of(CapabilitySet::empty()), "CAP_BPF and CAP_PERFMON");
        assert_eq!(of(CapabilitySet::BPF), "CAP_PERFMON");
        assert_eq!(of(CapabilitySet::PERFMON), "CAP_BPF");
        assert_eq!(of(CapabilitySet::BPF | CapabilitySet::PERFMON), "");
        assert_eq!(of(CapabilitySet::SYS_ADMIN), "");
    }
}
