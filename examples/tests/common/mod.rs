//! Shared by the tests of examples.

#[cfg(feature = "bpf")]
use std::io::Write;
use std::process::Output;

/// The output of a program that succeeded.
pub(crate) fn text(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    text
}

/// Whether BPF programs can be loaded here. If not, the test is skipped, and the skip is printed.
#[cfg(feature = "bpf")]
pub(crate) fn allowed() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(line.trim(), 16).unwrap();
    // CAP_SYS_ADMIN: some examples open maps by id, and some tests mount.
    let may = effective & (1 << 21) != 0;
    let types = std::path::Path::new("/sys/kernel/btf/vmlinux").exists();
    let missing = match (may, types) {
        (true, true) => return true,
        (false, _) => "no CAP_SYS_ADMIN",
        (_, false) => "no /sys/kernel/btf/vmlinux",
    };
    skip(missing);
    false
}

#[cfg(feature = "bpf")]
pub(crate) fn skip(why: &str) {
    let required = std::env::var("MAPRING_REQUIRE_BPF").is_ok_and(|value| value == "1");
    assert!(!required, "MAPRING_REQUIRE_BPF=1, but: {why}");
    // Not by `eprintln!`, which the test harness captures.
    let thread = std::thread::current();
    let message = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(message.as_bytes()).unwrap();
}
