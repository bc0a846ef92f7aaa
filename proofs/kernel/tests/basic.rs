//! Records, values and counts that programs write are read whole and counted: each kind, each way to write, many
//! shapes.

use mapring_kernel_tests::prelude::*;

/// `enum op` in `bpf/basic.bpf.c`.
const FILL: u64 = 0;
const COPY: u64 = 1;
const DISCARD: u64 = 2;
const ABANDON: u64 = 3;
const UPDATE: u64 = 4;

/// Runs a program of `bpf/basic.bpf.c`. Returns the program's result.
fn step(program: &Runner, op: u64, index: u64, n: u64) -> u64 {
    let mut args = [op, index, n, 0];
    program.run(&mut args);
    args[3]
}

/// Tests the object compiled for this machine, and for any machine.
fn both(test: impl Fn(&Object)) {
    test(&bpf::BASIC.load(fitted));
    test(&bpf::BASIC_PORTABLE.load(fitted));
}

/// Writes a little more than two laps of a ring of `slots` slots, with records of `N` 32-bit words.
fn one_shape<const N: usize>(object: &Object, slots: u64) {
    let size = N * 4;
    let ring = Ring::<Filled<N>>::open(&map(object, &format!("ring_{size}_{slots}"))).unwrap();
    let write = Runner::new(object, &format!("write_{size}_{slots}"));
    assert_eq!(ring.access(), Access::Mapped);
    assert_eq!((ring.slots() as u64, ring.region().geometry().record()), (slots, size));
    let cpu = *cpus().last().unwrap();
    on_cpu(cpu);

    let (mut live, mut asleep) = (ring.reader(), ring.reader());
    let total = 2 * slots + 3;
    for n in 0..total {
        assert_eq!(step(&write, FILL, 0, n), 1);
        let event = live.poll().unwrap_or_else(|| panic!("{size} bytes, {slots} slots: no record {n}"));
        assert_eq!(
            (event.shard, event.ticket, event.record),
            (cpu, n, words_of(n)),
            "{size} bytes, {slots} slots"
        );
        assert!(live.poll().is_none());
    }
    assert_eq!((live.stats().delivered, live.lost(), live.position(cpu)), (total, 0, Some(total)));

    let mut late = ring.reader();
    let tickets = |reader: &mut mapring::Reader<Filled<N>>| {
        let mut tickets = Vec::new();
        reader.for_each(usize::MAX, |event| {
            assert_eq!(*event.record, words_of(event.ticket), "{size} bytes, {slots} slots");
            tickets.push(event.ticket);
        });
        tickets
    };
    assert_eq!(tickets(&mut late), (total - slots..total).collect::<Vec<_>>());
    assert_eq!(late.lost(), 0);
    let seen = tickets(&mut asleep);
    assert!(seen.len() as u64 >= slots - slots / 8, "a lapped reader goes on near the oldest: {seen:?}");
    assert_eq!(seen, (total - seen.len() as u64..total).collect::<Vec<_>>());
    assert_eq!(asleep.lost(), total - seen.len() as u64);
    assert!(ring.reader_from(Start::Now).poll().is_none());
    assert_eq!(late.stats().dropped(), 0);
    // By system call: the same.
    let looked_up =
        Ring::<Filled<N>>::open(read_only(&map(object, &format!("ring_{size}_{slots}")))).unwrap();
    assert_eq!(looked_up.access(), Access::Syscall(Refusal::ReadOnlyFd));
    let mut reader = looked_up.reader();
    assert_eq!(tickets(&mut reader), (total - slots..total).collect::<Vec<_>>());
    assert_eq!((reader.lost(), reader.stats().dropped()), (0, 0));
    assert_eq!((0..slots).map(|n| step(&write, ABANDON, 0, n)).sum::<u64>(), slots);
    assert_eq!(step(&write, FILL, 0, 0), 0);
    assert_eq!((reader.stats().dropped(), late.stats().dropped()), (1, 1), "{size} bytes, {slots} slots");
}

#[test]
fn rings_of_every_shape() {
    require_bpf!();
    both(|object| {
        for slots in [1, 2, 4, 64] {
            one_shape::<1>(object, slots);
            one_shape::<2>(object, slots);
            one_shape::<3>(object, slots);
            one_shape::<14>(object, slots);
            one_shape::<16>(object, slots);
            one_shape::<25>(object, slots);
            one_shape::<1024>(object, slots);
        }
    });
}

fn cells_of<const N: usize>(object: &Object) {
    let name = format!("cells_{}", N * 4);
    let looked_up = Cells::<Filled<N>>::open(read_only(&map(object, &name))).unwrap();
    let cells = Cells::<Filled<N>>::open(&map(object, &name)).unwrap();
    let write = Runner::new(object, &format!("cell_{}", N * 4));
    assert_eq!((cells.access(), cells.len()), (Access::Mapped, 3));
    assert_eq!(cells.snapshot(1).unwrap(), Snapshot { version: 0, value: [0; N] });
    for n in 1..=5 {
        assert_eq!(step(&write, FILL, 1, n), 1);
        for cells in [&cells, &looked_up] {
            assert_eq!(cells.snapshot(1).unwrap(), Snapshot { version: n, value: words_of(n) });
        }
    }
    assert_eq!(step(&write, UPDATE, 1, 7), 1);
    assert_eq!(cells.read(1).unwrap(), words_of::<N>(5).map(|word| word.wrapping_add(7)));
    for untouched in [0, 2] {
        assert_eq!(cells.snapshot(untouched).unwrap().version, 0, "{name}");
        assert_eq!(cells.read(untouched).unwrap(), [0; N], "{name}");
    }
    // A writer that never ends: readers get an error, and other writers give up and are counted.
    assert_eq!(step(&write, ABANDON, 2, 9), 1);
    assert!(matches!(cells.read(2), Err(ReadError::Busy { tries: 128 })));
    assert!(matches!(looked_up.read(2), Err(ReadError::Busy { tries: 128 })));
    assert_eq!(cells.try_snapshot(2).unwrap(), None);
    assert_eq!(step(&write, FILL, 2, 10), 0);
    assert_eq!((cells.region().dropped().unwrap(), looked_up.region().dropped().unwrap()), (1, 1));
}

#[test]
fn cells_of_every_size() {
    require_bpf!();
    both(|object| {
        cells_of::<1>(object);
        cells_of::<2>(object);
        cells_of::<3>(object);
        cells_of::<14>(object);
        cells_of::<16>(object);
        cells_of::<25>(object);
        cells_of::<1024>(object);
        let one = Cells::<Filled<14>>::open(&map(object, "one")).unwrap();
        assert_eq!(step(&Runner::new(object, "cell_one"), FILL, 0, 3), 1);
        assert_eq!(one.snapshot(0).unwrap(), Snapshot { version: 1, value: words_of(3) });
    });
}

fn copies_of<const N: usize>(object: &Object) {
    on_one_cpu();
    let size = N * 4;
    let ring = Ring::<Filled<N>>::open(&map(object, &format!("ring_{size}_4"))).unwrap();
    let cells = Cells::<Filled<N>>::open(&map(object, &format!("cells_{size}"))).unwrap();
    let copy = Runner::new(object, &format!("copy_{size}"));
    let mut reader = ring.reader();
    for n in 0..6 {
        assert_eq!(step(&copy, COPY, 0, n), 3, "both return 0");
        assert_eq!(reader.poll().unwrap().record, words_of(n));
        assert_eq!(cells.snapshot(0).unwrap(), Snapshot { version: n + 1, value: words_of(n) });
    }
    // No free slot: both return -1, and both count it.
    let write = Runner::new(object, &format!("write_{size}_4"));
    assert_eq!((0..4).map(|n| step(&write, ABANDON, 0, n)).sum::<u64>(), 4);
    assert_eq!(step(&Runner::new(object, &format!("cell_{size}")), ABANDON, 0, 0), 1);
    assert_eq!(step(&copy, COPY, 0, 7), 0);
    assert_eq!((reader.stats().dropped(), cells.region().dropped().unwrap()), (1, 1));
}

#[test]
fn output_and_set_copy_ready_records() {
    require_bpf!();
    both(|object| {
        copies_of::<1>(object);
        copies_of::<2>(object);
        copies_of::<3>(object);
        copies_of::<14>(object);
        copies_of::<16>(object);
        copies_of::<25>(object);
    });
}

#[test]
fn counters_of_every_size() {
    require_bpf!();
    both(|object| {
        for count in [1, 8, 10, 512_u64] {
            let counters = Counters::open(&map(object, &format!("counters_{count}"))).unwrap();
            let add = Runner::new(object, &format!("count_{count}"));
            let inc = Runner::new(object, &format!("inc_{count}"));
            assert_eq!((counters.access(), counters.len() as u64), (Access::Mapped, count));
            for &cpu in cpus() {
                on_cpu(cpu);
                for index in 0..count {
                    step(&add, FILL, index, (index + 1) * (cpu as u64 + 1));
                    step(&inc, FILL, index, 0);
                }
            }
            let mut sums = vec![0; counters.len()];
            counters.sums(&mut sums).unwrap();
            for (index, &read) in sums.iter().enumerate() {
                let of = |cpu: usize| match cpus().contains(&cpu) {
                    true => (index as u64 + 1) * (cpu as u64 + 1) + 1,
                    false => 0,
                };
                for cpu in 0..counters.shards() {
                    assert_eq!(
                        counters.get(cpu, index).unwrap(),
                        of(cpu),
                        "counter {index} of {count}, CPU {cpu}"
                    );
                }
                let sum: u64 = (0..counters.shards()).map(of).sum();
                assert_eq!((counters.sum(index).unwrap(), read), (sum, sum));
            }
            let looked_up = Counters::open(read_only(&map(object, &format!("counters_{count}")))).unwrap();
            let mut again = vec![0; looked_up.len()];
            looked_up.sums(&mut again).unwrap();
            assert_eq!(again, sums);
            assert_eq!(looked_up.sum(0).unwrap(), sums[0]);
            assert_eq!(
                looked_up.get(0, looked_up.len() - 1).unwrap(),
                counters.get(0, counters.len() - 1).unwrap()
            );
            assert_eq!(counters.region().dropped().unwrap(), 0);
        }
    });
}

#[test]
fn discarded_abandoned_and_stepped_over_tickets_are_told_apart() {
    require_bpf!();
    both(|object| {
        let cpu = on_one_cpu();
        let ring = Ring::<Filled<14>>::open(&map(object, "ring_56_64")).unwrap();
        let write = Runner::new(object, "write_56_64");
        for (n, op) in [FILL, DISCARD, ABANDON, FILL].into_iter().enumerate() {
            assert_eq!(step(&write, op, 0, n as u64), 1);
        }
        let mut reader = ring.reader().with_patience(Duration::ZERO);
        let delivered: Vec<_> = (0..20).filter_map(|_| reader.poll().map(|e| (e.ticket, e.record))).collect();
        assert_eq!(delivered, [(0, words_of(0)), (3, words_of(3))]);
        let stats = reader.stats();
        assert_eq!((stats.delivered, stats.discarded, stats.skipped, stats.lapped), (2, 1, 1, 0));

        // An interrupted writer, and another that steps over its slot: no program had that ticket, so nothing is lost.
        let ring = Ring::<Filled<14>>::open(&map(object, "ring_56_2")).unwrap();
        let mut reader = ring.reader().with_patience(Duration::ZERO);
        assert_eq!(step(&Runner::new(object, "hole"), FILL, 0, 0), 2);
        let delivered: Vec<_> = (0..20).filter_map(|_| reader.poll().map(|e| (e.ticket, e.record))).collect();
        assert_eq!(delivered, [(0, words_of(0)), (3, words_of(3))]);
        let stats = reader.stats();
        assert_eq!((stats.delivered, stats.lapped, stats.lost(), stats.stepped_over), (2, 1, 1, 1));
        assert_eq!(reader.position(cpu), Some(4));

        // All slots abandoned: dropped, and counted.
        let ring = Ring::<Filled<14>>::open(&map(object, "ring_56_1")).unwrap();
        let write = Runner::new(object, "write_56_1");
        assert_eq!(step(&write, ABANDON, 0, 0), 1);
        assert_eq!((step(&write, FILL, 0, 1), step(&write, FILL, 0, 2)), (0, 0));
        let mut reader = ring.reader();
        assert_eq!(reader.stats().dropped(), 2);
        assert!(reader.poll().is_none());
    });
}

#[test]
fn every_way_in_gives_the_same() {
    let object = &require_bpf!(BASIC);
    on_one_cpu();
    let pins = PinDir::new();
    let maps = [map(object, "ring_56_64"), map(object, "cells_56"), map(object, "counters_10")];
    // The loader's own function writes the preambles.
    let ring = Ring::<Filled<14>>::open(&map(object, "ring_56_64")).unwrap();
    let cells = Cells::<Filled<14>>::open(&map(object, "cells_56")).unwrap();
    let counters = Counters::open(&map(object, "counters_10")).unwrap();
    for n in 0..70 {
        step(&Runner::new(object, "write_56_64"), FILL, 0, n);
        step(&Runner::new(object, "cell_56"), FILL, n % 3, n);
        step(&Runner::new(object, "count_10"), FILL, n % 10, n);
    }
    let ids = maps.each_ref().map(|map| map.info().unwrap().info.id);
    let paths = ["ring", "cells", "counters"].map(|kind| pins.path(kind));
    for (map, path) in maps.iter().zip(&paths) {
        MapHandle::try_from(map).unwrap().pin(path).unwrap();
    }
    let [ring_fd, cells_fd, counters_fd] =
        maps.each_ref().map(|map| map.as_fd().try_clone_to_owned().unwrap());

    let expected: Vec<_> = ring.reader().drain().collect();
    assert_eq!(expected.len(), 64);
    for other in [
        Ring::open(paths[0].as_path()).unwrap(),
        Ring::open(Source::id(ids[0])).unwrap(),
        Ring::open(ring_fd).unwrap(),
        Ring::open(&MapHandle::from_map_id(ids[0]).unwrap()).unwrap(),
    ] {
        assert_eq!((other.access(), other.region().writable()), (Access::Mapped, Err(Refusal::NotAsked)));
        assert_eq!(other.region().preamble(), ring.region().preamble());
        assert_eq!(other.reader().drain().collect::<Vec<_>>(), expected);
    }
    let expected: Vec<_> = (0..3).map(|i| cells.snapshot(i).unwrap()).collect();
    assert_eq!(expected[0], Snapshot { version: 24, value: words_of(69) });
    for other in [
        Cells::<Filled<14>>::open(paths[1].as_path()).unwrap(),
        Cells::open(Source::id(ids[1])).unwrap(),
        Cells::open(cells_fd).unwrap(),
    ] {
        assert_eq!((0..3).map(|i| other.snapshot(i).unwrap()).collect::<Vec<_>>(), expected);
    }
    let expected: Vec<_> = (0..10).map(|i| counters.sum(i).unwrap()).collect();
    assert_eq!(expected[4], 4 + 14 + 24 + 34 + 44 + 54 + 64);
    for other in [
        Counters::open(paths[2].as_path()).unwrap(),
        Counters::open(Source::id(ids[2])).unwrap(),
        Counters::open(counters_fd).unwrap(),
    ] {
        assert_eq!((0..10).map(|i| other.sum(i).unwrap()).collect::<Vec<_>>(), expected);
    }
    second_process(&ring, &cells, &counters, &paths.map(|path| path.display().to_string()));
}

/// A second process reads the same through the pins.
fn second_process(
    ring: &Ring<Filled<14>>,
    cells: &Cells<Filled<14>>,
    counters: &Counters,
    pins: &[String; 3],
) {
    let output = |kind: &str, pin: &str| child(env!("CARGO_BIN_EXE_kernel-tests-child"), &[kind, pin]);
    let head = |region: &mapring::Region| format!("Mapped {:?}\n", region.preamble());

    let mut reader = ring.reader();
    let mut expected = head(&ring.region());
    for event in reader.drain() {
        expected += &format!("{} {} {:x?}\n", event.shard, event.ticket, event.record);
    }
    expected += &format!("{:?} dropped 0\n", reader.stats());
    assert_eq!(output("ring", &pins[0]), expected);
    let lines = (0..3).map(|i| format!("{:x?}\n", cells.snapshot(i).unwrap())).collect::<String>();
    assert_eq!(output("cells", &pins[1]), head(cells.region()) + &lines);
    let lines = (0..10).map(|i| format!("{}\n", counters.sum(i).unwrap())).collect::<String>();
    assert_eq!(output("counters", &pins[2]), head(counters.region()) + &lines);
}
