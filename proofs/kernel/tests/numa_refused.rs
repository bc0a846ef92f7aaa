//! Maps that are no ring for nodes, or not the ring of a CPU in one: each is refused, with its key and the requirement.

use libbpf_rs::libbpf_sys::{self, bpf_map_create_opts};
use mapring_kernel_tests::prelude::*;

type Numbers = Ring<Numbered>;

/// Rings of any size can be in one map of maps.
const FLAGS: u32 = libbpf_sys::BPF_F_MMAPABLE | libbpf_sys::BPF_F_INNER_MAP;

/// A ring for all CPUs, of one shard.
fn plain(slots: u64) -> Geometry {
    Geometry::new(Kind::Ring, size_of::<Numbered>() as u64, slots, 1).unwrap()
}

/// The ring of one CPU.
fn of_cpu(slots: u64) -> Geometry {
    plain(slots).of_cpu().unwrap()
}

fn opts(flags: u32, inner: Option<&MapHandle>) -> bpf_map_create_opts {
    bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as u64,
        map_flags: flags,
        inner_map_fd: inner.map_or(0, fd_number),
        ..Default::default()
    }
}

fn fd_number(map: &MapHandle) -> u32 {
    u32::try_from(map.as_fd().as_raw_fd()).unwrap()
}

/// A map of this shape, with a matching preamble.
fn made(geometry: Geometry) -> MapHandle {
    let number = |number| u32::try_from(number).unwrap();
    let (element, entries) = (number(geometry.element()), number(geometry.entries()));
    let map =
        MapHandle::create(MapType::Array, Some("made"), 4, element, entries, &opts(FLAGS, None)).unwrap();
    OpenOptions::new().assume_layout(geometry).write_preamble(true).open(fd(&map)).unwrap();
    map
}

fn fd(map: &MapHandle) -> OwnedFd {
    map.as_fd().try_clone_to_owned().unwrap()
}

/// A map of maps with these under the keys from 0 on. It has one element per CPU, plus `more`.
fn outer(ty: MapType, maps: &[&MapHandle], more: usize) -> MapHandle {
    let entries = u32::try_from(possible_cpus().unwrap().last().unwrap() + 1 + more).unwrap();
    let outer = MapHandle::create(ty, Some("outer"), 4, 4, entries, &opts(0, Some(maps[0]))).unwrap();
    for (key, map) in (0_u32..).zip(maps) {
        outer.update(&key.to_ne_bytes(), &fd_number(map).to_ne_bytes(), MapFlags::ANY).unwrap();
    }
    outer
}

/// Checks that this is refused as the ring of CPU `cpu`, with each of `parts` in the message.
fn refused<T>(result: mapring::Result<Ring<T>>, cpu: usize, parts: [&str; 2]) {
    let error = result.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    let message = error.to_string();
    let says = |part: &str| message.contains(part);
    assert!(
        says(&format!(" can't be the ring of CPU {cpu}: it is ")) && parts.into_iter().all(says),
        "{message}"
    );
}

/// All ways to open rings for the CPUs 0 and 1: the map of maps, descriptors, pins.
fn refused_in_every_way(maps: [&MapHandle; 2], parts: [&str; 2]) {
    let ring = |map| Region::open(fd(map)).unwrap();
    refused(Numbers::from_regions(maps.iter().enumerate().map(|(cpu, map)| (cpu, ring(map)))), 1, parts);
    let cpus = possible_cpus().unwrap();
    if cpus.get(..2) != Some(&[0, 1]) {
        println!("from descriptors alone: this machine has no CPU 1");
        return;
    }
    refused(Numbers::open(&outer(MapType::ArrayOfMaps, &maps, 0)), 1, parts);
    // The other rings are correct.
    let others: Vec<_> = cpus[2..].iter().map(|_| made(of_cpu(64))).collect();
    let pins = PinDir::new();
    for (cpu, map) in cpus.iter().zip(maps.into_iter().chain(&others)) {
        let again = &mut MapHandle::try_from(map).unwrap();
        again.pin(pins.path(&format!("cpu{cpu}"))).unwrap();
    }
    refused(Numbers::open(pins.path("")), 1, parts);
}

#[test]
fn a_map_under_two_keys() {
    require_bpf!();
    let (map, other) = (made(of_cpu(64)), made(of_cpu(64)));
    refused_in_every_way([&map, &map], ["the same map as that of CPU 0", "a map of its own"]);
    // One CPU with two maps.
    let ring = |map| Region::open(fd(map)).unwrap();
    let twice = Numbers::from_regions([(1, ring(&map)), (1, ring(&other))]);
    refused(twice, 1, ["the second one of this CPU", "a map of its own"]);
    // Opened through two descriptors, and one of them can't be mapped.
    let read_only = Region::open(mapring_kernel_tests::read_only(&map)).unwrap();
    assert_ne!(read_only.access(), mapring::Access::Mapped);
    let twice = Numbers::from_regions([(0, ring(&map)), (3, read_only)]);
    refused(twice, 3, ["the same map as that of CPU 0", "a map of its own"]);
    assert_eq!(Numbers::from_regions([(0, ring(&map)), (1, ring(&other))]).unwrap().shards(), 2);
}

#[test]
fn rings_of_all_cpus() {
    require_bpf!();
    let maps = [made(of_cpu(64)), made(plain(64))];
    let parts = ["a ring for all CPUs", "PER_CPU_MAPS"];
    refused_in_every_way([&maps[0], &maps[1]], parts);
    let error = Numbers::open(&outer(MapType::ArrayOfMaps, &[&maps[1]], 0)).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType, "{error}");
    assert!(
        error
            .to_string()
            .contains("holds an ordinary ring, expected a resizable ring or a PER_CPU_MAPS ring"),
        "{error}"
    );
    let shards = *possible_cpus().unwrap().last().unwrap() as u64 + 1;
    let ring = Geometry::new(Kind::Ring, size_of::<Numbered>() as u64, 64, shards).unwrap();
    let resizable = made(ring.resizable().unwrap());
    refused_in_every_way([&maps[0], &resizable], parts);
}

#[test]
fn rings_of_other_sizes() {
    require_bpf!();
    let maps = [made(of_cpu(64)), made(of_cpu(128))];
    refused_in_every_way(
        [&maps[0], &maps[1]],
        ["a ring of 128 slots", "expected a ring of 64 slots for records of 48 bytes, as that of CPU 0"],
    );
}

#[test]
fn maps_that_keep_keys_in_another_way() {
    require_bpf!();
    let map = made(of_cpu(64));
    let error = Numbers::open(&outer(MapType::HashOfMaps, &[&map], 0)).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType, "{error}");
    assert!(error.to_string().contains("hash_of_maps, expected array"), "{error}");
}

/// A refused ring leaves the map of maps unchanged.
#[test]
fn what_is_refused_changes_nothing() {
    require_bpf!();
    let (cpus, maps) = (possible_cpus().unwrap(), [made(of_cpu(64)), made(of_cpu(128))]);
    let Some(last) = cpus.last().filter(|_| cpus.len() > 2) else {
        return println!("not tried: this machine has no CPU between the first and the last");
    };
    // One in the last place; those between are missing, and are not created.
    let outer = outer(MapType::ArrayOfMaps, &[&maps[0]], 0);
    let key = u32::try_from(*last).unwrap().to_ne_bytes();
    outer.update(&key, &fd_number(&maps[1]).to_ne_bytes(), MapFlags::ANY).unwrap();
    refused(Numbers::open(&outer), *last, ["128 slots", "64 slots"]);
    for cpu in &cpus[1..cpus.len() - 1] {
        let key = u32::try_from(*cpu).unwrap().to_ne_bytes();
        assert!(outer.lookup(&key, MapFlags::ANY).unwrap().is_none(), "CPU {cpu}");
    }
}

#[test]
fn what_is_no_ring_for_nodes_is_named() {
    require_bpf!();
    if cpus().last() > Some(&0) {
        let object = &bpf::NUMA.load(unfitted);
        let error = Numbers::open(&map(object, "numbers")).unwrap_err();
        assert!(error.kind() == ErrorKind::NotFitted, "{error}");
        assert!(error.to_string().contains("call mapring_loader::prepare before"), "{error}");
    }
    // Too many: the message contains the expected number.
    let object = &bpf::NUMA.load(|object| {
        fitted(object);
        let mut outer = object.maps_mut().find(|map| map.name() == "numbers").unwrap();
        outer.set_max_entries(u32::try_from(cpus().last().unwrap() + 3).unwrap()).unwrap();
    });
    let error = Numbers::open(&map(object, "numbers")).unwrap_err().to_string();
    let last = cpus().last().unwrap();
    let message =
        format!("has {} shards, expected {}, one for each possible CPU (0 to {last})", last + 3, last + 1);
    assert!(error.contains(&message), "{error}");
    let object = &bpf::NUMA.load(fitted);
    let error = Region::open(&map(object, "numbers")).unwrap_err();
    let message = "is a map of type array_of_maps, expected array or percpu_array; open a resizable ring or a PER_CPU_MAPS ring with \
                Ring::open, and an entry with Source::inner";
    assert!(error.kind() == ErrorKind::WrongType && error.to_string().ends_with(message), "{error}");
    let error = Ring::<[u32; 3]>::open(&map(object, "numbers")).unwrap_err();
    assert!(error.kind() == ErrorKind::Layout && error.to_string().contains(" in C, and "), "{error}");
    let error = Numbers::open(&map(object, "numbers")).unwrap().resize(64).unwrap_err();
    assert!(error.kind() == ErrorKind::NotResizable, "{error}");
    let resizable = &bpf::RESIZABLE.load(fitted);
    let error = Numbers::open(&map(resizable, "numbers")).unwrap().reader_of_node(0, Start::Now).unwrap_err();
    assert!(error.to_string().contains("MAPRING_RING with PER_CPU_MAPS makes them"), "{error}");
    let error =
        Ring::<u64>::from_regions([(0, Ring::<u64>::create_memfd(8, 2).unwrap().region())]).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType, "{error}");
    assert!(
        error.to_string().contains(" can't be the ring of CPU 0: it is a ring for all CPUs, "),
        "{error}"
    );
    let error =
        Numbers::open(&map(object, "numbers")).unwrap().freeze_and_pin("/proc/numbers", 0o600).unwrap_err();
    assert!(
        error.kind() == ErrorKind::CannotSeal && error.to_string().contains("BPF file system"),
        "{error}"
    );
}
