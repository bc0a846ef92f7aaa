//! Objects that reuse the maps of an earlier one: what the maps hold is compared with what the object declares, before a
//! program writes.
#![allow(missing_docs)]

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle, Object, OpenObject};
use mapring::abi::{Geometry, Kind};
use mapring::loader::{initialize_object, map, prepare_object};
use mapring::{ErrorKind, Ring, Start};
use mapring_kernel_tests::skel::{ReuseOtherSkelBuilder, ReuseSkelBuilder};
use mapring_kernel_tests::{Loaded, PinDir, Runner, cpus, fitted, load, on_cpu, require_bpf};

#[derive(Clone, Copy, Debug, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    ns: u64,
    pid: u32,
    code: i32,
}

/// The maps that differ, with what both sides of the message contain.
const DIFFERENT: [(&str, [&str; 2]); 22] = [
    ("kind", ["ring: 64 of 16 bytes", "cells: 64 of 16 bytes"]),
    ("to_wakeable", ["holds ring: 64", "declares ring (WAKEABLE): 64"]),
    ("from_wakeable", ["holds ring (WAKEABLE): 64", "declares ring: 64"]),
    ("to_keep", ["holds ring (WAKEABLE): 64", "declares ring (KEEP_OLDEST): 64"]),
    ("per_cpu", ["array", "2 of 16 bytes"]),
    ("slots", ["ring: 64 of 16 bytes", "ring: 128 of 16 bytes"]),
    ("record", ["ring: 64 of 8 bytes", "ring: 64 of 16 bytes"]),
    ("fields", ["swapped: pid at byte 8", "swapped: code at byte 8"]),
    ("sign", ["signs.pid: unsigned int", "signs.pid: signed int"]),
    ("constants", ["reasons.why: ", "reasons.why: no "]),
    ("nested", ["outside.rec: code at byte 12", "outside.rec: codes at byte 12"]),
    ("tails", ["tails of 64 in 4096 bytes", "tails of 63 in 4096 bytes"]),
    ("sizes", ["ring (RESIZABLE): 64 of 8 bytes", "ring (RESIZABLE): 64 of 16 bytes"]),
    ("nodes", ["ring (PER_CPU_MAPS): 64 of 8 bytes", "ring (PER_CPU_MAPS): 64 of 16 bytes"]),
    ("cells", ["cells: 2 of 16 bytes", "cells: 3 of 16 bytes"]),
    ("latches", ["swapped: pid at byte 8", "swapped: code at byte 8"]),
    ("orders", ["commands: 64 of 16 bytes", "commands: 128 of 16 bytes"]),
    ("counters", ["18 of 8 bytes", "27 of 8 bytes"]),
    ("own_counters", ["18 of 8 bytes", "27 of 8 bytes"]),
    ("histograms", ["2 of 4096 bytes", "3 of 4096 bytes"]),
    ("gauges", ["2 of 16384 bytes", "3 of 16384 bytes"]),
    ("top", ["64 of 248 bytes", "128 of 248 bytes"]),
];

/// Opens an object with these maps of another one in place of its own, with `reuse` before or after `prepare`.
fn reusing<'o, B: SkelBuilder<'o> + Default>(
    storage: &'o mut MaybeUninit<OpenObject>,
    first: bool,
    old: &Object,
    names: &[&str],
) -> Result<Loaded<'o, B>, mapring::Error> {
    let mut open = B::default().open(storage).unwrap();
    let reuse = |object: &mut OpenObject| {
        for mut map in object.maps_mut() {
            let name = map.name().to_str().unwrap().to_owned();
            let from = old.maps().find(|map| map.name() == name.as_str());
            if let Some(from) = from.filter(|_| names.contains(&name.as_str())) {
                map.reuse_fd(from.as_fd()).unwrap();
            }
        }
    };
    // To save time, the object makes only these maps, and those of its program.
    let made = |name: &str| names.iter().chain(&["kept", "woken"]).any(|made| name.starts_with(made));
    for mut map in open.open_object_mut().maps_mut() {
        let name = map.name().to_str().unwrap().to_owned();
        if !name.contains('.') && !made(&name) {
            map.set_autocreate(false).unwrap();
        }
    }
    let object = open.open_object_mut();
    if first {
        reuse(object);
    }
    prepare_object(object)?;
    if !first {
        reuse(object);
    }
    let skel = open.load().unwrap();
    initialize_object(skel.object())?;
    Ok(skel)
}

fn refused<'o, B: SkelBuilder<'o> + Default>(
    storage: &'o mut MaybeUninit<OpenObject>,
    first: bool,
    old: &Object,
    names: &[&str],
    said: &[&str],
) {
    let Err(error) = reusing::<B>(storage, first, old, names) else { panic!("{names:?} was accepted") };
    assert_eq!(error.kind(), ErrorKind::NotReusable, "{names:?}: {error}");
    assert!(said.iter().all(|part| error.to_string().contains(part)), "{names:?}: {error}");
}

#[test]
fn maps_that_hold_something_else_are_refused() {
    require_bpf!();
    let (mut a, mut b) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let old = load::<ReuseSkelBuilder>(&mut a, fitted);
    let new = load::<ReuseOtherSkelBuilder>(&mut b, fitted);
    for (name, [one, other]) in DIFFERENT {
        for first in [true, false] {
            let (mut c, mut d) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            let with = |suffix: &str| format!("{name}{suffix}");
            let [readers, bells] = ["__readers", "__bells"].map(with);
            let all = &[name, &readers, &bells];
            refused::<ReuseOtherSkelBuilder>(&mut c, first, old.object(), all, &[one, other]);
            refused::<ReuseSkelBuilder>(
                &mut d,
                first,
                new.object(),
                all,
                &[one, other].map(|it| it.trim_start_matches("holds ").trim_start_matches("declares ")),
            );
        }
    }
}

/// Rings of another number of CPUs: each program writes the shard with the number of its CPU.
#[test]
fn maps_with_other_shards_are_refused() {
    require_bpf!();
    let (mut a, mut b) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let shards = cpus().last().unwrap() + 1;
    let old = load::<ReuseSkelBuilder>(&mut a, |object| {
        fitted(object);
        let shape = Geometry::new(Kind::Ring, 16, 64, shards as u64 + 1).unwrap();
        let mut same = object.maps_mut().find(|map| map.name() == "same").unwrap();
        same.set_max_entries(u32::try_from(shape.entries()).unwrap()).unwrap();
    });
    let said = [shards + 1, shards].map(|shards| format!("ring: 64 of 16 bytes, {shards} shards"));
    refused::<ReuseSkelBuilder>(&mut b, true, old.object(), &["same"], &[&said[0], &said[1]]);
}

#[test]
fn maps_that_hold_the_same_are_reused() {
    require_bpf!();
    on_cpu(cpus()[0]);
    let (mut a, mut c) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let old = load::<ReuseSkelBuilder>(&mut a, fitted);
    Runner::new(old.object(), "publish").run(&mut [7, 0]);
    let names = [
        "same",
        "resized",
        "kept",
        "kept__readers",
        "kept__bells",
        "woken",
        "woken__readers",
        "woken__bells",
    ];
    let all: Vec<_> = old.object().maps().map(|map| map.name().to_str().unwrap().to_owned()).collect();
    let all: Vec<_> = all.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
    for first in [true, false] {
        let mut b = MaybeUninit::uninit();
        let new = reusing::<ReuseOtherSkelBuilder>(&mut b, first, old.object(), &names).unwrap();
        let ring = Ring::<Rec>::open(map(new.object(), "kept").unwrap()).unwrap();
        assert!(ring.reader().poll().is_some_and(|event| event.record.ns == 7));
    }
    // All maps of all kinds.
    reusing::<ReuseSkelBuilder>(&mut c, true, old.object(), &all).unwrap();
}

/// Readers sleep on the bells that they know.
#[test]
fn a_ring_without_its_readers_and_bells_is_refused() {
    require_bpf!();
    let (mut a, mut b) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let old = load::<ReuseSkelBuilder>(&mut a, fitted);
    let other = load::<ReuseSkelBuilder>(&mut b, fitted);
    for ring in ["kept", "woken"] {
        let [readers, bells] = ["__readers", "__bells"].map(|suffix| format!("{ring}{suffix}"));
        let cases: [(&[&str], &str); 4] = [
            (&[ring], &readers),
            (&[ring, &readers], &bells),
            (&[ring, &bells], &readers),
            (&[&readers, &bells], ring),
        ];
        for (names, missing) in cases {
            let mut c = MaybeUninit::uninit();
            let said = format!("can't be reused without {missing}");
            refused::<ReuseOtherSkelBuilder>(
                &mut c,
                true,
                old.object(),
                names,
                &[&said, "together, or none"],
            );
            // Made anew, they belong to no ring yet, or to the new one.
            if names.contains(&ring) {
                let mut c = MaybeUninit::uninit();
                refused::<ReuseOtherSkelBuilder>(&mut c, false, old.object(), names, &["can't be reused"]);
            }
        }
        // The readers and bells of another ring.
        let mut c = MaybeUninit::uninit();
        let mut open = ReuseSkelBuilder::default().open(&mut c).unwrap();
        for mut map in open.open_object_mut().maps_mut() {
            let name = map.name().to_str().unwrap().to_owned();
            let from = if name == ring { &old } else { &other };
            if [ring, &readers, &bells].contains(&name.as_str()) {
                map.reuse_fd(mapring_kernel_tests::map(from.object(), &name).as_fd()).unwrap();
            }
        }
        let error = prepare_object(open.open_object_mut()).unwrap_err();
        assert!(error.kind() == ErrorKind::NotReusable && error.to_string().contains("map id"), "{error}");
    }
}

/// libbpf reuses what it finds at a map's pin path, without a call.
#[test]
fn maps_that_are_pinned_by_name() {
    require_bpf!();
    let pins = PinDir::new();
    let mut a = MaybeUninit::uninit();
    let old = load::<ReuseSkelBuilder>(&mut a, fitted);
    for name in ["same", "fields"] {
        let pin = pins.path(name);
        MapHandle::try_from(&mapring_kernel_tests::map(old.object(), name)).unwrap().pin(&pin).unwrap();
        let mut b = MaybeUninit::uninit();
        let mut open = ReuseOtherSkelBuilder::default().open(&mut b).unwrap();
        let mut maps = open.open_object_mut().maps_mut();
        maps.find(|map| map.name() == name).unwrap().set_pin_path(&pin).unwrap();
        drop(maps);
        match prepare_object(open.open_object_mut()) {
            Ok(_) if name == "same" => initialize_object(open.load().unwrap().object()).unwrap(),
            Err(error) if name == "fields" => assert_eq!(error.kind(), ErrorKind::NotReusable, "{error}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// A loader froze the maps, and another one reuses them.
#[test]
fn frozen_maps_are_reused() {
    require_bpf!();
    on_cpu(cpus()[0]);
    let pins = PinDir::new();
    let (mut a, mut b) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let old = load::<ReuseSkelBuilder>(&mut a, fitted);
    for name in ["kept", "woken", "same", "resized", "cells", "counters"] {
        let source = map(old.object(), name).unwrap();
        let region = match name {
            "resized" => Ring::<Rec>::open(source).unwrap().region(),
            _ => mapring::Region::open(source).unwrap(),
        };
        region.freeze_and_pin(pins.path(name), 0o600).unwrap();
    }
    let all: Vec<_> = old.object().maps().map(|map| map.name().to_str().unwrap().to_owned()).collect();
    let all: Vec<_> = all.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
    let new = reusing::<ReuseSkelBuilder>(&mut b, true, old.object(), &all).unwrap();
    for name in ["kept", "woken"] {
        let mut reader = Ring::<Rec>::open(map(new.object(), name).unwrap()).unwrap().reader_from(Start::Now);
        assert!(reader.bell().is_ok());
        assert!(reader.arm().is_some());
        Runner::new(new.object(), "publish").run(&mut [9, 0]);
        assert!(reader.wait(Duration::from_secs(5)).unwrap());
        assert_eq!(reader.poll().unwrap().record.ns, 9);
        while reader.poll().is_some() {}
    }
}
