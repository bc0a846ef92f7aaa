//! Waits that are too long: for a CPU, in a system call, for a lock.

use std::fs::{self, File};
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{cpus, expect, expect_no_process, named, stay, tid};
use crate::fuse::SlowFile;
use crate::recorder::Recorder;
use crate::skip;

const LONG: Duration = Duration::from_millis(150);

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
    let ((says, tids), (wake, woken)) = (mpsc::channel(), mpsc::channel());
    let cpu = cpus()[0];
    let waits = named("waits-for-cpu", move || {
        stay(cpu);
        says.send(tid()).unwrap();
        // Its wait may be in two parts.
        woken.iter().any(|sent: Instant| sent.elapsed() > LONG.mul_f64(0.9))
    });
    let tid = tids.recv().unwrap();
    let runs = thread::spawn(move || {
        stay(cpu);
        let is_first = become_fifo();
        // Once may be too short: since Linux 6.12, threads of SCHED_OTHER have 50 ms of each second if they are kept from
        // a busy CPU. A timer would not wake the other one: with PREEMPT_RT, a thread of the kernel runs timers, and
        // would wait for this one, too.
        let mut tries = 0..100;
        while is_first && tries.next().is_some() && wake.send(Instant::now()).is_ok() {
            let end = Instant::now() + LONG;
            while Instant::now() < end {}
            thread::sleep(LONG / 10);
        }
        is_first
    });
    let is_first = runs.join().unwrap();
    if is_first {
        expect_no_process(&recorder);
        expect(&recorder, "runqueue", tid);
    } else {
        skip::skipped("this kernel gives this thread no SCHED_FIFO");
    }
    assert_eq!(waits.join().unwrap(), is_first);
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
