//! The stacks of the real kernel and of programs with a known chain of calls.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mapring::time::Clock;
use mapring_flight::event::{Event, What};
use mapring_flight::stack::{Stack, UserFrame};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;

use crate::common::Over;
use crate::recorder::{Recorder, stderr};
use crate::skip;

/// A program whose functions call each other: main, outer, middle, and one that spins or waits.
struct Chain {
    dir: tempfile::TempDir,
    /// Where its functions are in the file.
    functions: HashMap<String, Range<u64>>,
    build_id: String,
}

impl Chain {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        // A guest of `cargo xtask vm` has no compiler: there the program was compiled before.
        if let Some(compiled) = std::env::var_os("MAPRING_CHAIN") {
            fs::copy(compiled, &path).unwrap();
        } else {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flight/chain.c");
            // Optimized functions that call no others have no frame of their own.
            let options = ["-g", "-O0", "-fno-omit-frame-pointer", "-Wl,--build-id"];
            let mut compiler = Command::new("cc");
            compiler.args(options).arg(source).arg("-o").arg(&path);
            assert!(compiler.status().unwrap().success());
        }
        let output = |command: &str, option: &str| {
            let output = Command::new(command).arg(option).arg(&path).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let function = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            // The linker gives code the address of its place in the file.
            [begin, size, "T" | "t", name] => Some((name.to_owned(), hex(begin)..hex(begin) + hex(size))),
            _ => None,
        };
        // What is left when the program is deleted.
        let debug = dir.path().join("debug");
        fs::create_dir(&debug).unwrap();
        let mut split = Command::new("objcopy");
        split.arg("--only-keep-debug").arg(&path).arg(debug.join("chain.debug"));
        assert!(split.status().unwrap().success());
        let functions = output("nm", "-S").lines().filter_map(function).collect();
        let notes = output("readelf", "-n");
        let build_id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
        Self { functions, build_id: build_id.to_owned(), dir }
    }

    fn debug_dir(&self) -> PathBuf {
        self.dir.path().join("debug")
    }

    fn run(&self, what: &str) -> Ended {
        let mut program = Command::new(self.dir.path().join("chain"));
        let mut program = program.arg(what).stdin(Stdio::piped()).spawn().unwrap();
        let maps = format!("/proc/{}/maps", program.id());
        // The kernel maps the program a moment after `spawn` has returned.
        let first = loop {
            let maps = fs::read_to_string(&maps).unwrap();
            if let Some(first) = maps.lines().find(|line| line.ends_with("/chain")) {
                break first.split_once('-').unwrap().0.to_owned();
            }
            assert!(program.try_wait().unwrap().is_none());
        };
        Ended(program, u64::from_str_radix(&first, 16).unwrap())
    }

    /// Whether the stack is that of these functions, the innermost one first, called by main.
    fn is(&self, stack: &Stack, functions: &[&str], program: &Ended) -> bool {
        let is = |(frame, name): (&UserFrame, &&str)| match frame {
            UserFrame::File { build_id, offset } if !real_time() => {
                let id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
                id == self.build_id && self.functions[*name].contains(offset)
            }
            UserFrame::Address(address) if real_time() => {
                self.functions[*name].contains(&address.wrapping_sub(program.1))
            }
            _ => false,
        };
        stack.user.len() > functions.len() && stack.user.iter().zip(functions).all(is)
    }
}

/// Whether frames of userspace are addresses: PREEMPT_RT looks up no file where interrupts are disabled.
fn real_time() -> bool {
    rustix::system::uname().version().to_string_lossy().contains("PREEMPT_RT")
}

/// The process, which ends here, and where it has the first page of its program.
struct Ended(Child, u64);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Reads until there is such an event.
fn until<T>(recorder: &Recorder, find: impl Fn(&Event) -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let events = recorder.events();
        if let Some(found) = events.iter().find_map(&find) {
            return found;
        }
        assert!(Instant::now() < end, "not among {} events: {:?}", events.len(), events.last());
    }
}

#[test]
fn samples_have_the_chain_of_calls_also_of_a_deleted_program() {
    let chain = Chain::new();
    let recorder = Recorder::new("samples");
    if !recorder.start(&["--size", "16M", "--events", "profile"]) {
        return;
    }
    let program = chain.run("spin");
    let pid = program.0.id();
    fs::remove_file(chain.dir.path().join("chain")).unwrap();
    // Earlier ones may be of its start.
    let process = until(&recorder, |event| match &event.what {
        What::Sample { stack } if event.tid == pid => {
            chain.is(stack, &["spin", "middle", "outer", "main"], &program).then_some(event.pid)
        }
        _ => None,
    });
    assert_eq!(process, pid);
    let folded = |options: &[&str]| {
        let output = recorder.run(&[&["dump", "--format", "folded"], options].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let is_named = |line: &str| line.contains(";main;outer;middle;spin ");
    if real_time() {
        let named = folded(&[]);
        assert!(named.lines().any(is_named), "{named}");
        return; // without a build id, nothing is known of it later
    }
    drop(program);
    let (pid, id) = (format!("\"tid\":{pid},"), format!("{}+0x", chain.build_id));
    let text = recorder.run(&["dump", "--format", "ndjson"]).stdout;
    let mut lines = str::from_utf8(&text).unwrap().lines();
    assert!(lines.any(|line| line.contains("\"sample\"") && line.contains(&pid) && line.contains(&id)));
    let nameless = folded(&[]);
    assert!(nameless.contains(&format!(";[build id {}]+0x", chain.build_id)), "{nameless}");
    let debug_dir = chain.debug_dir();
    let debug_dir = ["--debug-dir", debug_dir.to_str().unwrap()];
    // The process has ended: its name is not known any more.
    let named = folded(&debug_dir);
    assert!(named.lines().any(is_named), "{named}");
    // A file has the kernel's names, and leaves those open that a debug file can add.
    let file = chain.dir.path().join("saved");
    recorder.run(&["save", file.to_str().unwrap()]);
    let from = ["--from", file.to_str().unwrap()];
    let saved = folded(&from);
    assert!(saved.contains(&format!(";[build id {}]+0x", chain.build_id)), "{saved}");
    let named = folded(&[from, debug_dir].concat());
    assert!(named.lines().any(is_named), "{named}");
    let of_kernel = |text: &str| text.matches("do_syscall_64").count();
    assert!(of_kernel(&saved) > 0 || of_kernel(&nameless) == 0, "{saved}");
}

#[test]
fn waits_have_the_chain_of_calls_and_the_waker() {
    const LONG: Duration = Duration::from_millis(60);
    let chain = Chain::new();
    let recorder = Recorder::new("waits");
    if !recorder.start(&["--size", "16M", "--events", "waits", "--waits", "50ms"]) {
        return;
    }
    let waiting = |what| {
        let program = chain.run(what);
        let stat = format!("/proc/{}/stat", program.0.id());
        let syscall = format!("/proc/{}/syscall", program.0.id());
        let reads = || fs::read_to_string(&syscall).unwrap().starts_with(&format!("{} 0x0 ", libc::SYS_read));
        while !(fs::read_to_string(&stat).unwrap().contains(") S ") && reads()) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(LONG);
        program
    };
    let me = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    for (what, functions) in [
        ("waits", &["wait_for_input", "waits", "middle", "outer", "main"][..]),
        ("deep", &["wait_for_input", "waits", "deep", "deep"]),
    ] {
        let mut program = waiting(what);
        let pid = program.0.id();
        program.0.stdin.take().unwrap().write_all(b"x").unwrap();
        let (ns, state, waker, stack) = until(&recorder, |event| match &event.what {
            What::Wait { ns, state, waker, stack, .. }
                if event.tid == pid && chain.is(stack, functions, &program) =>
            {
                Some((*ns, *state, *waker, stack.clone()))
            }
            _ => None,
        });
        assert!(ns >= 50_000_000, "{ns}");
        assert_eq!((state, waker, stack.is_cut), (1, Some(me), what == "deep"));
        assert!(
            !stack.kernel.is_empty() && stack.kernel.iter().all(|address| address >> 63 == 1),
            "{stack:?}"
        );
        assert_eq!(stack.user.len() == 126, stack.is_cut);
    }
    let status = recorder.status();
    assert!(status["recording"]["groups"][0]["cut_stacks"].as_u64().unwrap() >= 1, "{status}");
    assert!(
        recorder.events().iter().all(|event| matches!(event.what, What::Wait { ns, .. } if ns >= 50_000_000))
    );

    // A recording that has stopped records no more waits.
    assert!(recorder.run(&["hold"]).status.success());
    let program = waiting("waits");
    let pid = program.0.id();
    drop(program);
    thread::sleep(Duration::from_millis(10));
    assert!(recorder.events().iter().all(|event| event.tid != pid));
    // The program that records a stack is not a part of it.
    let folded = recorder.run(&["dump", "--format", "folded", "--stacks", "waiting"]).stdout;
    let folded = String::from_utf8(folded).unwrap();
    assert!(folded.lines().count() > 0 && !folded.contains("bpf_prog_"), "{folded}");
}

#[test]
fn contention_of_a_lock_of_the_kernel_is_recorded() {
    // LCB_F_WRITE; or LCB_F_RT, where the writers wait for each other at an rt_mutex.
    let turns = if real_time() { 8 } else { 4 };
    let recorder = Recorder::new("locks");
    if !recorder.start(&["--size", "16M", "--events", "locks", "--locks", "1us"]) {
        return;
    }
    // Writers of one file take turns.
    let file = &tempfile::tempfile().unwrap();
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let writes = || {
            while !over.load(Ordering::Relaxed) {
                file.write_all_at(&[0; 1 << 16], 0).unwrap();
            }
        };
        let over = Over(over);
        (0..3).for_each(|_| _ = scope.spawn(writes));
        let me = std::process::id();
        let found = until(&recorder, |event| match &event.what {
            What::Contention { lock, flags, ns, stack } if event.pid == me && flags & turns != 0 => {
                Some((*lock, *ns, stack.clone()))
            }
            _ => None,
        });
        drop(over);
        let (lock, ns, stack) = found;
        assert!(lock >> 63 == 1 && ns >= 1000 && !stack.kernel.is_empty(), "{lock:#x} {ns} {stack:?}");
    });
}

#[test]
fn what_the_kernel_lacks_is_said_and_the_other_groups_are_recorded() {
    let recorder = Recorder::new("lacking");
    let output = recorder.run(&["start", "--size", "16M", "--events", "exec,locks"]);
    if output.status.code() == Some(77) {
        skip::without_bpf(stderr(&output));
        return;
    }
    assert!(output.status.success());
    let has_locks = recorder.groups() == ["exec", "locks"];
    assert!(has_locks || recorder.groups() == ["exec"]);
    // The kernel itself says whether it has them.
    let types = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let is_there = types.split(|byte| *byte == 0).any(|name| name == b"btf_trace_contention_end");
    let is_said = stderr(&output).contains("mapring: group locks needs Linux 5.19 or newer, and this is ");
    assert_eq!((has_locks, is_said), (is_there, !is_there));
}

#[test]
fn a_cpu_that_is_not_sampled_is_said_and_sampled_again() {
    let recorder = Recorder::new("cpus");
    if !recorder.start(&["--size", "16M", "--events", "profile"]) {
        return;
    }
    let not_sampled = || recorder.status()["recording"]["not_sampled"].clone();
    assert_eq!(not_sampled(), json!([]));
    let all = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).rfind(|cpu| all.is_set(*cpu)).unwrap();
    fs::remove_file(recorder.dir.join("recording/links").join(format!("profile_cpu{cpu}"))).unwrap();
    assert_eq!(not_sampled(), json!([cpu]));
    assert!(recorder.run(&["resume"]).status.success());
    assert_eq!((not_sampled(), recorder.run(&["resume"]).status.code()), (json!([]), Some(1)));
    let again = Clock::Monotonic.now();
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(over);
        scope.spawn(|| {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one).unwrap();
            while !over.load(Ordering::Relaxed) {}
        });
        until(&recorder, |event| (event.ns > again && usize::from(event.cpu) == cpu).then_some(()));
    });
}

#[test]
fn wrong_times_and_rates_are_refused() {
    let recorder = Recorder::new("wrong");
    for options in
        [["--hz", "0"], ["--hz", "often"], ["--waits", "long"], ["--waits", "9h"], ["--locks", "1"]]
    {
        let output = recorder.run(&[&["start", "--events", "profile,waits,locks"], &options[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}");
    }
    for (option, value, group) in
        [("--hz", "9", "profile"), ("--waits", "1s", "waits"), ("--locks", "1s", "locks")]
    {
        let output = recorder.run(&["start", option, value]);
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.contains(&format!("add it with --events default,{group}")), "{log}");
    }
    assert!(!recorder.dir.exists());
}
