//! Whether tests may load programs here, and the message if not.

use std::io::Write;

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};
use rustix::thread::{CapabilitySet, capabilities};

/// Whether `test` may run. If not, prints that to stderr, past the test harness's capture.
///
/// # Panics
/// Panics if not, and `MAPRING_REQUIRE_BPF=1` requires it.
pub fn may_use_bpf(test: &str) -> bool {
    let Some(obstacle) = obstacle() else { return true };
    let message = format!("{test}: needs BPF ({obstacle}): run as root\n");
    let required = std::env::var_os("MAPRING_REQUIRE_BPF").is_some_and(|value| value == "1");
    assert!(!required, "MAPRING_REQUIRE_BPF=1, but {message}");
    tell(&message);
    false
}

/// Prints that a test, or a part of it, can't run here, and why, past the test harness's capture.
pub fn skipped(test: &str, why: &str) {
    tell(&format!("{test}: {why}\n"));
}

/// Whether a test may disturb all of this machine. If not, prints that it is skipped.
pub fn may_disturb(test: &str) -> bool {
    let is_guest =
        std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.trim_end().ends_with("vm-guest"));
    let may = is_guest || std::env::var_os("MAPRING_DISTURB").is_some_and(|value| value == "1");
    if !may {
        skipped(
            test,
            "it disturbs others on this machine: MAPRING_DISTURB=1 runs it here, cargo xtask vm in its guests",
        );
    }
    may
}

fn tell(message: &str) {
    // Not by `eprintln!`, which the harness captures.
    std::io::stderr().write_all(format!("SKIPPED {message}").as_bytes()).expect("stderr can be written");
}

fn obstacle() -> Option<String> {
    let effective = capabilities(None).expect("a thread may ask for its own").effective;
    // Some tests mount, open maps by id and start other users' processes: nothing less is enough.
    if !effective.contains(CapabilitySet::SYS_ADMIN) {
        return Some("missing CAP_SYS_ADMIN".to_owned());
    }
    // Only an attempt shows the limits of a user namespace, a seccomp filter or a lockdown.
    let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
    MapHandle::create(MapType::Array, Some("probe"), 4, 8, 1, &opts)
        .err()
        .map(|e| format!("bpf(BPF_MAP_CREATE): {e}"))
}
