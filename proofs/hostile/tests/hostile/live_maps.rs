//! A process that overwrites live BPF maps with random words, including preamble and sequences. Meanwhile programs
//! write and read them on every CPU, and readers read them, mapped and by system call, for `MAPRING_HOSTILE_SECONDS`
//! (default 2).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libbpf_rs::Object;
use libbpf_rs::skel::Skel;
use mapring::{
    Access, Cells, Counters, Error, ErrorKind, Latches, OpenOptions, Refusal, Region, Ring, Start,
};
use mapring_hostile_tests::{Neighbour, Record, read_all};
use mapring_kernel_tests::skel::{HostilePortableSkelBuilder, HostileSkelBuilder};
use mapring_kernel_tests::{Runner, cpus, everywhere, fitted, load, map, on_cpu, read_only, require_bpf};

use super::scribbled::{Done, busy, proves_something, read_ring, time, until};

const MAPS: [&str; 4] = ["ring", "cells", "latches", "counters"];

/// The result bits of `write` in `hostile.bpf.c`.
const PUSHED: u64 = 1;
const SET: u64 = 2;
const READ: u64 = 4;
const ALL: u64 = PUSHED | SET | READ;

fn write(program: &Runner, index: u64, n: u64) -> u64 {
    let mut args = [0, index, n, 0];
    program.run(&mut args);
    args[3]
}

fn fd(object: &Object, name: &str) -> OwnedFd {
    map(object, name).as_fd().try_clone_to_owned().unwrap()
}

/// One handle of each kind, for one way to read.
struct Handles {
    ring: Ring<Record>,
    cells: Cells<Record>,
    latches: Latches<Record>,
    counters: Counters,
}

impl Handles {
    fn new(fd: impl Fn(&str) -> OwnedFd, access: Access) -> Self {
        let [ring, cells, latches, counters] = MAPS.map(|name| Region::open(fd(name)).unwrap());
        assert_eq!([&ring, &cells, &latches, &counters].map(Region::access), [access; 4]);
        Self {
            ring: Ring::from_region(ring).unwrap(),
            cells: Cells::from_region(cells).unwrap(),
            latches: Latches::from_region(latches).unwrap(),
            counters: Counters::from_region(counters).unwrap(),
        }
    }
}

#[test]
fn programs_and_readers_survive_a_neighbour_that_scribbles_over_their_maps() {
    require_bpf!();
    let (mut storage, mut portable) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    survive(load::<HostileSkelBuilder>(&mut storage, fitted).object());
    survive(load::<HostilePortableSkelBuilder>(&mut portable, fitted).object());
}

fn survive(object: &Object) {
    everywhere();
    MAPS.iter().for_each(|name| _ = Region::open(&map(object, name)).unwrap());
    let mapped = Handles::new(|name| fd(object, name), Access::Mapped);
    let looked_up = Handles::new(|name| read_only(&map(object, name)), Access::Syscall(Refusal::ReadOnlyFd));
    let neighbours =
        [&mapped.ring.region(), mapped.cells.region(), mapped.latches.region(), mapped.counters.region()]
            .map(Neighbour::of);
    // On a busy machine, some events do not happen every time.
    let happened = (0..10).any(|_| {
        let threads = play(object, &mapped, &looked_up, &neighbours);
        for (name, [rounds, a, b]) in &threads {
            println!("{name:28} {rounds:>9} rounds: {a} and {b}");
        }
        threads.iter().all(proves_something)
    });
    assert!(happened, "nothing to survive");

    // After the content is restored, everything works as before.
    neighbours.iter().for_each(Neighbour::restore);
    let writer = latch_writer(object);
    let program = Runner::new(object, "write");
    let cpu = cpus()[0];
    on_cpu(cpu);
    let mut readers = [&mapped, &looked_up].map(|handles| handles.ring.reader());
    for n in 1..50 {
        writer.set(1, &Record::new(n)).unwrap();
        assert_eq!(write(&program, 1, n), ALL);
        for (handles, reader) in [&mapped, &looked_up].into_iter().zip(&mut readers) {
            // A window fetched before the write does not contain the record yet.
            let event = (0..4).find_map(|_| reader.poll());
            assert_eq!(event.map(|event| event.record), (n % 7 != 0).then(|| Record::new(n)), "record {n}");
            assert_eq!(handles.cells.read(1).unwrap(), Record::new(n));
            assert_eq!(handles.latches.read(1).unwrap(), Record::new(n));
        }
    }
    assert_eq!(readers.map(|reader| (reader.lost(), reader.position(cpu))), [(0, Some(49)); 2]);
}

fn latch_writer(object: &Object) -> mapring::writers::LatchesWriter<Record> {
    let region = OpenOptions::new().write(true).open(fd(object, "latches"));
    // The preamble may be overwritten at this moment.
    let region = region.or_else(|_| OpenOptions::new().write(true).open(fd(object, "latches")));
    Latches::from_region(region.unwrap()).and_then(|latches| latches.writer()).unwrap()
}

/// Runs everything at the same time for the configured duration. Returns each thread's counts.
fn play(
    object: &Object,
    mapped: &Handles,
    looked_up: &Handles,
    neighbours: &[Neighbour; 4],
) -> Vec<(&'static str, [u64; 3])> {
    neighbours.iter().for_each(Neighbour::restore);
    let latch = latch_writer(object);
    let program = Runner::new(object, "write");
    let maps = MAPS.map(|name| fd(object, name));
    let (stop, number) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, number, program) = (&stop, &number, &program);
    std::thread::scope(|scope| {
        let scribblers: Vec<_> = (1..)
            .zip(neighbours)
            .map(|(seed, neighbour)| scope.spawn(move || neighbour.scribble(seed, stop)))
            .collect();
        let mut threads = Vec::new();
        for &cpu in cpus() {
            threads.push(until(scope, "programs", stop, move || {
                on_cpu(cpu);
                let n = number.fetch_add(1, Ordering::Relaxed);
                let done = write(program, n % 2, n);
                [done.count_ones().into(), (ALL & !done).count_ones().into()]
            }));
        }
        for (way, handles) in [mapped, looked_up].into_iter().enumerate() {
            let name = |names: [&'static str; 2]| names[way];
            let ring = &handles.ring;
            let renewed = move || ring.reader_from(Start::Oldest).with_patience(Duration::ZERO);
            let (mut reader, mut rounds) = (renewed(), 0);
            threads.push(until(scope, name(["ring, mapped", "ring, by call"]), stop, move || {
                rounds += 1;
                // A word that means "2^60 laps ahead" moves a reader there permanently.
                if rounds % 16 == 0 {
                    reader = renewed();
                }
                let read = read_ring(&mut reader);
                assert!(reader.take_error().is_none());
                let _ = reader.stats().dropped();
                read
            }));
            threads.push(until(scope, name(["cells, mapped", "cells, by call"]), stop, || {
                assert!(handles.cells.try_snapshot(1).is_ok());
                busy(handles.cells.read(0))
            }));
            threads.push(until(scope, name(["latches", "latches"]), stop, || {
                assert!(handles.latches.try_snapshot(1).is_ok());
                busy(handles.latches.read(0))
            }));
            threads.push(until(scope, name(["counters, mapped", "counters, by call"]), stop, || {
                let mut sums = [0; 4];
                handles.counters.sums(&mut sums).unwrap();
                assert_eq!(sums[3], 0, "there are three");
                [handles.counters.get(0, 2).map(|_| 1).unwrap(), handles.counters.sum(0).map(|_| 1).unwrap()]
            }));
        }
        threads.push(until(scope, "latches", stop, || {
            let n = number.load(Ordering::Relaxed);
            latch.set(0, &Record::new(n)).unwrap();
            latch.set(1, &Record::new(n)).unwrap();
            [1, 0]
        }));
        threads.push(until(scope, "newcomers", stop, || {
            maps.iter().map(open_and_read).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
        }));

        let end = Instant::now() + time();
        while Instant::now() < end && !threads.iter().any(|(_, thread)| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let came_to =
            |(name, thread): Done<'_>| (name, thread.join().unwrap_or_else(|_| panic!("{name} panicked")));
        let mut done: Vec<_> = threads.into_iter().map(came_to).collect();
        let written: u64 = scribblers.into_iter().map(|thread| thread.join().unwrap()).sum();
        done.push(("words scribbled", [1, written, written]));
        done
    })
}

/// A new reader: opens the map, and reads everything. Counts opened, and refused.
fn open_and_read(map: &OwnedFd) -> [u64; 2] {
    match Region::open(map.try_clone().unwrap()) {
        Ok(region) => {
            assert_eq!(region.access(), Access::Mapped);
            read_all(&region, None);
            [1, 0]
        }
        Err(e) if e.kind() == ErrorKind::Preamble || contradicts(&e) => [0, 1],
        Err(other) => panic!("{other:?}"),
    }
}

/// Whether the preamble contradicts the kernel or the BTF.
fn contradicts(error: &Error) -> bool {
    let said = error.to_string();
    error.kind() == ErrorKind::Contradiction
        && (said.contains(", the kernel says ") || said.contains(", its BTF says "))
}
