//! Latches: programs read userspace's values, and userspace reads the programs' values; in every size, and after a
//! writer that died halfway.

use mapring_kernel_tests::prelude::*;

/// The result of a program that read a latch: `done` in `bpf/latches.bpf.c`.
const NO: u64 = 0;
const OTHER: u64 = 1;
const WHOLE: u64 = 2;

fn step(program: &Runner, index: u64, n: u64) -> u64 {
    let mut args = [0, index, n, 0];
    program.run(&mut args);
    args[3]
}

fn both(test: impl Fn(&Object)) {
    test(&bpf::LATCHES.load(fitted));
    test(&bpf::LATCHES_PORTABLE.load(fitted));
}

/// The latches of values of `N` words: for writing, and by system call.
fn open<const N: usize>(object: &Object) -> [Latches<Filled<N>>; 2] {
    let map = map(object, &format!("latches_{}", N * 4));
    mapring::Region::open(&map).unwrap();
    let fd = map.as_fd().try_clone_to_owned().unwrap();
    let latches = Latches::from_region(OpenOptions::new().write(true).open(fd).unwrap()).unwrap();
    let looked_up = Latches::open(read_only(&map)).unwrap();
    assert_eq!((latches.access(), latches.len()), (Access::Mapped, 3));
    assert_eq!(looked_up.access(), Access::Syscall(Refusal::ReadOnlyFd));
    [latches, looked_up]
}

fn latches_of<const N: usize>(object: &Object) {
    let latches = open::<N>(object);
    let writer = latches[0].writer().unwrap();
    let [read, write] = ["read", "write"].map(|does| Runner::new(object, &format!("{does}_{}", N * 4)));
    assert_eq!(latches[0].snapshot(1).unwrap(), Snapshot { version: 0, value: [0; N] });
    assert_eq!(step(&read, 1, 7), OTHER, "never written: zeros");

    // Userspace's and the program's writes in turn: each continues from the other's version.
    for version in 1..=6 {
        let n = version * 10;
        if version % 3 == 0 {
            assert_eq!(step(&write, 1, n), 1);
        } else {
            writer.set(1, &words_of(n)).unwrap();
        }
        assert_eq!((step(&read, 1, n), step(&read, 1, n + 1)), (WHOLE, OTHER), "{} bytes", N * 4);
        for latches in &latches {
            assert_eq!(latches.snapshot(1).unwrap(), Snapshot { version, value: words_of(n) });
            assert_eq!(latches.read(1).unwrap(), words_of(n));
        }
    }
    for untouched in [0, 2] {
        assert_eq!(latches[0].snapshot(untouched).unwrap(), Snapshot { version: 0, value: [0; N] });
    }

    // No value beyond the end, for any wrap-around of the sum of index and preamble.
    for beyond in [3, 4, 1 << 31, u64::from(u32::MAX), u64::from(u32::MAX) - 1] {
        assert_eq!(step(&read, beyond, 0), NO, "index {beyond}");
    }
    assert!(matches!(latches[0].read(3), Err(ReadError::Index { .. })));
    assert!(matches!(writer.set(3, &words_of(0)), Err(e) if e.to_string() == "no latch 3: there are 3"));

    // A writer that died halfway has corrupted the copy that readers do not use.
    let words = latches[0].region().geometry().element_words();
    let first = latches[0].region().geometry().first();
    for seq in [4, 5_u64] {
        let mut element = vec![u64::MAX; words];
        element[0] = seq;
        let mut value = vec![0_u8; (words - 1) * 4];
        value[..N * 4].copy_from_slice(bytemuck::cast_slice(&words_of::<N>(99)));
        let at = 1 + usize::from(seq == 5) * (words - 1) / 2;
        let copy: &mut [u8] = bytemuck::cast_slice_mut(&mut element[at..at + (words - 1) / 2]);
        copy.copy_from_slice(&value);
        let map = map(object, &format!("latches_{}", N * 4));
        update(&map, u32::try_from(first + 2).unwrap(), &element);
        assert_eq!(step(&read, 2, 99), WHOLE, "{} bytes, seq {seq}", N * 4);
        for latches in &latches {
            assert_eq!(latches.snapshot(2).unwrap(), Snapshot { version: seq, value: words_of(99) });
        }
        writer.set(2, &words_of(100)).unwrap();
        assert_eq!(step(&read, 2, 100), WHOLE);
        assert_eq!(latches[1].snapshot(2).unwrap(), Snapshot { version: seq + 1, value: words_of(100) });
    }
}

#[test]
fn both_sides_read_what_the_other_wrote() {
    require_bpf!();
    both(|object| {
        latches_of::<1>(object);
        latches_of::<2>(object);
        latches_of::<3>(object);
        latches_of::<14>(object);
        latches_of::<16>(object);
        latches_of::<25>(object);
        latches_of::<64>(object);
    });
}

#[test]
fn a_table_of_one() {
    require_bpf!();
    both(|object| {
        let map = map(object, "one");
        mapring::Region::open(&map).unwrap();
        let fd = map.as_fd().try_clone_to_owned().unwrap();
        let region = OpenOptions::new().write(true).open(fd).unwrap();
        let latch = Latches::<Filled<14>>::from_region(region).unwrap();
        latch.writer().unwrap().set(0, &words_of(5)).unwrap();
        assert_eq!(step(&Runner::new(object, "read_one"), 0, 5), 1);
        assert_eq!(latch.len(), 1);
    });
}

#[test]
fn only_who_maps_it_for_writing_writes_it() {
    let object = &require_bpf!(LATCHES);
    let [_, looked_up] = open::<14>(object);
    assert!(
        matches!(looked_up.writer(), Err(e) if e.kind() == ErrorKind::NotWritable && e.refusal().is_some())
    );
    let reader = Latches::<Filled<14>>::open(&map(object, "latches_56")).unwrap();
    let refused = reader.writer().unwrap_err();
    assert!(
        (refused.kind(), refused.refusal()) == (ErrorKind::NotWritable, Some(Refusal::NotAsked)),
        "{refused:?}"
    );
}
