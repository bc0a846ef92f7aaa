//! The kernel's own ring buffer is shown and followed, and its consumer still gets each record.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use libbpf_rs::{ProgramInput, RingBufferBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::common::{Running, command, until};
use super::loaded::Loaded;
use super::{lines, mapring, stderr, text};

/// The bytes of a record, with its header.
const BYTES: u64 = 24;

impl Loaded {
    /// The program writes this number of records into the ring buffer.
    fn fill_kernel(&self, count: u64) {
        let mut input = count.to_ne_bytes();
        let input = ProgramInput { context_in: Some(&mut input), ..ProgramInput::default() };
        self.skel.progs.fill_kernel.test_run(input).unwrap();
    }

    /// The consumer takes all records; returns how many.
    fn take_kernel(&self) -> usize {
        let mut count = 0;
        let mut ring = RingBufferBuilder::new();
        ring.add(&self.skel.maps.t_kernel, |_| {
            count += 1;
            0
        })
        .unwrap();
        ring.build().unwrap().consume().unwrap();
        count
    }
}

#[test]
fn show_and_tail_take_no_record() {
    let Some(loaded) = Loaded::new() else { return };
    let path = loaded.path("t_kernel");
    loaded.fill_kernel(5);
    let people = text(&mapring(&["show", &path, "-n", "2"]));
    assert!(people.contains("t_kernel: ringbuf, id "), "{people}");
    assert!(people.contains("120 bytes written; 5 records in 120 bytes that the consumer has not taken"));
    let newest = "position 96: 0x6261736820351b5b_324a000000000000  text \"bash 5.[2J......\"";
    assert!(people.contains(newest) && !people.contains("position 48"), "{people}");
    let json = lines(&mapring(&["show", &path, "--json"]));
    assert_eq!((&json[0]["kind"], &json[0]["access"]), (&json!("ringbuf"), &json!("mapped")));
    let first =
        json!({ "position": 0, "value": "0x6261736820311b5b_324a000000000000", "text": "bash 1.[2J......" });
    assert_eq!((json.len(), &json[1]), (6, &first));

    for _ in 0..2 {
        let tail = mapring(&["tail", &path, "--no-follow", "--json"]);
        let positions: Vec<_> = lines(&tail).iter().map(|line| line["ticket"].as_u64().unwrap()).collect();
        assert_eq!(positions, (0..5).map(|n| n * BYTES).collect::<Vec<_>>());
        assert!(stderr(&tail).contains("5 records, none lost"));
        assert!(
            stderr(&tail).contains("records are shown as bytes: a BPF ringbuf does not say what is in its")
        );
    }
    let people = text(&mapring(&["tail", &path, "--no-follow", "-n", "1"]));
    assert_eq!(people, "[0] 0x6261736820311b5b_324a000000000000  bash 1.[2J......\n");
    let stat = lines(&mapring(&["stat", &path, "-n", "1", "-i", "1ms", "--json"]));
    assert_eq!(
        (&stat[0]["kind"], &stat[0]["unit"], &stat[0]["total"]),
        (&json!("ringbuf"), &json!("bytes"), &json!(120))
    );
    for (args, why) in [
        (&["tail", &path, "--no-follow", "--where", "pid == 1"][..], "--where: the fields are not known"),
        (&["tail", &path, "--no-follow", "--stamp", "ns"], "--stamp: the fields are not known"),
        (&["record", &path, "--out", "/dev/null"], "a BPF ringbuf can't be recorded; `mapring tail --json`"),
        (&["freeze", &path, "/sys/fs/bpf/x"], "is not a region, but of kind ringbuf"),
    ] {
        let refused = mapring(args);
        assert!(refused.status.code() == Some(1) && stderr(&refused).contains(why), "{args:?}");
    }

    assert_eq!(loaded.take_kernel(), 5);
    let taken = text(&mapring(&["show", &path]));
    assert!(taken.contains("120 bytes written; 0 records in 0 bytes that the consumer has not taken"));
}

#[test]
fn tail_follows_and_counts_the_bytes_that_it_lost() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill_kernel(5);
    let mut tail =
        command(&["tail", &loaded.path("t_kernel"), "--from", "first", "--json", "-n", "6", "--quiet"]);
    let mut tail = Running(tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut printed = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&printed.next().unwrap().unwrap()).unwrap();
    for n in 0..5 {
        assert_eq!(next()["ticket"], n * BYTES);
    }
    // While it is stopped, the kernel goes around the ring buffer more than once. One record is not taken.
    let pid = Pid::from_child(&tail.0);
    kill_process(pid, Signal::STOP).unwrap();
    let status = format!("/proc/{}/stat", tail.0.id());
    until("the command has stopped", || fs::read_to_string(&status).unwrap().contains(") T "));
    assert_eq!(loaded.take_kernel(), 5);
    for _ in 0..10 {
        loaded.fill_kernel(30);
        assert_eq!(loaded.take_kernel(), 30);
    }
    loaded.fill_kernel(1);
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(next()["ticket"], 305 * BYTES);
    let mut log = String::new();
    tail.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(tail.0.wait().unwrap().success());
    let lost = 300 * BYTES;
    assert_eq!(
        log,
        format!(
            "mapring: lost: {lost} bytes of records overwritten\n\
             mapring: 6 records; lost: {lost} bytes of records overwritten\n"
        )
    );
}
