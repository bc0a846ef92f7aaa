//! Reading makes no system call: a seccomp filter kills readers that make one. Their mappings are read-only, so a
//! hidden write would also kill them. Maps, global variables and memfds, every kind, every way to read.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use mapring_kernel_tests::prelude::*;

/// A reader that takes this long hangs. (Its actual duration proves nothing.)
const HANG: Duration = Duration::from_secs(1800);

const MAPS: [&str; 5] = ["ring", "large", "cells", "latches", "counters"];

/// Starts a reader with the mode `how`, and calls `write` with 0, 1, 2, … until it ends. Returns its exit status, and
/// its lines of `/proc/self/maps` that are regions.
fn reader(how: &str, paths: &[PathBuf], mut write: impl FnMut(u64)) -> (ExitStatus, Vec<String>) {
    everywhere();
    let mut child = Guard(
        Command::new(env!("CARGO_BIN_EXE_kernel-tests-child"))
            .args(["no_syscalls", how])
            .args(paths)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let maps: Vec<_> = lines.take_while(|line| line != "ready").collect();

    on_one_cpu();
    let hang = Instant::now() + HANG;
    for turn in 0.. {
        if let Some(status) = child.0.try_wait().unwrap() {
            return (status, maps);
        }
        assert!(Instant::now() < hang, "{how}: the reader has not had enough after {turn} turns");
        write(turn);
    }
    unreachable!()
}

/// The same for pinned maps; programs write them, and userspace writes the latches.
fn reader_of_maps(object: &Object, how: &str) -> (ExitStatus, Vec<String>) {
    let pins = PinDir::new();
    for name in MAPS {
        Region::open(&map(object, name)).unwrap();
        MapHandle::try_from(&map(object, name)).unwrap().pin(pins.path(name)).unwrap();
    }
    let [small, large] = ["write", "write_large"].map(|name| Runner::new(object, name));
    let latches = map(object, "latches").as_fd().try_clone_to_owned().unwrap();
    let latches = Latches::from_region(OpenOptions::new().write(true).open(latches).unwrap()).unwrap();
    let latches = latches.writer().unwrap();
    let globals =
        Globals::open_with(section(object, ".bss").unwrap(), OpenOptions::new().write(true)).unwrap();
    let global_latch = globals.latch::<Rec>("global_latch").unwrap();
    let bss = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).unwrap();
    MapHandle::try_from(&bss).unwrap().pin(pins.path("bss")).unwrap();
    let mut n = 0;
    let paths: Vec<_> = MAPS.iter().chain(&["bss"]).map(|name| pins.path(name)).collect();
    reader(how, &paths, |turn| {
        let mut args = [0, 16, n, 0];
        small.run(&mut args);
        n += args[3];
        large.run(&mut [0, 0, turn, 0]);
        latches.set(1, &words_of::<14>(turn + 1)).unwrap();
        assert!(global_latch.set(&Rec { words: words_of(turn + 1) }).unwrap());
    })
}

/// A value of `.bss`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Rec {
    words: Filled<14>,
}
mapring::record!(Rec { words });

/// The same for memfds, which the reader opens read-only.
fn reader_of_files(how: &str) -> (ExitStatus, Vec<String>) {
    let ring = Ring::<Filled<14>>::create_memfd(64, 2).unwrap();
    let large = Ring::<Filled<128>>::create_memfd(8, 1).unwrap();
    let cells = Cells::<Filled<14>>::create_memfd(2).unwrap();
    let latches = Latches::<Filled<14>>::create_memfd(2).unwrap();
    let counters = Counters::create_memfd(10, 2).unwrap();
    let regions = [&ring.region(), &large.region(), cells.region(), latches.region(), counters.region()];
    let path = |region: &Region| {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), region.as_fd().as_raw_fd()))
    };
    let ring = [0, 1].map(|shard| ring.writer(shard).unwrap());
    let (large, cells, latches) =
        (large.writer(0).unwrap(), cells.writer().unwrap(), latches.writer().unwrap());
    let counters = [0, 1].map(|shard| counters.writer(shard).unwrap());
    let mut n = 0;
    reader(how, &regions.map(path), |turn| {
        for _ in 0..16 {
            assert_eq!(ring[0].push(&words_of(n)), Some(n));
            assert_eq!(ring[1].push(&words_of(n)), Some(n));
            assert!(cells.set(1, &words_of(n)).unwrap());
            counters[0].add(usize::try_from(n).unwrap() % 10, 3).unwrap();
            counters[1].add(3, 3).unwrap();
            n += 1;
        }
        assert_eq!(large.push(&words_of(turn)), Some(turn));
        assert!(cells.set(0, &words_of(turn)).unwrap());
        latches.set(1, &words_of(turn + 1)).unwrap();
    })
}

/// A child that is killed if the test fails.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn made_no_system_call((status, maps): (ExitStatus, Vec<String>), regions: usize) {
    assert_eq!(status.code(), Some(0), "1: read something wrong; signal 31: made a system call ({status})");
    assert_eq!(maps.len(), regions, "{maps:?}");
    for line in maps {
        assert_eq!(line.split_whitespace().nth(1), Some("r--s"), "{line}");
    }
}

fn died_of_a_system_call(status: ExitStatus) {
    assert_eq!(status.signal(), Some(rustix::process::Signal::SYS.as_raw()), "{status}");
}

#[test]
fn readers_of_maps_make_no_system_call_and_map_read_only() {
    let object = &require_bpf!(NO_SYSCALLS);
    made_no_system_call(reader_of_maps(object, "read"), MAPS.len() + 1);
}

#[test]
fn readers_of_files_make_no_system_call_and_map_read_only() {
    made_no_system_call(reader_of_files("read"), MAPS.len());
}

#[test]
fn a_reader_that_does_call_dies() {
    let object = &require_bpf!(NO_SYSCALLS);
    died_of_a_system_call(reader_of_maps(object, "call").0);
    died_of_a_system_call(reader_of_files("call").0);
}

#[test]
fn the_fallback_dies_too() {
    let object = &require_bpf!(NO_SYSCALLS);
    let (status, maps) = reader_of_maps(object, "lookup");
    assert!(maps.is_empty(), "{maps:?}");
    died_of_a_system_call(status);
}
