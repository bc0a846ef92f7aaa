//! The part of the child that reads with a system call filter on: all but the end is deadly.
#![allow(unsafe_code)]

use std::io::Write;

use anyhow::{Result, bail};
use libbpf_rs::MapHandle;
use libbpf_rs::libbpf_sys::BPF_F_RDONLY;
use mapring::{Cells, Counters, Reader, Region, Ring};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::{Filled, words_of};

/// Records that must have been read before the end.
const RECORDS: u64 = 5_000;
/// Changes of a cell, and of the counters, that must have been seen before the end.
const CHANGES: u64 = 100;

/// Opens the three pins, says `ready` on stdout, forbids itself all system calls but the one
/// that ends it, and does as `how` says:
/// - `read`: reads what the programs write meanwhile, in every way that readers have;
/// - `call`: reads, and then makes a system call after all;
/// - `lookup`: reads through read-only descriptors, which is by system call.
///
/// # Errors
/// If the pins can't be opened. What goes wrong later ends the process by SIGSYS.
pub fn quiet(how: &str, ring: &str, cells: &str, counters: &str) -> Result<()> {
    let open = |pin: &str| -> Result<Region> {
        if how == "lookup" {
            let handle = MapHandle::from_pinned_path_with_file_flags(pin, BPF_F_RDONLY)?;
            return Ok(Region::open_fd(std::os::fd::AsFd::as_fd(&handle).try_clone_to_owned()?)?);
        }
        Ok(Region::open_pinned(pin)?)
    };
    let ring = Ring::<Filled<14>>::from_region(open(ring)?)?;
    let cells = Cells::<Filled<14>>::from_region(open(cells)?)?;
    let counters = Counters::from_region(open(counters)?)?;
    let mut reader = ring.reader();
    for line in std::fs::read_to_string("/proc/self/maps")?.lines().filter(|line| line.contains("bpf-map")) {
        println!("{line}");
    }
    println!("ready");
    std::io::stdout().flush()?;

    seccompiler::apply_filter(&only_exit()?)?;
    let read = read(&mut reader, &cells, &counters);
    if how == "call" && read {
        let _ = rustix::process::getppid();
    }
    // SAFETY: ends the process at once, without the system calls that cleaning up takes.
    unsafe { libc::_exit(if read { 0 } else { 1 }) }
}

/// Kills the process on any system call but those that end it.
fn only_exit() -> Result<BpfProgram> {
    let ends = [libc::SYS_exit, libc::SYS_exit_group].map(|call| (call, Vec::new()));
    let Ok(arch) = std::env::consts::ARCH.try_into() else { bail!("no filters for this architecture") };
    let filter = SeccompFilter::new(ends.into(), SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}

/// Reads until there was enough of everything; whether all of it was right. A panic would be a
/// system call, and the end.
fn read(reader: &mut Reader<Filled<14>>, cells: &Cells<Filled<14>>, counters: &Counters) -> bool {
    let (mut version, mut changes, mut sum, mut counts, mut turn) = (0, 0, 0, 0, 0_u64);
    while reader.tally().delivered < RECORDS || changes < CHANGES || counts < CHANGES {
        turn += 1;
        let mut right = true;
        let mut check = |ticket, record: &Filled<14>| right &= *record == words_of(ticket);
        match turn % 3 {
            0 => _ = reader.for_each(100, |event| check(event.ticket, event.record)),
            1 => reader.drain().for_each(|event| check(event.ticket, &event.record)),
            _ => (0..100).for_each(|_| _ = reader.poll().map(|event| check(event.ticket, &event.record))),
        }
        // A writer may be there for ever so long: its CPU is also somebody else's.
        if let Ok(snapshot) = cells.snapshot(1) {
            right &= snapshot.version == 0 || snapshot.value == words_of(snapshot.version - 1);
            right &= snapshot.version >= version;
            changes += u64::from(snapshot.version > version);
            version = snapshot.version;
        }
        let mut sums = [0; 10];
        let (one, one_cpu) = (counters.sum(3), counters.get(0, 3));
        right &= one.is_ok() && one_cpu.is_ok() && counters.sums(&mut sums).is_ok();
        let now = sums.iter().sum::<u64>();
        right &= now >= sum && now % 3 == 0;
        counts += u64::from(now > sum);
        sum = now;
        right &= reader.dropped() == 0 && reader.take_error().is_none() && reader.position(0).is_some();
        if !right {
            return false;
        }
    }
    true
}
