//! All writers: programs in six contexts, their triggers, and the writer of a latch.

use std::hint::black_box;
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::thread::{Scope, ScopedJoinHandle};

use libbpf_rs::UprobeOpts;
use mapring::writers::LatchesWriter;
use mapring_kernel_tests::prelude::*;

use crate::counted::states;
use crate::readers::{Item, item};

/// Nanoseconds between two ticks of the clock that interrupts everything, and of the clock whose program writes a
/// latch.
const TICK: u64 = 50_000;
const LATCH_TICK: u64 = 70_000;
/// Tasks of each CPU that sleep in the middle of a record, and their sleep time at first.
const SLEEPERS: usize = 3;
pub(crate) const NAP: Duration = Duration::from_micros(50);
/// The length of their pauses from time to time.
const REST: Duration = Duration::from_millis(10);
/// Rings, and a cell: the targets of sleepers.
const TARGETS: u64 = 5;

/// The function that a program is attached to.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn mapring_stress_probe(turn: u64) {
    black_box(turn);
}

/// The results of the writing threads.
#[derive(Debug)]
pub(crate) struct Written {
    /// Pages on which a task slept.
    pub(crate) naps: u64,
    /// Values that userspace wrote.
    pub(crate) latched: u64,
}

/// Attached programs, and the threads that trigger them.
pub(crate) struct Writers<'scope> {
    links: Vec<Link>,
    naps: ScopedJoinHandle<'scope, u64>,
    latched: ScopedJoinHandle<'scope, u64>,
}

impl<'scope> Writers<'scope> {
    /// Attaches the programs and starts the threads, which run until `stop`.
    pub(crate) fn start(
        scope: &'scope Scope<'scope, '_>,
        object: &Object,
        latches: &'scope Latches<Item>,
        pages: &'scope SlowPages,
        nap: &'scope Mutex<Duration>,
        stop: &'scope AtomicBool,
    ) -> Self {
        let writer = latches.writer().unwrap();
        writer.set(0, &item(1, 1)).unwrap(); // so that no program finds it empty
        let latched = scope.spawn(move || latch(&writer, stop));
        let links = attach(object);
        let program = Runner::new(object, "on_sleep");
        for &cpu in cpus() {
            scope.spawn(move || call(cpu, stop));
        }
        let awake = scope.spawn(move || {
            // Every sleeper must wake up before this ends: pages are supplied until all are done.
            let asleep = AtomicUsize::new(cpus().len() * SLEEPERS);
            std::thread::scope(|scope| {
                for index in 0..cpus().len() * SLEEPERS {
                    let (asleep, program) = (&asleep, &program);
                    scope.spawn(move || {
                        on_cpu(cpus()[index / SLEEPERS]);
                        let _awake = Awake(asleep);
                        sleep(program, pages, index, stop);
                    });
                }
                pages.serve(|| {
                    let nap = if stop.load(Ordering::Relaxed) { NAP } else { *nap.lock().unwrap() };
                    (asleep.load(Ordering::Relaxed) > 0).then_some(nap)
                })
            })
        });
        Self { links, naps: awake, latched }
    }

    /// After `stop`: waits until no program is active, and none will be.
    pub(crate) fn end(self, object: &Object) -> Written {
        let naps = self.naps.join().unwrap();
        drop(self.links);
        settle(object);
        Written { naps, latched: self.latched.join().unwrap() }
    }
}

/// A page for each sleeper.
pub(crate) fn slow_pages() -> SlowPages {
    SlowPages::new(cpus().len() * SLEEPERS)
}

/// One sleeper less, when dropped.
struct Awake<'a>(&'a AtomicUsize);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn attach(object: &Object) -> Vec<Link> {
    let program = |name: &str| program(object, name);
    let mut links = ticks(object, "on_tick", TICK);
    let latch_tick = sample_clock(cpus()[0], LATCH_TICK).into_raw_fd();
    links.push(program("on_latch_tick").attach_perf_event(latch_tick).unwrap());
    let probe = UprobeOpts { func_name: Some("mapring_stress_probe".into()), ..Default::default() };
    let this = std::env::current_exe().unwrap();
    links.push(program("on_probe").attach_uprobe_with_opts(-1, this, 0, probe).unwrap());
    links.extend(["on_softirq", "on_switch", "on_call"].map(|name| program(name).attach().unwrap()));
    links
}

/// System calls, probes, and packets to this machine, which a softirq receives.
fn call(cpu: usize, stop: &AtomicBool) {
    on_cpu(cpu);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    let mut packet = [0; 64];
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match turn % 8 {
            0 => {
                socket.send(&packet).unwrap();
                socket.recv(&mut packet).unwrap();
            }
            2 | 4 | 6 => mapring_stress_probe(turn),
            _ => _ = rustix::process::getppid(),
        }
    }
}

/// Repeatedly runs a program that copies from a missing page.
fn sleep(program: &Runner, pages: &SlowPages, index: usize, stop: &AtomicBool) {
    for turn in index as u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if turn % 4 == 0 {
            std::thread::sleep(REST); // so that some records have no sleeper behind them
        }
        pages.take_away(index);
        program.run(&mut [turn % TARGETS, pages.address(index)]);
    }
}

/// Writes values, one after the other: their number is their ticket.
fn latch(writer: &LatchesWriter<Item>, stop: &AtomicBool) -> u64 {
    for number in 2.. {
        writer.set(0, &item(number, number)).unwrap();
        if stop.load(Ordering::Relaxed) {
            return number;
        }
    }
    unreachable!()
}

/// Waits until no program is active.
fn settle(object: &Object) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut before = 0;
    loop {
        let states = states(object);
        let runs = states.iter().flat_map(|state| state.runs).sum::<u64>();
        if runs == before && states.iter().all(|state| state.running == 0) {
            return;
        }
        before = runs;
        assert!(Instant::now() < deadline, "programs still run: {states:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
