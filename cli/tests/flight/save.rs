//! A recording in a file: what is read from it is what the running recorder shows, without it, and by any user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::Cgroup;
use crate::recorder::{Busy, Recorder, checked, output, stderr};
use crate::skip;

/// A directory that any user may enter. Dropping it removes it.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mapring-save-{}-{test}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    str::from_utf8(&output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn child(script: &str) -> u32 {
    let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    let _ = child.wait().unwrap();
    child.id()
}

/// A stopped recording in `saved`, and what the recorder itself dumps and reports of it. The recorder is gone.
fn saved(dir: &Dir, events: &str) -> Option<(String, Vec<Value>, Value)> {
    let recorder = Recorder::new(dir.0.file_name().unwrap().to_str().unwrap());
    // Of this test alone: others run at the same time.
    let name = dir.0.to_str().unwrap().rsplit('-').next().unwrap();
    let trigger = format!("syscall getppid > 0s comm={name} pid={}", std::process::id());
    if !recorder.start(&["--size", "1M", "--events", events, "--stop-on", &trigger, "--after", "0s"]) {
        return None;
    }
    assert_eq!(recorder.run(&["mark", "deploy 1234"]).status.code(), Some(0));
    child("exit 3");
    let calls = || assert!(rustix::process::getppid().is_some());
    std::thread::Builder::new().name(name.to_owned()).spawn(calls).unwrap().join().unwrap();
    while recorder.status()["recording"]["stopped"]["recording"] != false {}
    let file = dir.path("saved");
    let wrote = recorder.run(&["save", &file]);
    assert!(wrote.status.success());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = recorder.run(&["save", &file]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("--force"));
    let events = lines(&recorder.run(&["dump", "--format", "ndjson"]));
    let report = recorder.run(&["report", "--json"]);
    Some((file, events, serde_json::from_slice(&report.stdout).unwrap()))
}

#[test]
fn a_file_shows_what_the_recorder_did_without_it() {
    let dir = Dir::new("same");
    let Some((file, events, report)) = saved(&dir, "sched,exec,net") else { return };
    let none = Recorder::new("none");
    let again = none.run(&["dump", "--from", &file, "--format", "ndjson"]);
    let again = lines(&again);
    assert!(events.len() > 100, "{}", events.len());
    for (before, after) in events.iter().zip(&again) {
        let [mut before, mut after] = [before.clone(), after.clone()];
        // Those that ended meanwhile have names only in the file.
        for late in ["process", "thread", "cgroup", "ns_pid", "pid_ns"] {
            let [before, after] = [before[late].take(), after[late].take()];
            assert!(before.is_null() || before == after, "{late}: {before} {after}");
        }
        // Wall times come from a comparison of clocks, which is good to microseconds, or in a guest to milliseconds.
        let [was, is] = [before["time"].take(), after["time"].take()]
            .map(|time| humantime::parse_rfc3339(time.as_str().unwrap()).unwrap());
        let apart = was.duration_since(is).unwrap_or_else(|e| e.duration());
        assert!(apart < Duration::from_secs(1), "{was:?} {is:?}");
        assert_eq!(before, after);
    }
    assert_eq!(events.len(), again.len());
    let read = none.run(&["report", "--from", &file, "--json"]);
    let read: Value = serde_json::from_slice(&read.stdout).unwrap();
    for part in ["stopped", "completeness", "runqueue", "ended_count", "started_count"] {
        assert_eq!(read[part], report[part], "{part}");
    }
    assert_eq!(read["marks"][0]["text"], "deploy 1234");
    let status = none.run(&["status", "--from", &file, "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let trigger = status["triggers"][0]["trigger"].as_str().unwrap();
    assert!(trigger.starts_with("syscall getppid > 0s comm=same pid="), "{trigger}");
    assert_eq!((&status["triggers"][0]["met"], &status["stopped"]["recording"]), (&json!(1), &json!(false)));
    let text = none.run(&["status", "--from", &file]);
    let text = str::from_utf8(&text.stdout).unwrap();
    assert!(text.starts_with("Saved at ") && text.contains("\nstopped by syscall of "), "{text}");
    let trace = none.run(&["dump", "--from", &file, "--out", &dir.path("trace.pftrace")]);
    assert!(trace.status.success());
}

#[test]
fn names_come_from_the_file_and_not_from_this_machine() {
    let dir = Dir::new("names");
    let Some((file, ..)) = saved(&dir, "exec") else { return };
    let me = std::process::id();
    let bytes = fs::read(&file).unwrap();
    // This process has another command line in the file than here.
    let parts = parts(&bytes);
    let (_, names) = parts.iter().find(|(name, _)| name == "names").unwrap();
    let mut names: Value = serde_json::from_slice(names).unwrap();
    let of_me = names["processes"].as_array_mut().unwrap().iter_mut().find(|it| it[0] == me).unwrap();
    (of_me[1]["cgroup"], of_me[1]["comm"]) = (json!("/\u{1b}[2Jforged"), json!(b"forged"));
    let forged = parts.iter().map(|(name, content)| match &**name {
        "names" => (name.clone(), serde_json::to_vec(&names).unwrap()),
        _ => (name.clone(), content.clone()),
    });
    fs::write(dir.path("forged"), file_of(forged)).unwrap();
    let events =
        lines(&Recorder::new("none").run(&["dump", "--from", &dir.path("forged"), "--format", "ndjson"]));
    let mine: Vec<_> = events.iter().filter(|event| event["pid"] == me).collect();
    assert!(!mine.is_empty());
    assert!(
        mine.iter().all(|event| event["cgroup"] == "/\\u{1b}[2Jforged" && event["process"] == "forged"),
        "{mine:?}"
    );
}

#[test]
fn any_user_reads_a_file() {
    let dir = Dir::new("nobody");
    let Some((file, ..)) = saved(&dir, "exec,irq") else { return };
    let binary = dir.path("mapring");
    // By another process: see `group.rs`.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_mapring")).arg(&binary).status().unwrap().success());
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    for what in [&["report"][..], &["dump", "--format", "csv"], &["status"]] {
        let mut command = Command::new(&binary);
        command.arg("flight").args(what).args(["--from", &file]).uid(65534).gid(65534);
        assert!(output(&mut command).status.success());
    }
}

#[test]
fn two_files_are_compared() {
    let dir = Dir::new("diff");
    let Some((before, ..)) = saved(&dir, "exec") else { return };
    let now = dir.path("now");
    fs::rename(&before, &now).unwrap();
    let Some((before, ..)) = saved(&dir, "exec,irq") else { return };
    let diff = |options: &[&str]| {
        let output =
            Recorder::new("none").run(&[&["report", "--from", &now, "--diff", &before], options].concat());
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let found = diff(&["--json"]);
    let found = checked("diff", found.as_bytes());
    assert!(found["seconds"].as_f64().unwrap() > 0.0 && found["changes"].is_array(), "{found}");
    let not_compared: Vec<_> =
        found["not_compared"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(not_compared.contains(&"irq") && !not_compared.contains(&"exec"), "{found}");
    assert!(diff(&[]).contains(" s before. Of each kind the largest changes first\n"));
}

/// The parts of a file: their names and contents.
fn parts(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut at, mut parts) = (16, Vec::new());
    while at < bytes.len() {
        let len = usize::try_from(u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap())).unwrap();
        let name = str::from_utf8(&bytes[at..at + 16]).unwrap().trim_end_matches('\0').to_owned();
        parts.push((name, bytes[at + 32..at + 32 + len].to_vec()));
        at += 32 + len;
    }
    parts
}

/// A file with right checksums.
fn file_of(parts: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut file = b"MAPRINGF\x01\0\0\0\0\0\0\0".to_vec();
    for (name, content) in parts {
        let mut header = [0; 32];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[16..24].copy_from_slice(&(content.len() as u64).to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header[..24]);
        checksum.update(&content);
        header[24..28].copy_from_slice(&checksum.finalize().to_le_bytes());
        file.extend(header);
        file.extend(content);
    }
    file
}

/// What reading it says. It ends with exit code 0 or 1, and shows nothing that changes a terminal.
fn read(file: &str, bytes: &[u8]) -> Result<String, String> {
    fs::write(file, bytes).unwrap();
    let mut found = Ok(String::new());
    for command in ["report", "status"] {
        let output = Command::new(env!("CARGO_BIN_EXE_mapring"))
            .args(["flight", command, "--from", file])
            .output()
            .unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(!out.contains(['\x1b', '\u{202e}']) && !err.contains(['\x1b', '\u{202e}']), "{out} {err}");
        found = if output.status.success() { Ok(out) } else { Err(err) };
    }
    found
}

#[test]
fn damage_is_refused() {
    let dir = Dir::new("damage");
    let Some((file, ..)) = saved(&dir, "exec") else { return };
    let (bytes, changed) = (fs::read(&file).unwrap(), dir.path("changed"));
    assert!(read(&changed, &bytes).is_ok());
    // Of each part the header and some bytes of the content; cut and changed.
    let mut places: Vec<_> = (0..16).collect();
    let mut at = 16;
    for (_, content) in parts(&bytes) {
        places.extend((at..at + 32 + content.len()).take(48));
        at += 32 + content.len();
    }
    for place in places {
        let mut other = bytes.clone();
        other[place] ^= 1 << (place % 8);
        assert!(read(&changed, &other).is_err(), "byte {place}");
        let log = read(&changed, &bytes[..place]).unwrap_err();
        assert!(log.contains("is cut") || log.contains("not a file of"), "{place}: {log}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(read(&changed, &longer).unwrap_err().contains("after its end"));
}

#[test]
fn forged_files_do_no_harm() {
    let dir = Dir::new("forged");
    let Some((file, ..)) = saved(&dir, "exec") else { return };
    let (parts, forged) = (parts(&fs::read(&file).unwrap()), dir.path("forged"));
    let with = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut parts = parts.clone();
        parts.iter_mut().filter(|part| part.0 == name).for_each(|part| change(&mut part.1));
        read(&forged, &file_of(parts))
    };
    let json = |name: &str, change: &dyn Fn(&mut Value)| {
        with(name, &|content| {
            let mut value: Value = serde_json::from_slice(content).unwrap();
            change(&mut value);
            *content = serde_json::to_vec(&value).unwrap();
        })
    };
    // Each word of the preamble and of the first slots.
    for word in 0..48 {
        for value in [0, 7, u64::MAX] {
            let _ = with("exec", &|ring| ring[8 * word..8 * word + 8].copy_from_slice(&value.to_le_bytes()));
        }
    }
    let _ = with("exec", &|ring| ring[128..].fill(0xff));
    let _ = with("exec", &|ring| {
        ring[128..].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 89 % 251).to_le_bytes()[0])
    });
    assert!(with("exec", &|ring| ring.truncate(100)).unwrap_err().contains("the ring of exec"));
    let other = json("about", &|about| about["layouts"]["exec"] = json!("ns@0:8"));
    assert!(other.unwrap_err().contains("with \"exec\" that this mapring"));
    let other = json("about", &|about| about["layouts"]["stop"] = json!("1 at@0:8 oom=6"));
    assert!(other.unwrap_err().contains("another build of mapring"));
    let other = json("about", &|about| *about = json!({"machine": {"mapring": "9.8.7"}}));
    assert!(other.unwrap_err().contains(": mapring 9.8.7 wrote it, "));
    for huge in [json!(0), json!(u64::MAX)] {
        for name in ["until", "since"] {
            let _ = json("about", &|about| about[name] = huge.clone());
        }
        let _ = json("about", &|about| about["machine"]["now"] = huge.clone());
    }
    for wall in [i64::MIN, i64::MAX] {
        let _ = json("about", &|about| about["machine"]["clocks"] = json!({"wall": wall, "boot": wall}));
    }
    for name in ["host", "release", "mapring", "machine"] {
        let _ = json("about", &|about| about["machine"][name] = json!("\x1b[2J\u{202e}"));
    }
    let _ = json("about", &|about| about["triggers"] = json!("\n\x1b[2J\nexit"));
    let _ = json("about", &|about| about["clocks"] = json!("9223372036854775807 -9223372036854775808"));
    let _ = json("about", &|about| about["stop"] = json!(vec![u64::MAX; 18]));
    assert!(json("about", &|about| about["stop"] = json!([1])).unwrap_err().contains("what stopped it"));
    let twice = parts.iter().take(2).chain(&parts[1..]).cloned();
    assert!(read(&forged, &file_of(twice)).unwrap_err().contains("two rings"));
    let newer =
        parts[..2].iter().cloned().chain([("other".to_owned(), vec![])]).chain(parts[2..].iter().cloned());
    assert!(read(&forged, &file_of(newer)).unwrap_err().contains("read it with that one"));
    // A ring that says that it is large, and a newer format.
    let mut large = file_of(parts[..2].iter().cloned());
    let at = 16 + 32 + parts[0].1.len() + 16;
    large[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(
        read(&forged, &large).unwrap_err().contains("more memory than this machine, or a cgroup, has free")
    );
    // One that is as large, and has holes: a cgroup has no room for it.
    large[at..at + 8].copy_from_slice(&(1_u64 << 30).to_le_bytes());
    fs::write(&forged, &large).unwrap();
    fs::File::options().write(true).open(&forged).unwrap().set_len(large.len() as u64 + (1 << 30)).unwrap();
    match Cgroup::new("forged", "64M") {
        Some(group) => {
            let mut report = group.command();
            report.arg(env!("CARGO_BIN_EXE_mapring")).args(["flight", "report", "--from", &forged]);
            let report = output(&mut report);
            assert_eq!(report.status.code(), Some(1), "{report:?}");
            assert!(stderr(&report).contains("or a cgroup, has free"), "{report:?}");
        }
        None => skip::skipped("no memory cgroup can be made here"),
    }
    let mut newer = file_of(parts.clone());
    newer[8] = 2;
    assert!(read(&forged, &newer).unwrap_err().contains("a file of version 2"));
}

#[test]
fn who_was_present_at_the_start_has_a_name_after_its_end() {
    let dir = Dir::new("present");
    let busy = Busy(Command::new("/bin/sh").args(["-c", "while :; do sleep 0.01; done"]).spawn().unwrap());
    let pid = busy.0.id();
    let recorder = Recorder::new("present");
    // These events have no names.
    if !recorder.start(&["--size", "1M", "--events", "syscalls"]) {
        return;
    }
    while !recorder.events().iter().any(|event| event.pid == pid) {}
    assert_eq!(recorder.run(&["hold"]).status.code(), Some(0));
    drop(busy);
    let file = dir.path("file");
    assert!(recorder.run(&["save", &file]).status.success());
    for from in [&["dump"][..], &["dump", "--from", &file]] {
        let dumped = lines(&recorder.run(&[from, &["--format", "ndjson"]].concat()));
        let of_it = dumped.iter().find(|line| line["pid"] == pid).unwrap();
        assert_eq!((&of_it["process"], &of_it["thread"]), (&json!("sh"), &json!("sh")), "{from:?}");
        assert!(of_it["cgroup"].is_string(), "{of_it}");
    }
}
