//! BPF maps: hostile content, mapped and by system call; the pin removed, and replaced by another map, while readers
//! have the old map mapped.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fastrand::Rng;
use libbpf_rs::libbpf_sys::{BPF_F_MMAPABLE, bpf_map_create_opts};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use mapring::abi::{Geometry, Kind, Preamble};
use mapring::{Access, Counters, ErrorKind, PerCpuCells, ReadError, Refusal, Region, Ring};
use mapring_hostile_tests::{Record, hostile_word, read_all};
use mapring_kernel_tests::{PinDir, assert_error, require_bpf};
use proptest::prelude::*;

use super::images::{contents, with_images};

fn geometry(slots: u64) -> Geometry {
    Geometry::new(Kind::Ring, size_of::<Record>() as u64, slots, 1).unwrap()
}

/// An array of the shape `geometry` that contains `words`, followed by zeros.
fn array(geometry: Geometry, words: &[u64], map_flags: u32) -> MapHandle {
    let opts =
        bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, map_flags, ..Default::default() };
    let [value, entries] = [geometry.element(), geometry.entries()].map(|n| u32::try_from(n).unwrap());
    let map = MapHandle::create(MapType::Array, Some("hostile"), 4, value, entries, &opts).unwrap();
    for (index, words) in (0_u32..).zip(words.chunks(geometry.element_words())) {
        let mut element = vec![0; geometry.element_words()];
        element[..words.len()].copy_from_slice(words);
        map.update(&index.to_ne_bytes(), bytemuck::cast_slice(&element), MapFlags::ANY).unwrap();
    }
    map
}

/// A ring in a BPF map, as any loader could create it.
fn map(geometry: Geometry, generation: u64) -> MapHandle {
    let preamble = Preamble { geometry, generation, name: "Record".into() };
    array(geometry, &preamble.encode(), BPF_F_MMAPABLE)
}

/// Writes the record of `ticket` as a program does, to a ring of the shape `geometry`.
fn push(map: &MapHandle, geometry: Geometry, ticket: usize, n: u64) {
    let record: [u64; 3] = bytemuck::cast(Record::new(n));
    let seq = 2 * (ticket / geometry.capacity()) as u64 + 2;
    let mut header = vec![0; geometry.element_words()];
    header[0] = ticket as u64 + 1;
    let slot = geometry.slots(0) + ticket % geometry.capacity();
    for (index, element) in [(slot, [&[seq], &record[..]].concat()), (geometry.shard(0), header)] {
        let index = u32::try_from(index).unwrap().to_ne_bytes();
        map.update(&index, bytemuck::cast_slice(&element), MapFlags::ANY).unwrap();
    }
}

#[test]
fn a_reader_stays_with_the_map_that_it_opened() {
    require_bpf!();
    let pins = PinDir::new();
    let path = pins.path("ring");
    let mut old = map(geometry(8), 1);
    old.pin(&path).unwrap();
    let ring = Ring::<Record>::open(path.as_path()).unwrap();
    assert_eq!((ring.access(), ring.region().preamble().generation), (Access::Mapped, 1));
    let mut reader = ring.reader();
    push(&old, geometry(8), 0, 10);
    assert_eq!(reader.poll().unwrap().record, Record::new(10));

    // Unpinned: nothing to open; the reader is unaffected.
    old.unpin(&path).unwrap();
    assert_error(Region::open(path.as_path()), ErrorKind::Open, "can't open ");
    push(&old, geometry(8), 1, 11);
    assert_eq!(reader.poll().unwrap().record, Record::new(11));

    // Replaced by a map of another shape: new readers get that one.
    let mut new = map(geometry(16), 2);
    new.pin(&path).unwrap();
    push(&new, geometry(16), 0, 20);
    let reopened = Ring::<Record>::open(path.as_path()).unwrap();
    assert_eq!((reopened.slots(), reopened.region().preamble().generation), (16, 2));
    assert_eq!(reopened.reader().poll().unwrap().record, Record::new(20));
    assert!(reader.poll().is_none());
    assert_eq!((ring.slots(), ring.region().preamble().generation), (8, 1));

    // Everyone except the reader closes the old map: its memory stays until the reader closes it.
    push(&old, geometry(8), 2, 12);
    drop(old);
    assert_eq!(reader.poll().unwrap().record, Record::new(12));
    assert_eq!((reader.lost(), reader.position(0)), (0, Some(3)));
    read_all(&ring.region(), None);
}

#[test]
fn a_map_replaced_by_another_type_or_size_is_a_typed_error() {
    require_bpf!();
    let pins = PinDir::new();
    let path = pins.path("ring");
    let mut old = map(geometry(8), 1);
    old.pin(&path).unwrap();
    let ring = Ring::<Record>::open(path.as_path()).unwrap();
    let mut reader = ring.reader();
    old.unpin(&path).unwrap();

    let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
    let mut hash = MapHandle::create(MapType::Hash, Some("replaced"), 4, 32, 8, &opts).unwrap();
    hash.pin(&path).unwrap();
    let message = "is a map of type hash, expected array or percpu_array";
    assert_error(Region::open(path.as_path()), ErrorKind::WrongType, message);
    hash.unpin(&path).unwrap();

    // The preamble of a larger ring in a smaller map: the kernel's size counts.
    let larger = Preamble { geometry: geometry(64), generation: 3, name: "Record".into() };
    let mut small = array(geometry(4), &larger.encode(), BPF_F_MMAPABLE);
    small.pin(&path).unwrap();
    let [claimed, known] = [64, 4].map(|slots| geometry(slots).entries());
    let message = format!("makes the number of entries {claimed}, the kernel says {known}");
    assert_error(Region::open(path.as_path()), ErrorKind::Contradiction, &message);

    push(&old, geometry(8), 0, 10);
    assert_eq!(reader.poll().unwrap().record, Record::new(10));
}

#[test]
fn contents_of_any_kind_are_read_to_the_end_by_system_call_too() {
    require_bpf!();
    let refused = Access::Syscall(Refusal::NotMmapable);
    for (sort, map_flags, access) in
        [("maps, mapped", BPF_F_MMAPABLE, Access::Mapped), ("maps, by system call", 0, refused)]
    {
        with_images(sort, &contents(), |image| {
            let map = array(image.geometry, &image.words, map_flags);
            let region = Region::open(map.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!((*region.geometry(), region.access()), (image.geometry, access));
            read_all(&region, Some(&image.words));
        });
    }
}

#[test]
fn whatever_is_put_in_place_of_a_pin_is_a_typed_error() {
    require_bpf!();
    let pins = PinDir::new();
    let path = pins.path("ring");
    let mut old = map(geometry(8), 1);
    old.pin(&path).unwrap();
    let ring = Ring::<Record>::open(path.as_path()).unwrap();
    let mut reader = ring.reader();
    let opened = |map: &mut MapHandle| {
        map.pin(&path).unwrap();
        let opened = Ring::<Record>::open(path.as_path());
        map.unpin(&path).unwrap();
        opened
    };
    old.unpin(&path).unwrap();

    let of = |kind, record, capacity| {
        let geometry = Geometry::new(kind, record, capacity, 1).unwrap();
        map(geometry, 2)
    };
    for (kind, record) in [(Kind::Cells, 24), (Kind::Latches, 24), (Kind::Counters, 8)] {
        let message = format!("holds {kind}, expected {}", Kind::Ring);
        assert_error(opened(&mut of(kind, record, 8)), ErrorKind::WrongType, &message);
    }
    assert_error(
        opened(&mut of(Kind::Ring, 32, 8)),
        ErrorKind::Layout,
        "has records of 32 bytes (Record), but ",
    );
    // The same kind and record, and fewer slots: another ring.
    assert_eq!(opened(&mut of(Kind::Ring, 24, 2)).unwrap().slots(), 2);
    // Of the right shape, without a preamble: not a region.
    let nobodys = opened(&mut array(geometry(8), &[], BPF_F_MMAPABLE));
    assert_error(nobodys, ErrorKind::Preamble, "no preamble");
    // Not a map: a directory, and then nothing.
    std::fs::create_dir(&path).unwrap();
    assert_error(Region::open(path.as_path()), ErrorKind::Open, "it is a directory");
    std::fs::remove_dir(&path).unwrap();
    assert_error(Region::open(path.as_path()), ErrorKind::Open, "the loader running?");

    // The reader has had the old one mapped all the time.
    push(&old, geometry(8), 0, 10);
    assert_eq!(reader.poll().unwrap().record, Record::new(10));
}

#[test]
fn a_pin_that_is_replaced_all_the_time_is_one_map_or_the_other() {
    require_bpf!();
    let pins = PinDir::new();
    let path = pins.path("ring");
    let rings = [8, 64].map(|slots| {
        let (geometry, map) = (geometry(slots), map(geometry(slots), slots));
        push(&map, geometry, 0, geometry.entries() as u64);
        map
    });
    let stop = AtomicBool::new(false);
    // How many times an opener found one ring, the other, and none.
    let opened = [const { AtomicU64::new(0) }; 3];
    let count = |which: usize| opened[which].fetch_add(1, Ordering::Relaxed);
    let all = || opened.iter().all(|opened| opened.load(Ordering::Relaxed) > 0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match Ring::<Record>::open(path.as_path()) {
                        Ok(ring) => {
                            assert_eq!(ring.slots() as u64, ring.region().preamble().generation);
                            let event = ring.reader().drain().next().unwrap();
                            assert_eq!(event.record.n, ring.region().geometry().entries() as u64);
                            count(usize::from(ring.slots() == 64));
                        }
                        Err(e) if e.kind() == ErrorKind::Open => _ = count(2),
                        Err(other) => {
                            stop.store(true, Ordering::Relaxed);
                            panic!("{other:?}")
                        }
                    }
                }
            });
        }
        // Longer if something did not happen yet: another process may take the openers' CPU.
        for turn in (0..1_000_000).take_while(|turn| *turn < 2000 || !all()) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut ring = MapHandle::from_map_id(rings[turn % 2].info().unwrap().info.id).unwrap();
            ring.pin(&path).unwrap();
            if turn % 4 < 2 {
                std::thread::yield_now();
            }
            ring.unpin(&path).unwrap();
            if turn % 8 == 0 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("one, the other, none: {opened:?}");
    assert!(all(), "{opened:?}");
}

/// Per-CPU cells or counters, and the content of each CPU's copy, from a seed.
fn per_cpu_images() -> impl Strategy<Value = (Geometry, u64)> {
    let kind = prop::sample::select(vec![Kind::PerCpuCells, Kind::PerCpuCounters]);
    (kind, 1_u64..10, any::<u64>()).prop_map(|(kind, count, seed)| {
        let record = if kind == Kind::PerCpuCells { 24 } else { 8 };
        (Geometry::new(kind, record, count, 1).unwrap(), seed)
    })
}

#[test]
fn contents_of_per_cpu_maps_are_read_to_the_end() {
    require_bpf!();
    let busy = Cell::new([0_u64; 2]);
    with_images("per-CPU maps", &per_cpu_images(), |(geometry, seed)| {
        let mut rng = Rng::with_seed(seed);
        let copies = libbpf_rs::num_possible_cpus().unwrap();
        let words = geometry.element_words();
        let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
        let [value, entries] = [geometry.element(), geometry.entries()].map(|n| u32::try_from(n).unwrap());
        let map = MapHandle::create(MapType::PercpuArray, Some("hostile"), 4, value, entries, &opts).unwrap();
        let mut images: Vec<Vec<u64>> = (0..copies)
            .map(|_| (0..words * geometry.entries()).map(|_| hostile_word(&mut rng)).collect())
            .collect();
        let preamble = Preamble { geometry, generation: seed, name: "image".into() }.encode();
        images.iter_mut().for_each(|image| image[..preamble.len()].copy_from_slice(&preamble));
        for index in 0..geometry.entries() {
            let values: Vec<_> = images
                .iter()
                .map(|image| bytemuck::cast_slice(&image[index * words..][..words]).to_vec())
                .collect();
            let key = u32::try_from(index).unwrap().to_ne_bytes();
            map.update_percpu(&key, &values, MapFlags::ANY).unwrap();
        }
        let region = Region::open(map.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((*region.geometry(), region.access()), (geometry, Access::Syscall(Refusal::MapType)));
        let word = |cpu: usize, element: usize, at: usize| images[cpu][element * words + at];
        if geometry.kind() == Kind::PerCpuCounters {
            let counters = Counters::from_region(region).unwrap();
            for index in 0..counters.len() {
                let mut sum = 0_u64;
                for cpu in 0..copies {
                    let right = word(cpu, geometry.first(), index);
                    assert_eq!(counters.get(cpu, index).unwrap(), right);
                    sum = sum.wrapping_add(right);
                }
                assert_eq!(counters.sum(index).unwrap(), sum);
            }
            return;
        }
        let cells = PerCpuCells::<[u64; 3]>::from_region(region).unwrap();
        let mut count = busy.get();
        for index in 0..cells.len() {
            for cpu in 0..copies {
                let at = |at| word(cpu, geometry.first() + index, at);
                match cells.snapshot(cpu, index) {
                    Ok(found) => {
                        assert_eq!((found.version * 2, found.value), (at(0), [at(1), at(2), at(3)]));
                        count[0] += 1;
                    }
                    Err(ReadError::Busy { .. }) => {
                        assert_eq!(at(0) % 2, 1);
                        count[1] += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        let odd = (0..copies).flat_map(|cpu| (0..cells.len()).map(move |index| (cpu, index)));
        let odd = odd.filter(|&(cpu, index)| word(cpu, geometry.first() + index, 0) % 2 == 1).count();
        assert_eq!(cells.for_each(|_, _, _| ()).unwrap(), odd);
        busy.set(count);
    });
    assert!(busy.get().iter().all(|&count| count > 0), "{busy:?}");
}
