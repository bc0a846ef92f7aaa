//! Those who write the ring `numbers` (`bpf/numbered.h`, `bpf/numbered_programs.h`), and what was seen of their
//! records.

use std::collections::BTreeSet;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use libbpf_rs::{Object, OpenObject};
use mapring::loader::section;
use mapring::{ReadStats, Record, globals::Globals};

use crate::{Runner, cpus, fitted, sample_clock};

/// `struct numbered` of `bpf/numbered.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, Record)]
#[repr(C)]
pub struct Numbered {
    /// Who wrote it.
    pub writer: u64,
    /// The writer's count of its records, from 0.
    pub number: u64,
    copies: [u64; 4],
}

impl Numbered {
    /// The record `number` of `writer`.
    pub fn new(writer: u64, number: u64) -> Self {
        Self { writer, number, copies: [writer << 32 ^ number; 4] }
    }

    /// Whether it is one that somebody wrote.
    pub fn is_whole(&self) -> bool {
        *self == Self::new(self.writer, self.number)
    }
}

/// Pushes `count` records of `writer` from `first` on, by the program `push_run`: how many were dropped.
pub fn push(program: &Runner, writer: u64, first: u64, count: u64) -> u64 {
    let mut args = [writer, first, count, 0];
    program.run(&mut args);
    args[3]
}

/// How many there are: system calls, a clock's interrupts, two tasks that may sleep.
const WRITERS: usize = 4;
/// Nanoseconds between the clock's interrupts: emulated machines have to find time for something else.
const CLOCK: u64 = 250_000;

/// Prepares an object so that this process's system calls are recorded.
///
/// # Panics
/// If it has none.
pub fn watching_us(object: &mut OpenObject) {
    fitted(object);
    let watched = object.maps_mut().find(|map| map.name() == ".rodata.watched");
    let mut watched = watched.expect("the programs have a section of that name");
    watched.initial_value_mut().unwrap().copy_from_slice(&std::process::id().to_ne_bytes());
}

/// Has all of them write as fast as they can, until `meanwhile` is done: how many records each published. The
/// object was loaded [`watching_us`].
///
/// # Panics
/// If one of them did not come to write, or `meanwhile` panics.
pub fn written_by_all(object: &mut Object, meanwhile: impl FnOnce()) -> [u64; WRITERS] {
    let (program, stop) = (Runner::new(object, "push_run"), AtomicBool::new(false));
    let counts = Globals::open(section(object, ".bss").unwrap()).unwrap();
    let count = |name: &str| counts.variable::<u64>(name).unwrap().get().unwrap();
    let by_programs = || ["calls", "clocks"].map(|name| (count(name), count(&format!("{name}_dropped"))));
    let by_tasks = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        for (writer, published) in (2..).zip(&by_tasks) {
            let (program, stop) = (&program, &stop);
            scope.spawn(move || {
                let (mut next, mut dropped) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    dropped += push(program, writer, next, 16);
                    next += 16;
                    published.store(next - dropped, Ordering::Relaxed);
                }
            });
        }
        let mut links = Vec::new();
        for program in object.progs_mut() {
            match program.name().to_str() {
                Some("on_call") => links.push(program.attach().unwrap()),
                Some("on_clock") => {
                    let clocks = cpus().iter().map(|&cpu| sample_clock(cpu, CLOCK).into_raw_fd());
                    links.extend(clocks.map(|fd| program.attach_perf_event(fd).unwrap()));
                }
                _ => {}
            }
        }
        meanwhile();
        // A machine with other work may have left somebody no time yet: half a minute will do.
        for _ in 0..3000 {
            let everybody = by_programs().iter().all(|(pushed, dropped)| pushed > dropped)
                && by_tasks.iter().all(|published| published.load(Ordering::Relaxed) > 0);
            if everybody {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(stopping);
    });
    let [calls, clocks] = by_programs();
    let by_tasks = by_tasks.map(AtomicU64::into_inner);
    let published = [calls.0 - calls.1, clocks.0 - clocks.1, by_tasks[0], by_tasks[1]];
    assert!(
        published.iter().all(|&count| count > 0),
        "not everybody wrote: {published:?}; of {calls:?} calls and {clocks:?} ticks the latter were dropped"
    );
    published
}

/// How many times in a row a reader finds nothing once everything was read. Before a record there may be a ticket
/// that nobody claimed, because a preempted writer still had its slot: a reader looks past that once in 65,536 times.
pub const EMPTY: u32 = 1 << 17;

/// Tells others to stop, however this ends.
#[derive(Debug)]
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Which records of each writer a reader was given.
#[derive(Debug, Default)]
pub struct Seen([BTreeSet<u64>; WRITERS]);

impl Seen {
    /// Adds one.
    ///
    /// # Panics
    /// If it is not whole, or came before.
    pub fn add(&mut self, record: &Numbered) {
        assert!(record.is_whole(), "{record:?}");
        let new = self.0[usize::try_from(record.writer).unwrap()].insert(record.number);
        assert!(new, "{record:?} came twice");
    }

    /// Adds what another reader was given, of other records.
    ///
    /// # Panics
    /// If one was given to both.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().zip(&other.0) {
            assert!(mine.is_disjoint(others), "some came twice");
            mine.extend(others);
        }
    }

    /// Checks them against what was `published`: what is missing is what `stats` counts as lost.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&self, published: [u64; WRITERS], stats: ReadStats) {
        let seen = self.0.each_ref().map(|seen| seen.len() as u64);
        let missing: u64 = std::iter::zip(published, seen).map(|(all, seen)| all - seen).sum();
        assert!(stats.delivered > 0 && stats.delivered == seen.iter().sum(), "{seen:?}: {stats:?}");
        assert!(missing <= stats.lost(), "{missing} are missing: {stats:?}");
        eprintln!("{published:?} published, {missing} missing, {stats:?}");
    }
}
