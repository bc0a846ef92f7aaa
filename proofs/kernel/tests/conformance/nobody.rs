//! Unprivileged readers: a frozen map with a pin for everybody is mapped, and a read-only pin is read by system call.

use std::fs::{Permissions, create_dir, set_permissions};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libbpf_rs::skel::Skel;
use libbpf_rs::{MapHandle, Object};
use mapring::cpus::possible_cpus;
use mapring::loader::section;
use mapring::{Cells, Counters, Latches, OpenOptions, PerCpuCells, Region, Ring, globals::Globals};
use mapring_kernel_tests::skel::{ConformanceSkelBuilder, NumaSkelBuilder, ResizableSkelBuilder};
use mapring_kernel_tests::{
    Numbered, PublicPins, Runner, cpus, everywhere, fitted, load, map, on_cpu, push, raw, require_bpf,
};

use super::load::{WAYS, check_values, written_meanwhile};
use super::quiet::{Odd, bss, place};
use super::reader::{Reader, Said};

/// Modes of pins, and how readers then read.
const MODES: [(u32, &str); 2] = [(0o666, "mapped"), (0o444, "lookup")];

fn nobody(command: &str, args: &[&str]) -> Reader {
    Reader::start(&[&["--nobody", command], args].concat())
}

/// Pins the map with this id, for everybody.
pub(crate) fn pin(id: u32, path: &Path, mode: u32) {
    MapHandle::from_map_id(id).unwrap().pin(path).unwrap();
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Freezes a map of an object, and pins it.
fn publish(object: &Object, name: &str, path: &Path, mode: u32) {
    let map = map(object, name);
    raw::freeze(map.as_fd()).unwrap();
    pin(raw::info(map.as_fd()).id, path, mode);
}

/// Reads a map that has a preamble in every way: mapped and by system call, with privilege and then, frozen, without.
pub(crate) fn in_every_way(command: &str, object: &Object, name: &str) -> Vec<Said> {
    let (pins, place, map) = (PublicPins::new(), place(object, name), map(object, name));
    let mut all = Vec::new();
    for (right, way) in WAYS {
        let (access, said) = Reader::once(&[way, &[command, &place]].concat());
        assert_eq!(access, right);
        all.push(said);
    }
    raw::freeze(map.as_fd()).unwrap();
    for (mode, right) in MODES {
        let path = pins.path(&format!("{name}_{mode}"));
        pin(raw::info(map.as_fd()).id, &path, mode);
        let (access, said) = Reader::once(&["--nobody", command, path.to_str().unwrap()]);
        assert_eq!(access, right);
        all.push(said);
    }
    all
}

/// A task on each CPU writes 160 records while `reader` reads. Returns the reader's output.
fn pushed_meanwhile(object: &Object, reader: Reader, mut meanwhile: impl FnMut(u64)) -> Said {
    let program = Runner::new(object, "push_run");
    for run in 0..10 {
        for &cpu in cpus() {
            on_cpu(cpu);
            assert_eq!(push(&program, cpu as u64, run * 16, 16), 0);
        }
        meanwhile(run);
    }
    everywhere();
    reader.stop()
}

/// Each record came once, and missing ones are counted.
fn check(said: &Said) {
    let records: Vec<Numbered> =
        said.records.iter().map(|(.., bytes)| bytemuck::pod_read_unaligned(bytes)).collect();
    for &cpu in cpus() {
        let of_cpu = records.iter().filter(|record| record.writer == cpu as u64);
        assert!(of_cpu.is_sorted_by(|a, b| a.number < b.number), "in order, each once");
    }
    assert!(records.iter().all(Numbered::is_whole) && !records.is_empty());
    assert_eq!(said.stats.delivered + said.stats.lapped, 160 * cpus().len() as u64, "{:?}", said.stats);
}

#[test]
fn rings() {
    require_bpf!();
    for (mode, access) in MODES {
        let (mut storage, pins) = (MaybeUninit::uninit(), PublicPins::new());
        let skel = load::<ConformanceSkelBuilder>(&mut storage, fitted);
        let _loader = Ring::<Numbered>::open(&map(skel.object(), "numbers")).unwrap();
        let pin = pins.path("numbers");
        publish(skel.object(), "numbers", &pin, mode);
        let reader = nobody("ring", &[pin.to_str().unwrap()]);
        assert_eq!(reader.access, access);
        check(&pushed_meanwhile(skel.object(), reader, |_| ()));
    }
}

#[test]
fn rings_for_nodes() {
    require_bpf!();
    for (mode, access) in MODES {
        let (mut storage, pins) = (MaybeUninit::uninit(), PublicPins::new());
        let skel = load::<NumaSkelBuilder>(&mut storage, fitted);
        let ring = Ring::<Numbered>::open(&map(skel.object(), "numbers")).unwrap();
        let dir = pins.path("numbers");
        create_dir(&dir).unwrap();
        for (cpu, of) in std::iter::zip(possible_cpus().unwrap(), ring.regions()) {
            raw::freeze(of.as_fd()).unwrap();
            pin(raw::info(of.as_fd()).id, &dir.join(format!("cpu{cpu}")), mode);
        }
        let reader = nobody("numa", &[dir.to_str().unwrap()]);
        assert_eq!(reader.access, access);
        check(&pushed_meanwhile(skel.object(), reader, |_| ()));
    }
}

/// Not frozen, since resizing closes the ring's gates through a mapping.
#[test]
fn rings_that_are_replaced() {
    require_bpf!();
    for (mode, access) in MODES {
        let (mut storage, pins) = (MaybeUninit::uninit(), PublicPins::new());
        let skel = load::<ResizableSkelBuilder>(&mut storage, fitted);
        let ring = Ring::<Numbered>::open(&map(skel.object(), "numbers")).unwrap();
        let pin = pins.path("numbers");
        ring.pin(&pin, mode).unwrap();
        let reader = nobody("follow", &[pin.to_str().unwrap()]);
        assert_eq!(reader.access, access);
        let resize = |run| ring.resize(if run % 2 == 0 { 256 } else { 64 }).unwrap();
        let said = pushed_meanwhile(skel.object(), reader, resize);
        assert!(said.rings > 1);
        check(&said);
    }
}

#[test]
fn values() {
    require_bpf!();
    for (mode, access) in MODES {
        let (mut storage, pins) = (MaybeUninit::uninit(), PublicPins::new());
        let skel = load::<ConformanceSkelBuilder>(&mut storage, fitted);
        let object = skel.object();
        // Userspace writes, before the map is frozen.
        let latches = OpenOptions::new().write(true).open(&map(object, "latches")).unwrap();
        let latches = Latches::<Numbered>::from_region(latches).unwrap();
        latches.writer().unwrap().set(2, &Numbered::new(9, 7)).unwrap();
        drop(latches);
        let names = ["cells", "percpu_cells", "counters", "percpu_counters", "latches"];
        for name in names {
            Region::open(&map(object, name)).unwrap();
            publish(object, name, &pins.path(name), mode);
        }
        let read = |command: &str, name: &str| {
            let reader = nobody(command, &[pins.path(name).to_str().unwrap()]);
            assert_eq!(reader.access, if name.starts_with("percpu") { "lookup" } else { access });
            written_meanwhile(object, reader)
        };
        let cells = Cells::<Numbered>::open(&map(object, "cells")).unwrap();
        check_values(&read("cells", "cells"), Numbered::is_whole, |_, index| cells.snapshot(index));
        let cells = PerCpuCells::<Numbered>::open(&map(object, "percpu_cells")).unwrap();
        check_values(&read("cells", "percpu_cells"), Numbered::is_whole, |cpu, index| {
            cells.snapshot(cpu, index)
        });
        let said = read("latches", "latches");
        assert_eq!(said.values, [(0, 2, 1, bytemuck::bytes_of(&Numbered::new(9, 7)).to_vec())]);
        for name in ["counters", "percpu_counters"] {
            let counters = Counters::open(&map(object, name)).unwrap();
            let said = read("counters", name);
            for (&(cpu, index), &found) in &said.counters {
                let [cpu, index] = [cpu, index].map(|number| usize::try_from(number).unwrap());
                assert_eq!(found, counters.get(cpu, index).unwrap());
            }
            assert_eq!(said.counters.len(), 9 * cpus().len());
        }
    }
}

/// Unprivileged processes can't read types, so the variable's position is an argument.
#[test]
fn global_variables() {
    require_bpf!();
    for (mode, access) in MODES {
        let (mut storage, pins) = (MaybeUninit::uninit(), PublicPins::new());
        let skel = load::<ConformanceSkelBuilder>(&mut storage, fitted);
        let object = skel.object();
        let (name, path) = (bss(object), pins.path("bss"));
        pin(raw::info(map(object, &name).as_fd()).id, &path, mode);
        let cell_at = Reader::place_of(&["global", &place(object, &name), "global_cell"]);
        let reader = nobody("global", &[path.to_str().unwrap(), &cell_at]);
        assert_eq!(reader.access, access);
        let said = written_meanwhile(object, reader);
        let cell =
            Globals::open(section(object, ".bss").unwrap()).unwrap().cell::<Odd>("global_cell").unwrap();
        check_values(&said, |odd: &Odd| *odd == Odd::new(odd.number), |_, _| cell.snapshot());
    }
}

#[test]
fn pins_for_their_owner_alone_are_closed() {
    require_bpf!();
    let (mut storage, pins) = (MaybeUninit::uninit(), PublicPins::new());
    let skel = load::<ConformanceSkelBuilder>(&mut storage, fitted);
    Region::open(&map(skel.object(), "cells")).unwrap();
    publish(skel.object(), "cells", &pins.path("cells"), 0o600);
    let said = Reader::refuses(&["--nobody", "cells", pins.path("cells").to_str().unwrap()]);
    assert!(said.contains("ermi"), "{said}");
}
