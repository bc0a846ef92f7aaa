//! `mapring ls`, `show`, `stat`, `tail` and `top` as a user runs them: on memory files, and on maps of real programs.

#[cfg(feature = "bpf")]
mod loaded;
#[cfg(feature = "bpf")]
#[path = "regions/maps.rs"]
mod maps;
#[path = "regions/memory.rs"]
mod memory;
#[cfg(feature = "bpf")]
mod nobody;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn mapring(args: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_mapring")).args(args))
}

fn output(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert_harmless(&output.stdout);
    assert_harmless(&output.stderr);
    output
}

/// Checks that a terminal shows the text as it is.
fn assert_harmless(text: &[u8]) {
    let text = str::from_utf8(text).unwrap();
    let hostile = text
        .chars()
        .find(|c| *c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{200f}\u{feff}".contains(*c)));
    assert_eq!(hostile, None, "{text:?}");
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    println!("{text}");
    text
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The objects in the lines of the output.
fn lines(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
