//! Objects that reuse the maps of an earlier one: what the maps hold is compared with what the object declares, before a
//! program writes.

use mapring_kernel_tests::prelude::*;
use mapring_loader::{map, prepare_object};

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
fn reusing(new: &Compiled, first: bool, old: &Object, names: &[&str]) -> Result<Object, mapring::Error> {
    let mut open = new.open();
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
    for mut map in open.maps_mut() {
        let name = map.name().to_str().unwrap().to_owned();
        if !name.contains('.') && !made(&name) {
            map.set_autocreate(false).unwrap();
        }
    }
    if first {
        reuse(&mut open);
    }
    prepare_object(&mut open)?;
    if !first {
        reuse(&mut open);
    }
    let object = open.load().unwrap();
    initialize_object(&object)?;
    Ok(object)
}

fn refused(new: &Compiled, first: bool, old: &Object, names: &[&str], message: &[&str]) {
    let Err(error) = reusing(new, first, old, names) else { panic!("{names:?} was accepted") };
    assert_eq!(error.kind(), ErrorKind::NotReusable, "{names:?}: {error}");
    assert!(message.iter().all(|part| error.to_string().contains(part)), "{names:?}: {error}");
}

#[test]
fn maps_that_hold_something_else_are_refused() {
    let old = &require_bpf!(REUSE);
    let new = &bpf::REUSE_OTHER.load(fitted);
    for (name, [one, other]) in DIFFERENT {
        for first in [true, false] {
            let with = |suffix: &str| format!("{name}{suffix}");
            let [readers, bells] = ["__readers", "__bells"].map(with);
            let all = &[name, &readers, &bells];
            refused(&bpf::REUSE_OTHER, first, old, all, &[one, other]);
            refused(
                &bpf::REUSE,
                first,
                new,
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
    let shards = cpus().last().unwrap() + 1;
    let old = &bpf::REUSE.load(|object| {
        fitted(object);
        let shape = Geometry::new(Kind::Ring, 16, 64, shards as u64 + 1).unwrap();
        let mut same = object.maps_mut().find(|map| map.name() == "same").unwrap();
        same.set_max_entries(u32::try_from(shape.entries()).unwrap()).unwrap();
    });
    let message = [shards + 1, shards].map(|shards| format!("ring: 64 of 16 bytes, {shards} shards"));
    refused(&bpf::REUSE, true, old, &["same"], &[&message[0], &message[1]]);
}

#[test]
fn maps_that_hold_the_same_are_reused() {
    let old = &require_bpf!(REUSE);
    on_cpu(cpus()[0]);
    Runner::new(old, "publish").run(&mut [7, 0]);
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
    let all: Vec<_> = old.maps().map(|map| map.name().to_str().unwrap().to_owned()).collect();
    let all: Vec<_> = all.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
    for first in [true, false] {
        let new = reusing(&bpf::REUSE_OTHER, first, old, &names).unwrap();
        let ring = Ring::<Rec>::open(map(&new, "kept").unwrap()).unwrap();
        assert!(ring.reader().poll().is_some_and(|event| event.record.ns == 7));
    }
    // All maps of all kinds.
    reusing(&bpf::REUSE, true, old, &all).unwrap();
}

/// Readers sleep on the bells that they know.
#[test]
fn a_ring_without_its_readers_and_bells_is_refused() {
    let old = &require_bpf!(REUSE);
    let other = &bpf::REUSE.load(fitted);
    for ring in ["kept", "woken"] {
        let [readers, bells] = ["__readers", "__bells"].map(|suffix| format!("{ring}{suffix}"));
        let cases: [(&[&str], &str); 4] = [
            (&[ring], &readers),
            (&[ring, &readers], &bells),
            (&[ring, &bells], &readers),
            (&[&readers, &bells], ring),
        ];
        for (names, missing) in cases {
            let message = format!("can't be reused without {missing}");
            refused(&bpf::REUSE_OTHER, true, old, names, &[&message, "together, or none"]);
            // Made anew, they belong to no ring yet, or to the new one.
            if names.contains(&ring) {
                refused(&bpf::REUSE_OTHER, false, old, names, &["can't be reused"]);
            }
        }
        // The readers and bells of another ring.
        let mut open = bpf::REUSE.open();
        for mut map in open.maps_mut() {
            let name = map.name().to_str().unwrap().to_owned();
            let from = if name == ring { &old } else { &other };
            if [ring, &readers, &bells].contains(&name.as_str()) {
                map.reuse_fd(mapring_kernel_tests::map(from, &name).as_fd()).unwrap();
            }
        }
        let error = prepare_object(&mut open).unwrap_err();
        assert!(error.kind() == ErrorKind::NotReusable && error.to_string().contains("map id"), "{error}");
    }
}

/// libbpf reuses what it finds at a map's pin path, without a call.
#[test]
fn maps_that_are_pinned_by_name() {
    require_bpf!();
    let pins = PinDir::new();
    let old = &bpf::REUSE.load(fitted);
    for name in ["same", "fields"] {
        let pin = pins.path(name);
        MapHandle::try_from(&mapring_kernel_tests::map(old, name)).unwrap().pin(&pin).unwrap();
        let mut open = bpf::REUSE_OTHER.open();
        let mut maps = open.maps_mut();
        maps.find(|map| map.name() == name).unwrap().set_pin_path(&pin).unwrap();
        drop(maps);
        match prepare_object(&mut open) {
            Ok(_) if name == "same" => initialize_object(&open.load().unwrap()).unwrap(),
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
    let old = &bpf::REUSE.load(fitted);
    for name in ["kept", "woken", "same", "resized", "cells", "counters"] {
        let source = map(old, name).unwrap();
        let region = match name {
            "resized" => Ring::<Rec>::open(source).unwrap().region(),
            _ => mapring::Region::open(source).unwrap(),
        };
        region.freeze_and_pin(pins.path(name), 0o600).unwrap();
    }
    let all: Vec<_> = old.maps().map(|map| map.name().to_str().unwrap().to_owned()).collect();
    let all: Vec<_> = all.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
    let new = reusing(&bpf::REUSE, true, old, &all).unwrap();
    for name in ["kept", "woken"] {
        let mut reader = Ring::<Rec>::open(map(&new, name).unwrap()).unwrap().reader_from(Start::Now);
        assert!(reader.bell().is_ok());
        assert!(reader.arm().is_some());
        Runner::new(&new, "publish").run(&mut [9, 0]);
        assert!(reader.wait(Duration::from_secs(5)).unwrap());
        assert_eq!(reader.poll().unwrap().record.ns, 9);
        while reader.poll().is_some() {}
    }
}
