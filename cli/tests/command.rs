//! What all commands have in common, and those without a test of their own: doctor, completions, man.

mod common;
mod nobody;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use self::common::{Dir, command, lines, mapring, stderr, text};

/// Each line is an object with an area, a feature, a state and what was seen; what is missing has a fix.
fn findings(output: &Output) -> Vec<Value> {
    let all = lines(text(output).as_bytes());
    for finding in &all {
        assert!(["area", "feature", "seen"].iter().all(|field| finding[field].is_string()), "{finding}");
        match finding["state"].as_str().unwrap() {
            "ok" => assert!(finding["lost"].is_null() && finding["fix"].is_null(), "{finding}"),
            "missing" => assert!(finding["lost"].is_string() && finding["fix"].is_string(), "{finding}"),
            state => assert_eq!(state, "unknown"),
        }
    }
    all
}

fn state<'a>(findings: &'a [Value], feature: &str) -> &'a str {
    let of = findings.iter().find(|finding| finding["feature"] == feature);
    of.unwrap_or_else(|| panic!("nothing about {feature}"))["state"].as_str().unwrap()
}

#[test]
fn doctor_says_what_is_missing() {
    let all = findings(&mapring(&["doctor", "--json"]));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(all.iter().any(|finding| finding["seen"].as_str().unwrap().starts_with(release.trim())));
    assert_eq!(state(&all, "programs") == "ok", cfg!(feature = "bpf"));
    let shown = text(&mapring(&["doctor"]));
    // Pins come and go.
    for finding in all.iter().filter(|finding| finding["area"] != "pins") {
        let line = format!("{}: {}", finding["feature"].as_str().unwrap(), finding["seen"].as_str().unwrap());
        assert!(shown.contains(&line), "no {line:?}");
    }
    assert!(!shown.contains('\x1b'), "a pipe has no colours");
    assert!(text(&mapring(&["doctor", "--color", "always"])).contains('\x1b'));
}

#[test]
fn doctor_works_without_privilege() {
    if !rustix::process::geteuid().is_root() {
        return doctor_says_what_is_missing();
    }
    let all = findings(&nobody::as_nobody(&["doctor", "--json"]));
    for feature in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"] {
        assert_eq!(state(&all, feature), "missing");
    }
    assert_eq!(state(&all, "maps"), "unknown");
}

#[test]
fn completions_and_manual_pages_know_each_command() {
    let help = text(&mapring(&["--help"]));
    let names =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"doctor") && names.contains(&"demo"));
    let script = text(&mapring(&["completions", "bash"]));
    let pages = Dir::new();
    assert!(mapring(&["man", &pages.path("")]).status.success());
    for name in names.iter().filter(|name| **name != "help") {
        assert!(script.contains(&format!("mapring,{name})")), "{name}");
        let page = std::fs::read_to_string(pages.path(&format!("mapring-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    let output = mapring(&["man", &pages.path("none")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("mapring: can't write "));
}

/// Arguments can come from names of files.
#[test]
fn what_an_argument_has_is_escaped() {
    const HOSTILE: &str = "\x1b[2J\u{202e}\u{9b}1m";
    for args in [
        &[HOSTILE] as &[&str],
        &["--color", HOSTILE],
        &["show", HOSTILE],
        &["show", "id:1", &format!("--{HOSTILE}")],
        &["tail", "id:1", "--where", &format!("a == {HOSTILE}")],
        &["top", "--hz", HOSTILE],
        &["inspect", HOSTILE],
        &["inspect", HOSTILE, "--out", HOSTILE],
        &["inspect", "/dev/null", "--format", "csv", "--out", &format!("/none/{HOSTILE}")],
        &["record", HOSTILE, "--out", HOSTILE],
        &["replay", HOSTILE],
        &["new", HOSTILE],
        &["new", "mapring-test-none", "--mapring", HOSTILE],
        &["man", HOSTILE],
        &["completions", HOSTILE],
        &["clean", HOSTILE],
        &["freeze", HOSTILE, HOSTILE],
        &["pin", HOSTILE, HOSTILE],
        &["export", "prometheus", "--config", HOSTILE],
        &["export", "otlp", "--to", HOSTILE],
        &["export", "nats", "none", "--to", HOSTILE],
        &["flight", "dump", "--pins", HOSTILE],
        &["flight", "status", "--pins", HOSTILE],
        &["flight", "stop", "--pins", HOSTILE],
    ] {
        let output = mapring(args);
        assert!(!output.status.success(), "{args:?}");
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8(text.clone()).unwrap();
            assert!(!text.contains(['\x1b', '\u{202e}', '\u{9b}']), "{args:?}: {text:?}");
        }
    }
    // clap quotes variables as well. This one can hold a password.
    let nats = ["export", "nats", "x", "--stream", "S", "--subject", "s"];
    for hostile in ["a:secret@b", &format!("{HOSTILE}secret")] {
        let output = command(&nats).env("MAPRING_NATS", hostile).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let log = stderr(&output);
        assert!(log.contains("$MAPRING_NATS") && !log.contains("secret"), "{log:?}");
        assert!(!log.contains(['\u{202e}', '\u{9b}']), "{log:?}");
    }
    let help = text(&command(&["flight", "--help"]).env("MAPRING_FLIGHT_PINS", HOSTILE).output().unwrap());
    assert!(help.contains("--pins") && !help.contains(['\u{202e}', '\u{9b}']), "{help:?}");
}

/// A process with few files can't write a project, and leaves no part of one.
#[test]
fn a_project_that_fails_leaves_nothing() {
    let dir = Dir::new();
    let path = dir.path("new");
    let script = "ulimit -n 4 && exec \"$0\" new \"$1\"";
    let output =
        Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_mapring"), &path]).output().unwrap();
    assert!(stderr(&output).contains("Too many open files"), "{}", stderr(&output));
    assert!(!std::fs::exists(&path).unwrap());
}

#[test]
fn times_that_no_clock_can_wait_for() {
    for args in
        [&["stat", "none", "-i", "18446744073709551615s"], &["replay", "none", "--delay", "300000000000y"]]
    {
        let output = mapring(args);
        assert!(stderr(&output).contains("the longest time is 100 years"), "{}", stderr(&output));
    }
}

#[test]
fn exit_codes_and_closed_pipes() {
    assert_eq!(mapring(&["no-such-command"]).status.code(), Some(2));
    // A reader that is gone before the first line.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command(&["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_new_project_is_not_written_over_another() {
    let dir = Dir::new();
    let new = |path: &str| mapring(&["new", path]);
    let path = dir.path("mapring-test-new");
    let output = new(&path);
    assert!(output.status.success());
    assert!(stderr(&output).contains("cargo build && sudo target/debug/mapring-test-"));
    let files = [".gitignore", "Cargo.toml", "build.rs", "src/main.rs", "src/mapring_test_new.bpf.c"];
    assert!(files.iter().all(|file| std::fs::exists(format!("{path}/{file}")).unwrap()));
    std::fs::write(format!("{path}/src/main.rs"), "mine").unwrap();
    let again = new(&path);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("File exists"));
    assert_eq!(std::fs::read_to_string(format!("{path}/src/main.rs")).unwrap(), "mine");
    assert_eq!(new("/tmp/a name").status.code(), Some(1));
}
