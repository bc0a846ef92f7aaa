//! Runs the command, and reads what it recorded.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use aya::programs::links::{FdLink, PinnedLink};
use mapring_flight::event::Event;
use mapring_flight::pins;
use serde_json::Value;

use crate::skip;

/// The command, with pins of its own. Dropping it ends the recording.
pub(crate) struct Recorder {
    pub(crate) dir: PathBuf,
}

impl Recorder {
    pub(crate) fn new(test: &str) -> Self {
        Self { dir: format!("/sys/fs/bpf/mapring-test-{}-{test}", std::process::id()).into() }
    }

    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
        command.arg("flight").arg("--pins").arg(&self.dir).args(options).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, options: &[&str]) -> Output {
        output(&mut self.command(options))
    }

    /// Starts a recording. False if that is refused here.
    #[must_use]
    pub(crate) fn start(&self, options: &[&str]) -> bool {
        let output = self.run(&[&["start"], options].concat());
        if output.status.code() == Some(77) {
            skip::without_bpf(stderr(&output));
            return false;
        }
        assert!(output.status.success());
        let mut notes = stderr(&output).lines().filter(|line| !line.starts_with("mapring: "));
        assert!(notes.all(|line| line.chars().count() <= 80));
        true
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        checked("status", &output.stdout)
    }

    pub(crate) fn groups(&self) -> Vec<String> {
        let status = self.status();
        let groups = status["recording"]["groups"].as_array().unwrap().iter();
        groups.map(|group| group["group"].as_str().unwrap().to_owned()).collect()
    }

    /// How many events were lost, of all groups and by all causes.
    pub(crate) fn lost(&self) -> usize {
        let status = self.status();
        println!("{status}");
        let groups = status["recording"]["groups"].as_array().unwrap().iter();
        let lost = groups.flat_map(|group| group["lost"].as_object().unwrap().values());
        lost.map(|count| usize::try_from(count.as_u64().unwrap()).unwrap()).sum()
    }

    /// All events that are present.
    pub(crate) fn events(&self) -> Vec<Event> {
        let (events, gaps) = mapring_flight::events(&self.dir).unwrap();
        gaps.iter().for_each(|gap| println!("{gap:?}"));
        events
    }

    /// The ids of the attached programs.
    pub(crate) fn programs(&self) -> HashSet<u32> {
        self.programs_in("recording")
    }

    /// Those of a recording, or of a start that is not finished (`new`).
    pub(crate) fn programs_in(&self, part: &str) -> HashSet<u32> {
        let pins =
            fs::read_dir(self.dir.join(part).join(pins::LINKS)).unwrap().map(|pin| pin.unwrap().path());
        let id = |pin| FdLink::from(PinnedLink::from_pin(pin).unwrap()).info().unwrap().program_id();
        pins.map(id).collect()
    }

    pub(crate) fn expect_nothing_left(&self, programs: &HashSet<u32>) {
        assert!(!self.dir.exists());
        // The kernel frees programs a little later.
        let end = Instant::now() + Duration::from_secs(60);
        let loaded =
            || aya::programs::loaded_programs().flatten().any(|program| programs.contains(&program.id()));
        while loaded() {
            assert!(Instant::now() < end, "programs are still there");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.dir.exists() {
            self.run(&["stop"]);
        }
    }
}

pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The JSON object that a command printed, which is as its schema says.
pub(crate) fn checked(command: &str, printed: &[u8]) -> Value {
    let printed: Value = serde_json::from_slice(printed).unwrap();
    // In the executable: guests have no `docs`.
    let schema = match command {
        "status" => include_str!("../../../docs/flight-status.schema.json"),
        "report" => include_str!("../../../docs/flight-report.schema.json"),
        _ => include_str!("../../../docs/flight-diff.schema.json"),
    };
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    if let Err(error) = schema.validate(&printed) {
        panic!("{command}: {error} at {}: {printed}", error.instance_path());
    }
    printed
}

pub(crate) fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// A process that runs all the time until it is dropped.
pub(crate) struct Busy(pub(crate) Child);

impl Busy {
    pub(crate) fn new() -> Self {
        Self(Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
