//! What `mapring flight` does in a build without BPF programs.
#![cfg(not(feature = "bpf"))]

use std::process::{Command, Output};

fn flight(command: &str) -> Output {
    let pins = format!("/sys/fs/bpf/mapring-test-{}", std::process::id());
    let mut mapring = Command::new(env!("CARGO_BIN_EXE_mapring"));
    let output = mapring.args(["flight", "--pins", &pins, command]).output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn only_start_needs_programs() {
    let start = flight("start");
    assert_eq!(start.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&start.stderr).contains("cargo install --path cli --features bpf"));
    assert_eq!([flight("status"), flight("stop")].map(|output| output.status.code()), [Some(1); 2]);
}
