//! Records of many sizes between programs and userspace, in every kind of map and every way to read it. Each byte is
//! checked, including the tail.

use mapring::Array;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::RawMap;

/// `BYTE` in `bpf/copies.bpf.c`: every byte differs in the next value.
fn value<const N: usize>(n: u64) -> [u8; N] {
    std::array::from_fn(|i| (n * 89 + i as u64 * 7 + (i as u64 >> 5) + 1).to_le_bytes()[0])
}

fn run(object: &Object, name: &str, cpu: u64, n: u64) -> u64 {
    let mut args = [cpu, 0, n, 0];
    Runner::new(object, name).run(&mut args);
    args[3]
}

/// Whether the programs can be loaded. Prints a skip if not.
fn can_be_loaded(test: &str) -> bool {
    let can = kernel() >= (6, 12);
    if !can {
        skipped(
            test,
            "the verifier gives up on programs that fill 4095 bytes one by one: seen on 6.1, not on 6.12",
        );
    }
    can
}

/// A map, opened for writing if it can be mapped, and the same read by system call.
fn opened<T>(object: &Object, name: &str, open: impl Fn(Region) -> T) -> [T; 2] {
    let map = map(object, name);
    Region::open(&map).unwrap();
    let writable = OpenOptions::new().write(true).open(map.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let looked_up = Region::open(read_only(&map)).unwrap();
    assert_eq!(writable.access(), Access::Mapped);
    assert!(matches!(looked_up.access(), Access::Syscall(_)));
    [open(writable), open(looked_up)]
}

/// Every reader gets the values that programs write.
fn up<const N: usize>(object: &Object) {
    let rings = opened(object, &format!("ring_{N}"), |region| Ring::<[u8; N]>::from_region(region).unwrap());
    let cells =
        opened(object, &format!("cells_{N}"), |region| Cells::<[u8; N]>::from_region(region).unwrap());
    let percpu = PerCpuCells::<[u8; N]>::open(&map(object, &format!("percpu_{N}"))).unwrap();
    let globals = globals(object).map(|globals| globals.cell::<[u8; N]>(&format!("cell_{N}")).unwrap());
    let cpu = on_one_cpu();
    let mut readers = rings.each_ref().map(|ring| [ring.reader(), ring.reader(), ring.reader()]);
    for n in 1..25 {
        let does = if n % 2 == 0 && N <= 1000 { "copy" } else { "write" };
        assert_eq!(run(object, &format!("{does}_{N}"), 0, n), 15, "{does} {N} bytes");
        let right = value::<N>(n);
        for [polled, drained, each] in &mut readers {
            let mut found = Vec::new();
            each.for_each(usize::MAX, |event| found.push(*event.record));
            assert!(found == [right], "{N} bytes, {does}, for_each");
            assert!(drained.drain().map(|event| event.record).eq([right]), "{N} bytes, {does}, drain");
            let found = (0..100).find_map(|_| polled.poll().map(|event| event.record));
            assert!(found == Some(right), "{N} bytes, {does}, poll");
        }
        for cells in &cells {
            assert!(cells.read(1).unwrap() == right, "{N} bytes, {does}, {}", cells.access());
            let mut found = Vec::new();
            assert_eq!(cells.for_each(|_, snapshot| found.push(snapshot.value)).unwrap(), 0);
            assert!(found == [[0; N], right, [0; N]], "{N} bytes, {does}, {}", cells.access());
        }
        assert!(percpu.read(cpu, 1).unwrap() == right, "{N} bytes, {does}, per CPU");
        let all = percpu.snapshots(1).unwrap();
        assert!(all.iter().any(|found| found.value == right), "{N} bytes, {does}, all CPUs");
        let mut found = Vec::new();
        percpu
            .for_each(|index, at, snapshot| found.extend((index == 1 && at == cpu).then_some(snapshot.value)))
            .unwrap();
        assert!(found == [right], "{N} bytes, {does}, per CPU, for_each");
        for cell in &globals {
            assert!(cell.read().unwrap() == right, "{N} bytes, {does}, {cell:?}");
        }
        if N <= 1000 && kernel() >= (5, 19) {
            assert_eq!(run(object, &format!("there_{N}"), cpu as u64, n), 1, "{N} bytes, by a program");
        }
    }
    // In a zeroed record only the last byte is written; the slot's old content is gone.
    let mut zeroed = [0; N];
    zeroed[N - 1] = 77;
    for _ in 0..8 {
        assert_eq!(run(object, &format!("zeroed_{N}"), 0, 77), 1, "{N} bytes");
        for [polled, drained, each] in &mut readers {
            assert!(drained.drain().map(|event| event.record).eq([zeroed]), "{N} bytes, zeroed");
            assert_eq!((polled.drain().count(), each.drain().count()), (1, 1));
        }
    }
    // The same for values that Rust writes into the maps.
    let set = cells[0].writer().unwrap();
    let right = value::<N>(99);
    assert!(set.set(1, &right).unwrap() && globals[0].set(&right).unwrap());
    assert!(cells.iter().all(|cells| cells.read(1).unwrap() == right), "{N} bytes");
    assert!(globals.iter().all(|cell| cell.read().unwrap() == right), "{N} bytes");
    let between_processes = Ring::<[u8; N]>::create_memfd(4, 1).unwrap();
    let mut reader = between_processes.reader();
    between_processes.writer(0).unwrap().push(&right).unwrap();
    assert!(reader.drain().map(|event| event.record).eq([right]), "{N} bytes");
}

/// `.bss`, mapped for writing and read by system call.
fn globals(object: &Object) -> [Globals; 2] {
    let bss = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).unwrap();
    let all = [
        Globals::open_with(&bss, OpenOptions::new().write(true)).unwrap(),
        Globals::open(read_only(&bss)).unwrap(),
    ];
    assert!(all[0].access() == Access::Mapped && all[1].access() != Access::Mapped);
    all
}

/// Programs and other readers get the values that userspace writes.
fn down<const N: usize>(object: &Object) {
    let latches =
        opened(object, &format!("latches_{N}"), |region| Latches::<[u8; N]>::from_region(region).unwrap());
    let globals = globals(object).map(|globals| globals.latch::<[u8; N]>(&format!("latch_{N}")).unwrap());
    let writer = latches[0].writer().unwrap();
    // A table that is written by system call, since it can't be mapped.
    let geometry = Geometry::new(Kind::Latches, N as u64, 3, 1).unwrap();
    let by_call =
        Latches::<[u8; N]>::open_with(raw::region(geometry, "value", 0), OpenOptions::new().write(true))
            .unwrap();
    let calls = by_call.writer().unwrap();
    for n in 1..6 {
        let right = value::<N>(n);
        writer.set(1, &right).unwrap();
        calls.set_many(1, &[right, value(n + 1)]).unwrap();
        assert!(globals[0].set(&right).unwrap());
        for latches in latches.iter().chain([&by_call]) {
            assert!(latches.read(1).unwrap() == right, "{N} bytes, {}", latches.access());
        }
        assert!(by_call.read(2).unwrap() == value(n + 1), "{N} bytes");
        assert!(globals.iter().all(|latch| latch.read().unwrap() == right), "{N} bytes");
        if N <= 1000 {
            assert_eq!(run(object, &format!("read_{N}"), 0, n), 3, "{N} bytes, by a program");
        }
    }
}

/// Plain values, without protocol and preamble, and without padding in the kernel's value size.
fn plain<const N: usize>(_: &Object) {
    let words = N.div_ceil(8);
    let copies = possible_cpus().unwrap().len();
    for (ty, flags) in [(MapType::Array, BPF_F_MMAPABLE), (MapType::Array, 0), (MapType::PercpuArray, 0)] {
        let shape = RawMap { ty, ..RawMap::array(u32::try_from(N).unwrap(), 3, flags) };
        let map = shape.make().unwrap();
        let copies = if ty == MapType::Array { 1 } else { copies };
        for (n, index) in [(1, 0), (2, 1), (3, 2), (4, 1)] {
            // One copy per CPU, each with a different first word.
            let mut image = vec![0_u64; words * copies];
            for (cpu, copy) in (0..).zip(image.chunks_mut(words)) {
                bytemuck::cast_slice_mut::<u64, u8>(copy)[..N].copy_from_slice(&value::<N>(n + 10 * cpu));
            }
            raw::update(&map, index, &image).unwrap();
        }
        let array = Array::<[u8; N]>::open(map).unwrap();
        assert_eq!(array.access() == Access::Mapped, flags == BPF_F_MMAPABLE);
        for (index, n) in [(0, 1), (1, 4), (2, 3)] {
            assert!(array.get(index).unwrap() == value(n), "{N} bytes, {}", array.access());
            let all: Vec<_> = (0..copies as u64).map(|cpu| value::<N>(n + 10 * cpu)).collect();
            assert!(array.each(index).unwrap() == all, "{N} bytes, {}", array.access());
        }
    }
}

macro_rules! sizes {
    ($test:literal, $check:ident) => {
        require_bpf!();
        if !can_be_loaded($test) {
            return;
        }
        let object = &bpf::COPIES.load(fitted);
        $check::<1>(object);
        $check::<7>(object);
        $check::<24>(object);
        $check::<56>(object);
        $check::<57>(object);
        $check::<1000>(object);
        $check::<4095>(object);
    };
}

#[test]
fn every_byte_that_programs_write() {
    sizes!("every_byte_that_programs_write", up);
}

#[test]
fn every_byte_that_programs_read() {
    sizes!("every_byte_that_programs_read", down);
}

#[test]
fn every_byte_of_plain_values() {
    sizes!("every_byte_of_plain_values", plain);
}
