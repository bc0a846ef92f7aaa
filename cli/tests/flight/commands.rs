//! What start, status and stop say and do.

use std::collections::HashSet;
use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

use mapring_flight::pins;

use crate::recorder::{Recorder, output as output_of, stderr};
use crate::skip;

#[test]
fn status_says_what_is_recorded() {
    let recorder = Recorder::new("status");
    let none = recorder.run(&["status"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stdout).starts_with("Nothing is recorded at "));
    assert_eq!(recorder.status()["running"], false);
    if !recorder.start(&["--size", "8M", "--events", "syscalls,exec"]) {
        return;
    }
    let status = recorder.status();
    assert_eq!(status["running"], true);
    let recording = &status["recording"];
    assert_eq!(recording["loader"]["alive"], false);
    assert!(recording["memory"].as_u64().unwrap() <= 8 << 20);
    assert!(recording["cpu_percent"].as_f64().unwrap() > 0.0);
    let measured = &recording["measured_ns_per_event"]; // null if noise hid it
    assert!(measured.is_null() || measured.as_f64().unwrap() > 0.0);
    assert_eq!(recorder.groups(), ["syscalls", "exec"]);
    let calls = &recording["groups"][0];
    // The command's own calls alone give some.
    assert!(calls["events"].as_u64().unwrap() > 0 && calls["events_per_second"].as_f64().unwrap() > 0.0);
    assert!(calls["ns_per_event"].as_f64().unwrap() > 0.0 && calls["records"].as_u64().unwrap() > 0);
    assert_eq!(calls["programs"], serde_json::json!(["syscalls_enter", "syscalls_exit"]));
    assert!(calls["newest_ns"].as_u64() > calls["oldest_ns"].as_u64());
    // A ring without an event holds all since the start, too.
    let exec = &recording["groups"][1];
    assert_eq!((&exec["since_start"], &exec["history_seconds"]), (&true.into(), &recording["seconds"]));

    let text = recorder.run(&["status"]);
    let text = String::from_utf8(text.stdout).unwrap();
    println!("{text}");
    assert!(text.starts_with("Recording since 20") && text.lines().all(|line| line.chars().count() <= 80));
    assert_eq!(text.contains("\nAn event cost "), !measured.is_null());
}

/// What it recorded has other words than this version knows. Nothing may read them, and anybody may end it.
#[test]
fn a_recorder_of_another_version_is_only_stopped() {
    let recorder = Recorder::new("version");
    if !recorder.start(&["--size", "8M", "--events", "exec"]) {
        return;
    }
    let (recording, programs) = (pins::recording(&recorder.dir), recorder.programs());
    let made_by = recording.join("made-by");
    fs::remove_file(&made_by).unwrap();
    let other = |by: &str| {
        let file = std::env::temp_dir().join(format!("mapring-version-{}", std::process::id()));
        let file = file.to_str().unwrap();
        for command in
            [&["status"][..], &["dump"], &["report"], &["save", file], &["hold"], &["resume"], &["mark", "x"]]
        {
            let output = recorder.run(command);
            assert_eq!(output.status.code(), Some(1), "{command:?}");
            assert!(
                stderr(&output).contains(&format!(": started by {by}: read it with that one")),
                "{command:?}"
            );
        }
        assert!(!std::path::Path::new(file).exists());
    };
    other("an older mapring");
    std::os::unix::fs::symlink("9.8.7 00000000", &made_by).unwrap();
    other("mapring 9.8.7");
    // It may have other pins, too.
    fs::create_dir(recording.join("later")).unwrap();
    std::os::unix::fs::symlink("text", recording.join("later/still")).unwrap();
    let stopped = recorder.run(&["stop"]);
    assert_eq!(stopped.status.code(), Some(0));
    assert!(
        stderr(&stopped).contains("Stopped, and not read: ") && stderr(&stopped).contains("mapring 9.8.7")
    );
    recorder.expect_nothing_left(&programs);
}

#[test]
fn a_second_start_is_refused() {
    let recorder = Recorder::new("second");
    if !recorder.start(&["--size", "8M", "--events", "exec"]) {
        return;
    }
    let status = recorder.status();
    assert!(
        status["recording"]["measured_ns_per_event"].is_null(),
        "threads that wake each other execute nothing"
    );
    let (programs, second) = (recorder.programs(), recorder.run(&["start"]));
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("is recording already"));
    assert_eq!((recorder.programs(), programs.len()), (programs.clone(), 4));

    let stopped = recorder.run(&["stop"]);
    assert!(stopped.status.success());
    assert!(stderr(&stopped).starts_with("Stopped. Recorded events: "));
    recorder.expect_nothing_left(&programs);
    let two =
        [(); 2].map(|()| recorder.command(&["start", "--size", "8M", "--events", "exec"]).spawn().unwrap());
    let mut codes = two.map(|mut start| start.wait().unwrap().code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    assert!(recorder.run(&["stop"]).status.success());
    let again = recorder.run(&["stop"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("nothing is recorded at"));
}

#[test]
fn what_a_killed_start_left_is_removed() {
    let recorder = Recorder::new("killed");
    if !recorder.start(&["--size", "8M", "--events", "exec"]) {
        return;
    }
    // The state right before a start is finished.
    let unfinished = || {
        fs::create_dir(pins::lock(&recorder.dir)).unwrap();
        fs::rename(pins::recording(&recorder.dir), pins::lock(&recorder.dir).join("new")).unwrap();
    };
    let programs = recorder.programs();
    unfinished();
    let status = recorder.status();
    assert_eq!((&status["running"], &status["unfinished"]), (&false.into(), &true.into()));
    let text = String::from_utf8(recorder.run(&["status"]).stdout).unwrap();
    assert!(text.starts_with("A `start` or `stop` at ") && text.contains(" was killed"), "{text}");
    assert!(recorder.start(&["--size", "8M", "--events", "exec"]));
    let others = recorder.programs();
    assert!(programs.is_disjoint(&others));
    unfinished();
    let stopped = recorder.run(&["stop"]);
    assert!(stopped.status.success() && stderr(&stopped).contains("what a killed `start` or `stop` left"));
    recorder.expect_nothing_left(&(&programs | &others));

    // `clean` finds it, and says whose pins these are.
    assert!(recorder.start(&["--size", "8M", "--events", "exec"]));
    let programs = recorder.programs();
    unfinished();
    let clean = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
        let output = output_of(command.arg("clean").arg(&recorder.dir).args(options).stdin(Stdio::null()));
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let found = clean(&[]);
    assert!(
        found.contains("/flight-lock: ") && found.contains("`mapring flight start` was killed"),
        "{found}"
    );
    assert_eq!((found.lines().count(), recorder.programs_in("flight-lock/new")), (1, programs.clone()));
    assert!(clean(&["--yes"]).starts_with("removed "));
    recorder.expect_nothing_left(&programs);

    // Before its first pin, too.
    for part in ["", "new", "new/maps", "new/links"] {
        fs::create_dir_all(pins::lock(&recorder.dir).join(part)).unwrap();
        assert_eq!(recorder.status()["unfinished"], true);
        assert!(clean(&[]).contains("/flight-lock: flight recorder, "));
        assert!(clean(&["--yes"]).starts_with("removed ") && !recorder.dir.exists());
    }

    // At any other moment.
    for ms in (0..400).step_by(40) {
        let mut start = recorder.command(&["start", "--size", "8M"]).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(ms));
        start.kill().unwrap();
        start.wait().unwrap();
        let running = recorder.status()["running"].as_bool().unwrap();
        let programs = if running { recorder.programs() } else { HashSet::new() };
        let there = recorder.dir.exists();
        let stopped = recorder.run(&["stop"]);
        assert!(stopped.status.success() || !running);
        assert!(there || !stopped.status.success());
        recorder.expect_nothing_left(&programs);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let recorder = Recorder::new("refused");
    let expect = |options: &[&str], code, text: &str| {
        let output = recorder.run(&[&["start"], options].concat());
        assert_eq!(output.status.code(), Some(code), "{options:?}");
        assert!(stderr(&output).contains(text), "{options:?}");
        assert!(!recorder.dir.exists());
    };
    expect(&["--size", "4K"], 1, "--size 4K is too small: 7 groups");
    expect(&["--size", "1000T"], 1, "--size 1000T is too large: this machine has ");
    expect(&["--size", "1K", "--events", "exec"], 1, "--size 1K is too small: 1 group of events");
    expect(&["--size", "many"], 2, "64M");
    expect(&["--size", "1K", "--events", "default,profile,sched"], 1, "too small: 8 groups of events");
    expect(&["--events", "sched,dreams"], 2, "the groups are sched,");
    expect(&["--group", "no-such-group"], 1, "there is no group no-such-group");
    let elsewhere = Recorder { dir: std::env::temp_dir().join("mapring-no-bpffs") };
    let output = elsewhere.run(&["start"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not in a BPF file system") && !elsewhere.dir.exists());
    // No BPF file system at all. The mount namespace is this command's own.
    let mut without = Command::new("unshare");
    without.args([
        "--mount",
        "sh",
        "-c",
        "umount --all-targets --lazy /sys/fs/bpf && exec \"$0\" flight start",
    ]);
    let output = if_there(without.arg(env!("CARGO_BIN_EXE_mapring")));
    match output.filter(|output| stderr(output).starts_with("mapring")) {
        Some(output) => {
            assert_eq!(output.status.code(), Some(77));
            assert!(stderr(&output).contains("no BPF file system is mounted at /sys/fs/bpf: mount -t bpf"));
        }
        None => skip::skipped("no unshare, or this user can't make a mount namespace"),
    }
}

/// In a BPF file system that has nothing else: the mount namespace is this command's own.
#[test]
fn stop_leaves_nothing_behind() {
    if !Recorder::new("nothing").start(&["--size", "1M", "--events", "exec"]) {
        return;
    }
    let script = "mount -t bpf bpf /sys/fs/bpf && unset MAPRING_FLIGHT_PINS && \
                  \"$0\" flight start --size 1M --events exec && test -d /sys/fs/bpf/mapring/flight && \
                  \"$0\" flight stop && test ! -e /sys/fs/bpf/mapring && \
                  \"$0\" flight start --size 1M --events exec && mkdir /sys/fs/bpf/mapring/mine && \
                  \"$0\" flight stop && ls /sys/fs/bpf/mapring && \
                  \"$0\" flight --pins /sys/fs/bpf start --size 1M --events exec && \
                  test -d /sys/fs/bpf/recording && \"$0\" flight --pins /sys/fs/bpf stop && \
                  test ! -e /sys/fs/bpf/recording";
    let mut command = Command::new("unshare");
    let output = if_there(command.args(["--mount", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_mapring")));
    match output.filter(|output| !stderr(output).starts_with("unshare")) {
        Some(output) => {
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(output.stdout, b"mine\n");
        }
        None => skip::skipped("no unshare, or this user can't make a mount namespace"),
    }
}

/// What the command prints; `None` if its program is not on this machine. A guest has only the tests.
fn if_there(command: &mut Command) -> Option<Output> {
    match command.stdin(Stdio::null()).output() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        output => Some(output.unwrap()),
    }
}
