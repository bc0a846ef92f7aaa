//! Maps of a real program: recorded with their types, and decoded from the file.

use std::fs;
use std::io::{BufRead, BufReader};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::loaded::Loaded;
use super::{Dir, Running, growing, inspect, lines, mapring, stderr, text, tickets, until};

fn converted(file: &str, options: &[&str]) -> Vec<Value> {
    let output = mapring(&[&["inspect", file, "--format", "ndjson"], options].concat());
    lines(text(&output).as_bytes())
}

#[test]
fn a_ring_is_decoded_from_the_file() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(50);
    let (ring, dir) = (loaded.path("t_events"), Dir::new());
    let file = dir.path("events.rec");
    let recorded = mapring(&["record", &ring, "--no-follow", "-o", &file]);
    assert!(recorded.status.success() && stderr(&recorded).contains("50 records, none lost"));
    let mut tail = lines(&mapring(&["tail", &ring, "--no-follow", "--json"]).stdout);
    drop(loaded); // The file describes itself.
    let mut found = converted(&file, &[]);
    // Two comparisons of the clocks differ by less than a microsecond, which is a digit of the time.
    for line in tail.iter_mut().chain(&mut found) {
        assert!(line["time"].take().as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(found, tail);
    let filtered = converted(&file, &["--where", "comm ~ \"ba.*\" && pid > 40 && at[1].y == -5"]);
    let pids: Vec<_> = filtered.iter().map(|line| line["record"]["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, [41, 43, 45, 47, 49]);
    let unknown = mapring(&["inspect", &file, "--format", "csv", "--where", "pdi == 1"]);
    assert!(stderr(&unknown).contains("no field pdi; the fields are ns, pid, state"));

    let part = &inspect(&file)["parts"][0];
    assert_eq!((&part["type"], &part["records"]), (&json!("struct event"), &json!(50)));
    assert!(part["fields"].as_array().unwrap().iter().any(|field| field == "char[16] comm"), "{part}");
    let people = text(&mapring(&["inspect", &file]));
    assert!(people.contains("struct event, with BTF of ") && people.contains("enum state state"), "{people}");
    assert!(people.lines().all(|line| line.chars().count() <= 80), "{people}");

    let csv = text(&mapring(&["inspect", &file, "--format", "csv"]));
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let names: Vec<_> = rows.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(names[..6], ["shard", "ticket", "time", "ns", "pid", "state"]);
    let at = |name: &str| names.iter().position(|column| column == name).unwrap();
    let row = rows.records().map(Result::unwrap).nth(1).unwrap();
    assert_eq!([&row[at("pid")], &row[at("state")], &row[at("comm")]], ["2", "STOPPED", "x\\u{1b}[2Jy"]);

    let replayed = mapring(&["replay", &file, "--exit", "--speed", "100"]);
    assert!(replayed.status.success() && stderr(&replayed).contains("50 records were written"));
}

#[test]
fn bytes_that_are_not_text_are_in_every_format() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(1);
    let dir = Dir::new();
    let (file, table) = (dir.path("raw.rec"), dir.path("raw.csv"));
    assert!(mapring(&["record", &loaded.path("t_raw"), "--no-follow", "-o", &file]).status.success());
    let (args, tail) = ("0x6c73002d6c002f74_6d70000000000000", "0x63617400ff225c00");
    let found = converted(&file, &[]).remove(0);
    assert_eq!((&found["record"]["args"], &found["record"]["args.bytes"]), (&json!("ls"), &json!(args)));
    assert_eq!(found["tail.bytes"], tail);
    assert!(mapring(&["inspect", &file, "--out", &table]).status.success());
    let mut rows = csv::Reader::from_path(&table).unwrap();
    let names: Vec<_> = rows.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(names[names.len() - 4..], ["args", "tail", "args.bytes", "tail.bytes"]);
    let row = rows.records().next().unwrap().unwrap();
    let last: Vec<_> = row.iter().skip(names.len() - 4).collect();
    assert_eq!(last, ["ls", "cat\\0\u{fffd}\"\\\\0", args, tail]);
    // The replayed ring has the same bytes, and no types.
    let mut replay = Running::new(&["replay", &file]);
    let replayed = lines(&mapring(&["tail", &replay.first_line(), "--no-follow", "--json"]).stdout).remove(0);
    assert_eq!(replayed["tail.bytes"], tail);
}

#[test]
fn rings_of_each_flavour_are_recorded() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(10);
    let dir = Dir::new();
    for (name, number) in [("t_names", 8), ("t_sized", 9), ("t_nodes", 10)] {
        let file = dir.path(name);
        assert!(mapring(&["record", &loaded.path(name), "--no-follow", "-o", &file]).status.success());
        let found = converted(&file, &[]);
        assert_eq!((found.len(), &found[0]["record"]["number"]), (1, &json!(number)), "{name}");
        assert_eq!(found[0]["tail"], if name == "t_names" { json!("a tail") } else { Value::Null });
        let replayed = mapring(&["replay", &file, "--exit"]);
        assert!(stderr(&replayed).contains("1 records were written"), "{name}");
    }
}

#[test]
fn values_are_decoded_from_the_file() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(10);
    let dir = Dir::new();
    let names =
        fs::read_dir(&loaded.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let data = names.into_iter().find(|name| name.ends_with("_data")).unwrap();
    let keys = [(0, 40), (1, 30), (2, 30)].map(|(key, n)| json!({ "key": key, "count": n, "error": 0 }));
    for (name, index, value) in [
        ("t_loads", 3, json!({ "number": 42, "at": { "x": -1, "y": 2 } })),
        ("t_calls", 9, json!(10)),
        ("t_settings", 1, json!({ "number": 5, "text": "five" })),
        ("t_each", 1, json!({ "x": 1, "y": -2 })),
        ("t_keys", 0, json!({ "total": 100, "other": 0, "unlisted": 0, "keys": keys })),
        (&data, 0, json!({ "t_place": { "x": 3, "y": -4 } })),
    ] {
        let file = dir.path(name);
        assert!(mapring(&["record", &loaded.path(name), "--no-follow", "-o", &file]).status.success());
        let found = converted(&file, &[]);
        let sample = found.iter().find(|sample| sample["index"] == index).unwrap();
        assert_eq!(sample["value"], value, "{name}: {sample}");
        assert!(mapring(&["inspect", &file, "--format", "csv"]).status.success());
    }
    for (name, field, value) in [("t_waits", "count", 10), ("t_depths", "max", 17)] {
        let file = dir.path(name);
        assert!(mapring(&["record", &loaded.path(name), "--no-follow", "-o", &file]).status.success());
        assert_eq!(converted(&file, &[])[0]["value"][field], value, "{name}");
    }
}

#[test]
fn record_follows_a_restarted_loader() {
    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    let (path, dir) = (old.path("t_events"), Dir::new());
    let file = dir.path("restarted");
    old.fill(50);
    let mut recorder = Running::new(&["record", &path, "--from", "oldest", "-o", &file]);
    let pids = |file: &str| -> Vec<u64> {
        let output = mapring(&["inspect", file, "--format", "ndjson"]);
        lines(&output.stdout).iter().map(|line| line["record"]["pid"].as_u64().unwrap()).collect()
    };
    until("the first ring", || pids(&growing(&file)).len() == 50);
    fs::remove_file(&path).unwrap();
    new.fill(60);
    fs::rename(new.path("t_events"), &path).unwrap();
    until("the second ring", || pids(&growing(&file)).len() == 110);
    recorder.signal(Signal::INT);
    let (ended, log) = recorder.end();
    assert!(ended && log.contains("another ring is pinned there now"), "{log}");
    assert!(pids(&file).into_iter().eq((1..=50).chain(1..=60)));
    let summary = inspect(&file);
    assert_eq!((summary["parts"].as_array().unwrap().len(), &summary["whole"]), (2, &json!(true)));
}

#[test]
fn a_stamp_that_was_guessed_of_an_empty_ring_is_checked_in_the_file() {
    let Some(loaded) = Loaded::new() else { return };
    let (ring, dir) = (loaded.path("t_spans"), Dir::new());
    let file = dir.path("spans");
    let mut recorder = Running::new(&["record", &ring, "--from", "first", "-o", &file]);
    until("the source", || fs::read(growing(&file)).is_ok_and(|bytes| bytes.len() > 64));
    loaded.fill_spans(0, 7919, 1000);
    until("a record", || !tickets(&growing(&file)).is_empty());
    recorder.signal(Signal::INT);
    let (ended, log) = recorder.end();
    assert!(ended && log.contains("field time is taken as the time stamp"), "{log}");
    assert!(converted(&file, &[]).iter().all(|line| line["time"].is_null()));
    let part = &inspect(&file)["parts"][0];
    let first = humantime::parse_rfc3339(part["first"].as_str().unwrap()).unwrap();
    assert!(first.elapsed().unwrap().as_secs() < 3600, "{first:?}");
}

#[test]
fn samples_follow_a_restarted_loader() {
    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    let (path, dir) = (old.path("t_loads"), Dir::new());
    let file = dir.path("restarted");
    old.fill(1);
    let mut recorder = Running::new(&["record", &path, "--every", "10ms", "-o", &file]);
    let samples = || lines(&mapring(&["inspect", &growing(&file), "--format", "ndjson"]).stdout).len();
    until("the first map", || samples() == 1);
    fs::remove_file(&path).unwrap();
    new.fill(1);
    fs::rename(new.path("t_loads"), &path).unwrap();
    until("the second map", || samples() == 2);
    recorder.signal(Signal::INT);
    let (ended, log) = recorder.end();
    assert!(ended && log.contains("another map is pinned there now"), "{log}");
    let filtered = mapring(&["inspect", &file, "--format", "csv", "--where", "number == 42 && at.x < 0"]);
    assert_eq!(text(&filtered).lines().count(), 3);
    assert!(text(&filtered).starts_with("index,cpu,version,time,number,at.x,at.y\n3,,1,"));
}

#[test]
fn a_map_that_does_not_fit_is_named_and_not_continued_with() {
    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    let (dir, events, calls) = (Dir::new(), old.path("t_events"), old.path("t_calls"));
    old.fill(1);
    let (ring_file, counters_file) = (dir.path("ring"), dir.path("counters"));
    let running = [
        (&events, "t_loads", vec!["record", &events, "--from", "oldest", "-o", &ring_file]),
        // A ring, but without the field.
        (&events, "t_spans", vec!["tail", &events, "--where", "pid > 0", "--json"]),
        (&calls, "t_raw", vec!["record", &calls, "--every", "10ms", "-o", &counters_file]),
    ];
    for (path, by, args) in running {
        let mut command = Running::new(&args);
        let mut stderr = BufReader::new(command.0.stderr.take().unwrap());
        // It has opened the map when it waits.
        until("a wait", || {
            let state = fs::read_to_string(format!("/proc/{}/maps", command.0.id())).unwrap();
            state.contains("bpf-map")
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        let aside = format!("{path}_aside");
        fs::rename(path, &aside).unwrap();
        fs::rename(new.path(by), path).unwrap();
        let mut line = String::new();
        while !line.contains("not continuing with the map") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{args:?} ended");
        }
        fs::rename(&aside, path).unwrap();
        command.signal(Signal::INT);
        until("the end", || command.0.try_wait().unwrap().is_some());
        assert!(command.0.wait().unwrap().success(), "{args:?}");
    }
    assert_eq!([&inspect(&ring_file)["whole"], &inspect(&counters_file)["whole"]], [&json!(true); 2]);
}
