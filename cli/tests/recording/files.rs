//! The files of a recording: rotated, on a full disk, and after the recorder was killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use mapring::Ring;
use rustix::process::Signal;
use serde_json::json;

use super::{Dir, Running, growing, inspect, lines, mapring, path, stderr, tickets, until};

fn ring(slots: usize) -> Ring<[u64; 8]> {
    Ring::create_memfd(slots, 1).unwrap()
}

fn fill(ring: &Ring<[u64; 8]>, numbers: std::ops::Range<u64>) {
    let writer = ring.writer(0).unwrap();
    for number in numbers {
        writer.push(&[number; 8]).unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let ring = ring(1024);
    fill(&ring, 0..1000);
    let output = mapring(&["record", &path(&ring.region()), "--no-follow", "--out", "/dev/full"]);
    let log = stderr(&output);
    assert!(output.status.code() == Some(1) && log.contains("/dev/full"), "{log}");
    assert!(log.contains("No space left on device"), "{log}");
}

#[test]
fn a_file_that_may_not_grow_ends_with_a_whole_block() {
    let (ring, dir) = (ring(1 << 14), Dir::new());
    fill(&ring, 0..10_000);
    let file = dir.path("limited");
    // A limit as of a full disk, in the midst of a block: 600 of 800 KB.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 1200; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_mapring")]);
    command.args(["record", &path(&ring.region()), "--no-follow", "--out", &file]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && log.contains("the recording ends after "), "{log}");
    // A recording that is cut short does not get its name.
    assert!(!fs::exists(&file).unwrap());
    let file = growing(&file);
    let found = tickets(&file);
    assert!(found.len() > 1000 && found.len() < 10_000, "{}", found.len());
    assert!(found.iter().copied().eq(0..found.len() as u64));
    let summary = inspect(&file);
    assert_eq!((&summary["whole"], &summary["damage"]), (&json!(false), &json!(null)));
}

#[test]
fn files_are_rotated_and_each_is_whole() {
    let (ring, dir) = (ring(1 << 14), Dir::new()); // never full, so that nothing is lost
    let (ring_path, file) = (path(&ring.region()), dir.path("ring.rec"));
    let args = ["record", &ring_path, "--from", "first", "-o", &file, "--rotate-size", "64K", "--keep", "3"];
    let mut recorder = Running::new(&args);
    let mut written = 0;
    // Each time more than a file holds.
    for number in [1, 2, 3, 3, 3] {
        let first = || tickets(&dir.path("ring.rec.1")).first().copied();
        let before = first();
        fill(&ring, written..written + 1000);
        written += 1000;
        let full = dir.path(&format!("ring.rec.{number}"));
        until("the next file", || fs::exists(&full).unwrap() && first() > before);
    }
    until("the file", || fs::exists(growing(&file)).unwrap());
    recorder.signal(Signal::INT);
    let (ended, log) = recorder.end();
    assert!(ended && log.contains(&format!("{written} records, none lost")), "{log}");
    assert!(!fs::exists(dir.path("ring.rec.4")).unwrap());
    let names = ["ring.rec.3", "ring.rec.2", "ring.rec.1", "ring.rec"];
    let mut all = Vec::new();
    for name in names {
        let file = dir.path(name);
        assert_eq!(inspect(&file)["whole"], true, "{name}");
        assert!(fs::metadata(&file).unwrap().len() < 1 << 20);
        all.extend(tickets(&file));
    }
    // From some record on all, in order.
    assert!(all.iter().copied().eq(all[0]..written) && all[0] > 0, "{} of {written}", all.len());

    // Another start goes on: the last file becomes the first of the full ones.
    let before = tickets(&file);
    let again = ["record", &ring_path, "--no-follow", "-o", &file, "--rotate-size", "1G", "--keep", "1"];
    assert!(mapring(&again).status.success());
    assert_eq!(tickets(&dir.path("ring.rec.1")), before);
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let (ring, dir) = (ring(8), Dir::new());
    let (ring_path, file) = (path(&ring.region()), dir.path("mine"));
    fs::write(&file, "mine").unwrap();
    let output = mapring(&["record", &ring_path, "--no-follow", "-o", &file]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("--force replaces it"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(mapring(&["record", &ring_path, "--no-follow", "-o", &file, "--force"]).status.success());
    assert_eq!(inspect(&file)["whole"], true);
    let new = dir.path("new");
    assert!(mapring(&["record", &ring_path, "--no-follow", "-o", &new]).status.success());
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o077, 0, "only its owner reads it");
    // A conversion does not replace its own input.
    let output = mapring(&["inspect", &new, "--format", "csv", "--out", &new]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("is the recording itself"));
    assert_eq!(inspect(&new)["whole"], true);
    // A second recorder does not overwrite a file that is being written.
    let other = dir.path("other");
    let recorder = Running::new(&["record", &ring_path, "-o", &other]);
    until("the file", || fs::metadata(growing(&other)).is_ok_and(|file| file.len() > 100));
    let output = mapring(&["record", &ring_path, "--no-follow", "-o", &other, "--force"]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("another `mapring` writes it"));
    drop(recorder);
}

#[test]
fn after_a_kill_the_file_is_read_up_to_the_last_block() {
    let (ring, dir) = (ring(1 << 16), Dir::new()); // never full, so that nothing is lost
    let out = dir.path("killed");
    let mut recorder = Running::new(&["record", &path(&ring.region()), "--from", "first", "-o", &out]);
    let file = growing(&out);
    let mut written = 0;
    until("some blocks", || {
        if written < 60_000 {
            fill(&ring, written..written + 100);
            written += 100;
        }
        fs::metadata(&file).is_ok_and(|file| file.len() > 20_000)
    });
    recorder.signal(Signal::KILL);
    assert!(!recorder.end().0 && !fs::exists(out).unwrap());
    let found = tickets(&file);
    assert!(found.len() > 100 && found.iter().copied().eq(0..found.len() as u64));
    let output = mapring(&["inspect", &file]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("its recorder was killed"));
}

#[test]
fn recordings_go_through_pipes() {
    let ring = ring(64);
    fill(&ring, 0..50);
    let mut record = Command::new(env!("CARGO_BIN_EXE_mapring"));
    let (ring_path, args) = (path(&ring.region()), ["--no-follow", "--out", "-"]);
    record.arg("record").arg(&ring_path).args(args).stdout(Stdio::piped());
    let mut record = record.spawn().unwrap();
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_mapring"));
    inspect.args(["inspect", "-", "--format", "ndjson"]).stdin(record.stdout.take().unwrap());
    let output = inspect.output().unwrap();
    assert!(record.wait().unwrap().success() && output.status.success());
    assert_eq!(lines(&output.stdout).len(), 50);
    for (size, why) in [("1M", "need a file"), ("1K", "need a file")] {
        let refused = mapring(&["record", &ring_path, "--out", "-", "--rotate-size", size]);
        assert!(refused.status.code() == Some(2) && stderr(&refused).contains(why));
    }
    for options in [["--rotate-size", "1K"], ["--rotate-age", "1ms"], ["--every", "0s"]] {
        let refused = mapring(&[&["record", "no-such-map", "--out", "no-such-file"], &options[..]].concat());
        assert_eq!(refused.status.code(), Some(2), "{options:?}");
        assert!(stderr(&refused).contains("Usage: mapring record "));
    }
}
