//! Rings and tables in memory files: recorded, inspected, converted and replayed; each record is compared.

use mapring::abi::Tails;
use mapring::writers::MemfdOptions;
use mapring::{Cells, Counters, Latches, Ring};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Dir, Running, growing, inspect, lines, mapring, path, stderr, text, tickets, until};

/// A ring whose records tell their shard and number.
fn ring(slots: usize, records: u64) -> Ring<[u64; 2]> {
    let ring = Ring::create_memfd(slots, 2).unwrap();
    fill(&ring, 0..records);
    ring
}

fn fill(ring: &Ring<[u64; 2]>, numbers: std::ops::Range<u64>) {
    let writers = [0, 1].map(|shard| ring.writer(shard).unwrap());
    for number in numbers {
        let shard = number % 2;
        writers[shard as usize].push(&[shard, number]).unwrap();
    }
}

/// The lines, sorted by shard and ticket: two readers may see two shards in another order.
fn sorted(mut lines: Vec<Value>) -> Vec<Value> {
    lines.sort_by_key(|line| (line["shard"].as_u64(), line["ticket"].as_u64()));
    lines
}

#[test]
fn what_is_recorded_is_what_tail_prints() {
    let (ring, dir) = (ring(64, 100), Dir::new());
    let (ring_path, file) = (path(&ring.region()), dir.path("ring.rec"));
    let recorded = mapring(&["record", &ring_path, "--no-follow", "--out", &file]);
    assert!(recorded.status.success() && stderr(&recorded).contains("100 records, none lost"));
    let tail = lines(&mapring(&["tail", &ring_path, "--no-follow", "--json"]).stdout);
    let converted = mapring(&["inspect", &file, "--format", "ndjson"]);
    assert_eq!(sorted(lines(text(&converted).as_bytes())), sorted(tail.clone()));
    assert_eq!(tail.len(), 100);

    let summary = inspect(&file);
    assert_eq!((&summary["whole"], &summary["damage"]), (&json!(true), &Value::Null));
    let part = &summary["parts"][0];
    assert_eq!((&part["records"], &part["source"]["kind"]), (&json!(100), &json!("ring")));
    assert_eq!(part["source"]["no_types"], "a memory file has no BTF");
    let shard = json!({ "shard": 1, "records": 50, "first_ticket": 0, "last_ticket": 49 });
    assert_eq!((&part["shards"][1], &part["losses"]), (&shard, &json!([])));
    let people = text(&mapring(&["inspect", &file]));
    assert!(people.contains("whole") && people.contains("shard 1: 50, tickets 0 to 49"), "{people}");
    assert!(people.lines().all(|line| line.chars().count() <= 80), "{people}");

    // The same by a pipe, as CSV, into a file.
    let csv = dir.path("ring.csv");
    assert_eq!(text(&mapring(&["inspect", &file, "--format", "csv", "--out", &csv])), "");
    let mut rows = csv::Reader::from_path(&csv).unwrap();
    assert_eq!(rows.headers().unwrap(), &csv::StringRecord::from(vec!["shard", "ticket", "time", "record"]));
    assert_eq!(rows.records().map(Result::unwrap).filter(|row| &row[0] == "1").count(), 50);
    let filtered = mapring(&["inspect", &file, "--format", "csv", "--where", "pid == 1"]);
    assert!(filtered.status.code() == Some(1) && stderr(&filtered).contains("a memory file has no BTF"));
}

#[test]
fn losses_are_in_the_file_with_their_place() {
    let (ring, dir) = (ring(16, 10), Dir::new());
    let file = dir.path("ring.rec");
    let mut recorder = Running::new(&["record", &path(&ring.region()), "--from", "first", "--out", &file]);
    until("the first records", || tickets(&growing(&file)).len() == 10);
    // More than the ring holds while the recorder is stopped.
    recorder.stop();
    fill(&ring, 10..200);
    recorder.signal(Signal::CONT);
    recorder.signal(Signal::INT);
    let (ended, log) = recorder.end();
    assert!(ended, "{log}");
    let part = &inspect(&file)["parts"][0];
    let lost: u64 =
        part["losses"].as_array().unwrap().iter().map(|loss| loss["count"].as_u64().unwrap()).sum();
    let records = part["records"].as_u64().unwrap();
    assert_eq!(records + lost, 200, "{part}");
    assert!(lost > 100 && log.contains("overwritten"), "{log}");
    let loss = &part["losses"][0];
    assert!(loss["cause"] == "overwritten" && loss["tickets"][0].as_u64().unwrap() >= 5, "{loss}");
    // Replay tells them too.
    let replayed = mapring(&["replay", &file, "--speed", "max", "--exit"]);
    assert!(replayed.status.success() && super::stderr(&replayed).contains("overwritten, tickets "));
}

#[test]
fn a_replayed_ring_has_each_record() {
    let (ring, dir) = (ring(64, 100), Dir::new());
    let file = dir.path("ring.rec");
    assert!(mapring(&["record", &path(&ring.region()), "--no-follow", "-o", &file]).status.success());
    for speed in ["max", "1", "1000.5"] {
        let mut replay = Running::new(&["replay", &file, "--speed", speed]);
        let again = replay.first_line();
        let records = || lines(&mapring(&["tail", &again, "--no-follow", "--json"]).stdout);
        until("100 records", || records().len() == 100);
        assert_eq!(
            sorted(records()),
            sorted(lines(&mapring(&["inspect", &file, "--format", "ndjson"]).stdout))
        );
        assert!(text(&mapring(&["show", &again])).contains("100 records reserved, 100 still in the ring"));
        replay.signal(Signal::INT);
        let (ended, log) = replay.end();
        assert!(ended && log.contains("100 records were written"), "{log}");
    }
    let other = mapring(&["replay", &file, "--speed", "0"]);
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn tails_are_recorded_and_replayed() {
    let dir = Dir::new();
    let tails = Tails::new(64, 4096).unwrap();
    let ring = Ring::<[u64; 2]>::create_memfd_with(64, 1, MemfdOptions::default().tails(tails)).unwrap();
    let writer = ring.writer(0).unwrap();
    for (number, len) in (0_u64..).zip(0..50) {
        writer.push_with_tail(&[number, 7], "x".repeat(len).as_bytes()).unwrap();
    }
    let (ring_path, file) = (path(&ring.region()), dir.path("tails.rec"));
    assert!(mapring(&["record", &ring_path, "--no-follow", "-o", &file]).status.success());
    let expected = lines(&mapring(&["tail", &ring_path, "--no-follow", "--json"]).stdout);
    assert_eq!(lines(&mapring(&["inspect", &file, "--format", "ndjson"]).stdout), expected);
    assert_eq!((expected.len(), expected[49]["tail"].as_str().unwrap().len()), (50, 49));
    assert_eq!(inspect(&file)["parts"][0]["tail_bytes"], 49 * 50 / 2);
    let mut replay = Running::new(&["replay", &file, "--speed", "max"]);
    let again = replay.first_line();
    until("50 records", || lines(&mapring(&["tail", &again, "--no-follow", "--json"]).stdout) == expected);
}

#[test]
fn values_are_recorded_when_they_change() {
    let dir = Dir::new();
    let cells = Cells::<[u64; 2]>::create_memfd(4).unwrap();
    let latches = Latches::<[u64; 2]>::create_memfd(4).unwrap();
    let counters = Counters::create_memfd(4, 2).unwrap();
    let (cell, counter) = (cells.writer().unwrap(), counters.writer(1).unwrap());
    cell.set(2, &[7, 0]).unwrap();
    latches.writer().unwrap().set(1, &[5, 5]).unwrap();
    counter.add(3, 10).unwrap();
    let samples = |file: &str| lines(&mapring(&["inspect", file, "--format", "ndjson"]).stdout);

    let file = dir.path("latches.rec");
    assert!(mapring(&["record", &path(latches.region()), "--no-follow", "-o", &file]).status.success());
    let found = samples(&file);
    assert_eq!((found.len(), &found[0]["index"], &found[0]["version"]), (1, &json!(1), &json!(1)));

    for (region, kind) in [(cells.region(), "cells"), (counters.region(), "counters")] {
        let file = dir.path(kind);
        let mut recorder = Running::new(&["record", &path(region), "--every", "5ms", "-o", &file]);
        until("the first value", || samples(&growing(&file)).len() == 1);
        if kind == "cells" {
            cell.set(2, &[8, 0]).unwrap();
        } else {
            counter.add(3, 5).unwrap();
        }
        until("the second value", || samples(&growing(&file)).len() == 2);
        recorder.signal(Signal::TERM);
        assert!(recorder.end().0);
        let found = samples(&file);
        if kind == "cells" {
            assert_eq!((&found[1]["index"], &found[1]["version"]), (&json!(2), &json!(2)));
        } else {
            assert_eq!((&found[0]["value"], &found[1]["value"]), (&json!(10), &json!(15)));
            assert_eq!((&found[1]["index"], &found[1]["cpu"]), (&json!(3), &json!(1)));
        }
        assert_eq!((&inspect(&file)["whole"], found.len()), (&json!(true), 2));
        assert!(stderr(&mapring(&["replay", &file, "--exit"])).contains("only rings can be replayed"));
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_it_says_how_to_get_it() {
    let (ring, dir) = (ring(16, 3), Dir::new());
    let (file, table) = (dir.path("ring.rec"), dir.path("ring.parquet"));
    assert!(mapring(&["record", &path(&ring.region()), "--no-follow", "-o", &file]).status.success());
    for options in [&["--out", &table][..], &["--format", "parquet"]] {
        let refused = mapring(&[&["inspect", &file], options].concat());
        assert!(refused.status.code() == Some(77) && stderr(&refused).contains("--features bpf,parquet"));
    }
    assert!(!std::fs::exists(table).unwrap());
}
