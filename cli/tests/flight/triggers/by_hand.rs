//! What is done by hand: marks, `hold` and `resume`; and triggers that are refused.

use std::process::Command;

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
