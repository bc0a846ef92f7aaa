//! What is done by hand: marks, `hold` and `resume`; and triggers that are refused.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{dumped, stopped};
use crate::recorder::{Recorder, stderr};

#[test]
fn marks_hold_and_resume() {
    let recorder = Recorder::new("hold");
    let none = recorder.run(&["mark", "x"]);
    assert_eq!(none.status.code(), Some(1));
    if !recorder.start(&["--size", "1M", "--events", "exec"]) {
        return;
    }
    let run = |options: &[&str]| recorder.run(options).status.code();
    let child = || {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 0"]).spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    assert_eq!(run(&["resume"]), Some(1));
    let first = child();
    assert_eq!(run(&["mark", "deploy 1234 begins"]), Some(0));
    assert_eq!(run(&["hold"]), Some(0));
    let second = child();
    let refused = [recorder.run(&["hold"]), recorder.run(&["mark", "y"])];
    assert_eq!(refused.each_ref().map(|output| output.status.code()), [Some(1); 2]);
    assert!(
        stderr(&refused[0]).contains("has stopped already: hold of ")
            && stderr(&refused[1]).contains("resume")
    );
    assert_eq!(run(&["mark", &"x".repeat(89)]), Some(2));
    let stop = stopped(&recorder);
    assert_eq!(
        (&stop["thread"], &stop["trigger"], &stop["after_seconds"]),
        (&json!("mapring"), &Value::Null, &json!(0.0))
    );
    let text = String::from_utf8(recorder.run(&["status"]).stdout).unwrap();
    assert!(
        text.contains("\nstopped by hold of ") && text.contains(" s of history are kept, of exec\n"),
        "{text}"
    );

    let has = |events: &[Value], pid: u32| events.iter().any(|event| event["tid"] == pid);
    let events = dumped(&recorder, &[]);
    assert!(has(&events, first) && !has(&events, second));
    let names = |events: &[Value]| -> Vec<String> {
        let marks = events
            .iter()
            .filter(|event| event["pid"] != Value::Null && event["event"].as_str().unwrap().len() < 8);
        marks.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&events), ["mark", "hold"]);
    assert_eq!(events.iter().find(|event| event["event"] == "mark").unwrap()["mark"], "deploy 1234 begins");
    assert_eq!(run(&["resume"]), Some(0));
    let third = child();
    let events = dumped(&recorder, &[]);
    assert!(has(&events, first) && !has(&events, second) && has(&events, third));
    assert_eq!(names(&events), ["mark", "hold", "resume"]);
    assert_eq!(recorder.status()["recording"]["stopped"], Value::Null);
    assert_eq!(run(&["mark", "z"]), Some(0));
}

/// `wait`, once it sleeps.
fn waiting(recorder: &Recorder, options: &[&str]) -> Child {
    let mut command = recorder.command(&[&["wait"], options].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let call = format!("/proc/{}/syscall", child.id());
    let polls = [libc::SYS_ppoll, 7].map(|call| format!("{call} ")); // 7: poll of x86-64
    while !fs::read_to_string(&call).is_ok_and(|text| polls.iter().any(|call| text.starts_with(call))) {
        thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn wait_sleeps_until_the_recording_stops() {
    let recorder = Recorder::new("wait");
    assert_eq!(recorder.run(&["wait"]).status.code(), Some(1), "nothing is recorded");
    let trigger = ["--stop-on", "exit signal=SIGSEGV comm=waited-for", "--after", "300ms"];
    if !recorder.start(&[&["--size", "1M", "--events", "exec"], &trigger[..]].concat()) {
        return;
    }
    let late = recorder.run(&["wait", "--timeout", "10ms"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("nothing has stopped the recording in 10ms"));

    let waits = waiting(&recorder, &[]);
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", waits.id())).unwrap();
        status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap().to_owned()
    };
    let before = switches();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(before, switches(), "it polls");
    let crash = "printf waited-for > /proc/$$/comm; kill -SEGV $$";
    let mut crash = Command::new("/bin/sh").args(["-c", crash]).spawn().unwrap();
    crash.wait().unwrap();
    let woken = waits.wait_with_output().unwrap();
    let text = str::from_utf8(&woken.stdout).unwrap();
    let expected = format!("stopped by exit of {} (waited-for) by SIGSEGV on ", crash.id());
    assert!(woken.status.success() && text.starts_with(&expected), "{woken:?}");
    assert_eq!(stopped(&recorder)["recording"], false, "what follows the trigger is recorded");
    assert_eq!(recorder.run(&["wait"]).stdout, woken.stdout, "at once");

    // Again, by hand, and at the end of the recording.
    assert!(recorder.run(&["resume"]).status.success());
    let waits = waiting(&recorder, &[]);
    assert!(recorder.run(&["hold"]).status.success());
    assert!(waits.wait_with_output().unwrap().stdout.starts_with(b"stopped by hold of "));
    assert!(recorder.run(&["resume"]).status.success());
    let waits = waiting(&recorder, &["--timeout", "1h"]);
    assert!(recorder.run(&["stop"]).status.success());
    let ended = waits.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(stderr(&ended).contains("the recording has ended"));
}

#[test]
fn a_wrong_trigger_is_refused() {
    let recorder = Recorder::new("wrong");
    let start =
        |options: &[&str]| recorder.run(&[&["start", "--size", "1M", "--events", "exec"], options].concat());
    let wrong = start(&["--stop-on", "exit signl=SIGSEGV"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("is not a field of exit; the nearest is signal"));
    assert_eq!(start(&["--after", "1s"]).status.code(), Some(2));
    let nine = ["--stop-on", "oom"].repeat(9);
    assert_eq!(start(&nine).status.code(), Some(2));
    // What this kernel lacks.
    let help = recorder.run(&["start", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    if let Some(line) = help.lines().find(|line| line.ends_with("(this kernel lacks it)")) {
        let name = line.split([' ', ':']).find(|word| !word.is_empty()).unwrap();
        let lacking = start(&["--stop-on", name]);
        assert_eq!(lacking.status.code(), Some(77));
        assert!(stderr(&lacking).contains("this kernel has no event"));
    }
    assert!(!recorder.dir.exists());
}
