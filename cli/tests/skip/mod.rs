//! What a test says if it can't run here.
#![allow(dead_code)] // each test uses some of it

use std::io::Write;

/// Says that this test, or a part of it, does not run, past the test harness's capture.
pub(crate) fn skipped(why: &str) {
    let thread = std::thread::current();
    let message = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(message.as_bytes()).unwrap();
}

/// The same because BPF is refused. Fails if `MAPRING_REQUIRE_BPF=1` says that it must not be.
pub(crate) fn without_bpf(why: &str) {
    let required = std::env::var("MAPRING_REQUIRE_BPF").is_ok_and(|value| value == "1");
    assert!(!required, "MAPRING_REQUIRE_BPF=1, but {why}");
    skipped(why);
}
