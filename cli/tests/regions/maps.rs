//! Maps of a real program, of each kind: read as root and as nobody, and while a loader restarts.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Instant;

use mapring::Region;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use super::common::{DEADLINE, Running, command};
use super::loaded::Loaded;
use super::{lines, mapring, stderr, text};

impl Loaded {
    fn show(&self, name: &str, options: &[&str]) -> String {
        text(&mapring(&[&["show", &self.path(name)], options].concat()))
    }
}

/// As [`mapring`](crate::mapring), by nobody.
fn as_nobody(args: &[&str]) -> std::process::Output {
    let output = crate::nobody::as_nobody(args);
    crate::assert_harmless(&output.stdout);
    crate::assert_harmless(&output.stderr);
    output
}

#[test]
fn ls_lists_every_kind_in_80_columns() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(10);
    let dir = loaded.path("");
    let shown = text(&mapring(&["ls", &dir]));
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let found = lines(&mapring(&["ls", &dir, "--json"]));
    let of =
        |name: &str| found.iter().find(|map| map["name"].as_str().is_some_and(|n| n.contains(name))).unwrap();
    for (name, kind, ty, size, entries, access) in [
        ("t_events", "ring", "struct event", 64, 64, "mapped"),
        ("t_names", "ring (TAILS)", "struct name", 32, 16, "mapped"),
        ("t_sized", "ring (RESIZABLE)", "struct sized", 16, 16, "mapped"),
        ("t_nodes", "ring (PER_CPU_MAPS)", "struct on_node", 16, 32, "mapped"),
        ("t_loads", "cells", "struct load", 16, 8, "mapped"),
        ("t_calls", "counters", "u64", 8, 1000, "mapped"),
        ("t_waits", "histograms", "u64", 4096, 1, "mapped"),
        ("t_keys", "top keys", "u64", 248, 64, "mapped"),
        ("t_settings", "array", "struct setting", 16, 4, "mapped"),
        ("t_each", "per-CPU array", "struct point", 8, 70, "syscall"),
        (".data", "global data", ".data", 8, 1, "mapped"),
    ] {
        let map = of(name);
        println!("{name}: {map}");
        assert_eq!(
            (&map["kind"], &map["entries"], &map["access"]),
            (&json!(kind), &json!(entries), &json!(access))
        );
        assert_eq!((&map["type"], &map["size"]), (&json!(ty), &json!(size)));
        assert!(map["pins"][0].as_str().unwrap().starts_with(&dir));
    }
    let events = of("t_events");
    assert_eq!(
        (&events["loader"]["pid"], &events["loader"]["lives"]),
        (&json!(std::process::id()), &json!(true))
    );
    assert_eq!(
        (&events["programs"][0]["name"], &events["programs"][0]["links"]),
        (&json!("fill"), &json!(0))
    );
    assert!(of("t_each")["refusal"].as_str().unwrap().contains("never mapped"));
    // A pin with a name that would change a terminal.
    let hostile = loaded.dir.join("\x1b[2J\u{9b}1m\u{202e}x");
    Region::open(loaded.path("t_events")).unwrap().pin(&hostile, 0o600).unwrap();
    for options in [&[][..], &["--json"]] {
        assert!(text(&mapring(&[&["ls", &dir], options].concat())).contains("u{1b}[2J"));
    }
    assert!(mapring(&["show", hostile.to_str().unwrap()]).status.success());
    // All maps of the machine, and this one among them, once.
    let id = &events["id"];
    let all = lines(&mapring(&["ls", "--json"]));
    assert_eq!(all.iter().filter(|map| map["id"] == *id).count(), 1);
    let by_id = lines(&mapring(&["show", &format!("id:{id}"), "--json", "-n", "0"]));
    assert_eq!(by_id[0]["name"], "t_events");
}

#[test]
fn show_decodes_every_kind() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(100);
    let events = loaded.show("t_events", &["-n", "2"]);
    assert!(events.contains("100 records reserved, 64 still in the ring, 0 dropped by programs"));
    assert!(events.contains(
        "pid=99 state=RUNNING at=[{x=0 y=0}, {x=0 y=-5}] low=9 high=300 whole=16909060 parts=0x04030201 comm=\"bash\" ok=true"
    ) || cfg!(target_endian = "big"));
    assert!(events.contains("pid=100 state=STOPPED") && events.contains("comm=\"x\\u{1b}[2Jy\""));
    let names = loaded.show("t_names", &[]);
    assert!(names.contains("number=8  tail \"a tail\""));
    for (name, number) in [("t_sized", 9), ("t_nodes", 10)] {
        let shown = loaded.show(name, &[]);
        assert!(shown.contains("1 records reserved") && shown.contains(&format!("number={number}")));
    }
    // The ring in use of a map of maps can be pinned.
    assert!(mapring(&["pin", &loaded.path("t_sized"), &loaded.path("t_in_use")]).status.success());
    assert!(loaded.show("t_in_use", &[]).contains("number=9"));
    assert!(loaded.show("t_loads", &[]).contains("index 3: number=42 at={x=-1 y=2}"));
    let calls = loaded.show("t_calls", &["-n", "100"]);
    assert!(calls.contains("index 99: 100") && calls.contains("(900 are zero"));
    let waits = loaded.show("t_waits", &[]);
    assert!(waits.contains("index 0: 100 values") && waits.contains("p99 ≤ ") && waits.contains("###"));
    assert!(waits.lines().all(|line| line.chars().count() <= 80));
    assert!(loaded.show("t_depths", &[]).contains("index 1: min=17 max=17 last_min=17"));
    let keys = loaded.show("t_keys", &[]);
    assert!(keys.contains("1,000 in all") && keys.contains("key 0: 340  error 0"));
    assert!(loaded.show("t_settings", &[]).contains("index 1: number=5 text=\"five\""));
    let each = loaded.show("t_each", &["--json"]);
    let values: Vec<Value> = each.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 1, "one CPU ran the program");
    assert_eq!((&values[0]["index"], &values[0]["value"]), (&json!(1), &json!({ "x": 1, "y": -2 })));
    let data =
        fs::read_dir(&loaded.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let data = data.into_iter().find(|name| name.ends_with("_data")).unwrap();
    assert!(loaded.show(&data, &[]).contains("t_place = {x=3 y=-4}"));
}

#[test]
fn tail_filters_and_shows_losses() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(100);
    let path = loaded.path("t_events");
    let tail = |options: &[&str]| mapring(&[&["tail", &path, "--no-follow", "--json"], options].concat());
    let pids = |output: &std::process::Output| -> Vec<u64> {
        lines(output).iter().map(|line| line["record"]["pid"].as_u64().unwrap()).collect()
    };
    let all = tail(&[]);
    assert_eq!(pids(&all), (37..=100).collect::<Vec<_>>());
    assert!(lines(&all).iter().all(|line| line["time"].as_str().unwrap().ends_with('Z')));
    let filter = "comm ~ \"ba.*\" && pid > 90 && !(pid == 95 || state == STOPPED) && at[1].y == -5";
    assert_eq!(pids(&tail(&["--where", filter])), [91, 93, 97, 99]);
    assert_eq!(pids(&tail(&["--where", filter, "-n", "2", "--stamp", "ns"])), [91, 93]);
    let unknown = tail(&["--where", "pdi == 3"]);
    assert!(
        unknown.status.code() == Some(1)
            && stderr(&unknown).contains("no field pdi; the fields are ns, pid, state")
    );
    let text_of_number = tail(&["--where", "pid == \"3\""]);
    assert!(stderr(&text_of_number).contains("pid is a number, and is compared with a text"));
    assert_eq!(tail(&["--where", "pid = 3"]).status.code(), Some(2));
    assert!(stderr(&tail(&["--stamp", "comm"])).contains("no field of 8 bytes"));
    let people = text(&mapring(&["tail", &path, "--no-follow", "-n", "1"]));
    assert!(people.contains("] ns=") && people.contains(" pid=37 "), "{people}");
    let frozen = mapring(&["freeze", &loaded.path("t_each"), &loaded.path("frozen")]);
    assert!(stderr(&frozen).contains("t_each is not a region, but of kind per-CPU array"));
    let names = lines(&mapring(&["tail", &loaded.path("t_names"), "--no-follow", "--json"]));
    assert_eq!((&names[0]["tail"], &names[0]["record"]["number"]), (&json!("a tail"), &json!(8)));
}

/// Its name works only as long as the map of maps lives.
#[test]
fn a_ring_of_maps_of_its_own_is_read_by_its_directory() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(10);
    let dir = loaded.path("ring_of_nodes");
    assert!(mapring(&["pin", &loaded.path("t_nodes"), &dir]).status.success());
    std::fs::remove_file(loaded.path("t_nodes")).unwrap();

    let shown = lines(&mapring(&["show", &dir, "--json"]));
    let facts = ["kind", "type", "pins"].map(|name| &shown[0][name]);
    assert_eq!(facts, [&json!("ring (PER_CPU_MAPS)"), &json!("struct on_node"), &json!([dir])]);
    assert!(shown[0]["shards"].as_u64() > Some(0) && shown[1]["value"]["number"] == 10, "{shown:?}");
    let read = lines(&mapring(&["tail", &dir, "--no-follow", "--json"]));
    assert_eq!((read.len(), &read[0]["record"]["number"]), (1, &json!(10)));
    let stat = text(&mapring(&["stat", &dir, "-n", "1", "--interval", "50ms"]));
    assert!(stat.contains("\nring_of_nodes "), "{stat}");
    let exported = text(&mapring(&["export", "prometheus", "--once", &dir]));
    assert!(exported.contains("mapring_dropped_total") && exported.contains(&dir), "{exported}");
    let again = loaded.path("again");
    assert!(mapring(&["freeze", &dir, &again, "--yes"]).status.success());
    assert_eq!(lines(&mapring(&["show", &again, "--json"]))[1]["value"]["number"], 10);
    // Another directory is no ring.
    let other = mapring(&["show", loaded.dir.to_str().unwrap()]);
    assert!(stderr(&other).contains("is a directory: `mapring ls` lists the maps"));
}

#[test]
fn records_with_tails_of_several_cpus_come_in_order() {
    let Some(loaded) = Loaded::new() else { return };
    let all = sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(2).collect();
    for cpu in cpus.iter().cycle().take(8) {
        let mut one = CpuSet::new();
        one.set(*cpu);
        sched_setaffinity(None, &one).unwrap();
        loaded.fill(1);
    }
    sched_setaffinity(None, &all).unwrap();
    let records = lines(&mapring(&["tail", &loaded.path("t_names"), "--no-follow", "--json"]));
    let of = |field: &str| records.iter().map(|line| line[field].as_u64().unwrap()).collect::<Vec<_>>();
    let stamps: Vec<_> = records.iter().map(|line| line["record"]["ns"].as_u64().unwrap()).collect();
    assert!(stamps.len() == 8 && stamps.is_sorted(), "{stamps:?}");
    let shards: Vec<_> = cpus.iter().cycle().take(8).map(|cpu| *cpu as u64).collect();
    assert_eq!(of("shard"), shards);
    assert!(records.iter().all(|line| line["tail"] == "a tail"));
}

#[test]
fn tail_reads_several_rings_in_the_order_of_their_stamps() {
    let Some(loaded) = Loaded::new() else { return };
    (0..5).for_each(|_| loaded.fill(1));
    let names = ["t_events", "t_names", "t_sized", "t_nodes"];
    let tail = |names: &[&str], options: &[&str]| {
        let paths: Vec<_> = names.iter().map(|name| loaded.path(name)).collect();
        let paths = paths.iter().map(String::as_str);
        mapring(&["tail"].into_iter().chain(paths).chain(options.iter().copied()).collect::<Vec<_>>())
    };
    let all = tail(&names, &["--no-follow", "--json"]);
    let records = lines(&all);
    let rings: Vec<_> = records.iter().map(|line| line["ring"].as_str().unwrap()).collect();
    assert_eq!(rings, [names; 5].concat(), "the program writes one record into each, in this order");
    assert!(records.iter().map(|line| line["record"]["ns"].as_u64().unwrap()).is_sorted());
    assert!(records.iter().all(|line| line["time"].is_string()));
    assert_eq!(
        [0, 1, 2, 3].map(|at| &records[4 * at + at]["tail"]),
        [&Value::Null, &json!("a tail"), &Value::Null, &Value::Null]
    );
    assert!(stderr(&all).contains("20 records, none lost"));
    let people = text(&tail(&names, &["--no-follow", "-n", "3"]));
    let lines_of: Vec<_> = people.lines().collect();
    assert!(
        lines_of.len() == 3 && lines_of[1].contains(" t_names [") && lines_of[1].ends_with(" \"a tail\"")
    );

    // A filter holds of the rings whose records have the fields.
    for (filter, found) in [
        ("number == 8", vec!["t_names"; 5]),
        ("number == 10 || pid == 3", vec!["t_nodes", "t_nodes", "t_events", "t_nodes", "t_nodes", "t_nodes"]),
        ("tail ~ \"a.*\" && number > 0", vec!["t_names"; 5]),
    ] {
        let records = lines(&tail(&names, &["--no-follow", "--json", "--where", filter]));
        assert_eq!(
            records.iter().map(|line| line["ring"].as_str().unwrap()).collect::<Vec<_>>(),
            found,
            "{filter}"
        );
    }
    for (names, options, why) in [
        (&names[..], &["--where", "pdi == 3"][..], "no field pdi; the fields are ns, pid, state"),
        (&names, &["--where", "number == \"x\""], "number is a number, and is compared with a text"),
        (
            &["t_events", "t_raw"],
            &[],
            "t_raw: several rings are read in the order of their time stamps: --stamp FIELD",
        ),
        (&["t_events", "t_raw"], &["--stamp", "ns"], "t_raw: --stamp: struct raw has no field of 8 bytes"),
        (
            &["t_events", "t_kernel"],
            &[],
            "t_kernel: several rings are read in the order of their time stamps: its",
        ),
        (&["t_events", "t_calls"], &[], "t_calls is not a mapring ring, but of kind counters"),
        (&["t_events", "t_none"], &[], "t_none"),
    ] {
        let output = tail(names, &[&["--no-follow"], options].concat());
        assert_eq!(output.status.code(), Some(1), "{names:?} {options:?}");
        assert!(stderr(&output).contains(why), "{names:?} {options:?}: {}", stderr(&output));
    }
    // The number 7 is the earliest time stamp.
    let named = ["--no-follow", "--json", "--stamp", "ns", "--stamp", "number"];
    let records = lines(&tail(&["t_events", "t_raw"], &named));
    let rings: Vec<_> = records.iter().map(|line| line["ring"].as_str().unwrap()).collect();
    assert_eq!(rings, [["t_raw"; 5], ["t_events"; 5]].concat());
    let same = lines(&tail(&["t_events", "t_events"], &["--no-follow", "--json", "-n", "1"]));
    assert!(same[0]["ring"].as_str().unwrap().starts_with("t_events id:"));
}

/// A flood overwrites its own ring only, and one of two loaders starts again.
#[test]
fn tail_follows_each_of_several_rings() {
    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    let (events, names) = (old.path("t_events"), old.path("t_names"));
    let mut tail = command(&["tail", &events, &names, "--json", "--from", "first"]);
    let mut tail = Running(tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut stdout = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    // The names of their rings, until there were some of a ring.
    let mut until = |ring: &str, count: usize| {
        let mut seen: Vec<String> = Vec::new();
        while seen.iter().filter(|seen| *seen == ring).count() < count {
            let line: Value = serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap();
            seen.push(line["ring"].as_str().unwrap().to_owned());
        }
        seen
    };
    old.fill(5);
    assert_eq!(until("t_names", 1), ["t_events", "t_events", "t_events", "t_events", "t_events", "t_names"]);
    (0..10).for_each(|_| old.fill(100));
    until("t_names", 10);
    fs::remove_file(&events).unwrap();
    fs::rename(new.path("t_events"), &events).unwrap();
    new.fill(3);
    assert_eq!(until("t_events", 3), ["t_events"; 3]);
    // The ring of the old loader is not read any more.
    old.fill(1);
    assert_eq!(until("t_names", 1), ["t_names"]);
    new.fill(1);
    assert_eq!(until("t_events", 1), ["t_events"]);
    let said = end(&mut tail);
    assert!(
        said.contains(&format!("{events}: another ring is pinned there now; continuing with it")),
        "{said}"
    );
    assert!(said.contains("mapring: lost: t_events: shard ") && !said.contains("t_names: shard"), "{said}");
    assert!(said.contains("; lost: t_events: ") && said.contains(" overwritten\n"), "{said}");
}

#[test]
fn tail_counts_the_records_of_each_ring_that_came_too_late_for_the_order() {
    let Some(loaded) = Loaded::new() else { return };
    let (events, spans) = (loaded.path("t_events"), loaded.path("t_spans"));
    let mut tail = command(&["tail", &events, &spans, "--from", "first", "--stamp", "ns", "--stamp", "time"]);
    let mut tail = Running(tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut stdout = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut next = || stdout.next().unwrap().unwrap();
    loaded.fill(1);
    assert!(next().contains(" t_events ["));
    loaded.fill_spans(1, 1, 1000);
    assert!((0..40).all(|_| next().contains("t_spans [")));
    let said = end(&mut tail);
    assert!(said.contains("mapring: t_spans: 40 records came after one with a later time stamp\n"), "{said}");
    assert!(said.contains("41 records, none lost") && !said.contains("mapring: t_events"), "{said}");
}

/// Ends a command as Ctrl-C does; returns what it says.
fn end(command: &mut Running) -> String {
    let id = rustix::process::Pid::from_child(&command.0);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let mut said = String::new();
    command.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(command.0.wait().unwrap().success());
    said
}

#[test]
fn tail_follows_a_restarted_loader() {
    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    let path = old.path("t_events");
    let mut tail = command(&["tail", &path, "--json", "--from", "first", "-n", "150"]);
    let mut tail = Running(tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut stdout = BufReader::new(tail.0.stdout.take().unwrap());
    let mut line = String::new();
    old.fill(50);
    stdout.read_line(&mut line).unwrap();
    // The rest of the first ring, and then all of the second, of which 36 are overwritten.
    fs::remove_file(&path).unwrap();
    fs::rename(new.path("t_events"), &path).unwrap();
    new.fill(100);
    let mut rest = String::new();
    let read = std::thread::spawn(move || {
        stdout.read_to_string(&mut rest).unwrap();
        rest
    });
    // Until it has seen all of the new ring, and 36 more records for those that were overwritten.
    while !read.is_finished() {
        new.fill(1);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let rest = read.join().unwrap();
    let mut log = String::new();
    tail.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    println!("{log}");
    assert!(tail.0.wait().unwrap().success());
    let records: Vec<Value> =
        (line + &rest).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 150);
    let pids: Vec<_> = records.iter().map(|line| line["record"]["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids[..50], (1..=50).collect::<Vec<_>>());
    assert!(pids[50..].is_sorted() && pids[50] < 200, "{pids:?}");
    assert!(log.contains("another ring is pinned there now") && log.contains("150 records"));
    let lost = pids[50] - 1;
    assert!(lost == 0 || log.contains(&format!("{lost} overwritten")), "{log}");
}

#[test]
fn stat_follows_a_restarted_loader() {
    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    let path = old.path("t_events");
    (0..10).for_each(|_| new.fill(100));
    let mut stat = command(&["stat", &path, "-i", "20ms", "--json"]);
    let mut stat = Running(stat.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut reports = BufReader::new(stat.0.stdout.take().unwrap()).lines();
    let mut until = |total: u64| {
        let end = Instant::now() + DEADLINE;
        let mut report = Value::Null;
        while report["total"] != total {
            assert!(Instant::now() < end, "{report}");
            report = serde_json::from_str(&reports.next().unwrap().unwrap()).unwrap();
        }
    };
    old.fill(50);
    until(50);
    fs::remove_file(&path).unwrap();
    fs::rename(new.path("t_events"), &path).unwrap();
    until(1000);
    stat.0.kill().unwrap();
    let mut log = String::new();
    stat.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("another region is pinned there now"), "{log}");
}

#[test]
fn stat_counts_what_programs_write() {
    let Some(loaded) = Loaded::new() else { return };
    let (events, calls) = (loaded.path("t_events"), loaded.path("t_calls"));
    let mut stat = command(&["stat", &events, &calls, "-n", "2", "-i", "500ms", "--json"]);
    let mut stat = stat.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    while stat.try_wait().unwrap().is_none() {
        loaded.fill(10);
    }
    let output = stat.wait_with_output().unwrap();
    let reports = lines(&output);
    assert_eq!(reports.len(), 4);
    for report in &reports {
        assert!(report["per_second"].as_f64().unwrap() > 0.0 && report["total"].as_u64().unwrap() > 0);
    }
    assert!(reports[2]["total"].as_u64() > reports[0]["total"].as_u64());
    assert!(reports[0]["parts"].as_array().unwrap().iter().any(|shard| shard["last_seconds_ago"].is_f64()));
    assert_eq!((&reports[1]["unit"], &reports[0]["lost"]), (&json!("counts"), &json!({})));
    // Nothing is written any more, and the age of the last record is known.
    let later = lines(&mapring(&["stat", &events, "-n", "1", "-i", "1ms", "--json"]));
    let ages = later[0]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| (&shard["last_seconds_ago"], &shard["per_second"]));
    assert!(
        ages.clone().any(|(age, _)| age.is_f64()) && ages.clone().all(|(_, rate)| *rate == 0.0),
        "{later:?}"
    );
    let Some(other) = Loaded::new() else { return };
    let same_name = text(&mapring(&["stat", &events, &other.path("t_events"), "-n", "1", "-i", "1ms"]));
    assert_eq!(same_name.matches("t_events id:").count(), 2, "{same_name}");
    let people = text(&mapring(&["stat", &events, &calls, "-n", "1", "-i", "1ms"]));
    assert!(people.contains("shard 0") && people.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn nobody_reads_what_is_frozen_for_all_and_is_told_what_else_is_needed() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(100);
    fs::set_permissions(&loaded.dir, Permissions::from_mode(0o755)).unwrap();
    if fs::metadata("/sys/fs/bpf").unwrap().permissions().mode() & 0o001 == 0 {
        crate::skip::skipped("only root may search /sys/fs/bpf here");
        return;
    }
    // The loader has these maps mapped for writing no more.
    let frozen = loaded.path("public");
    let options = mapring::OpenOptions::new();
    let region: Region = options.open(loaded.path("t_events")).unwrap();
    let pin = mapring::loader::PinOptions::new(0o666).allow_unprivileged_bpf(true);
    region.freeze_and_pin(&frozen, pin).unwrap();

    let shown = as_nobody(&["show", &frozen, "--json", "-n", "1"]);
    let shown = lines(&shown);
    assert_eq!((&shown[0]["access"], &shown[0]["kind"]), (&json!("mapped"), &json!("ring")));
    // The preamble has the name of the type; the fields take a privilege.
    assert_eq!(shown[0]["type"], "event");
    assert!(shown[0]["no_types"].as_str().unwrap().contains("CAP_SYS_ADMIN"));
    assert!(shown[0]["no_programs"].as_str().unwrap().contains("CAP_SYS_ADMIN"));
    assert!(shown[1]["value"].as_str().unwrap().starts_with("0x"));
    let tail = as_nobody(&["tail", &frozen, "--no-follow", "--json"]);
    assert_eq!(lines(&tail).len(), 64);
    assert!(stderr(&tail).contains("CAP_SYS_ADMIN") && stderr(&tail).contains("64 records, none lost"));
    let filtered = as_nobody(&["tail", &frozen, "--no-follow", "--where", "pid == 3"]);
    assert!(!filtered.status.success() && stderr(&filtered).contains("CAP_SYS_ADMIN"));

    let denied = as_nobody(&["show", &loaded.path("t_calls")]);
    assert_eq!(denied.status.code(), Some(77));
    assert!(stderr(&denied).contains("t_calls") && stderr(&denied).contains("permission"));
    let by_id = as_nobody(&["show", &format!("id:{}", shown[0]["id"])]);
    assert!(by_id.status.code() == Some(77) && stderr(&by_id).contains("CAP_SYS_ADMIN"));
    let ls = as_nobody(&["ls", "--json"]);
    assert!(stderr(&ls).contains("CAP_SYS_ADMIN is needed to list maps by id"));
    assert!(lines(&ls).iter().any(|map| map["pins"].as_array().unwrap().contains(&json!(frozen))));
}
