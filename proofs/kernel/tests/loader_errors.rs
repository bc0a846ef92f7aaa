//! Errors between loaders and readers, and their messages: maps that can't have a preamble, fields that the kernel
//! hides, sizes that no array has, pins that are replaced or removed, writers in one call.

use libbpf_rs::libbpf_sys::BPF_F_RDONLY;
use libbpf_rs::{ObjectBuilder, OpenMapMut};
use mapring::loader::initialize_map;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::RawMap;
use mapring_loader::prepare_object;

static GUARDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/license_guarded.bpf.o"));
static NO_LICENSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/license_none.bpf.o"));
static NO_GUARD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/license_no_guard.bpf.o"));

#[test]
fn loaders_of_maps_that_user_space_may_only_read() {
    require_bpf!();
    let object = &bpf::REFUSALS.load_only(|object: &mut OpenObject| {
        fitted(object);
        let mut ring = object.maps_mut().find(|map| map.name() == "ring").unwrap();
        ring.set_map_flags(BPF_F_MMAPABLE | BPF_F_RDONLY).unwrap();
    });
    let refused = initialize_map(&map(object, "ring")).unwrap_err();
    assert!(refused.io_error().is_some_and(|error| error.raw_os_error() == Some(1)), "{refused}");
    says(&refused, &["map ring has no preamble", "without BPF_F_RDONLY", "Region::open"]);
    // Follows the message's advice.
    let fd = map(object, "ring").as_fd().try_clone_to_owned().unwrap();
    let ring = Ring::<Filled<14>>::open(fd).unwrap();
    on_one_cpu();
    Runner::new(object, "write").run(&mut [0, 3, 0, 0]);
    assert_eq!(ring.access(), Access::Syscall(Refusal::ReadOnlyFd));
    assert_eq!(ring.reader().drain().map(|e| e.record).collect::<Vec<_>>(), [0, 1, 2].map(words_of));
}

#[test]
fn fields_that_the_kernel_hides() {
    require_bpf!();
    let object = &bpf::HIDDEN.load_only(fitted);
    if Region::open(&map(object, "last_ring")).unwrap().access() == Access::Mapped {
        // Before 6.11 the kernel searches for locks only at the top level of a value, and shows the ones it does not
        // find.
        for name in ["first_ring", "first_cells", "count_cells"] {
            assert_eq!(Region::open(&map(object, name)).unwrap().access(), Access::Mapped);
        }
        return;
    }
    for (name, parts) in [
        ("first_ring", ["map first_ring", "bpf_spin_lock at byte 8", "where the preamble is"]),
        ("first_cells", ["map first_cells", "bpf_spin_lock at byte 8", "where the preamble is"]),
        ("count_cells", ["map count_cells", "bpf_spin_lock at byte 100", "where the preamble is"]),
    ] {
        let error = Region::open(&map(object, name)).unwrap_err();
        assert!(error.kind() == ErrorKind::Contradiction, "{error}");
        says(&error, &parts);
        says(&error, &["a map of its own"]);
    }
    let ring = Ring::<[u64; 17]>::from_region(Region::open(&map(object, "last_ring")).unwrap()).unwrap();
    assert_eq!(ring.access(), Access::Syscall(Refusal::SpecialFields));
    on_one_cpu();
    Runner::new(object, "write").run(&mut [0]);
    let record = ring.reader().poll().unwrap().record;
    assert_eq!((record[0], record[15], record[16]), (0x0707_0707_0707_0707, 0x0707_0707_0707_0707, 0));
    assert_eq!(ring.region().dropped().unwrap(), 0);
}

/// A loader restarts: existing readers detect it, and continue after one call.
#[test]
fn pins_that_are_replaced_or_gone() {
    require_bpf!();
    on_one_cpu();
    let pins = PinDir::new();
    let pin = pins.path("ring");
    let publish = |object: &libbpf_rs::Object, records: u64| {
        Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
        let _ = std::fs::remove_file(&pin);
        MapHandle::try_from(&map(object, "ring")).unwrap().pin(&pin).unwrap();
        Runner::new(object, "write").run(&mut [0, records, 0, 0]);
    };
    let first = bpf::REFUSALS.load(fitted);
    publish(&first, 5);
    let ring = Ring::<Filled<14>>::open(pin.as_path()).unwrap();
    let cells = Cells::<Filled<14>>::open(&map(&first, "cells")).unwrap();
    let mut reader = ring.reader();
    assert!(ring.replaced().unwrap().is_none());
    assert_eq!(reader.drain().count(), 5);

    // Its loader has ended: mapped data stays, and does not change.
    drop(first);
    assert!(ring.replaced().unwrap().is_none(), "the pin keeps it");
    let second = &bpf::REFUSALS.load(fitted);
    publish(second, 7);
    assert_eq!((reader.drain().count(), ring.reader().drain().count()), (0, 5));

    let now = ring.replaced().unwrap().expect("another map is there");
    assert!(now.region().preamble().generation > ring.region().preamble().generation);
    assert_eq!(now.reader().drain().count(), 7);
    assert!(now.replaced().unwrap().is_none(), "it is the one that is there");
    assert!(cells.replaced().unwrap().is_none(), "was not opened by a pin");

    std::fs::remove_file(&pin).unwrap();
    assert!(now.replaced().unwrap().is_none(), "its loader may be starting again");
    assert_eq!(now.reader().drain().count(), 7);
    // A different map under the same name.
    MapHandle::try_from(&map(second, "cells")).unwrap().pin(&pin).unwrap();
    Region::open(&map(second, "cells")).unwrap();
    says(now.replaced().unwrap_err(), &["holds cells, expected ring"]);
}

/// Removing a pin takes nothing away from processes that have the map open; nor does the end of its loader.
#[test]
fn unpinned_while_it_is_read() {
    require_bpf!();
    on_one_cpu();
    let pins = PinDir::new();
    let loaded = bpf::REFUSALS.load(fitted);
    let object = &loaded;
    Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
    let pin = || MapHandle::try_from(&map(object, "ring")).unwrap().pin(pins.path("ring")).unwrap();
    let writer = Runner::new(object, "write");
    pin();
    let mapped = Ring::<Filled<14>>::open(pins.path("ring")).unwrap();
    let looked_up = Ring::<Filled<14>>::open(read_only(&map(object, "ring"))).unwrap();
    assert_eq!((mapped.access(), looked_up.access()), (Access::Mapped, Access::Syscall(Refusal::ReadOnlyFd)));
    let mut readers = [mapped.reader(), looked_up.reader()];
    let mut written = 0;
    let mut more = |readers: &mut [Reader<Filled<14>>]| {
        writer.run(&mut [0, 3, written, 0]);
        let expected = [written, written + 1, written + 2].map(words_of);
        for reader in readers {
            assert_eq!(reader.drain().map(|event| event.record).collect::<Vec<_>>(), expected);
            assert_eq!(reader.lost(), 0);
        }
        written += 3;
    };
    more(&mut readers);

    std::fs::remove_file(pins.path("ring")).unwrap();
    more(&mut readers);
    assert!(mapped.replaced().unwrap().is_none());
    let gone = Region::open(pins.path("ring")).unwrap_err();
    assert!(gone.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound));
    says(&gone, &["can't open", "/ring", "the loader running?"]);

    // The same map counts as unchanged, whether or not it was pinned again.
    pin();
    assert!(mapped.replaced().unwrap().is_none() && looked_up.replaced().unwrap().is_none());
    more(&mut readers);

    // Without pin and loader, the program, which this test has a descriptor of, and the readers keep the map.
    std::fs::remove_file(pins.path("ring")).unwrap();
    drop(loaded);
    more(&mut readers);
    assert_eq!(mapped.reader().drain().count(), 12);
}

#[test]
fn writers_in_one_call() {
    let object = &require_bpf!(REFUSALS);
    let pins = PinDir::new();
    MapHandle::try_from(&map(object, "cells")).unwrap().pin(pins.path("cells")).unwrap();
    let fd = map(object, "cells").as_fd().try_clone_to_owned().unwrap();
    let by_map =
        Cells::<Filled<14>>::open_with(&map(object, "cells"), OpenOptions::new().write(true)).unwrap();
    let by_pin = Cells::<Filled<14>>::open_with(pins.path("cells"), OpenOptions::new().write(true)).unwrap();
    let by_fd = Cells::<Filled<14>>::open_with(fd, OpenOptions::new().write(true)).unwrap();
    for (index, cells) in [by_map, by_pin, by_fd].iter().enumerate() {
        assert!(cells.writer().unwrap().set(index % 2, &words_of(9 + index as u64)).unwrap());
    }
    let cells = Cells::<Filled<14>>::open(&map(object, "cells")).unwrap();
    assert!(
        matches!(cells.writer(), Err(e) if e.kind() == ErrorKind::NotWritable && e.refusal() == Some(Refusal::NotAsked))
    );
    assert_eq!([cells.read(0).unwrap(), cells.read(1).unwrap()], [words_of(11), words_of(10)]);
}

/// A map that mapring's macros declared, with a number of entries that they would not give it.
#[test]
fn entries_that_are_no_whole_shards() {
    require_bpf!();
    let object = &bpf::REFUSALS.load_only(|object: &mut OpenObject| {
        fitted(object);
        let mut cells = object.maps_mut().find(|map| map.name() == "cells").unwrap();
        cells.set_max_entries(100).unwrap();
    });
    let error = Region::open(&map(object, "cells")).unwrap_err();
    assert!(error.to_string().contains(" 4, the kernel says 100"), "{error:?}");
    says(
        &error,
        &["map cells: its BTF makes the number of entries 4, the kernel says 100", "loader::prepare"],
    );
}

#[test]
fn a_reader_that_would_write_is_told_how() {
    let object = &require_bpf!(REFUSALS);
    let error = Cells::<Filled<14>>::open(&map(object, "cells")).unwrap().writer().unwrap_err();
    assert!(
        (error.kind(), error.refusal()) == (ErrorKind::NotWritable, Some(Refusal::NotAsked)),
        "{error:?}"
    );
    says(&error, &["it was opened for reading", "OpenOptions::write"]);
    Cells::<Filled<14>>::open_with(&map(object, "cells"), OpenOptions::new().write(true))
        .unwrap()
        .writer()
        .unwrap();
}

/// The kernel refuses the guard to programs that are not GPL-compatible, in words that name no remedy.
#[test]
fn licenses_that_the_guard_does_not_allow() {
    require_bpf!();
    on_one_cpu();
    let open = |bytes: &[u8]| ObjectBuilder::default().open_memory(bytes).unwrap();
    for (bytes, license) in [(GUARDED, "its license is \"MIT\""), (NO_LICENSE, "the object has none")] {
        let prepared = prepare_object(&mut open(bytes));
        if has_guard() && cfg!(target_arch = "x86_64") {
            let error = prepared.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            says(
                &error,
                &["bpf_preempt_disable", "GPL-compatible", license, "#define MAPRING_NO_GUARD", "3 ns"],
            );
            // It says what the kernel does.
            assert!(open(bytes).load().is_err());
        } else {
            prepared.unwrap();
            open(bytes).load().unwrap();
        }
    }
    // Follows the message's advice.
    let mut object = open(NO_GUARD);
    prepare_object(&mut object).unwrap();
    let object = object.load().unwrap();
    initialize_object(&object).unwrap();
    let mut reader = Ring::<u64>::open(&map(&object, "ring")).unwrap().reader();
    Runner::new(&object, "write").run(&mut [0]);
    assert_eq!(reader.drain().map(|event| event.record).collect::<Vec<_>>(), [7]);
}

/// The loader says what the load will cost: the memory of all possible CPUs.
#[test]
fn memory_of_a_prepared_object() {
    require_bpf!();
    let mut object = ObjectBuilder::default().open_memory(NO_GUARD).unwrap();
    let bytes = prepare_object(&mut object).unwrap();
    let object = object.load().unwrap();
    initialize_object(&object).unwrap();
    let ring = Ring::<u64>::open(&map(&object, "ring")).unwrap();
    let shards = possible_cpus().unwrap().last().unwrap() + 1;
    // The preamble, and for each CPU a header and 8 slots of 16 bytes.
    assert_eq!(ring.region().geometry().bytes(), 128 + shards * (64 + 8 * 16));
    assert_eq!(bytes, ring.region().geometry().bytes().next_multiple_of(rustix::param::page_size()) as u64);
}

/// The loader's error for an object with one map's sizes changed.
fn sized(object: &Compiled, map: &str, change: impl FnOnce(&mut OpenMapMut<'_>)) -> mapring::Result<()> {
    let object = &mut object.open();
    object.progs_mut().for_each(|mut program| program.set_autoload(false));
    change(&mut object.maps_mut().find(|there| there.name() == map).unwrap());
    prepare_object(object).map(drop)
}

#[test]
fn sizes_that_the_kernel_makes_no_array_of() {
    require_bpf!();
    let old = RawMap::array((4 << 20) + 1, 1, 0).make().is_err();
    let most = if old { 4 << 20 } else { i32::MAX as u32 };
    let value = |bytes: u32| move |map: &mut OpenMapMut<'_>| map.set_value_size(bytes).unwrap();
    for (error, part, found, allowed, remedy) in [
        (sized(&bpf::FLAGS, "pairs", |map| map.set_key_size(8).unwrap()), "key", 8, 4..=4, "indexed by u32"),
        (sized(&bpf::FLAGS, "pairs", value(0)), "value", 0, 1..=i32::MAX as u32, "at least a byte"),
        (sized(&bpf::FLAGS, "pairs", value(1 << 31)), "value", 1 << 31, 1..=most, "smaller"),
        (
            sized(&bpf::PERCPU, "cells_56", value(32_776)),
            "value",
            32_776,
            1..=32_768,
            "an array that all CPUs share",
        ),
    ] {
        let error = error.unwrap_err();
        let message = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Shape, "{message}");
        assert!(message.contains(&format!(": a {part} of {found} bytes, ")), "{message}");
        let numbers = [allowed.start(), allowed.end(), &found].map(u32::to_string);
        assert!(
            numbers.iter().all(|number| message.contains(number)) && message.contains(remedy),
            "{message}"
        );
        // The sizes that the kernel reports.
        let (ty, key) = match (part, found) {
            ("key", key) => (MapType::Array, key),
            (_, 32_776) => (MapType::PercpuArray, 4),
            _ => (MapType::Array, 4),
        };
        let bytes = if part == "key" { 8 } else { found };
        let errno = RawMap { ty, key, ..RawMap::array(bytes, 1, 0) }.make().unwrap_err();
        assert!([libc::EINVAL, libc::E2BIG, libc::ENOMEM].contains(&errno), "{errno}");
    }
    let larger = sized(&bpf::FLAGS, "pairs", value(5 << 20));
    match larger {
        Ok(()) => assert!(!old),
        Err(error) => {
            assert!(old && error.to_string().contains("a value of 5242880 bytes"), "{error}");
            assert!(
                error.to_string().contains("1 to 4194304") && error.to_string().contains("Linux 6.0"),
                "{error}"
            );
        }
    }
}
