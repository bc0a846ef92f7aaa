//! Real incidents stop a recording, while no process of `mapring` runs.

use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::fuse::SlowFile;
use crate::limits::Cgroup;
use crate::recorder::{Recorder, said};
use crate::skip;

const LONG: Duration = Duration::from_millis(150);

fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

fn cpus() -> Vec<usize> {
    let all = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect()
}

fn stay(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
}

/// Runs this in a thread of this name.
fn named<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name(name.to_owned()).spawn(work).unwrap()
}

/// A thread on each CPU that switches all the time, so that each has events.
struct Busy(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Busy {
    fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let switches = |cpu| {
            let over = over.clone();
            thread::spawn(move || {
                stay(cpu);
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let threads = cpus().into_iter().map(switches).collect();
        Self(over, threads)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// What `status` says of the end, once the recording has stopped.
pub(crate) fn stopped(recorder: &Recorder) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let status = recorder.status();
        let stopped = &status["recording"]["stopped"];
        if stopped["recording"] == false {
            println!("{stopped}");
            return stopped.clone();
        }
        assert!(Instant::now() < end, "nothing has stopped the recording: {status}");
    }
}

fn dumped(recorder: &Recorder, options: &[&str]) -> Vec<Value> {
    let output = recorder.run(&[&["dump", "--format", "ndjson"], options].concat());
    assert!(output.status.success());
    str::from_utf8(&output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The condition was met by this thread, is an event at time zero, and nothing is recorded after the end. Returns all events.
fn expect(recorder: &Recorder, kind: &str, thread: u32) -> Vec<Value> {
    let stop = stopped(recorder);
    let events = dumped(recorder, &[]);
    let number = |value: &Value| value.as_i64().unwrap();
    assert_eq!(stop["tid"], thread, "{stop}");
    assert!(stop["by"].as_str().unwrap().starts_with(&format!("{kind} of ")), "{stop}");
    let is = |event: &&Value| event["event"] == "trigger" && event["after_trigger"] == 0;
    let cause = events.iter().find(is).expect("the cause is an event");
    assert_eq!(
        (&cause["trigger"], &cause["trigger_tid"], &cause["ns"]),
        (&json!(kind), &stop["tid"], &stop["ns"])
    );
    let after = (stop["after_seconds"].as_f64().unwrap() * 1e9).round();
    let last = events.iter().map(|event| number(&event["after_trigger"])).max().unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let after = after as i64;
    assert!(last <= after, "{last} ns after the trigger");
    let status = recorder.status();
    for group in status["recording"]["groups"].as_array().unwrap() {
        let kept = group["since_start"] == true || group["history_seconds"].as_f64().unwrap() >= 10.0;
        assert!(kept, "{group}");
    }
    events
}

/// No process has to do with the recording.
fn expect_no_process(recorder: &Recorder) {
    let dir = recorder.dir.to_str().unwrap().as_bytes();
    for process in fs::read_dir("/proc").unwrap() {
        let line = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        assert!(!line.windows(dir.len()).any(|part| part == dir), "{}", String::from_utf8_lossy(&line));
    }
}

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
        said(&refused[0]).contains("has stopped already: hold of ") && said(&refused[1]).contains("resume")
    );
    assert_eq!(run(&["mark", &"x".repeat(89)]), Some(2));
    let stop = stopped(&recorder);
    assert_eq!(
        (&stop["thread"], &stop["trigger"], &stop["after_seconds"]),
        (&json!("mapring"), &Value::Null, &json!(0.0))
    );
    let text = String::from_utf8(recorder.run(&["status"]).stdout).unwrap();
    assert!(text.contains("\nstopped by hold of ") && text.contains(" s of history are kept\n"), "{text}");

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
    assert!(said(&wrong).contains("is not a field of exit; the nearest is signal"));
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
        assert!(said(&lacking).contains("this kernel has no event"));
    }
    assert!(!recorder.dir.exists());
}

#[test]
fn a_process_that_dies_of_a_signal_stops_the_recording() {
    let recorder = Recorder::new("signal");
    // Two groups, one of which only has the trigger.
    let trigger = ["--stop-on", "exit signal=SIGSEGV comm=sh", "--after", "1s"];
    if !recorder.start(&[&["--size", "192M", "--events", "sched,irq"], &trigger[..]].concat()) {
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

/// Makes the calling thread one that runs before all others. False if this user or kernel does not allow it.
#[allow(unsafe_code)]
fn become_fifo() -> bool {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads this parameter.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
}

#[test]
fn a_thread_that_waits_for_a_cpu_stops_the_recording() {
    let recorder = Recorder::new("runqueue");
    let trigger = ["--stop-on", "runqueue > 60ms comm=waits-for-cpu", "--after", "0s"];
    if !recorder.start(&[&["--size", "1M", "--events", "exec"], &trigger[..]].concat()) {
        return;
    }
    let over = Arc::new(AtomicBool::new(false));
    let (is_over, (says, tids)) = (over.clone(), mpsc::channel());
    let cpu = cpus()[0];
    let waits = named("waits-for-cpu", move || {
        stay(cpu);
        says.send(tid()).unwrap();
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let tid = tids.recv().unwrap();
    let runs = thread::spawn(move || {
        stay(cpu);
        let is_first = become_fifo();
        let end = Instant::now() + LONG;
        while Instant::now() < end {}
        is_first
    });
    let is_first = runs.join().unwrap();
    if is_first {
        expect_no_process(&recorder);
        expect(&recorder, "runqueue", tid);
    } else {
        skip::skipped("this kernel gives this thread no SCHED_FIFO");
    }
    over.store(true, Ordering::Relaxed);
    waits.join().unwrap();
}

#[test]
fn a_slow_fsync_stops_the_recording() {
    let recorder = Recorder::new("fsync");
    let trigger = ["--stop-on", "syscall fsync > 100ms comm=slow-fsync", "--after", "0s"];
    if !recorder.start(&[&["--size", "1M", "--events", "exec"], &trigger[..]].concat()) {
        return;
    }
    let Some(slow) = SlowFile::new("fsync", LONG) else {
        skip::skipped("no FUSE can be mounted here");
        return;
    };
    let file = File::options().write(true).open(&slow.path).unwrap();
    let sync = move || {
        file.sync_all().unwrap();
        tid()
    };
    let tid = named("slow-fsync", sync).join().unwrap();
    let events = expect(&recorder, "syscall", tid);
    let cause = events.iter().find(|event| event["event"] == "trigger").unwrap();
    assert!(cause["trigger_ns"].as_u64().unwrap() > 100_000_000, "{cause}");
}

/// Two threads write a slow file. The second one waits for a lock of the kernel.
fn wait_for_lock(slow: &SlowFile) -> u32 {
    let [first, second] = [(); 2].map(|()| File::options().write(true).open(&slow.path).unwrap());
    let write = |mut file: File, name| {
        named(name, move || {
            file.write_all(b"x").unwrap();
            tid()
        })
    };
    let first = write(first, "has-lock");
    thread::sleep(LONG / 3);
    let second = write(second, "waits-for-lock");
    first.join().unwrap();
    second.join().unwrap()
}

#[test]
fn a_blocked_thread_stops_the_recording() {
    let recorder = Recorder::new("blocked");
    let trigger = ["--stop-on", "blocked > 50ms comm=waits-for-lock", "--after", "0s"];
    if !recorder.start(&[&["--size", "1M", "--events", "exec"], &trigger[..]].concat()) {
        return;
    }
    let Some(slow) = SlowFile::new("blocked", Duration::from_secs(1)) else {
        skip::skipped("no FUSE can be mounted here");
        return;
    };
    let tid = wait_for_lock(&slow);
    expect(&recorder, "blocked", tid);
}

/// A setting of the kernel, as it was when this is dropped.
struct Setting(&'static str, String);

impl Setting {
    fn new(path: &'static str, value: &str) -> Option<Self> {
        let before = fs::read_to_string(path).ok()?;
        fs::write(path, value).ok()?;
        Some(Self(path, before))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(self.0, &self.1).unwrap();
    }
}

#[test]
fn a_hung_task_stops_the_recording() {
    let recorder = Recorder::new("hung");
    let trigger = ["--stop-on", "hung comm=waits-for-lock", "--after", "0s"];
    let start = [&["--size", "1M", "--events", "exec"], &trigger[..]].concat();
    let Some(_setting) = Setting::new("/proc/sys/kernel/hung_task_timeout_secs", "1") else {
        skip::skipped("this kernel does not look for hung tasks");
        return;
    };
    if !recorder.start(&start) {
        return;
    }
    let Some(slow) = SlowFile::new("hung", Duration::from_secs(5)) else {
        skip::skipped("no FUSE can be mounted here");
        return;
    };
    let tid = wait_for_lock(&slow);
    expect(&recorder, "hung", tid);
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
        let cause = events.iter().find(|event| event["event"] == "trigger").unwrap();
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
    let trigger = ["--stop-on", "syscall getppid > 0s comm=thousand", "--after", "2s"];
    if !recorder.start(&[&["--size", "192M", "--events", "syscalls"], &trigger[..]].concat()) {
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
