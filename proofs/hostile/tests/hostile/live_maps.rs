//! A process that overwrites live BPF maps with random words, including preamble and sequences. Meanwhile programs
//! write and read them on every CPU, and readers read them, mapped and by system call, for `MAPRING_HOSTILE_SECONDS`
//! (default 2).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libbpf_rs::Object;
use mapring::{
    Access, Cells, Counters, Error, ErrorKind, Latches, OpenOptions, Refusal, Region, Ring, Start,
};
use mapring_hostile_tests::{Neighbour, Record, read_all};
use mapring_kernel_tests::{Runner, bpf, cpus, everywhere, fitted, map, on_cpu, read_only, require_bpf};

use super::scribbled::{busy, read_ring};
use super::threads;

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

pub(crate) fn fd(object: &Object, name: &str) -> OwnedFd {
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
    survive(&bpf::HOSTILE.load(fitted));
    survive(&bpf::HOSTILE_PORTABLE.load(fitted));
}

fn survive(object: &Object) {
    everywhere();
    MAPS.iter().for_each(|name| _ = Region::open(&map(object, name)).unwrap());
    let mapped = Handles::new(|name| fd(object, name), Access::Mapped);
    let looked_up = Handles::new(|name| read_only(&map(object, name)), Access::Syscall(Refusal::ReadOnlyFd));
    let neighbours =
        [&mapped.ring.region(), mapped.cells.region(), mapped.latches.region(), mapped.counters.region()]
            .map(Neighbour::of);
    let (program, number) = (Runner::new(object, "write"), AtomicU64::new(0));
    let maps = MAPS.map(|name| fd(object, name));
    let latches = Latches::open_with(&map(object, "latches"), OpenOptions::new().write(true)).unwrap();
    let latch = latches.writer().unwrap();
    threads::survive(|threads| {
        threads.scribble(&neighbours);
        threads.run_on_cpus("programs", |_| {
            let n = number.fetch_add(1, Ordering::Relaxed);
            let done = write(&program, n % 2, n);
            [done.count_ones().into(), (ALL & !done).count_ones().into()]
        });
        for (way, handles) in [&mapped, &looked_up].into_iter().enumerate() {
            let name = |names: [&'static str; 2]| names[way];
            let ring = &handles.ring;
            let renewed = move || ring.reader_from(Start::Oldest).with_patience(Duration::ZERO);
            let (mut reader, mut rounds) = (renewed(), 0);
            threads.run(name(["ring, mapped", "ring, by call"]), move || {
                rounds += 1;
                // A word that means "2^60 laps ahead" moves a reader there permanently.
                if rounds % 16 == 0 {
                    reader = renewed();
                }
                let read = read_ring(&mut reader);
                assert!(reader.take_error().is_none());
                let _ = reader.stats().dropped();
                read
            });
            threads.run(name(["cells, mapped", "cells, by call"]), || {
                assert!(handles.cells.try_snapshot(1).is_ok());
                busy(handles.cells.read(0))
            });
            threads.run(name(["latches", "latches"]), || {
                assert!(handles.latches.try_snapshot(1).is_ok());
                busy(handles.latches.read(0))
            });
            threads.run(name(["counters, mapped", "counters, by call"]), || {
                let mut sums = [0; 4];
                handles.counters.sums(&mut sums).unwrap();
                assert_eq!(sums[3], 0, "there are three");
                [handles.counters.get(0, 2).map(|_| 1).unwrap(), handles.counters.sum(0).map(|_| 1).unwrap()]
            });
        }
        threads.run("latches", || {
            let n = number.load(Ordering::Relaxed);
            latch.set(0, &Record::new(n)).unwrap();
            latch.set(1, &Record::new(n)).unwrap();
            [1, 0]
        });
        threads.run("newcomers", || {
            maps.iter().map(open_and_read).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
        });
    });

    // After the content is restored, everything works as before.
    neighbours.iter().for_each(Neighbour::restore);
    let cpu = cpus()[0];
    on_cpu(cpu);
    let mut readers = [&mapped, &looked_up].map(|handles| handles.ring.reader());
    for n in 1..50 {
        latch.set(1, &Record::new(n)).unwrap();
        assert_eq!(write(&program, 1, n), ALL);
        for (handles, reader) in [&mapped, &looked_up].into_iter().zip(&mut readers) {
            // A window fetched before the write does not contain the record yet.
            let record = (0..4).find_map(|_| reader.poll().map(|event| event.record));
            assert_eq!(record, (n % 7 != 0).then(|| Record::new(n)), "record {n}");
            assert_eq!(handles.cells.read(1).unwrap(), Record::new(n));
            assert_eq!(handles.latches.read(1).unwrap(), Record::new(n));
        }
    }
    assert_eq!(readers.map(|reader| (reader.lost(), reader.position(cpu))), [(0, Some(49)); 2]);
}

/// A new reader: opens the map, and reads everything. Counts opened, and refused.
pub(crate) fn open_and_read(map: &OwnedFd) -> [u64; 2] {
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
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Contradiction => {
            message.contains(", the kernel says ") || message.contains(", its BTF says ")
        }
        ErrorKind::WrongType => message.ends_with("; its preamble or description says so"),
        _ => false,
    }
}
