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

fn stderr(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{} {}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The calls of a scenario of which one at a time is to fail.
fn calls_of(scenario: &str, every: usize) -> Result<Vec<Call>, String> {
    let all_well = run(scenario, None);
    if !all_well.output.status.success() || all_well.calls.is_empty() {
        return Err(format!("{scenario}, where nothing fails: {}", stderr(&all_well.output)));
    }
    Ok(all_well.calls.into_iter().filter(is_ours).step_by(every).collect())
}

/// Makes one call of a scenario fail. Returns whether the result was the same.
fn fails_once(scenario: &str, call: &Call, errno: &str) -> Result<bool, String> {
    let ran = run(scenario, Some((call, errno)));
    if !ran.output.status.success() {
        Err(format!("{scenario}: {errno} from {}\n{}", call.line, stderr(&ran.output)))
    } else if !ran.injected {
        Err(format!("{scenario}: no call of {} failed: {}", call.name, stderr(&ran.output)))
    } else {
        Ok(ran.output.stdout.starts_with(b"ok"))
    }
}

/// Does this work on all items, some at a time: a scenario mostly waits for the kernel.
fn for_each<T: Send>(items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let items = Mutex::new(items);
    let worker = || {
        while let Some(item) = { items.lock().unwrap().next() } {
            work(item);
        }
    };
    let workers = 4 * available_parallelism().unwrap().get();
    thread::scope(|scope| (0..workers).for_each(|_| _ = scope.spawn(worker)));
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
    let (calls, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    for_each(list.lines(), |scenario| match calls_of(scenario, every) {
        Ok(found) => calls.lock().unwrap().extend(found.into_iter().map(|call| (scenario, call))),
        Err(why) => wrong.lock().unwrap().push(why),
    });
    let calls = calls.into_inner().unwrap();
    let tries =
        calls.iter().flat_map(|(scenario, call)| errnos.iter().map(move |errno| (scenario, call, errno)));
    // The tries of each scenario, and how many of them came to the same result.
    let counts = Mutex::new(BTreeMap::<_, [usize; 2]>::new());
    for_each(tries, |(scenario, call, errno)| match fails_once(scenario, call, errno) {
        Ok(same) => {
            let mut counts = counts.lock().unwrap();
            let [failed, survived] = counts.entry(scenario).or_default();
            (*failed, *survived) = (*failed + 1, *survived + usize::from(same));
        }
        Err(why) => wrong.lock().unwrap().push(why),
    });
    let (mut failed, mut survived) = (0, 0);
    for (scenario, [of_it, same]) in counts.into_inner().unwrap() {
        println!("{scenario:20} {of_it:5} calls failed, {same} tries came to the same result");
        (failed, survived) = (failed + of_it, survived + same);
    }
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    println!("explored {failed} faults");
    assert!(
        failed > survived && survived > 0,
        "{failed}, {survived}: some have another way, most are errors"
    );
}
