//! Rings with one map per CPU: each CPU's records are read once, in order, and missing ones are counted. `nodes.rs`
//! tests where the memory is.

use mapring_kernel_tests::prelude::*;

fn open(object: &Object) -> Ring<Numbered> {
    Ring::open(&map(object, "numbers")).unwrap()
}

#[test]
fn what_each_cpu_writes_is_read_as_its_own() {
    require_bpf!();
    each_cpu(&bpf::NUMA.load_only(fitted));
    each_cpu(&bpf::NUMA_PORTABLE.load_only(fitted));
}

/// Not every kernel has batches for maps of maps.
#[test]
fn shards_are_made_one_by_one_where_they_must() {
    require_bpf!();
    let object = &bpf::NUMA.load_only(fitted);
    mapring_kernel_tests::without_batches(|| {
        initialize_object(object).unwrap();
        let ring = open(object);
        assert!(ring.replaced().unwrap().is_none(), "what is there is what was made");
    });
}

fn each_cpu(object: &Object) {
    let program = Runner::new(object, "push_run");
    let mut early = 0;
    for &cpu in cpus() {
        on_cpu(cpu);
        let dropped = push(&program, 0, 0, 3);
        assert_eq!(dropped, if cpu == 0 { 0 } else { 3 }, "the first CPU's shard is there, no other");
        early += dropped;
    }
    assert!(
        Ring::<Numbered>::open(&map(object, "numbers"))
            .unwrap_err()
            .to_string()
            .contains("loader::initialize")
    );
    initialize_object(object).unwrap();
    let ring = open(object);
    assert_eq!((ring.access(), ring.shards()), (Access::Mapped, possible_cpus().unwrap().len()));
    assert!(ring.regions().iter().all(|of| (of.geometry().shards(), of.geometry().capacity()) == (1, 64)));
    let mut expected = BTreeSet::new();
    for &cpu in cpus() {
        on_cpu(cpu);
        assert_eq!(push(&program, cpu as u64, 0, 16), 0);
        let before = if cpu == 0 { 3 } else { 0 };
        expected.extend((0..before).map(|number| (cpu, number, number)));
        expected.extend((0..16).map(|number| (cpu, before + number, number)));
    }
    everywhere();
    let mut reader = ring.reader();
    let found = reader.drain().map(|event| {
        assert!(event.record.is_whole() && event.record.writer == event.shard as u64, "{event:?}");
        (event.shard, event.ticket, event.record.number)
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
    assert_eq!((reader.lost(), reader.stats().dropped()), (0, early));
    // The readers of all nodes together get the same records as the reader of all CPUs.
    let nodes = online_nodes().unwrap();
    let of = |node: &usize| ring.reader_of_node(*node, Start::Oldest).unwrap();
    let mut of_nodes: Vec<_> = nodes.iter().map(of).collect();
    let count: usize = of_nodes.iter_mut().map(|reader| reader.for_each(usize::MAX, |_| ())).sum();
    assert_eq!(count, expected.len());
    let read: usize = of_nodes.iter().map(|reader| reader.shards().count()).sum();
    assert_eq!(read, possible_cpus().unwrap().len());
    let beyond = nodes.last().unwrap() + 1;
    let refused = ring.reader_of_node(beyond, Start::Now).unwrap_err();
    assert!(refused.to_string().starts_with(&format!("no NUMA node {beyond}: ")), "{refused}");
}

#[test]
fn a_loader_that_comes_later_finds_the_shards() {
    let object = &require_bpf!(NUMA);
    let program = Runner::new(object, "push_run");
    let first = open(object);
    assert_eq!(push(&program, 1, 0, 5), 0);
    let ids = |ring: &Ring<Numbered>| -> Vec<_> {
        ring.regions().iter().map(|of| mapring_kernel_tests::raw::info(of.as_fd()).id).collect()
    };
    let rings = map(object, "numbers");
    let later = Ring::<Numbered>::open(&rings).unwrap();
    assert_eq!(ids(&first), ids(&later));
    assert_eq!(later.reader().drain().count(), 5);
    assert!(later.replaced().unwrap().is_none());
    // A reader by system call finds the same.
    let by_calls = std::iter::zip(possible_cpus().unwrap(), later.regions()).map(|(cpu, of)| {
        let id = mapring_kernel_tests::raw::info(of.as_fd()).id;
        let handle = libbpf_rs::MapHandle::from_map_id(id).unwrap();
        (cpu, Region::open(read_only(&handle)).unwrap())
    });
    let by_calls = Ring::<Numbered>::from_regions(by_calls).unwrap();
    assert_eq!(by_calls.access(), Access::Syscall(Refusal::ReadOnlyFd));
    assert_eq!(by_calls.reader().drain().count(), 5);
}

#[test]
fn what_is_no_ring_for_nodes_is_named() {
    require_bpf!();
    if cpus().last() > Some(&0) {
        let object = &bpf::NUMA.load(unfitted);
        let error = Ring::<Numbered>::open(&map(object, "numbers")).unwrap_err();
        assert!(error.kind() == ErrorKind::NotFitted, "{error}");
        assert!(error.to_string().contains("call mapring::loader::prepare before"), "{error}");
    }
    // Too many: the message contains the expected number.
    let object = &bpf::NUMA.load(|object| {
        fitted(object);
        let mut outer = object.maps_mut().find(|map| map.name() == "numbers").unwrap();
        outer.set_max_entries(u32::try_from(cpus().last().unwrap() + 3).unwrap()).unwrap();
    });
    let error = Ring::<Numbered>::open(&map(object, "numbers")).unwrap_err().to_string();
    let last = cpus().last().unwrap();
    let said =
        format!("has {} shards, expected {}, one for each possible CPU (0 to {last})", last + 3, last + 1);
    assert!(error.contains(&said), "{error}");
    let object = &bpf::NUMA.load(fitted);
    let error = Region::open(&map(object, "numbers")).unwrap_err();
    let said = "is a map of type array_of_maps, expected array or percpu_array; open a resizable ring or a PER_CPU_MAPS ring with \
                Ring::open, and an entry with Source::inner";
    assert!(error.kind() == ErrorKind::WrongType && error.to_string().ends_with(said), "{error}");
    let error = Ring::<[u32; 3]>::open(&map(object, "numbers")).unwrap_err();
    assert!(error.kind() == ErrorKind::Layout && error.to_string().contains(" in C, and "), "{error}");
    let error = open(object).resize(64).unwrap_err();
    assert!(error.kind() == ErrorKind::NotResizable, "{error}");
    let resizable = &bpf::RESIZABLE.load(fitted);
    let error = open(resizable).reader_of_node(0, Start::Now).unwrap_err();
    assert!(error.to_string().contains("MAPRING_RING with PER_CPU_MAPS makes them"), "{error}");
    let error =
        Ring::<u64>::from_regions([(0, Ring::<u64>::create_memfd(8, 2).unwrap().region())]).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType, "{error}");
    assert!(
        error.to_string().contains(" can't be the ring of CPU 0: it is a ring for all CPUs, "),
        "{error}"
    );
    let error = open(object).freeze_and_pin("/proc/numbers", 0o600).unwrap_err();
    assert!(
        error.kind() == ErrorKind::CannotSeal && error.to_string().contains("BPF file system"),
        "{error}"
    );
}
