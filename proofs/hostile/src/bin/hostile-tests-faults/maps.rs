//! Scenarios over BPF maps, each mapped or read by system calls.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{MapCore, MapType, Object, libbpf_sys};
use mapring::abi::{Geometry, Kind};
use mapring::loader::PinOptions;
use mapring::{
    Array, Cells, Counters, Latches, OpenOptions, PerCpuCells, Region, Ring, dispatch::Dispatch,
    globals::Globals,
};
use mapring_hostile_tests::Record;
use mapring_kernel_tests::raw::RawMap;
use mapring_kernel_tests::{Compiled, Numbered, Runner, bpf, cpus, fitted, map, on_cpu, push, read_only};

use super::{Act, Scenario, pin_of_a_try, scenario};

const MMAPABLE: u32 = libbpf_sys::BPF_F_MMAPABLE;

pub(super) const ALL: &[Scenario] = &[
    scenario("mapped", || reads(fd)),
    scenario("looked-up", || reads(|object, name| read_only(&map(object, name)))),
    scenario("pinned", pinned),
    scenario("preamble", || loads(MMAPABLE)),
    scenario("preamble-looked-up", || loads(0)),
    scenario("latches", || latches(MMAPABLE)),
    scenario("latches-by-call", || latches(0)),
    scenario("per-cpu", per_cpu),
    scenario("array", || array(RawMap::array(8, 3, MMAPABLE))),
    scenario("array-looked-up", || array(RawMap::array(8, 3, 0))),
    scenario("array-per-cpu", || array(RawMap { ty: MapType::PercpuArray, ..RawMap::array(8, 3, 0) })),
    scenario("globals", || globals(fd)),
    scenario("globals-looked-up", || globals(|object, name| read_only(&map(object, name)))),
    scenario("dispatch", dispatch),
    scenario("freeze-and-pin", freeze_and_pin),
    scenario("replaced", replaced),
    scenario("numa", numa),
    scenario("resize", resize),
];

/// An object that stays loaded until this process ends.
fn loaded(object: &Compiled) -> &'static Object {
    Box::leak(Box::new(object.load(fitted)))
}

fn fd(object: &Object, name: &str) -> OwnedFd {
    map(object, name).as_fd().try_clone_to_owned().expect("a descriptor")
}

/// Regions of all kinds with some records, loaded once.
fn written() -> &'static Object {
    let object = loaded(&bpf::HOSTILE);
    on_cpu(cpus()[0]);
    ["ring", "cells", "latches", "counters"].iter().for_each(|name| {
        Region::open(&map(object, name)).expect("its loader opens it");
    });
    let program = Runner::new(object, "write");
    for n in 1..6 {
        program.run(&mut [0, 1, n, 0]);
    }
    object
}

fn reads(open: fn(&Object, &str) -> OwnedFd) -> Act {
    let object = written();
    let fds = ["ring", "cells", "latches", "counters"].map(|name| open(object, name));
    Box::new(move || {
        let [ring, cells, latches, counters] = fds;
        let ring = Ring::<Record>::from_region(Region::open(ring)?)?;
        let mut reader = ring.reader();
        let records: Vec<_> = reader.drain().map(|event| (event.ticket, event.record.n)).collect();
        let dropped = reader.stats().dropped();
        if let Some(e) = reader.take_error() {
            return Err(e.into());
        }
        let cells = Cells::<Record>::from_region(Region::open(cells)?)?;
        let latches = Latches::<Record>::from_region(Region::open(latches)?)?;
        let counters = Counters::open(counters)?;
        let mut sums = [0; 3];
        counters.sums(&mut sums)?;
        let mut all = Vec::new();
        cells.for_each(|_, snapshot| all.push(snapshot.value.n))?;
        let (one, latch) = (cells.read(1)?.n, latches.read(1)?.n);
        Ok(format!(
            "{records:?} {dropped} {all:?} {one} {latch} {sums:?} {} {:?}",
            counters.sum(1)?,
            reader.stats()
        ))
    })
}

fn pinned() -> Act {
    let (object, path) = (written(), pin_of_a_try());
    libbpf_rs::MapHandle::try_from(&map(object, "ring")).expect("a handle").pin(&path).expect("a pin");
    Box::new(move || {
        let ring = Ring::<Record>::from_region(OpenOptions::new().open(path.as_path())?)?;
        Ok(format!("{} {:?}", ring.reader().drain().count(), ring.replaced()?.is_some()))
    })
}

/// A new map for a region of this shape.
fn new_map(geometry: &Geometry, ty: MapType, flags: u32) -> OwnedFd {
    let [value, entries] = [geometry.element(), geometry.entries()].map(|n| u32::try_from(n).expect("small"));
    RawMap { ty, ..RawMap::array(value, entries, flags) }.make().expect("a map")
}

fn cells_of(kind: Kind) -> Geometry {
    Geometry::new(kind, 24, 3, 1).expect("a shape")
}

/// The loader, which writes the preamble, followed by another process.
fn loads(flags: u32) -> Act {
    let geometry = cells_of(Kind::Cells);
    let map = new_map(&geometry, MapType::Array, flags);
    Box::new(move || {
        let other = map.try_clone()?;
        let mine = OpenOptions::new().assume_layout(geometry).write_preamble(true).open(map)?;
        let theirs = Cells::<Record>::from_region(Region::open(other)?)?;
        Ok(format!("{:?} {}", mine.geometry(), theirs.read(2)?.n))
    })
}

fn latches(flags: u32) -> Act {
    let geometry = cells_of(Kind::Latches);
    let map = new_map(&geometry, MapType::Array, flags);
    let (again, options) =
        (map.try_clone().expect("a descriptor"), OpenOptions::new().assume_layout(geometry));
    drop(options.write_preamble(true).open(map).expect("the preamble is written"));
    Box::new(move || {
        let latches = Latches::<Record>::from_region(OpenOptions::new().write(true).open(again)?)?;
        let writer = latches.writer()?;
        writer.set(1, &Record::new(5))?;
        let whole = |index| latches.read(index).map(|value| value.n);
        let set = writer.set_many(0, &[Record::new(6), Record::new(7), Record::new(8)]);
        // Each value was set, whichever call failed.
        assert!([5, 7].contains(&whole(1)?), "{:?} after {set:?}", whole(1)?);
        set?;
        Ok(format!("{} {} {}", whole(0)?, whole(1)?, whole(2)?))
    })
}

fn per_cpu() -> Act {
    let shapes =
        [cells_of(Kind::PerCpuCells), Geometry::new(Kind::PerCpuCounters, 8, 3, 1).expect("a shape")];
    let maps = shapes.map(|shape| new_map(&shape, MapType::PercpuArray, 0));
    Box::new(move || {
        let open = |i: usize| -> Result<Region, Box<dyn Error>> {
            Ok(OpenOptions::new().assume_layout(shapes[i]).write_preamble(true).open(maps[i].try_clone()?)?)
        };
        let (cells, counters) =
            (PerCpuCells::<Record>::from_region(open(0)?)?, Counters::from_region(open(1)?)?);
        let mut count = 0;
        cells.for_each(|_, _, snapshot| count += snapshot.value.n)?;
        let (mut sums, one) = ([0; 3], cells.read(cpus()[0], 1)?.n);
        counters.sums(&mut sums)?;
        Ok(format!("{count} {one} {sums:?} {} {:?}", counters.sum(1)?, cells.snapshots(0)?.len()))
    })
}

fn array(map: RawMap) -> Act {
    let map = map.make().expect("a map");
    Box::new(move || {
        let array = Array::<u64>::open(map)?;
        let each = array.cpus().is_some().then(|| array.each(2)).transpose()?;
        let one = if each.is_none() { Some(array.get(1)?) } else { None };
        Ok(format!("{} {one:?} {each:?}", array.len()))
    })
}

fn globals(open: fn(&Object, &str) -> OwnedFd) -> Act {
    let object = loaded(&bpf::GLOBALS);
    let bss = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).expect("a .bss");
    let fd = open(object, &bss.name().to_string_lossy());
    Box::new(move || {
        let globals = Globals::open(fd)?;
        let (counted, small) = (globals.variable::<u64>("counted")?, globals.variable::<u32>("small")?);
        let (cell, latch) = (globals.cell::<[u32; 14]>("cell")?, globals.latch::<[u32; 14]>("latch")?);
        Ok(format!("{} {} {:?} {:?}", counted.get()?, small.get()?, cell.read()?, latch.read()?))
    })
}

fn dispatch() -> Act {
    let object = loaded(&bpf::DISPATCH);
    let (table, program) =
        (fd(object, "stages"), object.progs().find(|p| p.name() == "first").expect("it is there"));
    let program = program.as_fd().try_clone_to_owned().expect("a descriptor");
    Box::new(move || {
        let table = Dispatch::open(table)?;
        table.insert(2, &program)?;
        let found = table.get(2)?.map(|program| program.name);
        let all = table.iter().collect::<Result<Vec<_>, _>>()?.len();
        let (there, again) = (table.remove(2)?, table.remove(2)?);
        Ok(format!("{found:?} {all} {there} {again} {}", table.len()))
    })
}

fn freeze_and_pin() -> Act {
    let (path, geometry) = (pin_of_a_try(), cells_of(Kind::Cells));
    let map = new_map(&geometry, MapType::Array, MMAPABLE);
    let region = OpenOptions::new()
        .assume_layout(geometry)
        .write_preamble(true)
        .open(map)
        .expect("its preamble is written");
    Box::new(move || {
        // A call that failed halfway succeeds on a second try.
        let first = region.freeze_and_pin(&path, PinOptions::new(0o660).group(0));
        if first.is_err() {
            region.freeze_and_pin(&path, PinOptions::new(0o660).group(0))?;
        }
        let other = OpenOptions::new().write(true).open(path.as_path())?;
        let result =
            format!("{:?} {}", other.writable().is_err(), Cells::<Record>::from_region(other)?.len());
        first?;
        Ok(result)
    })
}

fn replaced() -> Act {
    let (path, geometry) = (pin_of_a_try(), cells_of(Kind::Cells));
    let maps = [0, 1].map(|_| new_map(&geometry, MapType::Array, MMAPABLE));
    let regions = maps.map(|map| {
        OpenOptions::new()
            .assume_layout(geometry)
            .write_preamble(true)
            .open(map)
            .expect("its preamble is written")
    });
    let pin = |region: &Region| {
        let _ = std::fs::remove_file(&path);
        region.freeze_and_pin(&path, 0o600).expect("a pin");
    };
    pin(&regions[0]);
    let cells = Cells::<Record>::from_region(Region::open(path.as_path()).expect("pinned")).expect("cells");
    pin(&regions[1]);
    Box::new(move || {
        let now = cells.replaced()?.expect("another map is pinned there");
        let result = format!("{} {}", now.read(1)?.n, now.replaced()?.is_some());
        drop(regions);
        Ok(result)
    })
}

fn numa() -> Act {
    let object = loaded(&bpf::NUMA);
    let (outer, program) = (fd(object, "numbers"), Runner::new(object, "push_run"));
    Box::new(move || {
        // The next call repairs one that failed halfway.
        let first = Ring::<Numbered>::open(&outer);
        let ring = match &first {
            Ok(_) => None,
            Err(_) => Some(Ring::<Numbered>::open(&outer)?),
        };
        let ring = ring.as_ref().or(first.as_ref().ok()).expect("one of the two");
        let mut reader = ring.reader();
        for (number, &cpu) in (0..).zip(cpus()) {
            on_cpu(cpu);
            assert_eq!(push(&program, 1, number, 1), 0, "dropped on CPU {cpu}");
        }
        let read: Vec<_> = reader.drain().map(|event| (event.shard, event.record.number)).collect();
        if let Some(e) = reader.take_error() {
            return Err(e.into());
        }
        let result = format!("{read:?} {:?}", reader.stats());
        assert_eq!(read.len(), cpus().len(), "each record is read once");
        first?;
        Ok(result)
    })
}

/// Writes, resizes and reads everything, whichever call fails: every lost record must be counted.
fn resize() -> Act {
    let object = loaded(&bpf::RESIZABLE);
    let (outer, program, path) = (fd(object, "numbers"), Runner::new(object, "push_run"), pin_of_a_try());
    let ring = Ring::<Numbered>::open(&outer).expect("it opens");
    on_cpu(cpus()[0]);
    Box::new(move || {
        ring.pin(&path, 0o600)?;
        let mut follower = Ring::<Numbered>::open(path.as_path())?.reader();
        let (mut read, mut failed) = (Vec::new(), None);
        for round in 0..3 {
            assert_eq!(push(&program, 2, round * 4, 4), 0);
            for _ in 0..2 {
                match ring.resize(32 << round) {
                    Ok(()) => break,
                    Err(e) => failed = failed.or(Some(e)),
                }
            }
            // The next poll repeats a call that failed.
            for _ in 0..4 {
                read.extend(std::iter::from_fn(|| follower.poll().map(|event| event.record.number)));
                failed = failed.or(follower.take_error());
            }
        }
        assert_eq!(read, (0..12).collect::<Vec<_>>(), "after {failed:?}");
        let result = format!("{:?} {}", follower.stats(), ring.slots());
        drop((follower, ring));
        failed.map_or(Ok(result), |e| Err(e.into()))
    })
}
