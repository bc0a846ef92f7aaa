//! `mapring record`, `inspect` and `replay` as a user runs them: on memory files, and on maps of a real program.

mod common;
#[path = "recording/damage.rs"]
mod damage;
#[path = "recording/ends.rs"]
mod ends;
#[path = "recording/files.rs"]
mod files;
#[cfg(feature = "bpf")]
mod loaded;
#[cfg(feature = "bpf")]
#[path = "recording/maps.rs"]
mod maps;
#[path = "recording/memory.rs"]
mod memory;
#[path = "recording/outputs.rs"]
mod outputs;
#[cfg(feature = "parquet")]
#[path = "recording/parquet.rs"]
mod parquet;
#[cfg(feature = "bpf")]
mod skip;
#[path = "recording/summaries.rs"]
mod summaries;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use self::common::{Dir, Running, lines, mapring, path, stderr, text, until};

/// What `inspect --json` says of a recording, whole or not.
fn inspect(file: &str) -> Value {
    lines(&mapring(&["inspect", file, "--json"]).stdout).remove(0)
}

/// Where a file is while it is recorded.
fn growing(file: &str) -> String {
    format!("{file}.part")
}

/// The tickets of the records that can be read.
fn tickets(file: &str) -> Vec<u64> {
    let output = mapring(&["inspect", file, "--format", "ndjson"]);
    lines(&output.stdout).iter().map(|line| line["ticket"].as_u64().unwrap()).collect()
}

impl Running {
    fn new(args: &[&str]) -> Self {
        Self(common::command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The first line that it prints.
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it, so that it does not run until it is continued.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let status = format!("/proc/{}/status", self.0.id());
        until("the stop", || fs::read_to_string(&status).unwrap().contains("State:\tT"));
    }

    /// Waits for its end; returns whether it succeeded, and what it said on stderr.
    fn end(&mut self) -> (bool, String) {
        let mut log = String::new();
        until("the end of the command", || self.0.try_wait().unwrap().is_some());
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        eprint!("{log}");
        (self.0.wait().unwrap().success(), log)
    }
}
