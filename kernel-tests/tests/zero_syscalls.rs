//! Reading makes no system call, shown by readers that would not survive one; and the mappings
//! that they read are read-only.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libbpf_rs::skel::Skel;
use libbpf_rs::{MapHandle, Object};
use mapring::Region;
use mapring_kernel_tests::skel::RefusalsSkelBuilder;
use mapring_kernel_tests::{PinDir, Runner, everywhere, fitted, load, map, on_one_cpu, require_bpf};

/// Nobody waits so long for the reader: it hangs. (How long it takes says nothing.)
const HANG: Duration = Duration::from_secs(1800);

const MAPS: [&str; 3] = ["ring", "cells", "counters"];

/// Starts a reader that goes about it as `how` says, and lets a program write until it ends:
/// how it ended, and its lines of `/proc/self/maps` that are BPF maps.
fn reader(object: &Object, how: &str) -> (ExitStatus, Vec<String>) {
    everywhere();
    let pins = PinDir::new();
    for name in MAPS {
        Region::open(&map(object, name)).unwrap();
        MapHandle::try_from(&map(object, name)).unwrap().pin(pins.path(name)).unwrap();
    }
    let mut child = Guard(
        Command::new(env!("CARGO_BIN_EXE_kernel-tests-child"))
            .args(["quiet", how])
            .args(MAPS.map(|name| pins.path(name)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let maps: Vec<_> = lines.take_while(|line| line != "ready").collect();

    on_one_cpu();
    let writer = Runner::new(object, "write");
    let hang = Instant::now() + HANG;
    let mut n = 0;
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            return (status, maps);
        }
        assert!(Instant::now() < hang, "{how}: the reader has not had enough of {n} records");
        let mut args = [0, 16, n, 0];
        writer.run(&mut args);
        n += args[3];
    }
}

/// A child that does not outlive a failure.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn readers_make_no_system_call_and_map_read_only() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<RefusalsSkelBuilder>(&mut storage, fitted);
    let (status, maps) = reader(skel.object(), "read");
    assert_eq!(status.code(), Some(0), "1: read something wrong; signal 31: made a system call ({status})");
    assert_eq!(maps.len(), 3, "{maps:?}");
    for line in maps {
        assert_eq!(line.split_whitespace().nth(1), Some("r--s"), "{line}");
    }
}

#[test]
fn a_reader_that_does_call_dies() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<RefusalsSkelBuilder>(&mut storage, fitted);
    let (status, _) = reader(skel.object(), "call");
    assert_eq!(status.signal(), Some(rustix::process::Signal::SYS.as_raw()), "{status}");
}

#[test]
fn the_fallback_dies_too() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<RefusalsSkelBuilder>(&mut storage, fitted);
    let (status, maps) = reader(skel.object(), "lookup");
    assert_eq!((status.signal(), maps.len()), (Some(rustix::process::Signal::SYS.as_raw()), 0), "{status}");
}
