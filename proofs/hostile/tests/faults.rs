//! System calls that fail: each call of the library fails once, at each place. The result must be the same, by another
//! way, or a typed error. Nothing stays open, and the next try succeeds.
//!
//! strace(1) makes the calls fail. `MAPRING_FAULTS_ERRNOS` lists the errors (default `EPERM,ENOMEM`). With
//! `MAPRING_FAULTS_EVERY=4` only one of four calls fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread::{self, available_parallelism};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hostile-tests-faults");

/// The calls that the library makes. `?` makes strace ignore calls that this machine does not have.
const CALLS: [&str; 24] = [
    "bpf",
    "mmap",
    "memfd_create",
    "ftruncate",
    "fcntl",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "openat",
    "read",
    "pread64",
    "getdents64",
    "chmod",
    "fchmodat",
    "chown",
    "fchownat",
    "rename",
    "unlink",
    "unlinkat",
    "mkdir",
    "dup",
    "socket",
];

/// A call of a process: its index among calls of that name, from 1, and its line in strace's output.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    number: usize,
    line: String,
}

/// The result of a scenario under strace.
struct Ran {
    output: Output,
    /// The calls between the two marks.
    calls: Vec<Call>,
    /// Whether the call to fail is between the marks, and failed.
    injected: bool,
}

fn run(scenario: &str, fault: Option<(&Call, &str)>) -> Ran {
    let log = Log::new();
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o"]).arg(&log.0);
    strace.arg("-e").arg(format!("trace=getppid,?{}", CALLS.join(",?")));
    if let Some((Call { name, number, .. }, errno)) = fault {
        strace.arg("-e").arg(format!("inject={name}:error={errno}:when={number}"));
    }
    let output = strace.arg(PROGRAM).arg(scenario).env("RUST_BACKTRACE", "0").output().expect("strace runs");
    let log = fs::read_to_string(&log.0).unwrap();
    let (mut counts, mut marks, mut calls, mut injected) = (BTreeMap::new(), 0, Vec::new(), false);
    for line in log.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        if name == "getppid" {
            marks += 1;
            continue;
        }
        let number = counts.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1_usize);
        if marks == 1 {
            injected |= line.ends_with("(INJECTED)");
            calls.push(Call { name: name.to_owned(), number: *number, line: line.to_owned() });
        }
    }
    Ran { output, calls, injected }
}

/// A file that is removed when dropped.
struct Log(PathBuf);

impl Log {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("mapring-faults-{}-{number}", std::process::id())))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether the library made the call: the allocator makes anonymous mappings, and the scenarios run programs.
fn is_ours(call: &Call) -> bool {
    !["MAP_ANONYMOUS", "BPF_PROG_TEST_RUN"].iter().any(|word| call.line.contains(word))
}

/// Makes each call of a scenario fail once. Returns how many failed, and how many of these tries had the same result.
fn each_call_fails_once(scenario: &str, errnos: &[String], every: usize) -> Result<[usize; 2], String> {
    let said = |output: &Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        format!("{} {}{}", output.status, text(&output.stdout), text(&output.stderr))
    };
    let all_well = run(scenario, None);
    if !all_well.output.status.success() || all_well.calls.is_empty() {
        return Err(format!("{scenario}, where nothing fails: {}", said(&all_well.output)));
    }
    let (mut failed, mut survived, mut wrong) = (0, 0, Vec::new());
    for call in all_well.calls.iter().filter(|call| is_ours(call)).step_by(every) {
        for errno in errnos {
            let ran = run(scenario, Some((call, errno)));
            if !ran.output.status.success() {
                wrong.push(format!("{scenario}: {errno} from {}\n{}", call.line, said(&ran.output)));
            } else if !ran.injected {
                wrong.push(format!("{scenario}: no call of {} failed: {}", call.name, said(&ran.output)));
            } else {
                failed += 1;
                survived += usize::from(ran.output.stdout.starts_with(b"ok"));
            }
        }
    }
    if wrong.is_empty() { Ok([failed, survived]) } else { Err(wrong.join("\n\n")) }
}

#[test]
fn each_system_call_fails_once_and_nothing_is_lost() {
    mapring_kernel_tests::require_bpf!();
    if Command::new("strace").arg("--version").output().is_err() {
        let required = std::env::var_os("MAPRING_REQUIRE_BPF").is_some_and(|value| value == "1");
        assert!(!required, "MAPRING_REQUIRE_BPF=1, but strace is missing: apt-get install strace");
        mapring_kernel_tests::skipped("faults", "strace is missing: apt-get install strace");
        return;
    }
    let errnos = std::env::var("MAPRING_FAULTS_ERRNOS").unwrap_or("EPERM,ENOMEM".to_owned());
    let errnos: Vec<_> = errnos.split(',').map(str::to_owned).collect();
    let every = std::env::var("MAPRING_FAULTS_EVERY").map_or(1, |every| every.parse().expect("a number"));
    let list = Command::new(PROGRAM).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let (scenarios, sum, wrong) = (Mutex::new(list.lines()), Mutex::new([0; 2]), Mutex::new(Vec::new()));
    let work = || {
        while let Some(scenario) = { scenarios.lock().unwrap().next() } {
            match each_call_fails_once(scenario, &errnos, every) {
                Ok([failed, survived]) => {
                    println!(
                        "{scenario:20} {failed:5} calls failed, {survived} tries came to the same result"
                    );
                    let mut sum = sum.lock().unwrap();
                    *sum = [sum[0] + failed, sum[1] + survived];
                }
                Err(why) => wrong.lock().unwrap().push(why),
            }
        }
    };
    // Most of the time a scenario waits for the kernel.
    let workers = 4 * available_parallelism().unwrap().get();
    thread::scope(|scope| (0..workers).for_each(|_| _ = scope.spawn(work)));
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let [failed, survived] = sum.into_inner().unwrap();
    println!("explored {failed} faults");
    assert!(
        failed > survived && survived > 0,
        "{failed}, {survived}: some have another way, most are errors"
    );
}
