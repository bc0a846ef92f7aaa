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
    let mut readers = [ring.reader(), ring.reader(), ring.reader()];
    let mut expected = BTreeSet::new();
    for &cpu in cpus() {
        on_cpu(cpu);
        assert_eq!(push(&program, cpu as u64, 0, 16), 0);
        let before = if cpu == 0 { 3 } else { 0 };
        expected.extend((0..before).map(|number| (cpu, number, number)));
        expected.extend((0..16).map(|number| (cpu, before + number, number)));
    }
    everywhere();
    let [polls, drains, calls] = &mut readers;
    let found = |shard: usize, ticket: u64, record: &Numbered| {
        assert!(record.is_whole() && record.writer == shard as u64, "{shard}: {record:?}");
        (shard, ticket, record.number)
    };
    let mut all = [const { Vec::new() }; 3];
    all[0].extend(std::iter::from_fn(|| {
        polls.poll().map(|event| found(event.shard, event.ticket, &event.record))
    }));
    all[1].extend(drains.drain().map(|event| found(event.shard, event.ticket, &event.record)));
    // A few at a time.
    while calls.for_each(5, |event| all[2].push(found(event.shard, event.ticket, event.record))) > 0 {}
    for all in all {
        assert_eq!(
            (all.len(), all.iter().copied().collect()),
            (expected.len(), expected.clone()),
            "each once"
        );
        for cpu in cpus() {
            assert!(all.iter().filter(|(of, ..)| of == cpu).is_sorted(), "in order");
        }
    }
    for reader in &mut readers {
        assert_eq!((reader.lost(), reader.stats().dropped()), (0, early));
        assert_eq!(reader.stats().delivered, expected.len() as u64);
        assert!(reader.poll().is_none() && reader.drain().next().is_none() && reader.take_error().is_none());
    }
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
fn busy_cpus_leave_the_others_their_turn() {
    let object = &require_bpf!(NUMA);
    let (ring, program) = (open(object), Runner::new(object, "push_run"));
    let mut reader = ring.reader();
    for &cpu in cpus() {
        on_cpu(cpu);
        (0..4).for_each(|run| assert_eq!(push(&program, cpu as u64, run * 16, 16), 0));
    }
    // One CPU keeps writing; polling still reaches the others.
    let (&busy, others) = cpus().split_first().unwrap();
    on_cpu(busy);
    let (mut next, mut from) = (64, BTreeSet::new());
    for _ in 0..64 * cpus().len() + 64 {
        from.extend(reader.poll().map(|event| event.shard));
        assert_eq!(push(&program, busy as u64, next, 1), 0);
        next += 1;
    }
    everywhere();
    assert!(others.iter().all(|cpu| from.contains(cpu)), "{from:?}");
}

/// Claims step over slots that are never given back, on the slow path.
#[test]
fn shards_with_slots_that_are_never_ended() {
    let object = &require_bpf!(NUMA);
    let ring = open(object);
    let [program, abandon] = ["push_run", "abandon"].map(|name| Runner::new(object, name));
    let mut reader = ring.reader().with_patience(Duration::ZERO);
    let cpu = *cpus().last().unwrap();
    on_cpu(cpu);
    assert_eq!(push(&program, 1, 0, 3), 0);
    assert_eq!(push(&abandon, 0, 0, 0) + push(&abandon, 0, 0, 0), 0);
    let mut found = Vec::new();
    for run in 0..20 {
        assert_eq!(push(&program, 1, 3 + 16 * run, 16), 0);
        (0..20).for_each(|_| found.extend(reader.drain().map(|event| event.record.number)));
    }
    everywhere();
    assert_eq!(found, (0..323).collect::<Vec<_>>());
    // Two records of the first lap; the slots of these in five more laps.
    let stats = reader.stats();
    assert_eq!((stats.delivered, stats.lost(), stats.stepped_over), (323, 2, 2 * 5), "{stats:?}");
}

#[test]
fn what_is_missing_from_each_cpu_is_counted() {
    require_bpf!();
    under_load(&bpf::NUMA.load(watching_us));
    under_load(&bpf::NUMA_PORTABLE.load(watching_us));
}

/// Tasks that may sleep, system calls and a clock's interrupts write at full speed; one reader reads all CPUs, and one
/// each node.
fn under_load(object: &Object) {
    let ring = open(object);
    let mut readers = vec![ring.reader()];
    readers.extend(
        online_nodes().unwrap().iter().map(|node| ring.reader_of_node(*node, Start::Oldest).unwrap()),
    );
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let at_end = Stop(&stopped);
        let readers = readers.into_iter().map(|reader| scope.spawn(|| read(reader, &stopped)));
        let readers: Vec<_> = readers.collect();
        let published = written_by_all(object, || std::thread::sleep(Duration::from_millis(200)));
        drop(at_end);
        let mut readers = readers.into_iter().map(|reader| reader.join().unwrap());
        let (of_all, seen) = readers.next().unwrap();
        seen.check(published, of_all.stats());
        let (mut sum, mut all) = (ReadStats::default(), Seen::default());
        readers.for_each(|(reader, seen)| {
            sum += reader.stats();
            all.merge(&seen);
        });
        all.check(published, sum);
    });
}

/// Reads to the end, and returns the records.
fn read(mut reader: Reader<Numbered>, stopped: &AtomicBool) -> (Reader<Numbered>, Seen) {
    let (mut seen, mut empty) = (Seen::default(), 0);
    loop {
        let last = stopped.load(Ordering::Acquire);
        let nothing = reader.for_each(usize::MAX, |event| seen.add(event.record)) == 0 && last;
        empty = if nothing { empty + 1 } else { 0 };
        if empty == EMPTY {
            return (reader, seen);
        }
    }
}

#[test]
fn packets_of_every_cpu() {
    require_bpf!();
    let object = &bpf::NUMA.load(|object| {
        let packets_alone = object.progs_mut().filter(|program| program.name() != "on_packet");
        packets_alone.for_each(|mut program| program.set_autoload(false));
        fitted(object);
    });
    let ring = open(object);
    let mut reader = ring.reader();
    for run in 0..40 {
        for &cpu in cpus() {
            on_cpu(cpu);
            send(program(object, "on_packet").as_fd(), &[0; 64], 10);
        }
        let found: Vec<_> = reader.drain().map(|event| (event.shard, event.ticket, event.record)).collect();
        let each = |&cpu: &usize| (run * 10..run * 10 + 10).map(move |n| (cpu, n));
        let expected: BTreeSet<_> = cpus().iter().flat_map(each).collect();
        assert!(found.iter().all(|(cpu, n, record)| *record == Numbered::new(*cpu as u64, *n)));
        assert_eq!(found.iter().map(|(cpu, n, _)| (*cpu, *n)).collect::<BTreeSet<_>>(), expected);
    }
    everywhere();
    assert_eq!((reader.lost(), reader.stats().dropped()), (0, 0));
}

/// Starts an unprivileged reader, and a task on each CPU writes until the reader ends. Returns how it reads.
fn nobody_reads(program: &Runner, args: &[&str]) -> String {
    let mut next = 0;
    let (access, _) = written_for(env!("CARGO_BIN_EXE_kernel-tests-numa"), args, || {
        for &cpu in cpus() {
            on_cpu(cpu);
            assert_eq!(push(program, cpu as u64, next, 16), 0);
        }
        next += 16;
    });
    everywhere();
    access
}

#[test]
fn nobody_reads_what_was_sealed() {
    require_bpf!();
    for (mode, how, quiet) in [(0o666, "Mapped", &["quiet"][..]), (0o444, "Syscall(ReadOnlyFd)", &[])] {
        let object = &bpf::NUMA.load(fitted);
        let (ring, pins) = (open(object), PublicPins::new());
        let (dir, program) = (pins.path("numbers"), Runner::new(object, "push_run"));
        ring.freeze_and_pin(&dir, PinOptions::new(mode).allow_unprivileged_bpf(true)).unwrap();
        let args = [&[dir.to_str().unwrap(), "2000"], quiet].concat();
        assert_eq!(nobody_reads(&program, &args), how);
        let denied =
            ring.freeze_and_pin(&dir, PinOptions::new(mode).allow_unprivileged_bpf(true)).unwrap_err();
        assert!(denied.to_string().contains("something is already pinned there"), "{denied}");
        // Only programs write them.
        let write = OpenOptions::new().write(true).open(dir.join("cpu0")).unwrap();
        assert_eq!(write.writable(), Err(Refusal::Frozen));
    }
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
fn shards_that_a_new_loader_pins_are_found_by_readers() {
    require_bpf!();
    let (pins, object) = (PinDir::new(), &bpf::NUMA.load(fitted));
    let dir = pins.path("numbers");
    open(object).freeze_and_pin(&dir, 0o600).unwrap();
    let ring = Ring::<Numbered>::open(&dir).unwrap();
    assert!(ring.replaced().unwrap().is_none());
    let object = &bpf::NUMA.load(fitted);
    fs::remove_dir_all(&dir).unwrap();
    assert!(ring.replaced().unwrap().is_none(), "there is none yet");
    assert!(matches!(Ring::<Numbered>::open(&dir), Err(e) if e.kind() == ErrorKind::Open));
    open(object).freeze_and_pin(&dir, 0o600).unwrap();
    let ring = ring.replaced().unwrap().expect("another one");
    assert_eq!(push(&Runner::new(object, "push_run"), 1, 0, 5), 0);
    assert_eq!(ring.reader().drain().count(), 5);
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
