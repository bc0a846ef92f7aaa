//! A recorded incident, and what its report says first.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, setpriority_process};
use serde_json::Value;

use crate::fuse::SlowDisk;
use crate::recorder::{Busy, Recorder, checked, stderr};
use crate::skip;
use crate::triggers::stopped;

const SLOW: Duration = Duration::from_millis(300);

/// What a page says, without its marks of elements.
fn unescaped(html: &str) -> String {
    let quotes = html.replace("&#39;", "'").replace("&quot;", "\"");
    quotes.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Without names, also those of functions: those of processes that have ended since then may be missing, and then it is not known
/// either where a stack is cut.
fn nameless(figures: &Value) -> Value {
    const UNKNOWN: [&str; 4] = ["name", "user", "is_cut", "waits_interruptible"];
    match figures {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| !UNKNOWN.contains(&&***key));
            kept.map(|(key, value)| (key.clone(), nameless(value))).collect()
        }
        Value::Array(list) => list.iter().map(nameless).collect(),
        _ => figures.clone(),
    }
}

/// The CPU time of this process until now, in units of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program can have spaces.
    let (_, after) = stat.rsplit_once(") ").unwrap();
    after.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// The CPU time of all processes since boot, in the same units.
fn all_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let of_all_cpus = stat.lines().next().unwrap().split_whitespace();
    // user, nice, system
    of_all_cpus.skip(1).take(3).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Processes that keep all CPUs busy, until each of them has used more CPU time than all others together since `start` of
/// [`all_ticks`]. Then they go on, on equal terms.
fn hogs(start: u64) -> Vec<Busy> {
    let hogs: Vec<_> = (0..thread::available_parallelism().unwrap().get()).map(|_| Busy::new()).collect();
    let set_nice = |nice: i32| {
        // With CONFIG_SCHED_AUTOGROUP, the processes of a session have one share of the CPUs.
        let _ = fs::write("/proc/self/autogroup", nice.to_string());
        for hog in &hogs {
            setpriority_process(Some(Pid::from_child(&hog.0)), nice).unwrap();
        }
    };
    let are_ahead = || {
        let used: Vec<_> = hogs.iter().map(|hog| ticks(hog.0.id())).collect();
        let others = (all_ticks() - start).saturating_sub(used.iter().sum());
        used.iter().all(|used| *used > 200 + others)
    };
    // Also on a busy machine: they get most of it.
    set_nice(-10);
    let are_ahead = (0..6000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        are_ahead()
    });
    set_nice(0);
    assert!(are_ahead, "other processes keep all CPUs busy");
    hogs
}

#[test]
fn the_first_screen_names_the_hog_the_slow_disk_and_the_crash() {
    let start = all_ticks();
    let recorder = Recorder::new("report");
    let trigger = ["--stop-on", "exit signal=SIGSEGV comm=sh", "--after", "100ms"];
    if !recorder
        .start(&[&["--size", "64M", "--events", "sched,syscalls,exec,block,waits"][..], &trigger].concat())
    {
        return;
    }
    let disk = SlowDisk::new("report", SLOW);
    let hogs = hogs(start);
    // Last: other waits of a busy machine overwrite the stack of this one after some seconds.
    match &disk {
        Some(disk) => File::open(&disk.path).unwrap().read_exact(&mut [0; 4096]).unwrap(),
        None => skip::skipped("no FUSE or loop devices, or this user can't use them"),
    }
    let mut crash = Command::new("/bin/sh").args(["-c", "kill -SEGV $$"]).spawn().unwrap();
    crash.wait().unwrap();
    stopped(&recorder);
    let hogs: Vec<_> = hogs.into_iter().map(|hog| hog.0.id()).collect();

    let text = String::from_utf8(recorder.run(&["report"]).stdout).unwrap();
    println!("{text}");
    let first = text.lines().take(15).collect::<Vec<_>>().join("\n");
    let most = first.lines().find(|line| line.ends_with(", more than any other process")).unwrap();
    let is_named = |hog: &&u32| most.contains(&format!("sh ({hog}) used "));
    let hog = *hogs.iter().find(is_named).unwrap_or_else(|| panic!("{most}: not of {hogs:?}"));
    let mut expected = vec![
        format!("Stopped by exit of {} (sh) by SIGSEGV on ", crash.id()),
        format!("sh ({}) was killed by SIGSEGV, ", crash.id()),
        format!("sh ({hog}) used "),
        "What stands out".to_owned(),
    ];
    if let Some(disk) = &disk {
        expected.push(format!("{} (7:", disk.path.file_name().unwrap().display()));
    }
    expected.iter().for_each(|part| assert!(first.contains(part), "{part}"));

    // Where this thread waited for the disk.
    let json = checked("report", &recorder.run(&["report", "--json"]).stdout);
    let waits = json["waits_uninterruptible"].as_array().unwrap();
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    let of_disk = waits.iter().find(|it| it["task"]["tid"] == me && it["ns"].as_u64() > Some(100_000_000));
    if let Some(wait) = of_disk.or(waits.first().filter(|_| disk.is_some())) {
        let kernel = wait["stack"]["kernel"].as_array().unwrap_or_else(|| panic!("{wait}"));
        assert!(kernel.len() > 3 && wait["waker"].is_object(), "{wait}");
        let is_place = |name: &&str| !["schedule", "__schedule"].iter().any(|it| name.starts_with(it));
        let innermost = kernel.iter().map(|name| name.as_str().unwrap()).find(is_place);
        assert!(text.contains(&format!("      kernel  {}", innermost.unwrap())), "{wait}");
    }

    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{}.html", std::process::id()));
    let file = path.to_str().unwrap();
    assert!(recorder.run(&["report", "--out", file]).status.success());
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(page.len() < 5 << 20, "{}", page.len());
    let (first, rest) = page.split_once("<nav").unwrap();
    let first = unescaped(first);
    expected.iter().for_each(|part| assert!(first.contains(part), "{part}"));

    // The page has the figures of `--json`, and the turns of the hog.
    let (_, data) = rest.split_once("id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let json = checked("report", &recorder.run(&["report", "--json"]).stdout);
    assert_eq!(nameless(&data["figures"]), nameless(&json));
    let ran = json["cpu_time"].as_array().unwrap().iter().find(|it| it["process"]["pid"] == hog).unwrap();
    let threads = data["lanes"]["threads"].as_array().unwrap();
    let number = threads.iter().position(|thread| thread["tid"] == hog).unwrap();
    let cpus = data["lanes"]["cpus"].as_array().unwrap().iter();
    let turns: Vec<u64> = cpus
        .flat_map(|cpu| cpu["turns"].as_array().unwrap())
        .map(|number| number.as_u64().unwrap())
        .collect();
    let drawn = turns.chunks(4).filter(|turn| turn[2] == number as u64 && turn[3] < 8).map(|turn| turn[1]);
    let (drawn, ran) = (drawn.sum::<u64>(), ran["busy_ns"].as_u64().unwrap());
    assert!(data["lanes"]["merged"] != 0 || drawn == ran, "{drawn} of {ran}");

    // A file is only replaced on request, and its name says what it is.
    let again = recorder.run(&["report", "--out", file]);
    assert!(!again.status.success() && stderr(&again).contains("--force replaces it"));
    let json = path.with_extension("json");
    assert!(recorder.run(&["report", "--force", "--out", json.to_str().unwrap()]).status.success());
    assert!(serde_json::from_str::<Value>(&fs::read_to_string(&json).unwrap()).is_ok());
    let wrong = recorder.run(&["report", "--out", "incident.pdf"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains(".html or .json"));
    [path, json].iter().for_each(|file| fs::remove_file(file).unwrap());
}

/// A child with this number, which is free.
fn child_with(number: u32, command: &mut Command) -> Option<Busy> {
    for _ in 0..1000 {
        let before = (number - 1).to_string();
        if let Err(error) = fs::write("/proc/sys/kernel/ns_last_pid", before) {
            skip::skipped(&format!("/proc/sys/kernel/ns_last_pid: {error}"));
            return None;
        }
        let child = Busy(command.spawn().unwrap());
        if child.0.id() == number {
            return Some(child);
        }
    }
    panic!("other processes take the number {number} each time");
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let work = |process: Busy| {
        while ticks(process.0.id()) < 30 {
            thread::sleep(Duration::from_millis(10));
        }
        process
    };
    for (groups, has_names) in [("sched,exec,profile", true), ("profile", false)] {
        let recorder = Recorder::new("reuse");
        if !recorder.start(&["--size", "64M", "--hz", "999", "--events", groups]) {
            return;
        }
        let pid = work(Busy::new()).0.id();
        let Some(second) = child_with(pid, Command::new("yes").stdout(Stdio::null())) else { return };
        let second = work(second);
        let folded = String::from_utf8(recorder.run(&["dump", "--format", "folded"]).stdout).unwrap();
        // Where nothing shows the name of the first one, it is not that of the second one.
        let first = if has_names { "sh;".to_owned() } else { format!("[{pid}];") };
        for name in [&first, "yes;"] {
            assert!(folded.lines().any(|line| line.starts_with(name)), "{name} {folded}");
        }
        if has_names {
            let report = checked("report", &recorder.run(&["report", "--json"]).stdout);
            let all = report["cpu_time"].as_array().unwrap().iter().filter(|it| it["process"]["pid"] == pid);
            let mut found: Vec<_> = all
                .map(|it| (it["process"]["name"].as_str().unwrap(), it["busy_ns"].as_u64().unwrap()))
                .collect();
            found.sort_unstable();
            let [("sh", first), ("yes", second)] = found[..] else { panic!("{found:?}") };
            assert!(first.min(second) > 200_000_000, "{found:?}");
        }
        drop(second);
    }
}
