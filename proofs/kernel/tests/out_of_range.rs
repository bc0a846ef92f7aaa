//! Accesses out of range are counted and change nothing else; and a second process opens a region by its preamble.

use mapring::loader::initialize_map;
use mapring_kernel_tests::prelude::*;

/// The preamble's word that counts accesses out of range.
const DROPPED: usize = 12;

/// All bytes of a map.
fn dump(map: &impl MapCore) -> Vec<u8> {
    let element = |index: u32| map.lookup(&index.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    (0..map.max_entries()).flat_map(element).collect()
}

/// Runs `write`, checks that it changes nothing but the preamble's count, and returns the increase.
fn astray(object: &Object, name: &str, write: impl FnOnce()) -> u64 {
    let map = map(object, name);
    let before = dump(&map);
    write();
    let mut after = dump(&map);
    let words = |bytes: &[u8]| u64::from_ne_bytes(bytes[DROPPED * 8..][..8].try_into().unwrap());
    let added = words(&after) - words(&before);
    after[DROPPED * 8..][..8].copy_from_slice(&before[DROPPED * 8..][..8]);
    assert!(before == after, "{name}: written elsewhere");
    added
}

fn both(prepare: fn(&mut libbpf_rs::OpenObject), test: impl Fn(&Object)) {
    test(&bpf::BASIC.load_only(prepare));
    test(&bpf::BASIC_PORTABLE.load_only(prepare));
}

/// Runs a program of `bpf/basic.bpf.c` to fill one record. Returns whether it did.
fn fill(program: &Runner, index: u64, n: u64) -> bool {
    let mut args = [0, index, n, 0];
    program.run(&mut args);
    args[3] == 1
}

#[test]
fn cpus_beyond_the_shards_write_nowhere() {
    require_bpf!();
    let Some(&beyond) = cpus().iter().find(|cpu| **cpu > 0) else {
        println!("one CPU is all there is: nothing to be beyond");
        return;
    };
    both(unfitted, |object| {
        for (size, slots) in [(4, 1), (12, 2), (56, 1), (56, 64), (100, 4), (4096, 64)] {
            let name = format!("ring_{size}_{slots}");
            let write = Runner::new(object, &format!("write_{size}_{slots}"));
            let region =
                OpenOptions::new().assume_layout(one_shard(size, slots)).open(&map(object, &name)).unwrap();
            assert_eq!(region.geometry().shards(), 1);
            on_cpu(beyond);
            for n in 1..=3 {
                assert_eq!(astray(object, &name, || assert!(!fill(&write, 0, n))), 1, "{name}");
                assert_eq!(region.dropped().unwrap(), n);
            }
            // CPU 0 has a shard, which stays intact.
            if cpus().contains(&0) {
                on_cpu(0);
                assert!(fill(&write, 0, 0));
                assert_eq!(region.dropped().unwrap(), 3);
            }
        }
        for count in [1, 10] {
            let name = format!("counters_{count}");
            let one = Geometry::new(Kind::Counters, 8, count, 1).unwrap();
            let options = OpenOptions::new().assume_layout(one);
            let counters = Counters::open_with(&map(object, &name), options).unwrap();
            let (add, inc) = (
                Runner::new(object, &format!("count_{count}")),
                Runner::new(object, &format!("inc_{count}")),
            );
            on_cpu(beyond);
            assert_eq!(astray(object, &name, || _ = fill(&add, 0, 5)), 1);
            assert_eq!(astray(object, &name, || _ = fill(&inc, 0, 0)), 1);
            assert_eq!(
                (counters.shards(), counters.sum(0).unwrap(), counters.region().dropped().unwrap()),
                (1, 0, 2)
            );
        }
    });
}

#[test]
fn a_reader_counts_drops_of_both_causes() {
    require_bpf!();
    let (Some(0), Some(&beyond)) = (cpus().first(), cpus().get(1)) else {
        println!("CPU 0 and another one are needed, here are {:?}", cpus());
        return;
    };
    both(unfitted, |object| {
        let options = OpenOptions::new().assume_layout(one_shard(56, 1));
        let ring = Ring::<Filled<14>>::open_with(&map(object, "ring_56_1"), options).unwrap();
        let write = Runner::new(object, "write_56_1");
        on_cpu(0);
        let mut abandoned = [3, 0, 0, 0];
        write.run(&mut abandoned);
        assert_eq!(abandoned[3], 1);
        assert!(!fill(&write, 0, 0));
        on_cpu(beyond);
        assert!(!fill(&write, 0, 0));
        assert_eq!((ring.reader().stats().dropped(), ring.region().dropped().unwrap()), (2, 1));
    });
}

#[test]
fn indices_beyond_the_end_write_nowhere() {
    require_bpf!();
    both(fitted, |object| {
        for size in [4, 12, 56, 4096] {
            let name = format!("cells_{size}");
            let region = Region::open(&map(object, &name)).unwrap();
            let write = Runner::new(object, &format!("cell_{size}"));
            // The last four would wrap around to the preamble.
            let max = u64::from(u32::MAX);
            for (n, index) in [3, 4, 1000, 1 << 31, max - 40, max - 1, max].into_iter().enumerate() {
                assert_eq!(astray(object, &name, || assert!(!fill(&write, index, 1))), 1, "{name}, {index}");
                assert_eq!(region.dropped().unwrap(), n as u64 + 1);
            }
        }
        for count in [1, 8, 10, 512_u64] {
            let name = format!("counters_{count}");
            let region = Region::open(&map(object, &name)).unwrap();
            let add = Runner::new(object, &format!("count_{count}"));
            for (n, index) in [count, count + 1, 4096, u64::from(u32::MAX)].into_iter().enumerate() {
                assert_eq!(astray(object, &name, || _ = fill(&add, index, 1)), 1, "{name}, {index}");
                assert_eq!(region.dropped().unwrap(), n as u64 + 1);
            }
        }
    });
}

#[test]
fn the_preamble_describes_the_region() {
    require_bpf!();
    let boot = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
    };
    let cpus = libbpf_rs::num_possible_cpus().unwrap();
    let before = boot();
    let mut generations = Vec::new();
    both(fitted, |object| {
        let expected = [
            ("ring_4_1", Kind::Ring, 4, 1, cpus, "rec_4"),
            ("ring_100_64", Kind::Ring, 100, 64, cpus, "rec_100"),
            ("cells_4096", Kind::Cells, 4096, 3, 1, "rec_4096"),
            ("one", Kind::Cells, 56, 1, 1, "rec_56"),
            ("counters_512", Kind::Counters, 8, 512, cpus, "u64"),
        ];
        for (name, kind, record, capacity, shards, record_name) in expected {
            let map = map(object, name);
            // Before the loader wrote the preamble, root finds the shape by BTF, and writes nothing.
            let found = Region::open(std::os::fd::AsFd::as_fd(&map).try_clone_to_owned().unwrap()).unwrap();
            assert_eq!(word_at(&map, 0, 0), 0, "only the loader writes the preamble");
            initialize_map(&map).unwrap();
            let loaders = Region::open(&map).unwrap();
            let again = Region::open(&map).unwrap();
            let second = Region::open(Source::id(map.info().unwrap().info.id)).unwrap();
            assert_eq!(second.preamble(), loaders.preamble());
            assert_eq!(
                again.preamble(),
                loaders.preamble(),
                "the loader's second handle makes no new life of it"
            );
            let geometry = loaders.geometry();
            assert_eq!(found.geometry(), geometry);
            assert_eq!((geometry.kind(), geometry.record(), geometry.capacity()), (kind, record, capacity));
            assert_eq!((geometry.shards(), loaders.preamble().name.as_str()), (shards, record_name));
            assert_eq!(u64::from(map.max_entries()), geometry.entries() as u64);
            assert!((before..=boot()).contains(&loaders.preamble().generation));
        }
    });
    // Each generation of the same map has its own number.
    for _ in 0..2 {
        let object = &bpf::BASIC.load(fitted);
        let cells = Cells::<Filled<14>>::open(&map(object, "cells_56")).unwrap();
        generations.push(cells.region().preamble().generation);
    }
    assert!(generations[0] < generations[1], "{generations:?}");
}

#[test]
fn only_maps_of_the_headers_are_fitted() {
    require_bpf!();
    let mut open = bpf::BASIC.open();
    let entries = |open: &OpenObject| {
        let maps = open.maps().map(|m| (m.name().to_os_string(), m.max_entries()));
        maps.collect::<Vec<_>>()
    };
    let before = entries(&open);
    mapring_loader::prepare_object(&mut open).unwrap();
    let after = entries(&open);
    let several = libbpf_rs::num_possible_cpus().unwrap() > 1;
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let name = name.to_str().unwrap();
        let sharded = name.starts_with("ring_") || name.starts_with("counters_");
        assert_eq!(before != after, sharded && several, "{name}: {before} entries, then {after}");
    }
    mapring_loader::prepare_object(&mut open).unwrap();
    assert_eq!(entries(&open), after, "fitting twice is fitting once");
    let object = &open.load().unwrap();
    let handle = MapHandle::try_from(&map(object, "ring_56_4")).unwrap();
    assert_eq!(Ring::<Filled<14>>::open(&handle).unwrap().shards(), libbpf_rs::num_possible_cpus().unwrap());
}
