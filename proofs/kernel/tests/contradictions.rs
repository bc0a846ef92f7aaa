//! Contradictions between a map's preamble or BTF and the kernel's information: sizes, entries, types. Also: lookups
//! that fail.

use libbpf_rs::libbpf_sys::{BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_ELEM};
use mapring::Array;
use mapring_kernel_tests::prelude::*;

/// The flags of maps that are mapped, and of maps that are read by system call.
const WAYS: [(u32, Access); 2] =
    [(BPF_F_MMAPABLE, Access::Mapped), (0, Access::Syscall(Refusal::NotMmapable))];

fn geometry(kind: Kind, record: u64, capacity: u64) -> Geometry {
    Geometry::new(kind, record, capacity, 1).unwrap()
}

/// Writes a preamble by system call, as much of it as fits into the map's values.
fn forge(map: &MapHandle, geometry: Geometry) {
    let words = Preamble { geometry, generation: 1, name: "forged".into() }.encode();
    let value = map.value_size() as usize;
    for (index, element) in (0_u32..).zip(words.chunks(geometry.element_words())) {
        let mut bytes = bytemuck::cast_slice(element).to_vec();
        bytes.resize(value, 0);
        if map.map_type() == MapType::PercpuArray {
            let copies = vec![bytes; libbpf_rs::num_possible_cpus().unwrap()];
            map.update_percpu(&index.to_ne_bytes(), &copies, MapFlags::ANY).unwrap();
        } else {
            map.update(&index.to_ne_bytes(), &bytes, MapFlags::ANY).unwrap();
        }
    }
}

#[test]
fn values_that_are_not_whole_words_hold_no_region() {
    require_bpf!();
    let maps = WAYS.map(|(flags, _)| (MapType::Array, flags, Kind::Cells));
    for (ty, flags, kind) in maps.into_iter().chain([(MapType::PercpuArray, 0, Kind::PerCpuCells)]) {
        // Elements of 32 bytes; the kernel has only half of the last word.
        let shape = geometry(kind, 24, 3);
        for value in [25, 28, 31] {
            let map = raw_map(ty, value, shape.entries(), flags);
            forge(&map, shape);
            for options in [OpenOptions::new(), OpenOptions::new().assume_layout(shape).write_preamble(true)]
            {
                let refused = options.open(fd_of(&map)).unwrap_err();
                assert!(refused.kind() == ErrorKind::Shape, "{refused}");
                let says = refused.to_string();
                assert!(
                    says.contains(&format!("values of {value} bytes")) && says.contains("as an Array"),
                    "{says}"
                );
            }
        }
        let map = raw_map(ty, 32, shape.entries(), flags);
        forge(&map, shape);
        assert_eq!(*Region::open(fd_of(&map)).unwrap().geometry(), shape);
    }
}

/// Arrays of values of type `T`, in each way to read them.
fn read_back<T: mapring::Record + PartialEq + std::fmt::Debug + bytemuck::NoUninit>(values: [T; 3]) {
    let key = |index: usize| u32::try_from(index).unwrap().to_ne_bytes();
    for (flags, access) in WAYS {
        let map = raw_map(MapType::Array, size_of::<T>(), values.len(), flags);
        for (index, value) in values.iter().enumerate() {
            map.update(&key(index), bytemuck::bytes_of(value), MapFlags::ANY).unwrap();
        }
        let array = Array::<T>::open(fd_of(&map)).unwrap();
        assert_eq!((array.access(), array.len()), (access, values.len()));
        for (index, value) in values.iter().enumerate() {
            assert_eq!(array.get(index).unwrap(), *value);
            assert_eq!(array.each(index).unwrap(), [*value]);
        }
    }
    let map = raw_map(MapType::PercpuArray, size_of::<T>(), values.len(), 0);
    // Each CPU starts with a different value.
    let of = |index: usize, copy: usize| values[(index + copy) % values.len()];
    let copies = libbpf_rs::num_possible_cpus().unwrap();
    for index in 0..values.len() {
        let all: Vec<_> = (0..copies).map(|copy| bytemuck::bytes_of(&of(index, copy)).to_vec()).collect();
        map.update_percpu(&key(index), &all, MapFlags::ANY).unwrap();
    }
    let array = Array::<T>::open(fd_of(&map)).unwrap();
    for index in 0..values.len() {
        assert_eq!(array.get(index).unwrap(), of(index, 0));
        assert_eq!(array.each(index).unwrap(), (0..copies).map(|copy| of(index, copy)).collect::<Vec<_>>());
    }
}

#[test]
fn arrays_of_values_of_any_size_are_read() {
    require_bpf!();
    read_back([[1_u32, 2, 3], [4, 5, 6], [7, 8, 9]]);
    read_back([[1_u8; 5], [2; 5], [3; 5]]);
    read_back([1_u32, 2, 3]);
    read_back([[1_u64, 2], [3, 4], [5, 6]]);
    read_back([[1_u16; 35], [2; 35], [3; 35]]);
}

#[test]
fn a_preamble_that_claims_less_or_more_than_the_kernel_knows_is_refused() {
    require_bpf!();
    let says = |shape: Geometry, value: usize, entries: usize| {
        for (flags, _) in WAYS {
            let map = raw_map(MapType::Array, value, entries, flags);
            forge(&map, shape);
            let refused = Region::open(fd_of(&map)).unwrap_err();
            let (property, claimed, known) = match shape.element() == value {
                false => ("value size", shape.element(), value),
                true => ("number of entries", shape.entries(), entries),
            };
            let says = format!("makes the {property} {claimed}, the kernel says {known}");
            assert!(refused.to_string().contains(&says), "{refused}");
        }
    };
    for kind in [Kind::Ring, Kind::Cells, Kind::Latches] {
        let shape = geometry(kind, 56, 8);
        let (value, entries) = (shape.element(), shape.entries());
        for other in [1, entries - 1, entries + 1, 16 * entries] {
            // A map of one element has no room for a preamble that takes two.
            if other * value >= Preamble::BYTES && other > 1 {
                says(shape, value, other);
            }
        }
        // The first words have the same position in both cases.
        for other in [value + 8, 2 * value] {
            if value >= Preamble::BYTES {
                says(shape, other, entries);
            }
        }
    }
    let counters = geometry(Kind::Counters, 8, 20);
    says(counters, counters.element() + 8, counters.entries());
    says(counters, counters.element() + 64, counters.entries());
}

/// The message contains both the type it was opened as and the type in BTF.
fn assert_mismatch(refused: Error, claims: &str, declared: &str) {
    assert_eq!(refused.kind(), ErrorKind::Contradiction);
    let text = refused.to_string();
    assert!(text.contains(&format!(" says {claims}, its BTF says {declared}: ")), "{text}");
}

#[test]
fn a_preamble_that_contradicts_btf_is_refused() {
    require_bpf!();
    for (flags, access) in WAYS {
        let object = &bpf::BASIC.load_only(|object| {
            fitted(object);
            for mut map in object.maps_mut().filter(|map| map.name().to_string_lossy() == "ring_56_64") {
                map.set_map_flags(flags).unwrap();
            }
        });
        let map = map(object, "ring_56_64");
        let pins = PinDir::new();
        let pin = pins.path("ring");
        MapHandle::try_from(&map).unwrap().pin(&pin).unwrap();

        // No preamble yet, and a loader that claims another kind: it is not written.
        let entries = map.max_entries() as u64;
        let cells = geometry(Kind::Cells, 56, entries - 2);
        let described =
            OpenOptions::new().assume_layout(cells).write_preamble(true).open(fd_of(&map)).unwrap_err();
        let declared = "ring: 64 of 56 bytes";
        assert_mismatch(described, &format!("cells: {} of 56 bytes", entries - 2), declared);
        assert_eq!(word_at(&map, 0, 0), 0);

        let region = Region::open(&map).unwrap();
        assert_eq!(region.access(), access);
        let ring = |record, slots, shards| Geometry::new(Kind::Ring, record, slots, shards).unwrap();
        let shards = region.geometry().shards() as u64;
        let others = [
            (cells, format!("cells: {} of 56 bytes", entries - 2)),
            (ring(52, 64, shards), "ring: 64 of 52 bytes".to_owned()),
            (ring(56, 4, shards * 13), "ring: 4 of 56 bytes".to_owned()),
            (ring(56, 64, shards).resizable().unwrap(), "ring (RESIZABLE): 64 of 56 bytes".to_owned()),
        ];
        for (other, claims) in others {
            assert_eq!(other.entries() as u64, entries);
            let words = Preamble { geometry: other, generation: 1, name: "spoilt".into() }.encode();
            update(&map, 0, &words[..8]);
            update(&map, 1, &words[8..]);
            assert_mismatch(Region::open(&map).unwrap_err(), &claims, declared);
            assert_mismatch(Region::open(pin.as_path()).unwrap_err(), &claims, declared);
            assert_mismatch(
                Region::open(Source::id(map.info().unwrap().info.id)).unwrap_err(),
                &claims,
                declared,
            );
            assert_mismatch(Ring::<Filled<14>>::open(&map).unwrap_err(), &claims, declared);
        }
        // With its original content it is a ring again.
        let words = region.preamble().encode();
        update(&map, 0, &words[..8]);
        update(&map, 1, &words[8..]);
        Ring::<Filled<14>>::open(pin.as_path()).unwrap();
    }
}

#[test]
fn a_map_that_is_found_later_gets_no_preamble_from_who_finds_it() {
    require_bpf!();
    let shape = geometry(Kind::Ring, 56, 8);
    let pins = PinDir::new();
    let pin = pins.path("ring");
    let mut old = raw_map(MapType::Array, shape.element(), shape.entries(), BPF_F_MMAPABLE);
    old.pin(&pin).unwrap();
    let region = OpenOptions::new().assume_layout(shape).write_preamble(true).open(pin.as_path()).unwrap();
    assert_eq!(word_at(&old, 0, 0), Preamble::MAGIC, "its loader writes the preamble");
    assert!(region.replaced().unwrap().is_none());
    old.unpin(&pin).unwrap();

    let mut new = raw_map(MapType::Array, shape.element(), shape.entries(), BPF_F_MMAPABLE);
    new.pin(&pin).unwrap();
    let found = region.replaced().unwrap().unwrap();
    assert_eq!(*found.geometry(), shape);
    assert_eq!(word_at(&new, 0, 0), 0, "that is for its loader to write");
    new.unpin(&pin).unwrap();
    // The next map that it finds is not written either.
    let mut newer = raw_map(MapType::Array, shape.element(), shape.entries(), BPF_F_MMAPABLE);
    newer.pin(&pin).unwrap();
    assert!(found.replaced().unwrap().is_some());
    assert_eq!(word_at(&newer, 0, 0), 0);
}

#[test]
fn lookups_that_fail_are_told() {
    require_bpf!();
    let shape = geometry(Kind::Ring, 56, 8);
    let map = raw_map(MapType::Array, shape.element(), shape.entries(), 0);
    forge(&map, shape);
    let mut words = Preamble { geometry: shape, generation: 1, name: "forged".into() }.encode();
    words[Preamble::DROPPED] = 3;
    update(&map, 1, &words[8..]);
    update(&map, u32::try_from(shape.shard(0)).unwrap(), &[0, 4, 0, 0, 0, 0, 0, 0]);
    let ring = Ring::<Filled<14>>::open(fd_of(&map)).unwrap();
    assert_eq!(ring.access(), Access::Syscall(Refusal::NotMmapable));
    let mut reader = ring.reader();
    assert_eq!(
        (ring.region().dropped().unwrap(), ring.region().retired().unwrap(), reader.stats().dropped()),
        (3, false, 7)
    );
    assert!(reader.take_error().is_none());
    let failed = |error: &std::io::Error| error.raw_os_error() == Some(libc::EIO);

    // The preamble is read by a batch, everything else one by one: each command fails alone, and both together.
    for commands in
        [&[BPF_MAP_LOOKUP_BATCH][..], &[BPF_MAP_LOOKUP_ELEM], &[BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_ELEM]]
    {
        failing_commands(commands, libc::EIO, || {
            let preamble = commands.contains(&BPF_MAP_LOOKUP_BATCH);
            let (dropped, retired) = (ring.region().dropped(), ring.region().retired());
            if preamble {
                assert!(matches!(dropped, Err(ReadError::Lookup(e)) if failed(&e)));
                assert!(matches!(retired, Err(ReadError::Lookup(e)) if failed(&e)));
            } else {
                assert_eq!((dropped.unwrap(), retired.unwrap()), (3, false));
            }
            let expected = match commands {
                [BPF_MAP_LOOKUP_BATCH] => 4,
                [BPF_MAP_LOOKUP_ELEM] => 3,
                _ => 0,
            };
            assert_eq!(reader.stats().dropped(), expected);
            let error = reader.take_error();
            assert!(error.as_ref().and_then(Error::io_error).is_some_and(failed), "{commands:?}: {error:?}");
            assert!(reader.take_error().is_none());
            assert!(reader.poll().is_none());
            assert_eq!(reader.take_error().is_some(), commands.contains(&BPF_MAP_LOOKUP_ELEM));
        });
    }
    assert_eq!(reader.stats().dropped(), 7);
    assert!(reader.take_error().is_none());
}
