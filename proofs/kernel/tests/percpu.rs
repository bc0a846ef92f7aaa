//! Per-CPU maps: each CPU's values and counts, read by system call, one and many at a time, of one CPU and of all;
//! whole during concurrent writes.

use mapring::cpus::online_cpus;
use mapring_kernel_tests::prelude::*;

/// Removes the program whose helper kernels before 5.19 lack.
fn without_other_cpus(object: &mut OpenObject) {
    object.progs_mut().find(|program| program.name() == "read_other").unwrap().set_autoload(false);
}

fn step(program: &Runner, op: u64, index: u64, n: u64) -> [u64; 4] {
    let mut args = [op, index, n, 0];
    program.run(&mut args);
    args
}

/// Each CPU writes its own record into cell 1, and all readers find them.
fn shape<const N: usize>(object: &Object) {
    let name = format!("cells_{}", N * 4);
    let cells = PerCpuCells::<Filled<N>>::open(&map(object, &name)).unwrap();
    let write = Runner::new(object, &format!("write_{}", N * 4));
    assert_eq!(cells.access(), Access::Syscall(Refusal::MapType));
    assert_eq!(cells.cpus(), possible_cpus().unwrap());
    for &cpu in cpus() {
        on_cpu(cpu);
        for n in 1..=cpu as u64 + 3 {
            assert_eq!(step(&write, 0, 1, n)[3], 1);
        }
        let n = cpu as u64 + 3;
        let right = Snapshot { version: n, value: words_of(n) };
        assert_eq!((cells.snapshot(cpu, 1).unwrap(), cells.read(cpu, 1).unwrap()), (right, right.value));
    }
    let right = |cpu: usize| match cpus().contains(&cpu) {
        true => Snapshot { version: cpu as u64 + 3, value: words_of(cpu as u64 + 3) },
        false => Snapshot { version: 0, value: [0; N] },
    };
    let all = || {
        let all: Vec<_> = cells.cpus().iter().map(|&cpu| right(cpu)).collect();
        assert_eq!(cells.snapshots(1).unwrap(), all);
        let mut seen = Vec::new();
        assert_eq!(cells.for_each(|index, cpu, snapshot| seen.push((index, cpu, snapshot))).unwrap(), 0);
        assert_eq!(seen.len(), cells.len() * cells.cpus().len());
        for (at, (index, cpu, snapshot)) in seen.into_iter().enumerate() {
            assert_eq!((index, cpu), (at / all.len(), cells.cpus()[at % all.len()]), "{name}");
            let never = Snapshot { version: 0, value: [0; N] };
            assert_eq!(snapshot, if index == 1 { right(cpu) } else { never }, "{name} {index}");
        }
    };
    all();
    without_batches(all);
    // A writer that never ends blocks only its CPU, and later writers there are counted.
    let stuck = cpus()[0];
    on_cpu(stuck);
    assert_eq!(step(&write, 1, 2, 9)[3], 1);
    assert_eq!((step(&write, 0, 2, 9)[3], step(&write, 0, u64::from(u32::MAX), 9)[3]), (0, 0));
    assert!(matches!(cells.read(stuck, 2), Err(ReadError::Busy { tries: 128 })));
    assert!(matches!(cells.snapshots(2), Err(ReadError::Busy { .. })));
    assert_eq!(cells.for_each(|_, _, _| ()).unwrap(), 1);
    assert_eq!(cells.region().dropped().unwrap(), 2, "counted on one CPU, in its own preamble");
    if let Some(&other) = cpus().get(1) {
        assert_eq!(cells.snapshot(other, 2).unwrap().version, 0);
        on_cpu(other);
        assert_eq!((step(&write, 0, 2, 9)[3], cells.snapshot(other, 2).unwrap().version), (1, 1));
        assert_eq!(step(&write, 0, 3, 9)[3], u64::from(cells.len() > 3));
    }
    assert!(matches!(cells.read(0, cells.len()), Err(ReadError::Index { thing: "cell", .. })));
    assert!(matches!(cells.read(1 << 20, 0), Err(ReadError::Index { thing: "CPU", .. })));
}

#[test]
fn cells_of_every_cpu() {
    require_bpf!();
    let object = &bpf::PERCPU.load(without_other_cpus);
    shape::<1>(object);
    shape::<3>(object);
    shape::<14>(object);
    shape::<1024>(object);

    let one = PerCpuCells::<Filled<14>>::open(&map(object, "copied")).unwrap();
    on_cpu(cpus()[0]);
    assert_eq!(step(&Runner::new(object, "copy"), 0, 0, 7)[3], 1);
    assert_eq!(one.read(cpus()[0], 0).unwrap(), words_of(7));
    let online = online_cpus().unwrap();
    assert!(cpus().iter().all(|cpu| online.contains(cpu)), "what runs is online");
    // The result of probing matches the kernel's version.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(one.one_cpu_lookups(), version >= (6, 19), "Linux {release}");
    eprintln!(
        "possible {:?}, online {online:?}, one CPU's value by one lookup: {}",
        one.cpus(),
        if one.one_cpu_lookups() { "yes" } else { "no (needs Linux 7.0), all CPUs' instead" }
    );
}

/// A writer at full speed, a reader by lookups: no value is torn, no version decreases, and the reader really met the
/// writer in the middle of a write.
#[test]
fn nothing_is_torn_while_it_is_written() {
    require_bpf!();
    let object = &bpf::PERCPU.load(without_other_cpus);
    let cells = PerCpuCells::<Filled<14>>::open(&map(object, "cells_56")).unwrap();
    let stream = Runner::new(object, "stream");
    let (stop, cpu) = (AtomicBool::new(false), *cpus().last().unwrap());
    let written = AtomicU64::new(0);
    let (mut changes, mut busy, mut batches, mut version) = (0, 0, 0, 0);
    std::thread::scope(|scope| {
        let stop_at_end = Stop(&stop);
        scope.spawn(|| {
            on_cpu(cpu);
            while !stop.load(Ordering::Relaxed) {
                let n = written.load(Ordering::Relaxed);
                written.fetch_add(step(&stream, 0, 64, n)[3], Ordering::Relaxed);
            }
        });
        while changes < 200 || busy == 0 || batches < 50 {
            let mut seen = Vec::new();
            match cells.snapshot(cpu, 1) {
                Ok(snapshot) => seen.push(snapshot),
                Err(ReadError::Busy { .. }) => busy += 1,
                Err(e) => panic!("{e}"),
            }
            let batch = cells.for_each(|index, at, snapshot| {
                if (index, at) == (1, cpu) {
                    seen.push(snapshot);
                    batches += 1;
                }
            });
            busy += batch.unwrap();
            for snapshot in seen {
                assert!(snapshot.version >= version);
                assert!(snapshot.version == 0 || snapshot.value == words_of(snapshot.version - 1));
                changes += u64::from(snapshot.version > version);
                version = snapshot.version;
            }
        }
        drop(stop_at_end);
    });
    let total = written.into_inner();
    assert_eq!(cells.snapshot(cpu, 1).unwrap(), Snapshot { version: total, value: words_of(total - 1) });
    assert_eq!(cells.region().dropped().unwrap(), 0);
    eprintln!("{total} written, {changes} seen, {busy} times in the way");
}

#[test]
fn counters_of_every_cpu() {
    require_bpf!();
    let object = &bpf::PERCPU.load(without_other_cpus);
    let counters = Counters::open(&map(object, "counters_512")).unwrap();
    let one = Counters::open(&map(object, "counters_1")).unwrap();
    assert_eq!((counters.len(), one.len(), counters.access()), (512, 1, Access::Syscall(Refusal::MapType)));
    let count = Runner::new(object, "count");
    for &cpu in cpus() {
        on_cpu(cpu);
        for (index, by) in [(0, 1), (3, 10), (511, 100), (512, 1)] {
            step(&count, 0, index, by + cpu as u64);
        }
    }
    let added = |by: u64| cpus().iter().map(|&cpu| by + cpu as u64).sum::<u64>();
    for &cpu in cpus() {
        let cpu_s = |index| counters.get(cpu, index).unwrap();
        assert_eq!(
            (cpu_s(0), cpu_s(3), cpu_s(511), cpu_s(1)),
            (1 + cpu as u64, 10 + cpu as u64, 100 + cpu as u64, 0)
        );
    }
    assert_eq!((counters.sum(0).unwrap(), counters.sum(511).unwrap()), (added(1), added(100)));
    let mut sums = [0; 600];
    counters.sums(&mut sums).unwrap();
    assert_eq!(
        (sums[3], sums[4], sums.iter().sum::<u64>()),
        (added(10), 0, added(1) + added(10) + added(100))
    );
    let strays = cpus().len() as u64;
    assert_eq!((counters.region().dropped().unwrap(), one.region().dropped().unwrap()), (strays, 3 * strays));
    assert!(matches!(counters.get(0, 512), Err(ReadError::Index { thing: "counter", .. })));
    assert!(matches!(counters.get(counters.shards(), 0), Err(ReadError::Index { thing: "shard", .. })));
    let refused = counters.writer(0).unwrap_err();
    assert!(
        (refused.kind(), refused.refusal()) == (ErrorKind::NotWritable, Some(Refusal::NotAsked)),
        "{refused}"
    );
}

/// The result of `bpf_map_lookup_percpu_elem` for one CPU on another.
#[test]
fn programs_read_other_cpus() {
    require_bpf!();
    let object = &bpf::PERCPU.load(unfitted);
    let read = Runner::new(object, "read_other");
    for &cpu in cpus() {
        on_cpu(cpu);
        step(&Runner::new(object, "write_56"), 0, 5, 40 + cpu as u64);
        step(&Runner::new(object, "count"), 0, 3, 70 + cpu as u64);
    }
    on_cpu(cpus()[0]);
    for &cpu in cpus() {
        let n = 40 + cpu as u64;
        let [_, counter, whole, first] = step(&read, cpu as u64, 5, 0);
        assert_eq!(
            (whole, first, counter),
            (1, u64::from(words_of::<1>(n)[0]), 70 + cpu as u64),
            "of CPU {cpu}"
        );
    }
    // No such CPU, no such cell, and one that is being written.
    assert_eq!(step(&read, 1 << 20, 5, 0)[1..3], [0, 0]);
    assert_eq!(step(&read, cpus()[0] as u64, u64::from(u32::MAX), 0)[2], 0);
    step(&Runner::new(object, "write_56"), 1, 6, 1);
    assert_eq!(step(&read, cpus()[0] as u64, 6, 0)[2], 0);
}

#[test]
fn any_way_in_finds_the_same() {
    require_bpf!();
    let object = &bpf::PERCPU.load(without_other_cpus);
    on_cpu(cpus()[0]);
    step(&Runner::new(object, "write_12"), 0, 0, 1);
    // Root finds the shape by BTF until the loader has written the preamble, on every CPU.
    let early = Region::open(map(object, "cells_12").as_fd().try_clone_to_owned().unwrap()).unwrap();
    let cells = PerCpuCells::<Filled<3>>::open(&map(object, "cells_12")).unwrap();
    assert_eq!(early.geometry(), cells.region().geometry());
    assert_eq!(cells.region().preamble().name, "rec_12");
    let pins = PinDir::new();
    libbpf_rs::MapHandle::try_from(&map(object, "cells_12")).unwrap().pin(pins.path("cells")).unwrap();
    let id = map(object, "cells_12").info().unwrap().info.id;
    for other in [
        PerCpuCells::<Filled<3>>::open(pins.path("cells")).unwrap(),
        PerCpuCells::<Filled<3>>::open(Source::id(id)).unwrap(),
        PerCpuCells::<Filled<3>>::open(read_only(&map(object, "cells_12"))).unwrap(),
    ] {
        assert_eq!(other.region().preamble(), cells.region().preamble());
        assert_eq!(other.read(cpus()[0], 0).unwrap(), words_of(1));
    }
}

#[test]
fn the_wrong_type() {
    require_bpf!();
    let object = &bpf::PERCPU.load(without_other_cpus);
    let cells = Cells::<Filled<14>>::open(&map(object, "cells_56")).unwrap_err();
    says(cells, &["holds cells for each CPU, expected cells"]);
    let size = PerCpuCells::<Filled<3>>::open(&map(object, "cells_56")).unwrap_err();
    says(size, &["rec_56 is 14 times unsigned int", "3 times an integer of 4 bytes in Rust"]);
    let size =
        PerCpuCells::<Filled<3>>::from_region(Region::open(&map(object, "cells_56")).unwrap()).unwrap_err();
    says(size, &["56 bytes (rec_56)", "has 12"]);
    let kind = PerCpuCells::<Filled<3>>::open(&map(object, "counters_1")).unwrap_err();
    says(kind, &["holds counters for each CPU, expected cells for each CPU"]);
    says(Counters::open(&map(object, "cells_56")).unwrap_err(), &["holds cells for each CPU"]);
    // A foreign map, without a preamble and without mapring's types in its BTF.
    let opts = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as u64,
        ..Default::default()
    };
    let plain = libbpf_rs::MapHandle::create(MapType::PercpuArray, Some("plain"), 4, 64, 8, &opts).unwrap();
    says(Region::open(&plain).unwrap_err(), &["no preamble"]);
    // A preamble of a kind that such maps can't have.
    let mut words = cells_preamble(&map(object, "cells_56"));
    words[2] = 2;
    words[5] = 1;
    let value = vec![words[..8].to_vec(), words[8..].to_vec()];
    let copies = possible_cpus().unwrap().len();
    for (index, half) in (0_u32..).zip(value) {
        let bytes: Vec<u8> = half.repeat(copies).into_iter().flat_map(u64::to_ne_bytes).collect();
        let bytes: Vec<_> = bytes.chunks(64).map(<[u8]>::to_vec).collect();
        plain.update_percpu(&index.to_ne_bytes(), &bytes, libbpf_rs::MapFlags::ANY).unwrap();
    }
    says(Region::open(&plain).unwrap_err(), &["type percpu_array, expected array"]);
}

/// The preamble that the loader wrote.
fn cells_preamble(map: &libbpf_rs::Map<'_>) -> [u64; 16] {
    let region = Region::open(map).unwrap();
    region.preamble().encode()
}
