//! What a dump shows of tasks and situations that are rare.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{env, io, thread};

use serde_json::{Value, json};

use crate::recorder::{Busy, Recorder};
use crate::skip;

fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// The events of a thread in a dump.
fn dumped(recorder: &Recorder, tid: u32) -> Vec<Value> {
    let output = recorder.run(&["dump", "--format", "ndjson"]);
    assert!(output.status.success());
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    let of_tid = |line: &&str| line.contains(&format!("\"tid\":{tid},"));
    lines.filter(of_tid).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is(line: &Value, event: &str) -> bool {
    line["event"] == event
}

/// A cgroup that can be frozen: of the first version, because the second one has no state of its own for it.
struct Freezer {
    mount: PathBuf,
    group: PathBuf,
}

impl Freezer {
    fn new() -> Option<Self> {
        let mount = env::temp_dir().join(format!("mapring-freezer-{}", std::process::id()));
        let group = mount.join(format!("mapring-test-{}", std::process::id()));
        fs::create_dir(&mount).unwrap();
        let freezer = Self { mount, group };
        let mut mount = Command::new("/bin/mount");
        mount.args(["-t", "cgroup", "-o", "freezer", "freezer"]).arg(&freezer.mount).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        (mounted && fs::create_dir(&freezer.group).is_ok()).then_some(freezer)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.group.join(file), text).unwrap();
    }

    fn set(&self, state: &str) {
        self.write("freezer.state", state);
        while fs::read_to_string(self.group.join("freezer.state")).unwrap().trim() != state {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
        let _ = Command::new("/bin/umount").arg(&self.mount).stderr(Stdio::null()).status();
        let _ = fs::remove_dir(&self.mount);
    }
}

#[test]
fn a_frozen_task_is_not_runnable() {
    let Some(freezer) = Freezer::new() else {
        skip::skipped("this kernel has no freezer of cgroups, version 1");
        return;
    };
    let recorder = Recorder::new("frozen");
    if !recorder.start(&["--size", "64M", "--events", "sched"]) {
        return;
    }
    let busy = Busy::new();
    freezer.write("cgroup.procs", &busy.0.id().to_string());
    freezer.set("FROZEN");
    let events = dumped(&recorder, busy.0.id());
    // First, since a frozen process does not end.
    freezer.set("THAWED");
    let last = events.iter().rfind(|line| is(line, "sched_switch")).unwrap();
    assert_eq!(last["state"], "D", "{last}");
    let pid = busy.0.id();
    drop(busy);
    while fs::read_to_string(freezer.group.join("cgroup.procs")).unwrap().contains(&pid.to_string()) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Makes the calling thread one of SCHED_DEADLINE. False if the kernel refuses that.
#[allow(unsafe_code)]
fn become_deadline() -> bool {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap(),
        sched_policy: libc::SCHED_DEADLINE.cast_unsigned(),
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 1_000_000,
        sched_deadline: 50_000_000,
        sched_period: 50_000_000,
    };
    // SAFETY: the kernel reads as many bytes as `size` says.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
}

#[test]
fn the_priority_of_a_deadline_is_negative() {
    let recorder = Recorder::new("deadline");
    if !recorder.start(&["--size", "64M", "--events", "sched"]) {
        return;
    }
    let work = || {
        let is_deadline = become_deadline();
        (0..5).for_each(|_| thread::sleep(Duration::from_millis(20)));
        is_deadline.then(tid)
    };
    let Some(tid) = thread::spawn(work).join().unwrap() else {
        skip::skipped("this kernel gives this thread no deadline");
        return;
    };
    let prios: Vec<_> = dumped(&recorder, tid).iter().map(|line| line["prio"].clone()).collect();
    assert!(prios.contains(&json!(-1)), "{prios:?}");
    assert!(prios.iter().all(|prio| prio.is_null() || prio.as_i64().unwrap() < 141), "{prios:?}");
}

#[test]
fn a_return_from_a_signal_has_no_number() {
    let recorder = Recorder::new("sigreturn");
    if !recorder.start(&["--size", "192M", "--events", "syscalls"]) {
        return;
    }
    let seen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, seen.clone()).unwrap();
    signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).unwrap();
    let events = dumped(&recorder, tid());
    let at = events.iter().position(|line| line["syscall"] == "rt_sigreturn").unwrap();
    let exit = events[at..].iter().find(|line| is(line, "sys_exit")).unwrap();
    let expected = if cfg!(target_arch = "x86_64") { -1 } else { libc::SYS_rt_sigreturn };
    assert_eq!(exit["nr"], expected, "{exit}");
}

/// A shell with this script has begun, and waits until its input ends.
const WAITS: &str = "echo; read line";

fn waiting(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

/// Ends the program. Returns what its events show after it began: the first is the exec.
fn shown(recorder: &Recorder, mut program: Child) -> Vec<Value> {
    let comm = fs::read(format!("/proc/{}/comm", program.id())).unwrap();
    let comm = comm.strip_suffix(b"\n").unwrap().escape_ascii().to_string();
    drop(program.stdin.take());
    program.wait().unwrap();
    let events = dumped(recorder, program.id());
    let from = events.iter().rposition(|line| is(line, "sched_process_exec")).unwrap();
    let threads = || events[from + 1..].iter().map(|line| &line["thread"]);
    assert!(threads().next().is_some() && threads().all(|thread| *thread == comm), "{comm}: {events:?}");
    events[from..].to_vec()
}

#[test]
#[allow(unsafe_code)]
fn a_program_has_the_name_that_the_kernel_gives_it() {
    let recorder = Recorder::new("names");
    if !recorder.start(&["--size", "192M", "--events", "exec,syscalls"]) {
        return;
    }
    let dir = env::temp_dir().join(format!("mapring-names-{}", std::process::id()));
    let deep = dir.join("d".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    // By another process: a child that another thread forks meanwhile would keep a file of this process open for writing.
    let program = |path: PathBuf| {
        assert!(Command::new("/bin/cp").arg("/bin/sh").arg(&path).status().unwrap().success());
        path
    };
    let run = |path: &Path| waiting(Command::new(path).args(["-c", WAITS]));
    // The byte that is no text.
    let path = program(dir.join(OsString::from_vec(b"a\xffb".to_vec())));
    let events = shown(&recorder, run(&path));
    assert!(events[0]["file"].as_str().unwrap().ends_with("/a\\xffb"), "{}", events[0]);
    assert_eq!(events[0]["file_is_cut"], false);
    // A path that the record cuts.
    let path = program(deep.join("long"));
    let events = shown(&recorder, run(&path));
    assert!(path.to_str().unwrap().starts_with(events[0]["file"].as_str().unwrap()));
    assert_eq!((events[0]["file"].as_str().unwrap().len(), &events[0]["file_is_cut"]), (95, &json!(true)));
    // A descriptor, by its path and as execveat takes it.
    let file = fs::File::open("/bin/sh").unwrap();
    let fd = file.as_raw_fd();
    let by_path = waiting(Command::new(format!("/proc/self/fd/{fd}")).args(["-c", WAITS]));
    shown(&recorder, by_path);
    let mut by_descriptor = Command::new("/bin/sh");
    let execute = move || {
        let argv = [c"x".as_ptr(), c"-c".as_ptr(), c"echo; read line".as_ptr(), std::ptr::null()];
        // SAFETY: the texts are static and end with zeros, and a null pointer ends the list.
        unsafe { libc::fexecve(fd, argv.as_ptr(), [std::ptr::null()].as_ptr()) };
        Err(io::Error::last_os_error())
    };
    // SAFETY: in the child it only makes a system call.
    unsafe { by_descriptor.pre_exec(execute) };
    shown(&recorder, waiting(&mut by_descriptor));
    fs::remove_dir_all(&dir).unwrap();
}

const EXECUTES: &str = "MAPRING_TEST_EXECUTES";

/// Not a test of its own: a thread that is not the first of its process executes a program.
#[test]
fn executes_from_a_thread() {
    if env::var_os(EXECUTES).is_none() {
        return;
    }
    let execute = || Command::new("/bin/sh").args(["-c", "exit 3"]).exec();
    panic!("{}", thread::spawn(execute).join().unwrap());
}

#[test]
fn a_thread_that_executes_a_program_takes_the_number_of_the_first() {
    let recorder = Recorder::new("thread");
    if !recorder.start(&["--size", "64M", "--events", "exec"]) {
        return;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "unusual::executes_from_a_thread", "--test-threads=1"]).env(EXECUTES, "1");
    let mut child = child.stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let events = dumped(&recorder, child.id());
    let execs: Vec<_> = events.iter().filter(|line| is(line, "sched_process_exec")).collect();
    let [first, second] = execs[..] else { panic!("{events:?}") };
    assert_eq!(first["old_tid"], child.id());
    assert!(second["old_tid"].as_u64().unwrap() > u64::from(child.id()), "{second}");
    let exit = events.last().unwrap();
    assert_eq!((&exit["event"], &exit["thread"]), (&json!("sched_process_exit"), &json!("sh")));
}

/// Brings up the interface `lo`.
#[allow(unsafe_code)]
fn bring_up(socket: &UdpSocket) {
    // SAFETY: a structure of the kernel that may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&b"lo".map(|byte| libc::c_char::from_ne_bytes([byte])));
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap();
    // SAFETY: this call reads such a request.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0);
}

#[test]
fn interfaces_have_their_network_namespace() {
    let recorder = Recorder::new("net-ns");
    if !recorder.start(&["--size", "64M", "--events", "net"]) {
        return;
    }
    let send = |is_new: bool| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if is_new {
            bring_up(&socket);
        }
        let port = socket.local_addr().unwrap().port();
        socket.send_to(&[7; 77], ("127.0.0.1", port)).unwrap();
        (tid(), fs::metadata("/proc/thread-self/ns/net").unwrap().st_ino())
    };
    let elsewhere = move || {
        #[allow(deprecated, unsafe_code)] // of this thread alone, which ends
        let moved = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
        moved.ok().map(|()| send(true))
    };
    let mut sent = vec![send(false)];
    match thread::spawn(elsewhere).join().unwrap() {
        Some(there) => sent.push(there),
        None => skip::skipped("this kernel has no network namespaces"),
    }
    for (at, (tid, namespace)) in sent.into_iter().enumerate() {
        let events = dumped(&recorder, tid);
        let packet =
            events.iter().find(|line| is(line, "net_dev_queue") && line["bytes"] == 77 + 28).unwrap();
        assert_eq!((&packet["net_ns"], &packet["interface"]), (&json!(namespace), &json!(1)));
        // The command is in the first one.
        let name = if at == 0 { json!("lo") } else { Value::Null };
        assert_eq!(packet["interface_name"], name);
    }
}

#[test]
fn a_wall_clock_that_was_set_is_said() {
    let recorder = Recorder::new("clocks");
    if !recorder.start(&["--size", "1M", "--events", "exec"]) {
        return;
    }
    let log = || String::from_utf8(recorder.run(&["dump", "--format", "ndjson"]).stderr).unwrap();
    assert!(!log().contains("wall clock") && !log().contains("suspended"));
    // As if the recording had started when the clocks were others.
    let link = recorder.dir.join("recording/clocks");
    let text = fs::read_link(&link).unwrap().into_os_string().into_string().unwrap();
    let [wall, boot] = text.split(' ').map(|ns| ns.parse().unwrap()).collect::<Vec<i64>>()[..] else {
        panic!()
    };
    fs::remove_file(&link).unwrap();
    let earlier = format!("{} {}", wall - 3_605_000_000_000, boot - 5_000_000_000);
    std::os::unix::fs::symlink(OsStr::new(&earlier), &link).unwrap();
    let log = log();
    assert!(log.contains("the machine was suspended for 5s") && log.contains("set forward by 1h"), "{log}");
}
