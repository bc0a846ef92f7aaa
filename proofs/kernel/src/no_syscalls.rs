//! The part of the child that reads under a system call filter, which kills it for any call except exit.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Result, bail};
use bytemuck::AnyBitPattern;
use libbpf_rs::MapHandle;
use libbpf_rs::libbpf_sys::BPF_F_RDONLY;
use mapring::globals::{Global, Globals, Variable};
use mapring::table::{Guard, Seqlock, Snapshot, Table, TwoCopies};
use mapring::time::{Basis, Clock, WallClock};
use mapring::{Cells, Counters, Latches, Reader, Region, Ring, Start};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::{Filled, words_of};

/// Records that each reader must have read before the end; an eighth of this for large records.
const RECORDS: u64 = 3_000;
/// Changes of a cell, a latch and the counters that the reader must have seen before the end.
const CHANGES: u64 = 100;

/// Opens the regions at these paths (a ring, a ring of large records, cells, latches, counters: pins, or memfds in
/// `/proc`), prints `ready` on stdout, forbids itself all system calls except exit, and acts by `how`. The last path,
/// if any, is a pin of global variables. The values of `how`:
/// - `read`: reads the data as it is written, in every way that handles have;
/// - `call`: reads, and then makes a system call after all;
/// - `lookup`: reads through read-only descriptors, which for maps means system calls.
///
/// # Errors
/// Fails if they can't be opened. A later error ends the process by SIGSYS.
pub fn no_syscalls(how: &str, paths: [&str; 5], globals: Option<&str>) -> Result<()> {
    let open = |path: &str| -> Result<Region> {
        if path.starts_with("/proc/") {
            return Ok(Region::open(File::open(path)?)?);
        }
        if how == "lookup" {
            let handle = MapHandle::from_pinned_path_with_file_flags(path, BPF_F_RDONLY)?;
            return Ok(Region::open(handle.as_fd().try_clone_to_owned()?)?);
        }
        Ok(Region::open(path)?)
    };
    let mut all = Handles::new(paths, open)?;
    all.variables = globals.map(|pin| Variables::new(how, pin)).transpose()?;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        if line.contains("bpf-map") || line.contains("memfd:") {
            println!("{line}");
        }
    }
    println!("ready");
    std::io::stdout().flush()?;

    only_exit()?;
    let read = all.read();
    if how == "call" && read {
        let _ = rustix::process::getppid();
    }
    end(i32::from(!read))
}

/// Ends the process at once, without the system calls of a cleanup.
pub fn end(status: i32) -> ! {
    // SAFETY: `_exit` is always allowed.
    unsafe { libc::_exit(status) }
}

/// From here on, any system call except exit kills the process.
///
/// # Errors
/// Fails if the filter can't be installed.
pub fn only_exit() -> Result<()> {
    let ends = [libc::SYS_exit, libc::SYS_exit_group].map(|call| (call, Vec::new()));
    let Ok(arch) = std::env::consts::ARCH.try_into() else { bail!("no filters for this architecture") };
    let filter = SeccompFilter::new(ends.into(), SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    let filter: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&filter)?)
}

/// One handle of each kind.
struct Handles {
    ring: Reader<Filled<14>>,
    now: Reader<Filled<14>>,
    large: Reader<Filled<128>>,
    cells: Cells<Filled<14>>,
    latches: Latches<Filled<14>>,
    counters: Counters,
    variables: Option<Variables>,
    /// If the vDSO reads this machine's clock.
    wall: Option<WallClock>,
    turn: u64,
}

/// A value of `.bss`: `struct rec` in `bpf/no_syscalls.bpf.c`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Rec {
    words: Filled<14>,
}
mapring::record!(Rec { words });

/// Global variables of each kind.
struct Variables {
    turns: Variable<u64>,
    cell: Global<Rec, Seqlock>,
    latch: Global<Rec, TwoCopies>,
}

impl Variables {
    fn new(how: &str, pin: &str) -> Result<Self> {
        let globals = if how == "lookup" {
            let handle = MapHandle::from_pinned_path_with_file_flags(pin, BPF_F_RDONLY)?;
            Globals::open(handle.as_fd().try_clone_to_owned()?)?
        } else {
            Globals::open(pin)?
        };
        Ok(Self {
            turns: globals.variable("turns")?,
            cell: globals.cell("global_cell")?,
            latch: globals.latch("global_latch")?,
        })
    }

    /// Whether all values are right.
    fn read(&self, changes: &mut [Changes; 3]) -> bool {
        let mut right = self.turns.get().is_ok_and(|turns| changes[0].to(turns)) && self.latch.read().is_ok();
        if let Ok(Snapshot { version, value }) = self.cell.snapshot() {
            right &= changes[1].to(version) && (version == 0 || value.words == words_of(version - 1));
        }
        if let Ok(Snapshot { version, value }) = self.latch.snapshot() {
            right &= changes[2].to(version) && (version == 0 || value.words == words_of(version));
        }
        right
    }
}

impl Handles {
    fn new(
        [ring, large, cells, latches, counters]: [&str; 5],
        open: impl Fn(&str) -> Result<Region>,
    ) -> Result<Self> {
        let ring = Ring::from_region(open(ring)?)?;
        Ok(Self {
            now: ring.reader_from(Start::Now).with_patience(Duration::from_millis(1)),
            ring: ring.reader(),
            large: Ring::from_region(open(large)?)?.reader(),
            cells: Cells::from_region(open(cells)?)?,
            latches: Latches::from_region(open(latches)?)?,
            counters: Counters::from_region(open(counters)?)?,
            variables: None,
            wall: vdso().then(|| WallClock::new(Clock::Monotonic)).transpose()?,
            turn: 0,
        })
    }

    /// Reads until it has seen enough of everything. Returns whether all of it was right. A panic would make a system
    /// call, and so end the process.
    fn read(&mut self) -> bool {
        let [mut cell, mut latch, mut counted] = [const { Changes { last: 0, count: 0 } }; 3];
        let mut variables = [const { Changes { last: 0, count: 0 } }; 3];
        loop {
            self.turn += 1;
            let mut right = records(&mut self.ring, self.turn)
                && records(&mut self.now, self.turn + 1)
                && records(&mut self.large, self.turn + 2);
            right &= values(&self.cells, self.turn, &mut cell, |version| words_of(version - 1));
            right &= values(&self.latches, self.turn, &mut latch, words_of);
            right &= self.sums(&mut counted);
            right &= self.variables.as_ref().is_none_or(|all| all.read(&mut variables));
            right &= self.wall.as_mut().is_none_or(times);
            let read = [&self.ring, &self.now].iter().all(|reader| reader.stats().delivered > RECORDS);
            let mut changed = [&cell, &latch, &counted].iter().all(|changes| changes.count > CHANGES);
            changed &= self.variables.is_none() || variables.iter().all(|changes| changes.count > CHANGES);
            if !right || read && changed && self.large.stats().delivered > RECORDS / 8 {
                return right;
            }
        }
    }

    fn sums(&self, counted: &mut Changes) -> bool {
        let mut sums = [0; 10];
        let counters = &self.counters;
        let each = counters.sum(3).is_ok() && counters.get(0, 3).is_ok() && counters.sums(&mut sums).is_ok();
        let now = sums.iter().sum::<u64>();
        each && now.is_multiple_of(3) && counted.to(now)
    }
}

/// Whether the vDSO surely reads the clocks without a system call.
fn vdso() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(SOURCE).unwrap_or_default();
    ["tsc", "arch_sys_counter"].contains(&source.trim())
}

/// Converts the present to wall time and back.
fn times(wall: &mut WallClock) -> bool {
    let stamp = wall.clock().now();
    if wall.update().is_some() {
        return true; // the wall clock was set
    }
    let time = wall.to_wall(stamp);
    let back = wall.to_clock(time.value);
    time.basis == Basis::Compared && Duration::from_nanos(back.value.abs_diff(stamp)) <= back.error
}

/// A number that only grows, and the count of its changes.
struct Changes {
    last: u64,
    count: u64,
}

impl Changes {
    /// Returns `false` if the number decreased.
    fn to(&mut self, now: u64) -> bool {
        let grew = now >= self.last;
        self.count += u64::from(now > self.last);
        self.last = now;
        grew
    }
}

/// Takes some records, in a different way each turn.
fn records<const N: usize>(reader: &mut Reader<Filled<N>>, turn: u64) -> bool
where
    Filled<N>: AnyBitPattern,
{
    let mut right = true;
    let mut check = |ticket, record: &Filled<N>| right &= *record == words_of(ticket);
    match turn % 3 {
        0 => _ = reader.for_each(100, |event| check(event.ticket, event.record)),
        1 => reader.drain().for_each(|event| check(event.ticket, &event.record)),
        _ => (0..100).for_each(|_| _ = reader.poll().map(|event| check(event.ticket, &event.record))),
    }
    let counts = reader.shard_stats(0).is_some() && reader.position(0).is_some();
    right
        && counts
        && reader.stats().dropped() == 0
        && reader.take_error().is_none()
        && reader.lost() < u64::MAX
}

/// Reads the second value of a table, in a different way each turn: version `v` must be `right(v)`.
fn values<P: Guard>(
    table: &Table<Filled<14>, P>,
    turn: u64,
    changes: &mut Changes,
    right: impl Fn(u64) -> Filled<14>,
) -> bool {
    // A writer may stay unfinished for very long, since other tasks share its CPU.
    let found = match turn % 3 {
        0 => table.try_snapshot(1).unwrap_or(None),
        1 => {
            let _ = table.read(1); // the version of that value is unknown
            None
        }
        _ => table.snapshot(1).ok(),
    };
    let Some(Snapshot { version, value }) = found else { return true };
    changes.to(version) && (version == 0 || value == right(version))
}
