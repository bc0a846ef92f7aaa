//! `mapring ls`, `show`, `stat`, `tail` and `top` as a user runs them: on memory files, and on maps of real programs.

mod common;
#[cfg(feature = "bpf")]
#[path = "regions/cpus.rs"]
mod cpus;
#[cfg(feature = "bpf")]
#[path = "regions/huge_types.rs"]
mod huge_types;
#[cfg(feature = "bpf")]
mod loaded;
#[cfg(feature = "bpf")]
#[path = "regions/maps.rs"]
mod maps;
#[path = "regions/memory.rs"]
mod memory;
#[cfg(feature = "bpf")]
mod nobody;
#[cfg(feature = "bpf")]
#[path = "regions/raw.rs"]
mod raw;
#[cfg(feature = "bpf")]
#[path = "regions/ringbuf.rs"]
mod ringbuf;
#[cfg(feature = "bpf")]
mod skip;
#[path = "regions/top.rs"]
mod top;

use std::process::Output;

use serde_json::Value;

use self::common::{path, stderr};

fn mapring(args: &[&str]) -> Output {
    let output = common::mapring(args);
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
    let text = common::text(output);
    println!("{text}");
    text
}

/// The objects in the lines of the output.
fn lines(output: &Output) -> Vec<Value> {
    common::lines(text(output).as_bytes())
}
