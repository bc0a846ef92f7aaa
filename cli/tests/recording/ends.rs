//! How `record` and `tail` end: by signals, and with nobody who reads what they say.

use std::fs::File;
use std::process::{Command, Stdio};

use mapring::Ring;
use rustix::process::Signal;

use super::{Dir, Running, common, growing, inspect, mapring, path, tickets, until};

fn is_recorded(file: &str) -> bool {
    let summary = common::command(&["inspect", &growing(file), "--json"]).output().unwrap().stdout;
    !summary.is_empty() && !common::lines(&summary)[0]["parts"].as_array().unwrap().is_empty()
}

#[test]
fn a_signal_that_follows_at_once_cuts_nothing() {
    let ring = Ring::<[u64; 2]>::create_memfd(16, 1).unwrap();
    ring.writer(0).unwrap().push(&[1, 2]).unwrap();
    let (region, dir) = (path(&ring.region()), Dir::new());
    let file = dir.path("ring.rec");
    for _ in 0..25 {
        let mut record = Running::new(&["record", &region, "--from", "first", "--force", "-o", &file]);
        until("a recording", || is_recorded(&file));
        let mut tail = Running::new(&["tail", &region, "--from", "first", "--json"]);
        tail.first_line();
        for running in [&record, &tail] {
            // As timeout(1): to the command, and to its group.
            running.signal(Signal::TERM);
            running.signal(Signal::TERM);
        }
        let (ended, log) = record.end();
        assert!(ended && log.contains("1 records, none lost"), "{log}");
        assert_eq!(inspect(&file)["whole"], true);
        let (ended, log) = tail.end();
        assert!(ended && log.contains("1 records, none lost"), "{log}");
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    let ring = Ring::<[u64; 2]>::create_memfd(16, 1).unwrap();
    ring.writer(0).unwrap().push(&[1, 2]).unwrap();
    let (region, dir) = (path(&ring.region()), Dir::new());
    let file = dir.path("ring.rec");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_mapring")]);
    shell.args(["record", &region, "--from", "first", "-o", &file]);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut record = Running(shell.spawn().unwrap());
    until("a recording", || is_recorded(&file));
    record.signal(Signal::HUP);
    record.signal(Signal::INT);
    ring.writer(0).unwrap().push(&[3, 4]).unwrap();
    until("the second record", || tickets(&growing(&file)) == [0, 1]);
    record.signal(Signal::TERM);
    assert!(record.end().0);
    assert_eq!(inspect(&file)["whole"], true);
}

#[test]
fn nothing_ends_wrongly_because_nobody_reads_stderr() {
    let ring = Ring::<[u64; 2]>::create_memfd(16, 1).unwrap();
    ring.writer(0).unwrap().push(&[1, 2]).unwrap();
    let (region, dir) = (path(&ring.region()), Dir::new());
    let file = dir.path("ring.rec");
    assert!(mapring(&["record", &region, "--no-follow", "-o", &file]).status.success());
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let gone = || Stdio::from(std::io::pipe().unwrap().1);
    for stderr in [&full as &dyn Fn() -> Stdio, &gone] {
        let code = |args: &[&str]| {
            common::command(args).stdout(Stdio::null()).stderr(stderr()).status().unwrap().code()
        };
        for args in [
            &["tail", &region, "--no-follow"][..],
            &["record", &region, "--no-follow", "--force", "-o", &file],
            &["inspect", &file, "--format", "csv"],
            &["replay", &file, "--exit"],
            &["export", "prometheus", "--once", &region],
            &["ls"],
            &["stat", &region, "-n", "1", "-i", "1ms"],
            &["doctor"],
            &["clean"],
            &["freeze", &region, "/sys/fs/bpf/never"],
        ] {
            assert!(matches!(code(args), Some(0 | 1 | 77)), "{args:?}: {:?}", code(args));
        }
        for (args, expected) in
            [(&["show", "/does/not/exist"][..], 1), (&["show"], 2), (&["export", "nats"], 2)]
        {
            assert_eq!(code(args), Some(expected), "{args:?}");
        }
        let recorder = || {
            let mut command = common::command(&["record", &region, "--force", "-o", &file]);
            Running(command.stdout(Stdio::null()).stderr(stderr()).spawn().unwrap())
        };
        std::fs::remove_file(&file).unwrap();
        let mut record = recorder();
        until("a recording", || is_recorded(&file));
        record.signal(Signal::TERM);
        assert!(record.0.wait().unwrap().success());
        assert_eq!(inspect(&file)["whole"], true);
    }
}

#[test]
fn a_full_stdout_is_an_error_and_a_closed_one_is_the_end() {
    let ring = Ring::<[u64; 2]>::create_memfd(16, 1).unwrap();
    ring.writer(0).unwrap().push(&[1, 2]).unwrap();
    let region = path(&ring.region());
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let gone = || Stdio::from(std::io::pipe().unwrap().1);
    for args in [
        &["tail", &region, "--no-follow"][..],
        &["show", &region],
        &["ls", &region],
        &["stat", &region, "-n", "1", "-i", "1ms"],
        &["export", "prometheus", "--once", &region],
        &["doctor"],
        &["completions", "bash"],
    ] {
        for (stdout, code) in [(full(), 1), (gone(), 0)] {
            let output = common::command(args).stdout(stdout).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{args:?}");
        }
    }
}
