//! `mapring record`, `inspect` and `replay` as a user runs them: on memory files, and on maps of a real program.

#[path = "recording/damage.rs"]
mod damage;
#[path = "recording/files.rs"]
mod files;
#[cfg(feature = "bpf")]
mod loaded;
#[cfg(feature = "bpf")]
#[path = "recording/maps.rs"]
mod maps;
#[path = "recording/memory.rs"]
mod memory;
#[cfg(feature = "parquet")]
#[path = "recording/parquet.rs"]
mod parquet;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Waits of the tests end after this time, with a failure.
const LONG: Duration = Duration::from_secs(60);

fn mapring(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    eprint!("{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The objects in the lines of the output.
fn lines(output: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(output).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `inspect --json` says of a recording, whole or not.
fn inspect(file: &str) -> Value {
    lines(&mapring(&["inspect", file, "--json"]).stdout).remove(0)
}

/// The tickets of the records that can be read.
fn tickets(file: &str) -> Vec<u64> {
    let output = mapring(&["inspect", file, "--format", "ndjson"]);
    lines(&output.stdout).iter().map(|line| line["ticket"].as_u64().unwrap()).collect()
}

/// The path by which another process opens a file of this one.
fn path(fd: &impl AsFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_fd().as_raw_fd())
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mapring-recording-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running command that is killed if the test fails.
struct Running(Child);

impl Running {
    fn new(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
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
        let mut said = String::new();
        until("the end of the command", || self.0.try_wait().unwrap().is_some());
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        eprint!("{said}");
        (self.0.wait().unwrap().success(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until this is true.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_true() {
        assert!(Instant::now() < end, "{what}: not after {LONG:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
