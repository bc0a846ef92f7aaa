//! The report of a recording: who ran, who died, and what was slow.

use super::*;

#[test]
fn a_report_names_who_ran_who_died_and_what_was_slow() {
    let Some(recorder) = Recorder::start("report", "sched,syscalls,exec") else { return };
    // Ends by itself when it has used the CPU for a second.
    let hog = "ulimit -t 1; while :; do :; done";
    let mut hog = Command::new("/bin/sh").args(["-c", hog]).spawn().unwrap();
    let mut dies = Command::new("/bin/sh").args(["-c", "kill -SEGV $$"]).spawn().unwrap();
    let sleep = || Running(Command::new("/bin/sleep").arg("1000").spawn().unwrap());
    let sleeps = sleep();
    let [hog_pid, died_pid, sleeps_pid] = [&hog, &dies, &sleeps.0].map(std::process::Child::id);
    assert!(!dies.wait().unwrap().success() && !hog.wait().unwrap().success());

    // Only the newest programs are listed, and others start before the report is made.
    let newest = || {
        let started = sleep();
        let report = recorder.run("report", &["--json"]);
        assert!(report.status.success());
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        let is_it = |it: &Value| it["process"]["pid"] == started.0.id() && it["process"]["name"] == "sleep";
        report["started"].as_array().unwrap().iter().any(is_it).then_some(report)
    };
    let report = (0..20).find_map(|_| newest()).expect("one that started");
    let list = |name: &str| report[name].as_array().unwrap().clone();
    let ran =
        list("cpu_time").into_iter().find(|it| it["process"]["pid"] == hog_pid).expect("the one that ran");
    assert!(ran["busy_ns"].as_u64() > Some(100_000_000), "{ran}");
    let died =
        list("ended").into_iter().find(|it| it["process"]["pid"] == died_pid).expect("the one that died");
    assert_eq!((&died["signal"], &died["process"]["name"]), (&json!("SIGSEGV"), &json!("sh")));
    // It sleeps on purpose, which is not slow; the calls with which it starts may be.
    let is_sleep = |it: &&Value| it["task"]["pid"] == sleeps_pid && it["call"] == "clock_nanosleep";
    for sleep in list("slow_calls").iter().filter(is_sleep) {
        assert!(sleep["busy_ns"].as_u64() < sleep["ns"].as_u64(), "{sleep}");
    }
    let groups = report["completeness"]["groups"].as_array().unwrap();
    let recorded: Vec<_> =
        groups.iter().filter(|it| it["is_recorded"] == true).map(|it| &it["group"]).collect();
    assert_eq!(recorded, ["sched", "syscalls", "exec"]);

    let text = String::from_utf8(recorder.run("report", &[]).stdout).unwrap();
    let first: Vec<_> = text.lines().take(20).collect();
    assert!(
        first.iter().any(|line| line.contains(&format!("sh ({died_pid}) was killed by SIGSEGV"))),
        "{text}"
    );
    assert!(text.contains("Disks (block)\n  not recorded"), "{text}");
}
