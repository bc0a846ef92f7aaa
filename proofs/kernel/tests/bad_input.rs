//! Maps that are not a region, or a corrupt one: each gives a typed error with the found and the expected value, or a counted
//! loss. Never a panic, never a hang.

use std::io::ErrorKind::NotFound;

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use mapring::abi::{GeometryError, PreambleError};
use mapring_kernel_tests::prelude::*;

/// A map without keys.
fn keyless_map(ty: MapType, value: u32, entries: u32) -> MapHandle {
    let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
    MapHandle::create(ty, Some("raw"), 0, value, entries, &opts).unwrap()
}

/// An array of 64-byte elements that starts with `preamble`.
fn forged(preamble: &[u64; Preamble::WORDS], entries: usize, map_flags: u32) -> MapHandle {
    let map = raw_map(MapType::Array, 64, entries, map_flags);
    update(&map, 0, &preamble[..8]);
    update(&map, 1, &preamble[8..]);
    map
}

fn ring_preamble() -> [u64; Preamble::WORDS] {
    let geometry = Geometry::new(Kind::Ring, 56, 8, 2).unwrap();
    Preamble { geometry, generation: 1, name: "forged".into() }.encode()
}

/// Elements of the ring that `ring_preamble` describes.
const ENTRIES: usize = 2 + 2 * 9;

/// The error of opening a map: the same mapped and by system call.
fn refused(map: impl Fn(u32) -> MapHandle) -> Error {
    let [mapped, looked_up] = [BPF_F_MMAPABLE, 0].map(|flags| Region::open(fd_of(&map(flags))).unwrap_err());
    // The descriptor's number differs.
    let text = |e: &Error| e.to_string().split_once(": ").map(|(_, text)| text.to_owned());
    assert_eq!(text(&mapped), text(&looked_up));
    mapped
}

#[test]
fn paths_that_are_no_maps() {
    let object = &require_bpf!(REFUSALS);
    let pins = PinDir::new();

    let missing = Region::open(pins.path("missing")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Open);
    assert!(missing.io_error().is_some_and(|error| error.kind() == NotFound), "{missing:?}");
    says(
        &missing,
        &["can't open /sys/fs/bpf/", "/missing", "mount -t bpf -o mode=0755 bpf /sys/fs/bpf", "running?"],
    );

    let mut program: ProgramMut<'_> = object.progs_mut().find(|p| p.name() == "write").unwrap();
    program.pin(pins.path("program")).unwrap();
    let program = Region::open(pins.path("program")).unwrap_err();
    assert!(program.kind() == ErrorKind::WrongType, "{program:?}");
    says(&program, &["/program is not a BPF map"]);

    let file = std::env::current_exe().unwrap();
    let plain = Region::open(file.as_path()).unwrap_err();
    assert!(plain.kind() == ErrorKind::Open, "{plain:?}");
    says(&plain, &["can't open ", file.to_str().unwrap(), "is it a pin in a BPF file system?"]);

    let folder = Region::open(pins.path("")).unwrap_err();
    assert!(folder.kind() == ErrorKind::Open, "{folder:?}");
    says(&folder, &["it is a directory: name a pin in it", "Ring::open"]);
    let file = Region::open(std::fs::File::open("/proc/self/status").unwrap()).unwrap_err();
    assert!(file.kind() == ErrorKind::WrongType, "{file:?}");
    says(&file, &[" is not a BPF map or a memfd"]);

    let id = Region::open(Source::id(u32::MAX)).unwrap_err();
    assert_eq!(id.kind(), ErrorKind::Open);
    assert!(id.io_error().is_some_and(|error| error.kind() == NotFound), "{id:?}");
    says(&id, &["can't open map id 4294967295", "bpftool map"]);
}

#[test]
fn maps_of_other_types() {
    require_bpf!();
    let types = [
        (raw_map(MapType::Hash, 64, ENTRIES, 0), "hash"),
        (raw_map(MapType::ProgArray, 4, ENTRIES, 0), "prog_array"),
        (raw_map(MapType::PercpuHash, 64, ENTRIES, 0), "percpu_hash"),
        (keyless_map(MapType::RingBuf, 0, 4096), "ringbuf"),
        (keyless_map(MapType::Queue, 8, 4), "queue"),
        (keyless_map(MapType::Stack, 8, 4), "stack"),
    ];
    for (map, name) in types {
        let error = Region::open(fd_of(&map)).unwrap_err();
        assert!(error.kind() == ErrorKind::WrongType, "{error:?}");
        says(&error, &[&format!("a map of type {name}, expected array or percpu_array")]);
        let ring = Ring::<Filled<14>>::open(&map).unwrap_err();
        assert!(ring.kind() == ErrorKind::WrongType, "{ring:?}");
        says(&ring, &[&format!("a map of type {name}")]);
    }
}

#[test]
fn the_wrong_rust_type_or_kind() {
    let object = &require_bpf!(BASIC);
    let fields = Ring::<Filled<15>>::open(&map(object, "ring_56_64")).unwrap_err();
    assert!(fields.kind() == ErrorKind::Layout, "{fields:?}");
    says(
        &fields,
        &["map ring_56_64 ([u32; 15])", "rec_56 is 14 times unsigned int", "15 times an integer of 4"],
    );
    // Without types, or if no type is requested, only sizes are compared.
    let opened = |name| Region::open(&map(object, name)).unwrap();
    let sizes = Ring::<Filled<15>>::from_region(opened("ring_56_64")).unwrap_err();
    assert!(sizes.kind() == ErrorKind::Layout, "{sizes:?}");
    says(&sizes, &["map ring_56_64 has records of 56 bytes (rec_56), but [u32; 15] has 60"]);
    let sizes = Cells::<u8>::from_region(opened("cells_4096")).unwrap_err();
    assert!(sizes.kind() == ErrorKind::Layout, "{sizes:?}");
    says(&sizes, &["records of 4096 bytes (rec_4096), but u8 has 1"]);
    // 60 bytes take the same slots as 64: the exact size is compared, not the rounded one.
    let sizes = Ring::<Filled<15>>::from_region(opened("ring_64_1")).unwrap_err();
    says(&sizes, &["has records of 64 bytes", "has 60"]);

    let kinds = [
        Cells::<Filled<14>>::open(&map(object, "ring_56_64")).unwrap_err(),
        Ring::<Filled<14>>::open(&map(object, "counters_10")).unwrap_err(),
        Counters::open(&map(object, "cells_56")).unwrap_err(),
    ];
    let parts =
        ["holds ring, expected cells", "holds counters, expected ring", "holds cells, expected counters"];
    for (error, parts) in kinds.iter().zip(parts) {
        assert!(error.kind() == ErrorKind::WrongType, "{error:?}");
        says(error, &[parts]);
    }
}

#[test]
fn preambles_of_another_world() {
    require_bpf!();
    let opened = |flags| Region::open(fd_of(&forged(&ring_preamble(), ENTRIES, flags)));
    assert_eq!(opened(BPF_F_MMAPABLE).unwrap().access(), Access::Mapped);
    assert_eq!(opened(0).unwrap().access(), Access::Syscall(Refusal::NotMmapable));

    let with = |at: usize, value: u64| {
        let error = refused(|flags| {
            let mut words = ring_preamble();
            words[at] = value;
            forged(&words, ENTRIES, flags)
        });
        (error.preamble_error().unwrap_or_else(|| panic!("{error:?}")).clone(), error)
    };
    let magic = 0x1234_5678;
    let (source, error) = with(0, magic);
    assert_eq!(source, PreambleError::Magic { found: magic });
    says(&error, &["no preamble", "0x0000000012345678", "expected 0x00676e697270616d"]);
    says(&error, &["Globals reads the global variables", "Array reads arrays of plain values"]);
    let (source, error) = with(1, 1);
    assert_eq!(source, PreambleError::Version { found: 1 });
    says(&error, &["version 1", "knows 3"]);
    let (source, error) = with(2, 77);
    assert_eq!(source, PreambleError::Kind { found: 77 });
    says(&error, &["kind 77", "1 (ring), 2 (cells)", "3 (counters)"]);
    for slots in [0, 7, 1 << 40] {
        let (source, error) = with(4, slots);
        assert!(matches!(source, PreambleError::Geometry(_)), "{source:?}");
        says(&error, &[&slots.to_string()]);
    }
    assert_eq!(with(4, 0).0, PreambleError::Geometry(GeometryError::Slots(0)));
    says(with(4, 0).1, &["power of two", "not 0"]);
    let (source, _) = with(3, 0);
    assert_eq!(source, PreambleError::Geometry(GeometryError::Record(0)));
    let (source, error) = with(6, 72);
    assert_eq!(source, PreambleError::Geometry(GeometryError::Element { found: 72, expected: 64 }));
    says(&error, &["72", "64"]);
}

#[test]
fn preambles_that_contradict_the_kernel() {
    require_bpf!();
    // Consistent, but of another map: more slots, more shards, larger records.
    let shapes = [
        (Kind::Ring, 56, 16, 2, "number of entries", 2 + 2 * 17, ENTRIES),
        (Kind::Ring, 56, 8, 1 << 16, "number of entries", 2 + (9 << 16), ENTRIES),
        (Kind::Cells, 56, 19, 1, "number of entries", 2 + 19, ENTRIES),
        (Kind::Ring, 64, 8, 2, "value size", 72, 64),
        (Kind::Counters, 8, 9, 2, "value size", 128, 64),
    ];
    for (kind, record, capacity, shards, property, preamble, kernel) in shapes {
        let geometry = Geometry::new(kind, record, capacity, shards).unwrap();
        let words = Preamble { geometry, generation: 1, name: String::new() }.encode();
        let error = refused(|flags| forged(&words, ENTRIES, flags));
        assert_eq!(error.kind(), ErrorKind::Contradiction);
        says(&error, &[&format!("makes the {property} {preamble}, the kernel says {kernel}")]);
    }
}

#[test]
fn maps_that_say_nothing_of_themselves() {
    require_bpf!();
    let error = refused(|flags| raw_map(MapType::Array, 64, ENTRIES, flags));
    assert!(error.preamble_error() == Some(&PreambleError::Magic { found: 0 }), "{error:?}");
    says(&error, &["no preamble", "its loader writes one with mapring_loader::initialize"]);
    // The loader's function can't guess either, and must not write over a foreign map.
    let raw = raw_map(MapType::Array, 64, ENTRIES, BPF_F_MMAPABLE);
    assert!(matches!(Ring::<Filled<14>>::open(&raw), Err(e) if e.kind() == ErrorKind::Preamble));
    assert_eq!(word_at(&raw, 0, 0), 0);
    let small = refused(|flags| raw_map(MapType::Array, 8, 3, flags));
    says(
        &small,
        &["has 24 bytes, expected at least 128", "holds no region: Array reads arrays of plain values"],
    );
    // A map with BTF, from an object without mapring.
    let object = &bpf::BASIC.load(unfitted);
    says(Region::open(&map(object, "plain")).unwrap_err(), &["has 24 bytes, expected at least"]);
}

#[test]
fn indices_beyond_the_end() {
    let object = &require_bpf!(BASIC);
    let cells = Cells::<Filled<14>>::open(&map(object, "cells_56")).unwrap();
    assert!(matches!(cells.read(3), Err(ReadError::Index { thing: "cell", index: 3, count: 3 })));
    let counters = Counters::open(&map(object, "counters_10")).unwrap();
    assert!(matches!(counters.sum(10), Err(ReadError::Index { thing: "counter", index: 10, count: 10 })));
    let shards = counters.shards();
    assert!(matches!(counters.get(shards, 0), Err(ReadError::Index { thing: "shard", .. })));
    assert_eq!(counters.get(0, 10).unwrap_err().to_string(), "no counter 10: there are 10");
}

/// Numbers that are difficult for sequences: small, huge, and with the state bits set.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    match *state % 4 {
        0 => *state,
        1 => *state >> 58,
        2 => u64::MAX - (*state >> 58),
        _ => 1 << 63 | *state >> 57,
    }
}

/// Overwrites `head` and sequences through `map`, while a program writes and `ring` is read. Every delivered record was
/// written, each pass is bounded, and the losses add up.
fn scribbled(map: &impl MapCore, ring: &Ring<Filled<14>>, writer: &Runner, rounds: u32) {
    let (geometry, cpu) = (*ring.region().geometry(), cpus()[0]);
    let mut reader = ring.reader();
    let mut start = reader.position(cpu).unwrap();
    let (mut state, mut n) = (0x2545_f491_4f6c_dd1d_u64, 0);
    let (mut delivered, mut dropped) = (0_u64, 0_u64);
    for round in 0..rounds {
        let mut words = [0_u64; 8];
        words[0] = random(&mut state);
        let slot = usize::try_from(state >> 32).unwrap() % geometry.capacity();
        let at = if round % 3 == 0 { geometry.shard(cpu) } else { geometry.slots(cpu) + slot };
        // The payload shows that this slot was never published.
        words[1..].fill(u64::MAX);
        if round % 3 == 0 {
            words[1] = dropped; // keep the header's count
        }
        update(map, u32::try_from(at).unwrap(), &words);
        for _ in 0..4 {
            let mut args = [0, 0, n, 0];
            writer.run(&mut args);
            n += args[3];
            dropped += 1 - args[3];
        }
        let before = reader.stats();
        let mut records = 0;
        let count = reader.for_each(usize::MAX, |event| {
            let written = (0..n).rev().take(1_000_000).any(|n| words_of(n) == *event.record);
            assert!(written || event.record == &[u32::MAX; 14], "{:x?} was never written", event.record);
            records += 1;
        });
        delivered += records;
        assert!(count <= geometry.capacity() + 16, "{count} records of {} slots", geometry.capacity());
        let stats = reader.stats();
        assert_eq!(stats.delivered - before.delivered, records);
        // For any content: each ticket passed is counted once.
        let passed = stats.passed();
        assert_eq!(reader.position(cpu).unwrap().wrapping_sub(start), passed);
        // A new reader works as well.
        assert!(ring.reader().drain().count() <= geometry.capacity() + 16);
        if round % 8 == 7 {
            // A slot whose sequence became odd is lost to writers, and a reader that followed a very high sequence
            // waits there: reset the ring.
            let slots = (geometry.slots(cpu)..).take(geometry.capacity());
            for at in slots.chain([geometry.shard(cpu)]) {
                let dropped = if at == geometry.shard(cpu) { dropped } else { 0 };
                update(map, u32::try_from(at).unwrap(), &[0, dropped, 0, 0, 0, 0, 0, 0]);
            }
            reader = ring.reader();
            start = reader.position(cpu).unwrap();
            assert_eq!(start, 0);
        }
    }
    assert!(delivered > 100 && dropped > 10, "{delivered} delivered, {dropped} dropped, {n} written");
    assert_eq!(ring.reader().stats().dropped(), dropped);
}

#[test]
fn scribbled_heads_and_sequences_cost_records_and_nothing_else() {
    require_bpf!();
    on_one_cpu();
    for flags in [BPF_F_MMAPABLE, 0] {
        let object = &bpf::BASIC.load(|object| {
            for mut map in object.maps_mut().filter(|map| map.name().to_string_lossy().starts_with("ring_")) {
                map.set_map_flags(flags).unwrap();
            }
        });
        for slots in [1, 4, 64] {
            let map = map(object, &format!("ring_56_{slots}"));
            let options = OpenOptions::new().assume_layout(one_shard(56, slots));
            let ring = Ring::<Filled<14>>::open_with(&map, options).unwrap();
            assert_eq!(ring.access() == Access::Mapped, flags != 0);
            scribbled(&map, &ring, &Runner::new(object, &format!("write_56_{slots}")), 600);
        }
        // A cell's sequence: odd means busy, even means a value.
        let cells = Cells::<Filled<14>>::open(&map(object, "cells_56")).unwrap();
        let mut state = 88_172_645_463_325_252;
        for _ in 0..200 {
            let seq = random(&mut state);
            update(&map(object, "cells_56"), 2, &[seq, 7, 7, 7, 7, 7, 7, 7]);
            match cells.snapshot(0) {
                Ok(snapshot) => assert_eq!((snapshot.version, snapshot.value[0]), (seq / 2, 7)),
                Err(error) => {
                    assert!(matches!(error, ReadError::Busy { tries: 128 }) && seq % 2 == 1, "{error}")
                }
            }
        }
    }
}
