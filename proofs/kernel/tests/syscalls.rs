//! The system calls that replace a mapping, through the handles: many values at once, with and without batches;
//! operations without a system call; and the programs' helpers on the same maps.

use libbpf_rs::libbpf_sys::{BPF_F_RDONLY_PROG, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM};
use mapring_kernel_tests::prelude::*;

type Value = [u64; 3];
const COUNT: usize = 150;

/// A table of latches or cells.
fn table(kind: Kind, flags: u32) -> OwnedFd {
    let geometry = Geometry::new(kind, size_of::<Value>() as u64, COUNT as u64, 1).unwrap();
    raw::region(geometry, "value", flags)
}

fn values(n: u64) -> Vec<Value> {
    (0..COUNT as u64).map(|index| [n, index, n ^ index]).collect()
}

/// Every value, by `for_each`: none may be busy or missing.
fn all(latches: &Latches<Value>) -> Vec<Snapshot<Value>> {
    let mut all = Vec::new();
    let busy = latches.for_each(|index, snapshot| {
        assert_eq!(index, all.len());
        all.push(snapshot);
    });
    assert_eq!(busy.unwrap(), 0);
    all
}

#[test]
fn many_latches_in_a_few_calls() {
    require_bpf!();
    for flags in [BPF_F_MMAPABLE, BPF_F_MMAPABLE | BPF_F_RDONLY_PROG, 0] {
        let latches =
            Latches::<Value>::open_with(table(Kind::Latches, flags), OpenOptions::new().write(true)).unwrap();
        assert_eq!(latches.access() == Access::Mapped, flags & BPF_F_MMAPABLE != 0);
        let writer = latches.writer().unwrap();
        let wrote = |n: u64| {
            writer.set_many(0, &values(n)).unwrap();
            let expected: Vec<_> =
                values(n).into_iter().map(|value| Snapshot { version: n, value }).collect();
            assert_eq!(all(&latches), expected);
        };
        wrote(1);
        wrote(2);
        // No system call for single elements is made: these threads have none.
        without_commands(&[BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM], || wrote(3));
        // And none for many, on a kernel without batches.
        without_batches(|| wrote(4));
        wrote(5);
        // Only the named ones, each once.
        writer.set_many(COUNT - 2, &[[7; 3], [8; 3]]).unwrap();
        writer.set(0, &[9; 3]).unwrap();
        writer.set_many(3, &[]).unwrap();
        let now = all(&latches);
        let changed: Vec<_> = (0..COUNT).filter(|&index| now[index].version != 5).collect();
        assert_eq!(changed, [0, COUNT - 2, COUNT - 1]);
        assert_eq!(
            [0, COUNT - 2, COUNT - 1].map(|index| (now[index].version, now[index].value[0])),
            [(6, 9), (6, 7), (6, 8)]
        );
        for (first, many) in [(COUNT - 1, 2), (COUNT, 1), (COUNT + 1, 0), (usize::MAX, 2)] {
            let error = writer.set_many(first, &vec![[0; 3]; many]).unwrap_err();
            assert!(error.to_string().ends_with(&format!(": there are {COUNT}")), "{error}");
        }
        assert_eq!(all(&latches), now, "nothing was written");
        if flags != BPF_F_MMAPABLE {
            raw::freeze(latches.region()).unwrap();
            for error in [writer.set_many(0, &values(1)).unwrap_err(), writer.set(0, &[0; 3]).unwrap_err()] {
                assert!(error.kind() == ErrorKind::Sealed, "{error}");
            }
            assert_eq!(all(&latches), now, "nothing is lost");
        }
    }
}

#[test]
fn all_cells_in_a_few_calls() {
    require_bpf!();
    for flags in [BPF_F_MMAPABLE, 0] {
        let fd = table(Kind::Cells, flags);
        let cells = Cells::<Value>::open(fd.try_clone().unwrap()).unwrap();
        let first = cells.region().geometry().first();
        let element = |seq, index: usize| [seq, 1, index as u64, 3];
        for index in 0..COUNT {
            let key = u32::try_from(first + index).unwrap();
            // Every tenth is busy: its writer is halfway.
            raw::update(&fd, key, &element(if index % 10 == 9 { 5 } else { 4 }, index)).unwrap();
        }
        let look = || {
            let mut seen = Vec::new();
            let busy = cells.for_each(|index, snapshot| {
                assert_eq!(snapshot, Snapshot { version: 2, value: [1, index as u64, 3] });
                // The handle is usable inside the closure.
                assert_eq!(cells.snapshot(index).unwrap(), snapshot);
                seen.push(index);
            });
            assert_eq!(busy.unwrap(), COUNT / 10);
            assert_eq!(seen, (0..COUNT).filter(|index| index % 10 != 9).collect::<Vec<_>>());
        };
        look();
        let mut count = 0;
        without_commands(&[BPF_MAP_LOOKUP_ELEM], || {
            cells.for_each(|_, _| count += 1).unwrap();
        });
        assert_eq!(count, COUNT - COUNT / 10);
        without_batches(look);
    }
}

/// Keys are the numbers from 0 on, so no call lists them; and elements can't be deleted.
#[test]
fn what_arrays_have_no_use_for() {
    require_bpf!();
    let fd = table(Kind::Cells, BPF_F_MMAPABLE);
    let entries = Cells::<Value>::open(fd.try_clone().unwrap()).unwrap().region().geometry().entries();
    let mut keys = vec![raw::next_key(&fd, None).unwrap()];
    while let Ok(next) = raw::next_key(&fd, keys.last().copied()) {
        keys.push(next);
    }
    assert_eq!(keys, (0..u32::try_from(entries).unwrap()).collect::<Vec<_>>());
    assert_eq!(raw::next_key(&fd, keys.last().copied()), Err(libc::ENOENT));
    assert_eq!(raw::delete(&fd, 3), Err(libc::EINVAL));
    let beyond = u32::try_from(entries).unwrap();
    assert_eq!(raw::update(&fd, beyond, &[0; 4]), Err(libc::E2BIG));
    assert_eq!(raw::lookup(&fd, beyond, &mut [0; 4]), Err(libc::ENOENT));
}

fn step(program: &Runner, op: u64, index: u64, n: u64) -> [u64; 4] {
    let mut args = [op, index, n, 0];
    program.run(&mut args);
    args
}

#[test]
fn programs_walk_their_arrays() {
    let object = &require_bpf!(FLAGS);
    let walk = Runner::new(object, "walk");
    let writable = OpenOptions::new().write(true);
    let cells = Cells::<[u64; 2]>::from_region(writable.open(&map(object, "pairs")).unwrap()).unwrap();
    let writer = cells.writer().unwrap();
    for index in 0..16 {
        writer.set(index, &[index as u64, 1]).unwrap();
    }
    let entries = cells.region().geometry().entries() as u64;
    let [_, steps, sum, seen] = step(&walk, 0, 0, 0);
    assert_eq!((steps, sum, seen), (entries, 120 * 1000 + 16, 16), "past the preamble, and each cell once");

    let counters = Counters::from_region(writable.open(&map(object, "hits")).unwrap()).unwrap();
    let count = Runner::new(object, "count");
    for index in 0..8 {
        step(&count, 0, index, index + 1);
    }
    let [_, steps, sum, banks] = step(&walk, 1, 0, 0);
    assert_eq!((steps, sum), (counters.region().geometry().entries() as u64, 36));
    assert_eq!(banks, counters.shards() as u64);
    let mut sums = [0; 8];
    counters.sums(&mut sums).unwrap();
    assert_eq!(sums, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn programs_write_and_can_not_delete() {
    require_bpf!();
    let object = &bpf::FLAGS.load(|object: &mut OpenObject| {
        object.progs_mut().filter(|p| p.name() == "walk").for_each(|mut p| p.set_autoload(false));
        fitted(object);
    });
    let cells = Cells::<[u64; 2]>::from_region(Region::open(&map(object, "pairs")).unwrap()).unwrap();
    let first = cells.region().geometry().first() as u64;
    let program = Runner::new(object, "put_and_delete");
    let [put, _, there, deleted] = step(&program, 0, first + 5, 77);
    assert_eq!((put, there), (0, 77));
    // Helpers return an `int`; an older kernel's JIT left the upper half zero.
    let deleted: [i32; 2] = bytemuck::cast(deleted);
    assert_eq!(deleted[0], -libc::EINVAL, "an array's elements are there for good");
    assert_eq!(cells.snapshot(5).unwrap(), Snapshot { version: 1, value: [77, 78] });
    assert_eq!(raw::delete(map(object, "pairs").as_fd(), u32::try_from(first).unwrap()), Err(libc::EINVAL));
}
