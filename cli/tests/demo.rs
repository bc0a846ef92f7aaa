//! Runs the program as a user does, and checks its output and its exit code.

#[cfg(feature = "bpf")]
mod nobody;
#[cfg(feature = "bpf")]
mod skip;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const MEMFD: &[&str] = &["--memfd", "--seconds", "1"];

fn demo(options: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_mapring")).arg("demo").args(options).stdin(Stdio::null()).output();
    let output = output.unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn json(output: &Output) -> Value {
    let text = str::from_utf8(&output.stdout).unwrap();
    println!("{text}");
    // This fails unless the text is exactly one object.
    serde_json::from_str(text).unwrap()
}

fn check_numbers(json: &Value, evidence: &str) {
    assert_eq!(json["access"], "mapped");
    assert!(json["records"].as_u64().unwrap() > 100);
    assert!(json["lost"].is_u64() && json["dropped"].is_u64());
    assert_eq!(json["reader_syscalls"], 0);
    assert_eq!(json["reader_syscalls_by"], evidence);
    assert!(json["read_ns"].as_f64().unwrap() > 0.0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(json["kernel"], kernel.trim());
}

#[test]
fn json_over_memfds() {
    let output = demo(&[MEMFD, &["--json"]].concat());
    assert!(output.status.success());
    let json = json(&output);
    check_numbers(&json, "seccomp filter");
    assert!(json["lookup_ns"].is_null());
}

#[test]
fn lines_over_memfds() {
    let output = demo(MEMFD);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(!text.contains('\x1b'), "a pipe is no terminal");
    for expected in ["\ncalls ", "\nevents ", "  openat ", "records read", "system calls by the reader"] {
        assert!(text.contains(expected), "no {expected:?}");
    }
    assert!(text.ends_with(" 0  by seccomp filter\n"));
}

#[test]
fn a_dead_producer_is_reported() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mapring"));
    demo.args(["demo", "--memfd", "--seconds", "60"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let demo = demo.spawn().unwrap();
    // The main thread starts the producer; the reader starts nothing.
    let children = format!("/proc/{0}/task/{0}/children", demo.id());
    let end = Instant::now() + Duration::from_secs(30);
    let child = loop {
        let text = std::fs::read_to_string(&children).unwrap();
        if let Some(child) = text.split_whitespace().next() {
            break child.parse().unwrap();
        }
        assert!(Instant::now() < end, "no producer");
        std::thread::sleep(Duration::from_millis(5));
    };
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    let output = demo.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    println!("{log}");
    assert_eq!(output.status.code(), Some(1));
    assert!(log.contains("is gone: signal: 9"));
}

#[test]
fn bad_options_are_refused() {
    assert_eq!(demo(&["--seconds", "0"]).status.code(), Some(2));
    let output = demo(&["--produce", "0,99"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("mapring: producer: "));
}

#[cfg(feature = "bpf")]
#[test]
fn json_of_bpf_programs() {
    let output = demo(&["--seconds", "1", "--json"]);
    if output.status.code() == Some(77) {
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
        skip::without_bpf(&String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success());
    let json = json(&output);
    check_numbers(&json, "BPF program and seccomp filter");
    assert!(json["lookup_ns"].as_f64().unwrap() > 0.0);
}

#[test]
#[cfg(feature = "bpf")]
fn two_capabilities_are_enough() {
    let run = |capabilities| nobody::as_nobody_with(capabilities, &["demo", "--seconds", "1", "--json"]);
    let Some(output) = run("+bpf,+perfmon") else {
        skip::skipped("setpriv can't give a user these capabilities");
        return;
    };
    if output.status.code() == Some(77) {
        skip::without_bpf(&String::from_utf8_lossy(&output.stderr));
        return;
    }
    check_numbers(&json(&output), "BPF program and seccomp filter");
    for (capabilities, missing) in
        [("", "CAP_BPF and CAP_PERFMON"), ("+bpf", "CAP_PERFMON"), ("+perfmon", "CAP_BPF")]
    {
        let refused = run(capabilities).unwrap();
        let log = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(77), "{log}");
        assert!(log.contains(&format!(": missing {missing}: run as root")), "{log}");
    }
}
