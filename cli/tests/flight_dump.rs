//! Records the real kernel, and reads the dumps of a known piece of work.
#![cfg(feature = "bpf")]

#[path = "flight_dump/columns.rs"]
mod columns;
mod common;
#[allow(dead_code)]
mod perfetto;
#[path = "flight_dump/report.rs"]
mod report;
mod skip;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use common::Running;
use serde_json::{Value, json};

/// One recording at a time: each records what the other tests do.
static ALONE: Mutex<()> = Mutex::new(());

/// The command, with pins of its own. Dropping it ends the recording.
struct Recorder {
    _alone: MutexGuard<'static, ()>,
    pins: PathBuf,
    /// For the files that it writes.
    dir: PathBuf,
}

impl Recorder {
    /// Starts a recording. `None` if that is refused here.
    fn start(test: &str, events: &str) -> Option<Self> {
        let name = format!("mapring-dump-{}-{test}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&dir).unwrap();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let recorder = Self { _alone: alone, pins: Path::new("/sys/fs/bpf").join(name), dir };
        // Enough memory that a busy machine does not overwrite what a test did before it reads.
        let output = recorder.run("start", &["--size", "192M", "--events", events]);
        if output.status.code() == Some(77) {
            skip::without_bpf(&String::from_utf8_lossy(&output.stderr));
            return None;
        }
        assert!(output.status.success());
        Some(recorder)
    }

    fn command(&self, name: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
        command.args(["flight", name, "--pins"]).arg(&self.pins).args(options);
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, options: &[&str]) -> Output {
        let output = self.command(name, options).output().unwrap();
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn dump(&self, options: &[&str]) -> Vec<u8> {
        let output = self.run("dump", options);
        assert!(output.status.success());
        output.stdout
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.run("stop", &[]);
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

const THREAD: &str = "dump \"\u{7}é,\\";
/// [`THREAD`] as it is shown.
const SHOWN: &str = "dump \"\\u{7}é,\\\\";

/// A thread with this name makes some system calls, sleeps, and runs a program. Returns its number, and the program's.
fn work() -> (u32, u32) {
    let work = || {
        thread::sleep(std::time::Duration::from_millis(1)); // a switch shows the name
        rustix::process::getpgid(Some(rustix::process::getpid())).unwrap();
        assert!(fs::File::open("/no/such/file").is_err());
        thread::sleep(std::time::Duration::from_millis(1));
        let mut child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        (rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), pid)
    };
    thread::Builder::new().name(THREAD.to_owned()).spawn(work).unwrap().join().unwrap()
}

/// Repeats the work until a dump has its first call and its last exit: a very busy machine overwrites it before that.
fn until_recorded<const N: usize>(
    mut run: impl FnMut() -> ((u32, u32), [Vec<Value>; N]),
) -> ((u32, u32), [Vec<Value>; N]) {
    let has = |lines: &[Value], of: u32, event: &str, key: &str, value: Value| {
        lines.iter().any(|line| line["tid"] == of && line["event"] == event && line[key] == value)
    };
    for _ in 0..20 {
        let ((tid, child), dumps) = run();
        let whole = |lines: &Vec<Value>| {
            has(lines, tid, "sys_enter", "syscall", json!("getpgid"))
                && has(lines, child, "sched_process_exit", "exit_status", json!(3))
        };
        if dumps.iter().all(whole) {
            return ((tid, child), dumps);
        }
    }
    panic!("this machine overwrites 192 MiB of records faster than a dump reads them");
}

/// The work as lines of NDJSON or CSV show it.
fn expect_work(lines: &[Value], (tid, child): (u32, u32)) {
    let me = std::process::id();
    let of = |tid: u32, event: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["tid"] == tid && line["event"] == event).collect()
    };
    let calls = of(tid, "sys_enter");
    let hex = format!("{me:#x}");
    let getpgid =
        calls.iter().find(|line| line["syscall"] == "getpgid" && line["arg0"] == hex.as_str()).unwrap();
    assert_eq!((&getpgid["pid"], &getpgid["thread"]), (&json!(me), &json!(SHOWN)));
    let exits = of(tid, "sys_exit");
    assert!(
        exits
            .iter()
            .any(|line| line["syscall"] == "openat" && line["error"] == "ENOENT" && line["ret"] == -2)
    );
    assert!(of(tid, "sched_switch").iter().any(|line| line["state"] == "S" && line["thread"] == SHOWN));
    assert!(lines.iter().any(|line| line["event"] == "sched_waking" && line["woken_tid"] == tid));
    assert!(of(tid, "sched_process_fork").iter().any(|line| line["child_pid"] == child));
    let execs = of(child, "sched_process_exec");
    assert_eq!(execs.iter().filter(|line| line["file"] == "/bin/sh").count(), 1);
    let exits = of(child, "sched_process_exit");
    assert_eq!((exits.len(), &exits[0]["exit_status"], &exits[0]["thread"]), (1, &json!(3), &json!("sh")));
    // This process is still present.
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    assert!(cgroup.is_none_or(|cgroup| getpgid["cgroup"] == cgroup));
    let name = fs::read_to_string(format!("/proc/{me}/comm")).unwrap();
    assert_eq!(getpgid["process"], name.trim_end());
    // In order.
    let times: Vec<_> = lines.iter().map(|line| line["ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
}

fn ndjson(bytes: &[u8]) -> Vec<Value> {
    str::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows as [`ndjson`] has them.
fn csv(bytes: &[u8]) -> Vec<Value> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().unwrap().clone();
    let texts: HashSet<_> = ["arg0", "arg1", "arg2", "address", "ip", "thread", "process"].into();
    let value = |name: &str, text: &str| match text.parse::<i64>() {
        Ok(number) if !texts.contains(name) => json!(number),
        _ => json!(text),
    };
    let row = |row: csv::StringRecord| {
        header
            .iter()
            .zip(&row)
            .filter(|(_, text)| !text.is_empty())
            .map(|(k, v)| (k.to_owned(), value(k, v)))
            .collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

#[test]
fn each_format_has_the_work() {
    let Some(recorder) = Recorder::start("formats", "sched,syscalls,exec") else { return };
    // The process that ran `start` has ended long ago. Three at the same time:
    let files = ["a.pftrace", "b.ndjson", "c.csv"];
    let (work, [lines, rows]) = until_recorded(|| {
        let work = work();
        let dumps = files.map(|file| {
            recorder.command("dump", &["--out", file, "--force"]).stdout(Stdio::null()).spawn().unwrap()
        });
        dumps.into_iter().for_each(|mut dump| assert!(dump.wait().unwrap().success()));
        let [_, lines, rows] = files.map(|file| fs::read(recorder.dir.join(file)).unwrap());
        (work, [ndjson(&lines), csv(&rows)])
    });
    expect_work(&lines, work);
    expect_work(&rows, work);

    let packets = perfetto::packets(&fs::read(recorder.dir.join("a.pftrace")).unwrap());
    let (tid, child) = work;
    let events = perfetto::events(&packets);
    let of = |tid: u32, name: &'static str| {
        events.iter().filter(move |(_, event)| event["pid"] == tid).map(move |(_, event)| &event[name])
    };
    let getpgid = json!(libc::SYS_getpgid);
    let me = json!(std::process::id());
    assert!(of(tid, "sys_enter").any(|call| call["id"] == getpgid && call["args"][0] == me));
    assert!(of(tid, "sched_switch").any(|switch| switch["prev_state"] == 1 && switch["prev_comm"] == SHOWN));
    assert!(of(tid, "task_newtask").any(|fork| fork["pid"] == child && fork["clone_flags"] == 0));
    assert!(of(child, "task_rename").any(|rename| rename["newcomm"] == "sh"));
    let mut processes =
        packets.iter().flat_map(|packet| packet["process_tree"]["processes"].as_array()).flatten();
    let process = processes.find(|process| process["pid"] == me).unwrap();
    assert_eq!(process["cmdline"][0], std::env::args().next().unwrap());

    // Without --out, a trace has a name of its own, which is printed.
    let name = String::from_utf8(recorder.dump(&[])).unwrap();
    let packets = perfetto::packets(&fs::read(recorder.dir.join(name.trim_end())).unwrap());
    assert!(!perfetto::events(&packets).is_empty());

    // An hour ago is before the start; all later events are recent.
    let before = mapring::time::Clock::Monotonic.now();
    let [all, recent] =
        ["1h", "1ms"].map(|last| ndjson(&recorder.dump(&["--last", last, "--format", "ndjson"])));
    assert!(recent.iter().all(|line| line["ns"].as_u64().unwrap() >= before - 1_000_000));
    assert!(all[0]["ns"].as_u64().unwrap() < before - 1_000_000);
}

#[test]
fn following_shows_new_events_in_order_until_a_signal() {
    let Some(recorder) = Recorder::start("follow", "sched,syscalls,exec") else { return };
    let (work, [lines]) = until_recorded(|| {
        let mut follow = recorder.command("dump", &["--follow"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(follow.stdout.take().unwrap());
        let mut text = String::new();
        out.read_line(&mut text).unwrap(); // it has begun
        let reading = thread::spawn(move || {
            out.read_to_string(&mut text).unwrap();
            text
        });
        let work = work();
        let pid = rustix::process::Pid::from_raw(i32::try_from(follow.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(follow.wait().unwrap().success());
        let mut lines = ndjson(reading.join().unwrap().as_bytes());
        // A busy machine may write a record after its turn.
        lines.sort_by_key(|line| line["ns"].as_u64());
        (work, [lines])
    });
    expect_work(&lines, work);
}

#[test]
fn following_ends_with_the_recording() {
    let Some(recorder) = Recorder::start("end", "exec") else { return };
    let mut follow = recorder.command("dump", &["--follow", "--format", "csv"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(follow.stdout.take().unwrap());
    let mut header = String::new();
    out.read_line(&mut header).unwrap();
    assert!(header.starts_with("time,ns,cpu,pid,tid,process,thread,"));
    assert!(recorder.run("stop", &[]).status.success());
    let output = follow.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("the recording has ended"));
}

/// Dumps have the command lines of all users.
#[test]
fn a_dump_is_whole_and_only_its_owner_reads_it() {
    let Some(recorder) = Recorder::start("whole", "sched,syscalls") else { return };
    work();
    let mode = |file: &str| fs::metadata(recorder.dir.join(file)).unwrap().permissions().mode() & 0o7777;
    for file in ["a.pftrace", "b.csv"] {
        recorder.dump(&["--out", file]);
        assert_eq!(mode(file), 0o600);
        let before = fs::read(recorder.dir.join(file)).unwrap();
        let output = recorder.run("dump", &["--out", file]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("the file exists; --force replaces it"));
        assert_eq!(fs::read(recorder.dir.join(file)).unwrap(), before);
        recorder.dump(&["--out", file, "--force"]);
        assert_eq!(mode(file), 0o600);
    }
    // On a full disk, the older file stays.
    let script = "mount -t tmpfs -o size=16k tmpfs /mnt && cd /mnt && echo older > old && for format in perfetto csv; do \
                  \"$0\" flight dump --pins \"$1\" --format $format --out old --force; test $? = 1 || exit 9; \
                  \"$0\" flight dump --pins \"$1\" --format $format --out new; test $? = 1 || exit 9; done; \
                  \"$0\" flight dump --pins \"$1\" --last 10s --follow --format csv --out grows; \
                  test $? = 1 || exit 9; ls -A; cat old";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_mapring")]).arg(&recorder.pins);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if !output.stderr.starts_with(b"unshare") => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout, b"grows.part\nold\nolder\n");
            let log = String::from_utf8(output.stderr).unwrap();
            for file in ["old", "new", "grows.part"] {
                assert!(log.contains(&format!("{file}: No space left on device")), "{log}");
            }
        }
        _ => skip::skipped("no unshare, or this user can't make a mount namespace"),
    }
}

#[test]
fn following_can_be_repeated_after_a_kill() {
    let Some(recorder) = Recorder::start("killed", "exec") else { return };
    let args = ["--follow", "--out", "f.ndjson"];
    let part = recorder.dir.join("f.ndjson.part");
    let follow = Running(recorder.command("dump", &args).spawn().unwrap());
    common::until("the file", || part.exists());
    let log = |options: &[&str]| {
        let output = recorder.run("dump", &[&args, options].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    common::until("the lock", || log(&["--force"]).contains("f.ndjson.part: another `mapring` writes it"));
    drop(follow);
    assert!(log(&[]).contains("f.ndjson.part: a command that was killed left it"));
    fs::write(&part, "left").unwrap();
    let mut follow = recorder.command("dump", &[&args[..], &["--force"]].concat()).spawn().unwrap();
    common::until("the new file", || fs::read(&part).is_ok_and(|text| text != b"left"));
    assert!(recorder.run("stop", &[]).status.success());
    assert!(follow.wait().unwrap().success() && recorder.dir.join("f.ndjson").exists() && !part.exists());
}

#[test]
fn what_goes_wrong_is_said() {
    let Some(recorder) = Recorder::start("wrong", "sched,syscalls") else { return };
    work();
    for format in ["perfetto", "ndjson", "csv"] {
        let output = recorder.run("dump", &["--format", format, "--out", "/dev/full"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("/dev/full: No space left on device"));
    }
    let output = recorder.run("dump", &["--follow", "--format", "csv", "--out", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/dev/full: No space left on device"));
    let output = recorder.run("dump", &["--out", "no/such/directory.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no/such/directory.csv: No such file"));
    for options in [&["--out", "a.txt"][..], &["--follow", "--format", "perfetto"], &["--last", "10"]] {
        let output = recorder.run("dump", options);
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("Usage: mapring flight dump ") || log.contains("500ms"), "{log}");
    }
    for options in [&["--format", "ndjson"][..], &["--follow"]] {
        let mut dump =
            recorder.command("dump", options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut start = [0; 10];
        dump.stdout.take().unwrap().read_exact(&mut start).unwrap(); // and closes the pipe
        let output = dump.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    let nowhere = Command::new(env!("CARGO_BIN_EXE_mapring"))
        .args(["flight", "dump", "--pins", "/sys/fs/bpf/mapring-no-such-recording"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("nothing is recorded"));
}
