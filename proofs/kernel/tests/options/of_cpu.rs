//! Rings with a map for each CPU: the CPUs that have a shard, and readers of some shards.

use super::*;

/// Not every kernel has batches for maps of maps.
#[test]
fn cpus_drop_their_records_until_the_loader_makes_them_a_shard() {
    require_bpf!();
    let object = &bpf::OPTIONS.load_only(by_hand);
    get_shards(object, || initialize_object(object).unwrap());
    let object = &bpf::OPTIONS_PORTABLE.load_only(by_hand);
    get_shards(object, || without_batches(|| initialize_object(object).unwrap()));
}

fn get_shards(object: &Object, initialize: impl FnOnce()) {
    let rings = RINGS.into_iter().filter(|(_, declared)| declared.contains("PER_CPU_MAPS"));
    let rings: Vec<_> = rings.map(|(name, _)| Subject::new(object, name)).collect();
    let mut early = 0;
    for &cpu in cpus() {
        on_cpu(cpu);
        // The first CPU's shard is there, no other.
        let pushed = if cpu == 0 { 3 } else { 0 };
        rings.iter().for_each(|ring| assert_eq!(ring.push(0, 3), pushed, "{}: CPU {cpu}", ring.name));
        early += 3 - pushed;
    }
    for ring in &rings {
        says(Ring::<Rec>::open(&map(object, ring.name)).unwrap_err(), &["loader::initialize"]);
    }
    initialize();
    rings.iter().for_each(|ring| has_shards(ring, early));
}

fn has_shards(ring: &Subject<'_>, early: u64) {
    let (handle, possible) = (ring.open(), possible_cpus().unwrap());
    assert!(handle.replaced().unwrap().is_none(), "{}: what is there is what was made", ring.name);
    assert_eq!((handle.access(), handle.shards()), (Access::Mapped, possible.len()), "{}", ring.name);
    let shape = |of: &Region| (of.geometry().shards(), of.geometry().capacity() as u64);
    assert!(handle.regions().iter().all(|of| shape(of) == (1, SLOTS)), "{}", ring.name);
    let mut expected = Vec::new();
    for &cpu in cpus() {
        on_cpu(cpu);
        assert_eq!(ring.push(3, 16), 16, "{}", ring.name);
        expected.extend((if cpu == 0 { 0..19 } else { 3..19 }).map(|n| (cpu, n)));
    }
    let all = |mut reader: Reader<Rec>| {
        let mut found = read(&mut reader);
        found.sort_unstable();
        assert_eq!(found, expected, "{}", ring.name);
        assert_eq!((reader.lost(), reader.stats().dropped()), (0, early), "{}", ring.name);
    };
    all(handle.reader());
    // The readers of all nodes together get the same records.
    let nodes = online_nodes().unwrap();
    let of = |node: &usize| handle.reader_of_node(*node, Start::Oldest).unwrap();
    let mut of_nodes: Vec<_> = nodes.iter().map(of).collect();
    let count: usize = of_nodes.iter_mut().map(|reader| read(reader).len()).sum();
    let shards: usize = of_nodes.iter().map(|reader| reader.shards().count()).sum();
    assert_eq!((count, shards), (expected.len(), possible.len()), "{}", ring.name);
    let beyond = nodes.last().unwrap() + 1;
    let refused = handle.reader_of_node(beyond, Start::Now).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("no NUMA node {beyond}: ")), "{refused}");
    // A loader that comes later finds the same maps, and so does a reader by system call.
    let ids = |of: &Ring<Rec>| of.regions().iter().map(|of| raw::info(of.as_fd()).id).collect::<Vec<_>>();
    assert_eq!(ids(&ring.open()), ids(&handle), "{}", ring.name);
    if !handle.options().has_tails() {
        let by_call = |id| Region::open(read_only(&MapHandle::from_map_id(id).unwrap())).unwrap();
        let regions = possible.into_iter().zip(ids(&handle)).map(|(cpu, id)| (cpu, by_call(id)));
        let by_calls = Ring::<Rec>::from_regions(regions).unwrap();
        assert_eq!(by_calls.access(), Access::Syscall(Refusal::ReadOnlyFd), "{}", ring.name);
        all(by_calls.reader());
    }
}

/// As a reader of one NUMA node: it has nothing to do with what the other CPUs write.
#[test]
fn a_reader_of_some_shards_neither_wakes_for_others_nor_holds_them_back() {
    require_bpf!();
    for_each_ring(|ring, options| {
        if options.has_per_cpu_maps() && options.wakes_readers() {
            of_first_cpu(ring, options);
        }
    });
}

fn of_first_cpu(ring: &Subject<'_>, options: RingOptions) {
    let &[first, ref others @ ..] = cpus() else { return };
    let all = ring.open();
    let mut reader = Ring::from_regions([(first, all.region())]).unwrap().reader();
    let mut bell = reader.bell().unwrap().try_clone_to_owned().unwrap();
    assert!(reader.arm().is_some(), "{}: nothing is there", ring.name);
    let rings = |bell: &mut OwnedFd| poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&NOW)).unwrap();
    for &cpu in others {
        on_cpu(cpu);
        assert_eq!((ring.push(0, 3), rings(&mut bell)), (3, 0), "{}: of CPU {cpu}", ring.name);
    }
    on_cpu(first);
    assert_eq!((ring.push(0, 3), rings(&mut bell)), (3, 1), "{}", ring.name);
    assert_eq!(read(&mut reader).len(), 3);
    if options.keeps_oldest() {
        reader.require(FOREVER).unwrap();
        for &cpu in others {
            on_cpu(cpu);
            assert_eq!(ring.push(0, 200), 200, "{}: of CPU {cpu}", ring.name);
        }
        on_cpu(first);
        assert!(ring.push(0, 200) < 200, "{}", ring.name);
    }
}
