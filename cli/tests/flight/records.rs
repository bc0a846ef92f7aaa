//! The records of each group of events.

use std::io::Read;
use std::net::UdpSocket;
use std::os::linux::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, thread};

use mapring_flight::event::{Event, Interface, What};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::recorder::{Recorder, stderr};
use crate::skip;

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
    // A program that was preempted misses the events of this CPU until it goes on. The kernel counts them.
    let lost = recorder.lost();

    let parent = i64::from(rustix::process::getppid().unwrap().as_raw_nonzero().get());
    let getppid = i32::try_from(libc::SYS_getppid).unwrap();
    let entered = of.count(|what| matches!(what, What::SyscallEnter { nr, .. } if *nr == getppid));
    let left = of.count(|what| *what == What::SyscallExit { nr: getppid, is_32bit: false, ret: parent });
    assert!(
        entered <= CALLS && left <= CALLS && entered + left + lost >= 2 * CALLS,
        "{entered} {left} {lost}"
    );
    let kill = i32::try_from(libc::SYS_kill).unwrap();
    let me = u64::from(std::process::id());
    let is = |what: &What| matches!(what, What::SyscallEnter { nr, args, .. } if *nr == kill && args[..2] == [me, 0]);
    assert_eq!(of.count(is), 1);

    let slept = events.iter().position(|e| e.tid == tid && matches!(e.what, What::Switch { state: 1, .. }));
    let after = &events[slept.expect("it slept")..];
    let name = *b"mapring-flight\0\0";
    let woken = after.iter().position(
        |e| matches!(e.what, What::Waking { task, prio: 1..=139, comm, .. } if task == tid && comm == name),
    );
    let after = &after[woken.expect("it was woken")..];
    let runs = |e: &&Event| matches!(e.what, What::Switch { next, next_comm, .. } if next == tid && next_comm == name);
    let runs = after.iter().find(runs).expect("it ran again");
    assert!(runs.tid != tid);
    assert!(events.iter().any(|e| e.tid == tid && e.pid == std::process::id()));
    // The end of a thread: EXIT_DEAD or EXIT_ZOMBIE.
    assert_eq!(of.count(|what| matches!(what, What::Switch { state: 0x10 | 0x20, .. })), 1);
}

/// A wakeup of a thread on an idle CPU may be queued: then that CPU finishes it, where the waker does not run.
#[test]
fn the_waker_is_the_thread_that_wakes() {
    const TIMES: usize = 100;
    let all = sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(2).collect();
    let [mine, other] = cpus[..] else {
        skip::skipped("this process has one CPU");
        return;
    };
    let recorder = Recorder::new("waker");
    if !recorder.start(&["--size", AMPLE, "--events", "sched"]) {
        return;
    }
    let stay = |cpu| {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).unwrap();
        tid()
    };
    let (mut from, to) = std::io::pipe().unwrap();
    let (says, ready) = std::sync::mpsc::channel();
    let read = Arc::new(AtomicUsize::new(0));
    let count = read.clone();
    let woken = thread::spawn(move || {
        says.send(stay(other)).unwrap();
        while from.read(&mut [0]).unwrap() > 0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let wakes = thread::spawn(move || {
        let (me, task) = (stay(mine), ready.recv().unwrap());
        let stat = format!("/proc/self/task/{task}/stat");
        for n in 0..TIMES {
            // It has read what was written, and sleeps until this thread writes: so it is woken as often.
            while read.load(Ordering::Relaxed) < n || !fs::read_to_string(&stat).unwrap().contains(") S ") {
                thread::sleep(Duration::from_millis(1));
            }
            rustix::io::write(&to, b"x").unwrap();
        }
        (me, task)
    });
    let ((me, task), ()) = (wakes.join().unwrap(), woken.join().unwrap());
    let events = recorder.events();
    let by_me = Of(&events, me)
        .count(|what| matches!(*what, What::Waking { task: woken, is_new: false, .. } if woken == task));
    assert!(by_me + recorder.lost() >= TIMES, "{by_me} wakeups by the waker");
}

/// Makes the 32-bit call `kill(pid, 0)`, which returns 0.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn kill_32bit(pid: u32) -> i64 {
    let result: i64;
    // SAFETY: signal 0 only checks the process. The call changes no memory. LLVM reserves rbx, so it is put back; the
    // kernel does not keep r8 to r11.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {pid}", "int 0x80", "xchg rbx, {pid}",
            pid = inout(reg) u64::from(pid) => _, inlateout("rax") 37_i64 => result, in("rcx") 0, in("rdx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_32_bits_are_recorded_as_such() {
    let recorder = Recorder::new("calls32");
    // A kernel without 32-bit calls would kill this process.
    if !Path::new("/proc/sys/abi/vsyscall32").exists() {
        skip::skipped("this kernel has no 32-bit system calls");
        return;
    }
    if !recorder.start(&["--size", AMPLE, "--events", "syscalls"]) {
        return;
    }
    let me = std::process::id();
    assert_eq!(kill_32bit(me), 0);
    let events = recorder.events();
    let of = Of(&events, tid());
    let is = |what: &What| matches!(what, What::SyscallEnter { nr: 37, is_32bit: true, args: [pid, 0, 0] } if *pid == u64::from(me));
    assert_eq!(of.count(is), 1);
    assert_eq!(of.count(|what| *what == What::SyscallExit { nr: 37, is_32bit: true, ret: 0 }), 1);
    let of_pid = |e: &&Event| e.pid == me && matches!(e.what, What::SyscallEnter { is_32bit: true, .. });
    assert_eq!(events.iter().filter(of_pid).count(), 1);
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
    assert_eq!(
        of.count(|what| matches!(what, What::Exec { file, is_cut: false, .. } if file == b"/bin/sh")),
        1
    );
    assert_eq!(of.count(|what| *what == What::Exit { code: 3 << 8, process: Some(3 << 8) }), 1);
    assert_eq!(
        Of(&events, killed.id())
            .count(|what| *what == What::Exit { code: libc::SIGKILL, process: Some(libc::SIGKILL) }),
        1
    );
}

#[test]
fn page_faults_are_recorded() {
    let recorder = Recorder::new("faults");
    if !cfg!(target_arch = "x86_64") {
        let output = recorder.run(&["start", "--events", "faults"]);
        assert_eq!(output.status.code(), Some(77));
        assert!(stderr(&output).contains("no event page_fault_user"));
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
    // With the headers of UDP and IP, as the interface counts them.
    let events = recorder.events();
    let interface = Interface { index, net_ns: fs::metadata("/proc/thread-self/ns/net").unwrap().st_ino() };
    let sent = What::NetSend { interface, bytes: 7777 + 8 + 20 };
    assert_eq!(Of(&events, tid()).count(|what| *what == sent), 1);
    let received = What::NetReceive { interface, bytes: 7777 + 8 + 20 };
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
        skip::skipped(&format!("{} is not on a disk", path.display()));
        return;
    }
    let events = recorder.events();
    let (mut issued, mut completed) = (0, 0);
    for event in &events {
        match event.what {
            What::BlockIssue { dev, sector, bytes, op: [b'W', ..], .. }
                if dev >> 20 == major && bytes > 0 =>
            {
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
