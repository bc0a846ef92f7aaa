//! The writers of the ring `numbers` (`bpf/numbered.h`, `bpf/numbered_programs.h`), and checks of the records that
//! readers got.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use libbpf_rs::{Object, OpenObject};
use mapring::{ReadStats, Record, globals::Globals};
use mapring_loader::section;

use crate::{Runner, fitted, ticks};

/// `struct numbered` of `bpf/numbered.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, Record)]
#[repr(C)]
pub struct Numbered {
    /// Its writer.
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

    /// Whether it is a record that a writer could have written.
    pub fn is_whole(&self) -> bool {
        *self == Self::new(self.writer, self.number)
    }
}

/// Pushes `count` records of `writer` from `first` on with the program `push_run`. Returns how many were dropped.
pub fn push(program: &Runner, writer: u64, first: u64, count: u64) -> u64 {
    let mut args = [writer, first, count, 0];
    program.run(&mut args);
    args[3]
}

/// The number of writers: system calls, a clock's interrupts, two tasks that may sleep.
const WRITERS: usize = 4;
/// Nanoseconds between the clock's interrupts: enough for emulated machines to do other work.
const CLOCK: u64 = 250_000;

/// Prepares an object so that it records this process's system calls.
///
/// # Panics
/// Panics if it has no section `.rodata.watched`.
pub fn watching_us(object: &mut OpenObject) {
    fitted(object);
    let watched = object.maps_mut().find(|map| map.name() == ".rodata.watched");
    let mut watched = watched.expect("the programs have a section of that name");
    watched.initial_value_mut().unwrap().copy_from_slice(&std::process::id().to_ne_bytes());
}

/// Makes all writers write as fast as they can until `meanwhile` returns. Returns how many records each published. The
/// object must be loaded with [`watching_us`].
///
/// # Panics
/// Panics if one of them wrote nothing, or `meanwhile` panics.
pub fn written_by_all(object: &Object, meanwhile: impl FnOnce()) -> [u64; WRITERS] {
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
        let _links = (crate::program(object, "on_call").attach().unwrap(), ticks(object, "on_clock", CLOCK));
        meanwhile();
        // On a busy machine a writer may not have run yet: wait up to half a minute.
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

/// Empty polls in a row after which a reader has read everything. Before a record there may be an unclaimed ticket,
/// because a preempted writer still held its slot: a reader looks past it only once in 65,536 polls.
pub const EMPTY: u32 = 1 << 17;

/// Stops other threads when dropped.
#[derive(Debug)]
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The records of each writer that a reader got.
#[derive(Debug, Default)]
pub struct Seen([BTreeSet<u64>; WRITERS]);

impl Seen {
    /// Adds one record.
    ///
    /// # Panics
    /// Panics if the record is not whole, or was added before.
    pub fn add(&mut self, record: &Numbered) {
        assert!(record.is_whole(), "{record:?}");
        let new = self.0[usize::try_from(record.writer).unwrap()].insert(record.number);
        assert!(new, "{record:?} came twice");
    }

    /// Adds the records of another reader.
    ///
    /// # Panics
    /// Panics if both have the same record.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().zip(&other.0) {
            assert!(mine.is_disjoint(others), "some came twice");
            mine.extend(others);
        }
    }

    /// Checks that the missing records of `published` are as many as `stats` counts as lost. A program that chose a ticket
    /// before others stepped over it may publish it after readers have.
    ///
    /// # Panics
    /// Panics if they are not.
    pub fn check(&self, published: [u64; WRITERS], stats: ReadStats) {
        let seen = self.0.each_ref().map(|seen| seen.len() as u64);
        let missing: u64 = std::iter::zip(published, seen).map(|(all, seen)| all - seen).sum();
        assert!(stats.delivered > 0 && stats.delivered == seen.iter().sum(), "{seen:?}: {stats:?}");
        assert!(missing <= stats.lost() + stats.stepped_over, "{missing} are missing: {stats:?}");
        eprintln!("{published:?} published, {missing} missing, {stats:?}");
    }
}
