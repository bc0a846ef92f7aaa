//! Waits that are too long: for a CPU, in a system call, for a lock.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::MapInfo;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{cause, cpus, expect, expect_no_process, named, stay, tid};
use crate::fuse::SlowFile;
use crate::limits::Cgroup;
use crate::recorder::{Busy, Recorder, checked};
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

/// Two threads write a slow file. The second one waits for a lock of the kernel, and `meanwhile` gets its number.
fn wait_for_lock(slow: &SlowFile, meanwhile: impl FnOnce(u32)) -> u32 {
    let (says, tids) = mpsc::channel();
    let [first, second] = [(); 2].map(|()| File::options().write(true).open(&slow.path).unwrap());
    let write = |mut file: File, name| {
        let says = says.clone();
        named(name, move || {
            says.send(tid()).unwrap();
            file.write_all(b"x").unwrap();
            tid()
        })
    };
    let first = write(first, "has-lock");
    thread::sleep(LONG / 3);
    let second = write(second, "waits-for-lock");
    thread::sleep(LONG / 3);
    meanwhile(tids.iter().nth(1).unwrap());
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
    let tid = wait_for_lock(&slow, |_| {});
    expect(&recorder, "blocked", tid);
}

/// The table of waits in the programs of this recorder.
#[allow(unsafe_code)]
fn table_of_waits(recorder: &Recorder) -> &'static [AtomicU64] {
    const WORDS: usize = 1 << 16;
    let programs =
        aya::programs::loaded_programs().flatten().filter(|it| recorder.programs().contains(&it.id()));
    let maps = programs.flat_map(|program| program.map_ids().unwrap().unwrap());
    let mut maps = maps.map(|id| MapInfo::from_id(id).unwrap());
    let table = maps.find(|map| map.name_as_str() == Some(".bss.since")).unwrap().fd().unwrap();
    let (access, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping replaces none.
    let words = unsafe { mmap(std::ptr::null_mut(), 8 * WORDS, access, shared, table.as_fd(), 0) };
    // SAFETY: it has this length and begins with a page. It is never unmapped, and whoever writes it uses atomic operations.
    unsafe { std::slice::from_raw_parts(words.unwrap().cast(), WORDS) }
}

#[test]
fn a_wait_of_days_has_its_time() {
    const DAYS: u64 = 12;
    let recorder = Recorder::new("days");
    let trigger = ["--stop-on", "blocked > 10days comm=waits-for-lock", "--after", "0s"];
    if !recorder.start(&[&["--size", "1M", "--events", "exec"], &trigger[..]].concat()) {
        return;
    }
    let Some(slow) = SlowFile::new("days", Duration::from_secs(1)) else {
        skip::skipped("no FUSE can be mounted here");
        return;
    };
    let tid = wait_for_lock(&slow, |tid| {
        // Units of 64 ns, in the lower 45 bits.
        let begin = &table_of_waits(&recorder)[tid as usize % (1 << 16)];
        let earlier = |word: u64| {
            let time = word.wrapping_sub(DAYS * 24 * 3_600_000_000_000 / 64) & ((1 << 45) - 1);
            Some(word >> 45 << 45 | time)
        };
        begin.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier).unwrap();
    });
    let events = expect(&recorder, "blocked", tid);
    let waited = cause(&events)["trigger_ns"].as_u64().unwrap();
    assert_eq!(waited / (24 * 3_600_000_000_000), DAYS);
}

#[test]
fn a_call_that_was_stopped_and_continued_counts_from_its_begin() {
    let recorder = Recorder::new("stopped");
    let trigger = ["--stop-on", "syscall clock_nanosleep > 700ms comm=sleep", "--after", "0s"];
    if !recorder.start(&[&["--size", "128M", "--events", "syscalls"], &trigger[..]].concat()) {
        return;
    }
    let mut sleep = Command::new("sleep").arg("1").spawn().unwrap();
    let pid = Pid::from_child(&sleep);
    // Both parts are shorter than what the trigger waits for.
    for signal in [Signal::STOP, Signal::CONT] {
        thread::sleep(Duration::from_millis(500));
        kill_process(pid, signal).unwrap();
    }
    sleep.wait().unwrap();
    let events = expect(&recorder, "syscall", sleep.id());
    assert!(cause(&events)["trigger_ns"].as_u64().unwrap() >= 1_000_000_000);
    assert_eq!(recorder.status()["recording"]["triggers"][0]["met"], 1);
    let report = recorder.run(&["report", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let calls = report["calls"].as_array().unwrap();
    let of = |name: &str| calls.iter().find(|it| it["call"] == name);
    assert!(of("clock_nanosleep").unwrap()["max_ns"].as_u64().unwrap() >= 1_000_000_000);
    assert!(of("restart_syscall").is_none());
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
fn a_cpu_quota_is_not_a_busy_cpu() {
    let Some(group) = Cgroup::with_quota("quota") else {
        skip::skipped("no cgroup with a CPU quota can be made here");
        return;
    };
    let busy = group.command().args(["/bin/sh", "-c", "while :; do :; done"]).spawn().unwrap();
    let busy = Busy(busy);
    let pid = busy.0.id();
    let before = group.throttled();
    let recorder = Recorder::new("quota");
    let trigger = ["--stop-on", &format!("quota > 10ms pid={pid}"), "--after", "2s"];
    if !recorder.start(&[&["--size", "64M", "--events", "sched,waits"], &trigger[..]].concat()) {
        return;
    }
    let events = expect(&recorder, "quota", pid);
    let throttled = group.throttled() - before;
    drop(busy);
    assert!(events.iter().any(|event| event["event"] == "throttled" && event["pid"] == pid));
    let report = checked("report", &recorder.run(&["report", "--json"]).stdout);
    let of_busy = |list: &str| {
        let found = report[list].as_array().unwrap().iter().filter(|it| it["task"]["pid"] == pid);
        found.cloned().collect::<Vec<_>>()
    };
    let quota = of_busy("quota_waits");
    let number = |field: &str| quota[0][field].as_u64().unwrap();
    assert!(
        number("count") >= 3 && u128::from(number("total_ns")) <= throttled.as_nanos(),
        "{throttled:?} {quota:?}"
    );
    let sums = of_busy("wait_sums");
    assert!(sums.iter().any(|sum| sum["how"] == "for a CPU quota"), "{sums:?}");
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
    let tid = wait_for_lock(&slow, |_| {});
    expect(&recorder, "hung", tid);
}
