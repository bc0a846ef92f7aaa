//! Unprivileged readers: a frozen map with a pin for everybody is mapped, and a read-only pin is read by system call.

use std::fs::{Permissions, set_permissions};

use mapring_kernel_tests::prelude::*;

use super::load::{WAYS, check_values, written_meanwhile};
use super::reader::{Reader, Report};
use super::written_before::{Odd, bss, locator};

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
pub(crate) fn in_every_way(command: &str, object: &Object, name: &str) -> Vec<Report> {
    let (pins, locator, map) = (PublicPins::new(), locator(object, name), map(object, name));
    let mut all = Vec::new();
    for (right, way) in WAYS {
        let (access, report) = Reader::once(&[way, &[command, &locator]].concat());
        assert_eq!(access, right);
        all.push(report);
    }
    raw::freeze(map.as_fd()).unwrap();
    for (mode, right) in MODES {
        let path = pins.path(&format!("{name}_{mode}"));
        pin(raw::info(map.as_fd()).id, &path, mode);
        let (access, report) = Reader::once(&["--nobody", command, path.to_str().unwrap()]);
        assert_eq!(access, right);
        all.push(report);
    }
    all
}

#[test]
fn values() {
    require_bpf!();
    for (mode, access) in MODES {
        let pins = PublicPins::new();
        let object = &bpf::CONFORMANCE.load(fitted);
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
        let report = read("latches", "latches");
        assert_eq!(report.values, [(0, 2, 1, bytemuck::bytes_of(&Numbered::new(9, 7)).to_vec())]);
        for name in ["counters", "percpu_counters"] {
            let counters = Counters::open(&map(object, name)).unwrap();
            let report = read("counters", name);
            for (&(cpu, index), &found) in &report.counters {
                let [cpu, index] = [cpu, index].map(|number| usize::try_from(number).unwrap());
                assert_eq!(found, counters.get(cpu, index).unwrap());
            }
            assert_eq!(report.counters.len(), 9 * cpus().len());
        }
    }
}

/// Unprivileged processes can't read types, so the variable's position is an argument.
#[test]
fn global_variables() {
    require_bpf!();
    for (mode, access) in MODES {
        let pins = PublicPins::new();
        let object = &bpf::CONFORMANCE.load(fitted);
        let (name, path) = (bss(object), pins.path("bss"));
        pin(raw::info(map(object, &name).as_fd()).id, &path, mode);
        let cell_at = Reader::address_of(&["global", &locator(object, &name), "global_cell"]);
        let reader = nobody("global", &[path.to_str().unwrap(), &cell_at]);
        assert_eq!(reader.access, access);
        let report = written_meanwhile(object, reader);
        let cell =
            Globals::open(section(object, ".bss").unwrap()).unwrap().cell::<Odd>("global_cell").unwrap();
        check_values(&report, |odd: &Odd| *odd == Odd::new(odd.number), |_, _| cell.snapshot());
    }
}
