//! Records the real kernel with the real command, and compares the records with what the test did.
#![cfg(feature = "bpf")]

#[allow(dead_code)]
#[path = "../src/flight/event.rs"]
mod event;
#[allow(dead_code)]
#[path = "../src/exit.rs"]
mod exit;
#[allow(dead_code)]
#[path = "../src/flight/pins.rs"]
mod pins;
#[allow(dead_code)]
#[path = "../src/flight/record.rs"]
mod record;
#[allow(dead_code)]
#[path = "../src/flight/rings.rs"]
mod rings;

use std::collections::HashSet;
use std::io::Read;
use std::net::UdpSocket;
use std::os::linux::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use aya::programs::links::{FdLink, PinnedLink};
use event::{Event, What};
use serde_json::Value;

/// The command, with pins of its own. Dropping it ends the recording.
struct Recorder {
    dir: PathBuf,
}

impl Recorder {
    fn new(test: &str) -> Self {
        Self { dir: format!("/sys/fs/bpf/mapring-test-{}-{test}", std::process::id()).into() }
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
        command.arg("flight").arg("--pins").arg(&self.dir).args(options).stdin(Stdio::null());
        command
    }

    fn run(&self, options: &[&str]) -> Output {
        output(&mut self.command(options))
    }

    /// Starts a recording. False if that is refused here.
    #[must_use]
    fn start(&self, options: &[&str]) -> bool {
        let output = self.run(&[&["start"], options].concat());
        if output.status.code() == Some(77) {
            let required = std::env::var("MAPRING_REQUIRE_BPF").is_ok_and(|value| value == "1");
            assert!(!required, "MAPRING_REQUIRE_BPF=1, but this is refused here, as said above");
            eprintln!("\n!!!! SKIPPED: this is refused here, as said above !!!!\n");
            return false;
        }
        assert!(output.status.success());
        true
    }

    fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn groups(&self) -> Vec<String> {
        let status = self.status();
        let groups = status["recording"]["groups"].as_array().unwrap().iter();
        groups.map(|group| group["group"].as_str().unwrap().to_owned()).collect()
    }

    /// All events that are present.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for mut ring in rings::open(&self.dir).unwrap() {
            ring.read(&mut |event| events.push(event));
            for gap in ring.gaps() {
                println!("{gap:?}");
            }
        }
        events.sort_by_key(|event| event.ns);
        events
    }

    /// The ids of the attached programs.
    fn programs(&self) -> HashSet<u32> {
        let pins = fs::read_dir(pins::links(&self.dir)).unwrap().map(|pin| pin.unwrap().path());
        let id = |pin| FdLink::from(PinnedLink::from_pin(pin).unwrap()).info().unwrap().program_id();
        pins.map(id).collect()
    }

    fn expect_nothing_left(&self, programs: &HashSet<u32>) {
        assert!(!self.dir.exists());
        // The kernel frees programs a little later.
        let end = Instant::now() + Duration::from_secs(60);
        let loaded =
            || aya::programs::loaded_programs().flatten().any(|program| programs.contains(&program.id()));
        while loaded() {
            assert!(Instant::now() < end, "programs are still there");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.dir.exists() {
            self.run(&["stop"]);
        }
    }
}

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn said(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// The events that a thread did or suffered.
struct Of<'e>(&'e [Event], u32);

impl Of<'_> {
    fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        self.0.iter().filter(|event| event.tid == self.1 && is(&event.what)).count()
    }
}

fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// Enough memory that a busy machine does not overwrite what a test did before it reads.
const AMPLE: &str = "192M";

#[test]
fn calls_and_switches_of_a_thread_are_recorded() {
    const CALLS: usize = 1000;
    let recorder = Recorder::new("calls");
    if !recorder.start(&["--size", AMPLE, "--events", "syscalls,sched"]) {
        return;
    }
    let work = || {
        (0..CALLS).for_each(|_| assert!(rustix::process::getppid().is_some()));
        rustix::process::test_kill_process(rustix::process::getpid()).unwrap();
        // More than once: on a busy machine the time may be over before the thread has gone to sleep.
        (0..5).for_each(|_| thread::sleep(Duration::from_millis(50)));
        tid()
    };
    let tid = thread::Builder::new().name("mapring-flight".to_owned()).spawn(work).unwrap().join().unwrap();
    let events = recorder.events();
    let of = Of(&events, tid);

    let parent = i64::from(rustix::process::getppid().unwrap().as_raw_nonzero().get());
    let getppid = u32::try_from(libc::SYS_getppid).unwrap();
    assert_eq!(of.count(|what| matches!(what, What::SyscallEnter { nr, .. } if *nr == getppid)), CALLS);
    assert_eq!(of.count(|what| *what == What::SyscallExit { nr: getppid, ret: parent }), CALLS);
    let kill = u32::try_from(libc::SYS_kill).unwrap();
    let me = u64::from(std::process::id());
    let is =
        |what: &What| matches!(what, What::SyscallEnter { nr, args } if *nr == kill && args[..2] == [me, 0]);
    assert_eq!(of.count(is), 1);

    let slept = events.iter().position(|e| e.tid == tid && matches!(e.what, What::Switch { state: 1, .. }));
    let after = &events[slept.expect("it slept")..];
    let name = *b"mapring-flight\0\0";
    let woken = after.iter().position(
        |e| matches!(e.what, What::Wakeup { task, prio: 1..=139, comm, .. } if task == tid && comm == name),
    );
    let after = &after[woken.expect("it was woken")..];
    let runs = |e: &&Event| matches!(e.what, What::Switch { next, next_comm, .. } if next == tid && next_comm == name);
    let runs = after.iter().find(runs).expect("it ran again");
    assert!(runs.tid != tid);
    assert!(events.iter().any(|e| e.tid == tid && e.pid == std::process::id()));
    // The end of a thread: EXIT_DEAD or EXIT_ZOMBIE.
    assert_eq!(of.count(|what| matches!(what, What::Switch { state: 0x10 | 0x20, .. })), 1);
}

#[test]
fn processes_are_recorded() {
    let recorder = Recorder::new("processes");
    if !recorder.start(&["--size", "16M", "--events", "exec"]) {
        return;
    }
    let mut child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
    child.wait().unwrap();
    let mut killed = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let events = recorder.events();
    let (pid, of) = (child.id(), Of(&events, child.id()));
    let is = |event: &Event| matches!(event.what, What::Fork { child_pid, child_tid, .. } if (child_pid, child_tid) == (pid, pid));
    let fork = events.iter().find(|event| is(event)).unwrap();
    assert_eq!(fork.pid, std::process::id());
    assert_eq!(of.count(|what| *what == What::Exec { file: "/bin/sh".to_owned() }), 1);
    assert_eq!(of.count(|what| *what == What::Exit { code: 3 << 8 }), 1);
    assert_eq!(Of(&events, killed.id()).count(|what| *what == What::Exit { code: libc::SIGKILL }), 1);
}

#[test]
fn page_faults_are_recorded() {
    let recorder = Recorder::new("faults");
    if !cfg!(target_arch = "x86_64") {
        let output = recorder.run(&["start", "--events", "faults"]);
        assert_eq!(output.status.code(), Some(77));
        assert!(said(&output).contains("no event page_fault_user"));
        return;
    }
    if !recorder.start(&["--size", AMPLE, "--events", "faults"]) {
        return;
    }
    let mut memory = vec![0_u8; 64 << 20];
    let touched = std::hint::black_box(&mut memory[(32 << 20) + 123]);
    *touched = 1;
    let expected = std::ptr::from_mut(touched).addr() as u64;
    let events = recorder.events();
    let is = |what: &What| matches!(what, What::Fault { address, ip } if *address == expected && *ip != 0);
    assert_eq!(Of(&events, tid()).count(is), 1);
}

#[test]
fn packets_and_interrupts_are_recorded() {
    let recorder = Recorder::new("packets");
    if !recorder.start(&["--size", AMPLE, "--events", "net,irq"]) {
        return;
    }
    let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    a.send_to(&[7; 7777], b.local_addr().unwrap()).unwrap();
    b.recv(&mut [0; 8000]).unwrap();
    let index: u32 = fs::read_to_string("/sys/class/net/lo/ifindex").unwrap().trim().parse().unwrap();
    // With the headers of UDP and IP, and of Ethernet while it is sent.
    let events = recorder.events();
    let sent = What::NetSend { ifindex: index, bytes: 7777 + 8 + 20 + 14 };
    assert_eq!(Of(&events, tid()).count(|what| *what == sent), 1);
    let received = What::NetReceive { ifindex: index, bytes: 7777 + 8 + 20 };
    assert_eq!(events.iter().filter(|event| event.what == received).count(), 1);
    // The kernel receives in a softirq.
    let enters =
        events.iter().filter(|event| matches!(event.what, What::SoftirqEnter { vec: 0..=9 })).count();
    let exits = events.iter().filter(|event| matches!(event.what, What::SoftirqExit { vec: 0..=9 })).count();
    assert!(enters > 0 && exits > 0, "{enters} {exits}");
}

#[test]
fn requests_to_disks_are_recorded() {
    const BYTES: usize = 1 << 20;
    let recorder = Recorder::new("disks");
    if !recorder.start(&["--size", AMPLE, "--events", "block"]) {
        return;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("flight-{}", std::process::id()));
    let mut file = fs::File::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut random = fs::File::open("/dev/urandom").unwrap();
    std::io::copy(&mut random.by_ref().take(BYTES as u64), &mut file).unwrap();
    file.sync_all().unwrap();
    let major = rustix::fs::major(file.metadata().unwrap().st_dev());
    if major == 0 {
        eprintln!("\n!!!! SKIPPED: {} is not on a disk !!!!\n", path.display());
        return;
    }
    let events = recorder.events();
    let (mut issued, mut completed) = (0, 0);
    for event in &events {
        match event.what {
            What::BlockIssue { dev, sector, bytes, op: [b'W', ..] } if dev >> 20 == major && bytes > 0 => {
                issued += bytes as usize;
                let is = |e: &&Event| {
                    matches!(e.what, What::BlockComplete { dev: d, sector: s, error: 0, .. } if (d, s) == (dev, sector))
                        && e.ns >= event.ns
                };
                completed += events.iter().find(is).map_or(0, |_| bytes as usize);
            }
            _ => {}
        }
    }
    assert!(issued >= BYTES && completed >= BYTES, "{issued} {completed}");
}

#[test]
fn status_says_what_is_recorded() {
    let recorder = Recorder::new("status");
    let none = recorder.run(&["status"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stdout).starts_with("Nothing is recorded at "));
    assert_eq!(recorder.status()["running"], false);
    if !recorder.start(&["--size", "8M", "--events", "syscalls,exec"]) {
        return;
    }
    let status = recorder.status();
    assert_eq!(status["running"], true);
    let recording = &status["recording"];
    assert_eq!(recording["loader"]["alive"], false);
    assert!(recording["memory"].as_u64().unwrap() <= 8 << 20);
    assert!(recording["cpu_percent"].as_f64().unwrap() > 0.0);
    assert_eq!(recorder.groups(), ["syscalls", "exec"]);
    let calls = &recording["groups"][0];
    // The command's own calls alone give some.
    assert!(calls["events"].as_u64().unwrap() > 0 && calls["events_per_second"].as_f64().unwrap() > 0.0);
    assert!(calls["ns_per_event"].as_f64().unwrap() > 0.0 && calls["records"].as_u64().unwrap() > 0);
    assert_eq!(calls["programs"], serde_json::json!(["syscalls_enter", "syscalls_exit"]));
    assert!(calls["newest_ns"].as_u64() > calls["oldest_ns"].as_u64());

    let text = recorder.run(&["status"]);
    let text = String::from_utf8(text.stdout).unwrap();
    println!("{text}");
    assert!(text.starts_with("Recording since 20") && text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_second_start_is_refused() {
    let recorder = Recorder::new("second");
    if !recorder.start(&["--size", "8M", "--events", "exec"]) {
        return;
    }
    let (programs, second) = (recorder.programs(), recorder.run(&["start"]));
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("is recording already"));
    assert_eq!((recorder.programs(), programs.len()), (programs.clone(), 3));

    let stopped = recorder.run(&["stop"]);
    assert!(stopped.status.success());
    assert!(said(&stopped).starts_with("Stopped. Recorded events: "));
    recorder.expect_nothing_left(&programs);
    let two =
        [(); 2].map(|()| recorder.command(&["start", "--size", "8M", "--events", "exec"]).spawn().unwrap());
    let mut codes = two.map(|mut start| start.wait().unwrap().code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    assert!(recorder.run(&["stop"]).status.success());
    let again = recorder.run(&["stop"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("nothing is recorded at"));
}

#[test]
fn what_a_killed_start_left_is_removed() {
    let recorder = Recorder::new("killed");
    if !recorder.start(&["--size", "8M", "--events", "exec"]) {
        return;
    }
    // The state right before a start is finished.
    let unfinished = || fs::rename(pins::recording(&recorder.dir), pins::unfinished(&recorder.dir)).unwrap();
    let programs = recorder.programs();
    unfinished();
    let status = recorder.status();
    assert_eq!((&status["running"], &status["unfinished"]), (&false.into(), &true.into()));
    assert!(recorder.start(&["--size", "8M", "--events", "exec"]));
    let others = recorder.programs();
    assert!(programs.is_disjoint(&others));
    unfinished();
    let stopped = recorder.run(&["stop"]);
    assert!(stopped.status.success() && said(&stopped).contains("a start had left"));
    recorder.expect_nothing_left(&(&programs | &others));

    // At any other moment.
    for ms in (0..400).step_by(40) {
        let mut start = recorder.command(&["start", "--size", "8M"]).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(ms));
        start.kill().unwrap();
        start.wait().unwrap();
        let running = recorder.status()["running"].as_bool().unwrap();
        let programs = if running { recorder.programs() } else { HashSet::new() };
        let there = recorder.dir.exists();
        let stopped = recorder.run(&["stop"]);
        assert!(stopped.status.success() || !running);
        assert!(there || !stopped.status.success());
        recorder.expect_nothing_left(&programs);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let recorder = Recorder::new("refused");
    let expect = |options: &[&str], code, text: &str| {
        let output = recorder.run(&[&["start"], options].concat());
        assert_eq!(output.status.code(), Some(code), "{options:?}");
        assert!(said(&output).contains(text), "{options:?}");
        assert!(!recorder.dir.exists());
    };
    expect(&["--size", "4K"], 1, "--size 4K is too small: 7 groups");
    expect(&["--size", "1000T"], 1, "--size 1000T is too large: this machine has ");
    expect(&["--size", "many"], 2, "64M");
    expect(&["--events", "sched,dreams"], 2, "the groups are sched,");
    expect(&["--group", "no-such-group"], 1, "there is no group no-such-group");
    let elsewhere = Recorder { dir: std::env::temp_dir().join("mapring-no-bpffs") };
    let output = elsewhere.run(&["start"]);
    assert_eq!(output.status.code(), Some(77));
    assert!(said(&output).contains("mount -t bpf") && !elsewhere.dir.exists());
}

/// A BPF file system of its own.
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount(mode: &str) -> Self {
        let fs = Self(std::env::temp_dir().join(format!("mapring-bpffs-{}-{mode}", std::process::id())));
        fs::create_dir(&fs.0).unwrap();
        let mode = format!("mode={mode}");
        let mounted =
            Command::new("mount").args(["-t", "bpf", "-o", &mode, "bpf"]).arg(&fs.0).status().unwrap();
        assert!(mounted.success());
        fs
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// A group of /etc/group that is not root's.
fn some_group() -> (String, u32) {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let group = |line: &str| {
        let mut parts = line.split(':');
        Some((parts.next()?.to_owned(), parts.nth(1)?.parse::<u32>().ok()?))
    };
    groups.lines().filter_map(group).find(|(_, gid)| *gid != 0 && *gid < 65534).unwrap()
}

/// Whether this process may load programs at all.
fn can_record() -> bool {
    Recorder::new("probe").start(&["--size", "1M", "--events", "exec"])
}

#[test]
fn members_of_the_group_look_without_privilege() {
    if !can_record() {
        return;
    }
    let fs = BpfFs::mount("755");
    let recorder = Recorder { dir: fs.0.join("above/flight") };
    let (name, gid) = some_group();
    assert!(recorder.start(&["--size", "8M", "--events", "syscalls", "--group", &name]));
    // Other users may not be able to reach the binary where cargo puts it.
    let binary = std::env::temp_dir().join(format!("mapring-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_mapring"), &binary).unwrap();
    let run = |gid, options: &[&str]| {
        let mut command = Command::new(&binary);
        command.arg("flight").arg("--pins").arg(&recorder.dir).args(options).uid(65534).gid(gid);
        output(&mut command)
    };
    let member = run(gid, &["status", "--json"]);
    let [other, stop, start] = [run(65534, &["status"]), run(gid, &["stop"]), run(gid, &["start"])];
    fs::remove_file(&binary).unwrap();

    if !member.status.success() && said(&member).contains("before Linux 5.19") {
        assert_eq!(member.status.code(), Some(77));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(release.starts_with("5.1"), "{release}");
        eprintln!("\n!!!! SKIPPED: this kernel lets no process without privilege open a pin !!!!\n");
        return;
    }
    assert!(member.status.success());
    let status: Value = serde_json::from_slice(&member.stdout).unwrap();
    let calls = &status["recording"]["groups"][0];
    assert!(calls["records"].as_u64().unwrap() > 0 && calls["ns_per_event"].is_null());
    assert!(status["recording"]["costs_unknown"].as_str().unwrap().contains("root"));
    assert_eq!(other.status.code(), Some(77));
    assert!(said(&other).contains("as root"));
    assert_eq!((stop.status.code(), start.status.code()), (Some(77), Some(77)));
    assert_eq!(recorder.groups(), ["syscalls"]);
    let permissions = fs::metadata(pins::maps(&recorder.dir).join("syscalls")).unwrap();
    assert_eq!((permissions.st_mode() & 0o777, permissions.st_gid()), (0o660, gid));
    let links = fs::metadata(pins::links(&recorder.dir)).unwrap();
    assert_eq!((links.st_mode() & 0o777, links.st_gid()), (0o700, 0));
}

#[test]
fn a_group_that_could_not_reach_the_pins_is_refused() {
    if !can_record() {
        return;
    }
    let fs = BpfFs::mount("700");
    let recorder = Recorder { dir: fs.0.join("flight") };
    let (name, _) = some_group();
    let output = recorder.run(&["start", "--size", "8M", "--events", "syscalls", "--group", &name]);
    assert_eq!(output.status.code(), Some(77));
    assert!(said(&output).contains(&format!("chmod o+x {}", fs.0.display())));
    assert!(!recorder.dir.exists());
}
