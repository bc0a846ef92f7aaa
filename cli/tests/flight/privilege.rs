//! A user with CAP_BPF and CAP_PERFMON alone records, in a directory of its own.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::nobody::{NOBODY, as_nobody_with};
use crate::recorder::{Recorder, stderr};
use crate::skip;

/// A directory of pins that nobody owns.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let place = Self(format!("/sys/fs/bpf/mapring-test-{}-privilege", std::process::id()).into());
        DirBuilder::new().mode(0o700).create(&place.0).unwrap();
        chown(&place.0, Some(NOBODY), Some(NOBODY)).unwrap();
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

fn run(dir: &Path, capabilities: &str, options: &[&str]) -> Option<Output> {
    let output =
        as_nobody_with(capabilities, &[&["flight", "--pins", dir.to_str().unwrap()], options].concat());
    output.inspect(|output| eprint!("{}", stderr(output)))
}

#[test]
fn two_capabilities_are_enough() {
    if !Recorder::new("two").start(&["--size", "1M", "--events", "exec"]) {
        return;
    }
    let place = Place::new();
    let recorder = Recorder { dir: place.0.join("flight") };
    let start = ["start", "--size", "8M", "--events", "syscalls,exec", "--stop-on", "blocked > 1h"];
    for (capabilities, missing) in
        [("", "CAP_BPF and CAP_PERFMON"), ("+bpf", "CAP_PERFMON"), ("+perfmon", "CAP_BPF")]
    {
        let Some(refused) = run(&recorder.dir, capabilities, &start) else {
            skip::skipped("setpriv can't give a user these capabilities");
            return;
        };
        assert_eq!(refused.status.code(), Some(77));
        assert!(stderr(&refused).contains(&format!(": missing {missing}: run as root")));
        assert!(!recorder.dir.exists());
    }
    let run = |options: &[&str]| run(&recorder.dir, "+bpf,+perfmon", options).unwrap();
    assert!(run(&start).status.success());
    // Root does not run what this user can exchange.
    let refused = recorder.run(&["hold"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("belongs to user 65534"));
    let status = run(&["status"]);
    assert!(
        status.status.success() && String::from_utf8_lossy(&status.stdout).contains("take CAP_SYS_ADMIN")
    );
    let dump = run(&["dump", "--format", "ndjson"]);
    assert!(dump.status.success());
    let events = String::from_utf8(dump.stdout).unwrap();
    let own = |line: &&str| line.contains("\"sys_enter\"") && line.contains("\"mapring-nobody-");
    assert!(events.lines().any(|line| own(&line)), "{events}");
    for options in [&["mark", "by nobody"][..], &["hold"], &["resume"]] {
        assert!(run(options).status.success(), "{options:?}");
    }
    assert!(stderr(&run(&["stop"])).starts_with("Stopped. Recorded events: "));
    assert!(!recorder.dir.exists());

    // A directory that is not this user's.
    chown(&place.0, Some(0), Some(0)).unwrap();
    let refused = run(&start);
    assert_eq!(refused.status.code(), Some(77));
    assert!(stderr(&refused).contains("or name a directory of yours"));
}
