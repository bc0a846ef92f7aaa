//! Real incidents stop a recording, while no process of `mapring` runs.

mod by_hand;
mod incidents;
mod waits;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::recorder::Recorder;

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

/// The trigger at time zero. Another CPU may have met one at the same moment.
fn cause(events: &[Value]) -> &Value {
    let is = |event: &&Value| event["event"] == "trigger" && event["after_trigger"] == 0;
    events.iter().find(is).expect("the cause is an event")
}

/// The condition was met by this thread, is an event at time zero, and nothing is recorded after the end. Returns all events.
fn expect(recorder: &Recorder, kind: &str, thread: u32) -> Vec<Value> {
    let stop = stopped(recorder);
    let events = dumped(recorder, &[]);
    let number = |value: &Value| value.as_i64().unwrap();
    assert_eq!(stop["tid"], thread, "{stop}");
    assert!(stop["by"].as_str().unwrap().starts_with(&format!("{kind} of ")), "{stop}");
    let cause = cause(&events);
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
