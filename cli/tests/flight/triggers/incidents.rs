//! Events that are incidents: a thread dies, memory is full, an interrupt is long. Also many at the same moment.

use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Busy, cause, cpus, dumped, expect, expect_no_process, named, stay, stopped, tid};
use crate::limits::Cgroup;
use crate::recorder::Recorder;
use crate::skip;

#[test]
fn a_process_that_dies_of_a_signal_stops_the_recording() {
    let recorder = Recorder::new("signal");
    // Two groups, one of which only has the trigger.
    let trigger = ["--stop-on", "exit signal=SIGSEGV comm=sh", "--after", "1s"];
    if !recorder.start(&[&["--size", "64M", "--events", "sched,irq"], &trigger[..]].concat()) {
        return;
    }
    let busy = Busy::new();
    let die = |signal| {
        let mut child = Command::new("/bin/sh").args(["-c", &format!("kill -{signal} $$")]).spawn().unwrap();
        (child.id(), child.wait().unwrap().signal())
    };
    assert_eq!(die("TERM").1, Some(libc::SIGTERM));
    let (pid, signal) = die("SEGV");
    assert_eq!(signal, Some(libc::SIGSEGV));
    expect_no_process(&recorder);
    die("SEGV"); // a later one
    let events = expect(&recorder, "exit", pid);
    drop(busy);
    let cause = events.iter().find(|event| event["event"] == "trigger").unwrap();
    assert_eq!((&cause["exit_signal"], &cause["trigger_thread"]), (&json!(libc::SIGSEGV), &json!("sh")));
    for cpu in cpus() {
        let times = events.iter().filter(|event| event["cpu"] == cpu && event["event"] != "lost");
        let times: Vec<_> = times.map(|event| event["after_trigger"].as_i64().unwrap()).collect();
        assert!(times.iter().any(|ns| *ns < 0) && *times.iter().max().unwrap() > 500_000_000, "CPU {cpu}");
    }
    // Time is counted from the trigger.
    let last = dumped(&recorder, &["--last", "1ms"]);
    let number = |event: &Value| event["after_trigger"].as_i64().unwrap();
    assert!(
        last.iter().all(|event| number(event) >= -1_000_000)
            && last.iter().any(|event| number(event) > 500_000_000)
    );
    let met = &recorder.status()["recording"]["triggers"][0];
    assert_eq!((&met["trigger"], &met["met"]), (&json!("exit signal=SIGSEGV comm=sh"), &json!(2)));
    let text = String::from_utf8(recorder.run(&["status"]).stdout).unwrap();
    assert!(text.contains(&format!("\nstopped by exit of {pid} (sh) by SIGSEGV on ")), "{text}");
    assert!(text.contains("\nrecorded 1.0 s more; "), "{text}");
}

/// The threads leave in any order when the core is written, and all with that signal.
#[test]
fn a_crash_is_that_of_the_thread_and_one() {
    const CRASHES: &str = "MAPRING_TEST_CRASHES";
    const TEST: &str = "triggers::incidents::a_crash_is_that_of_the_thread_and_one";
    if std::env::var_os(CRASHES).is_some() {
        let others = (0..8).map(|_| named("w", || thread::sleep(Duration::from_secs(60))));
        let _others: Vec<_> = others.collect();
        named("crashes", || std::process::abort()).join().unwrap();
    }
    let recorder = Recorder::new("crash");
    // The name of the process, and of the thread.
    let exe = std::env::current_exe().unwrap();
    let process = &exe.file_name().unwrap().to_str().unwrap()[..15];
    let [by_thread, by_process] = ["crashes", process].map(|name| format!("exit signal=SIGABRT comm={name}"));
    let triggers = ["--stop-on", &by_thread, "--stop-on", &by_process, "--after", "500ms"];
    if !recorder.start(&[&["--size", "1M", "--events", "exec"], &triggers[..]].concat()) {
        return;
    }
    let mut child =
        Command::new(exe).args(["--exact", TEST]).env(CRASHES, "").stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGABRT));
    let stop = stopped(&recorder);
    assert!(stop["pid"] == pid && stop["tid"] != pid && stop["thread"] == "crashes", "{stop}");
    let triggers = recorder.status()["recording"]["triggers"].clone();
    assert_eq!([&triggers[0]["met"], &triggers[1]["met"]], [1, 1], "{triggers}");
    let report = recorder.run(&["report"]);
    let report = str::from_utf8(&report.stdout).unwrap();
    let story = format!("({pid}) was killed by SIGABRT in its thread crashes (");
    assert_eq!(report.matches(&story).count(), 1, "{report}");
    let events = dumped(&recorder, &[]);
    let ends: Vec<_> =
        events.iter().filter(|it| it["event"] == "sched_process_exit" && it["pid"] == pid).collect();
    assert!(ends.len() >= 9 && ends.iter().all(|it| it["after_trigger"].as_i64().unwrap() > 0), "{ends:?}");
}

/// Other users have threads of any name.
#[test]
fn a_trigger_of_a_user_is_met_by_no_other_one() {
    const NOBODY: u32 = 65534;
    let recorder = Recorder::new("user");
    let trigger = format!("exit comm=\"V8 WorkerThread\" uid={NOBODY}");
    if !recorder.start(&["--size", "1M", "--events", "exec", "--stop-on", &trigger, "--after", "0s"]) {
        return;
    }
    let end_as = |user| {
        let script = "printf 'V8 WorkerThread' > /proc/$$/comm";
        let mut child = Command::new("/bin/sh").args(["-c", script]).uid(user).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    };
    end_as(0);
    assert_eq!(recorder.status()["recording"]["triggers"][0]["met"], 0);
    let pid = end_as(NOBODY);
    expect_no_process(&recorder);
    expect(&recorder, "exit", pid);
}

#[test]
fn a_cgroup_without_memory_stops_the_recording() {
    let recorder = Recorder::new("oom");
    if !recorder.start(&["--size", "1M", "--events", "exec", "--stop-on", "oom", "--after", "100ms"]) {
        return;
    }
    let Some(group) = Cgroup::new("oom", "16M") else {
        skip::skipped("no memory cgroup can be made here");
        return;
    };
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let mut child = group.command().args(["/bin/sh", "-c", script]).stderr(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    expect_no_process(&recorder);
    expect(&recorder, "oom", pid);
}

#[test]
fn a_softirq_and_an_interrupt_stop_the_recording() {
    for kind in ["softirq", "irq"] {
        let recorder = Recorder::new(kind);
        // Not long, but an interrupt takes as long as the devices of this machine want.
        let trigger = format!("{kind} > 1us");
        let trigger = ["--stop-on", &trigger, "--after", "0s"];
        if !recorder.start(&[&["--size", "8M", "--events", "exec"], &trigger[..]].concat()) {
            return;
        }
        let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let end = Instant::now() + Duration::from_secs(30);
        let path =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("irq-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        while recorder.status()["recording"]["stopped"].is_null() && Instant::now() < end {
            a.send_to(&[7; 7777], b.local_addr().unwrap()).unwrap();
            b.recv(&mut [0; 8000]).unwrap();
            file.write_all(&[7; 1 << 16]).unwrap();
            file.sync_all().unwrap();
        }
        if recorder.status()["recording"]["stopped"].is_null() && kind == "irq" {
            skip::skipped("the devices of this machine make no interrupt of a microsecond");
            return;
        }
        let stop = stopped(&recorder);
        let events = dumped(&recorder, &[]);
        let cause = cause(&events);
        assert_eq!(
            (&cause["trigger"], &cause["ns"], &cause["cpu"]),
            (&json!(kind), &stop["ns"], &stop["cpu"])
        );
        assert!(cause["trigger_ns"].as_u64().unwrap() > 1000, "{cause}");
    }
}

#[test]
fn of_a_thousand_triggers_one_is_the_cause() {
    const EACH: u64 = 500;
    let [one, other, ..] = cpus()[..] else {
        skip::skipped("this process does not have two CPUs");
        return;
    };
    let recorder = Recorder::new("thousand");
    let trigger = ["--stop-on", "syscall getppid > 0s comm=thousand", "--after", "100ms"];
    if !recorder.start(&[&["--size", "32M", "--events", "syscalls"], &trigger[..]].concat()) {
        return;
    }
    let both = Arc::new(Barrier::new(2));
    let threads = [one, other].map(|cpu| {
        let both = both.clone();
        named("thousand", move || {
            stay(cpu);
            both.wait();
            (0..EACH).for_each(|_| assert!(rustix::process::getppid().is_some()));
            tid()
        })
    });
    let tids = threads.map(|thread| thread.join().unwrap());
    let cause = stopped(&recorder)["tid"].as_u64().unwrap();
    let tid = tids.into_iter().find(|tid| u64::from(*tid) == cause).expect("one of the two");
    let events = expect(&recorder, "syscall", tid);
    let met = recorder.status()["recording"]["triggers"][0]["met"].as_u64().unwrap();
    // A program that was preempted misses the events of its CPU. The kernel counts them.
    let lost = recorder.lost() as u64;
    assert!(met <= 2 * EACH && met + lost >= 2 * EACH, "{met} of 1000, {lost} lost");
    // The first ones are events, and the cause.
    let shown: Vec<_> = events.iter().filter(|event| event["event"] == "trigger").collect();
    assert!([16, 17].contains(&shown.len()), "{shown:?}");
    // It is stopped once: what is met later changes nothing.
    let before = stopped(&recorder);
    named("thousand", rustix::process::getppid).join().unwrap();
    let after = stopped(&recorder);
    assert_eq!((&after["ns"], &after["tid"]), (&before["ns"], &before["tid"]));
    assert_eq!(recorder.status()["recording"]["triggers"][0]["met"], met);
}
