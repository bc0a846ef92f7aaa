//! Records of many sizes through every handle over memory files. Each byte is checked, also at the end of records that are
//! not a whole number of words, and of records that are copied by lines.
#![cfg(not(miri))] // which knows no memory files

use std::os::fd::AsFd;

use mapring::{Cells, Latches, OpenOptions, Region, Ring};

/// No byte is what it is in the value before or in a fresh region.
fn value<const N: usize>(n: u64) -> [u8; N] {
    std::array::from_fn(|i| u8::try_from((n * 89 + i as u64 * 7 + i as u64 / 31) % 255 + 1).unwrap())
}

/// A mapping of its own of the same memory.
fn again(region: &Region, write: bool) -> Region {
    let fd = region.as_fd().try_clone_to_owned().unwrap();
    OpenOptions::new().write(write).open(fd).unwrap()
}

fn rings<const N: usize>() {
    let ring = Ring::<[u8; N]>::create_memfd(8, 1).unwrap();
    let apart = Ring::<[u8; N]>::from_region(again(&ring.region(), true)).unwrap();
    let writers = [ring.writer(0).unwrap(), apart.writer(0).unwrap()];
    let mut readers = [ring.reader(), apart.reader(), ring.reader()];
    // Laps, so that each slot held another record before.
    for n in 0..40 {
        let writer = &writers[usize::from(n % 3 == 0)];
        if n % 2 == 0 {
            assert_eq!(writer.push(&value(n)), Some(n));
        } else {
            let mut slot = writer.reserve().unwrap();
            slot.write(&value(n + 1));
            slot.write(&value(n));
            assert_eq!(slot.commit(), Some(n));
        }
        if n % 5 != 4 {
            continue;
        }
        let expected: Vec<_> = (n - 4..=n).map(value::<N>).collect();
        let [polled, drained, each] = &mut readers;
        let mut found = Vec::new();
        each.for_each(usize::MAX, |event| found.push(*event.record));
        assert!(found == expected, "{N} bytes, for_each");
        let found: Vec<_> = drained.drain().map(|event| event.record).collect();
        assert!(found == expected, "{N} bytes, drain");
        let found: Vec<_> = std::iter::from_fn(|| polled.poll().map(|event| event.record)).collect();
        assert!(found == expected, "{N} bytes, poll");
    }
}

fn tables<const N: usize>() {
    let cells = Cells::<[u8; N]>::create_memfd(3).unwrap();
    let latches = Latches::<[u8; N]>::create_memfd(3).unwrap();
    let one = Cells::<[u8; N]>::create_memfd(1).unwrap();
    let cells_apart = Cells::<[u8; N]>::from_region(again(cells.region(), false)).unwrap();
    let latches_apart = Latches::<[u8; N]>::from_region(again(latches.region(), false)).unwrap();
    let (set, latch, only) = (cells.writer().unwrap(), latches.writer().unwrap(), one.writer().unwrap());
    for n in 1..8 {
        assert!(set.set(1, &value(n)).unwrap() && only.set(0, &value(n)).unwrap());
        latch.set(1, &value(n)).unwrap();
        latch.set_many(0, &[value(n + 100)]).unwrap();
        assert!(one.read(0).unwrap() == value(n), "{N} bytes");
        for cells in [&cells, &cells_apart] {
            assert!(cells.read(1).unwrap() == value(n), "{N} bytes, read");
            assert!(cells.snapshot(1).unwrap().value == value(n), "{N} bytes, snapshot");
            let mut found = Vec::new();
            assert_eq!(cells.for_each(|_, snapshot| found.push(snapshot.value)).unwrap(), 0);
            assert!(found == [[0; N], value(n), [0; N]], "{N} bytes, for_each");
        }
        for latches in [&latches, &latches_apart] {
            assert!(latches.read(1).unwrap() == value(n), "{N} bytes, read");
            assert!(latches.snapshot(1).unwrap().value == value(n), "{N} bytes, snapshot");
            let mut found = Vec::new();
            assert_eq!(latches.for_each(|_, snapshot| found.push(snapshot.value)).unwrap(), 0);
            assert!(found == [value(n + 100), value(n), [0; N]], "{N} bytes, for_each");
        }
    }
}

macro_rules! sizes {
    ($check:ident) => {
        $check::<1>();
        $check::<7>();
        $check::<24>();
        $check::<56>();
        $check::<57>();
        $check::<1000>();
        $check::<4095>();
    };
}

#[test]
fn every_byte_of_a_rings_records() {
    sizes!(rings);
}

#[test]
fn every_byte_of_cells_and_latches() {
    sizes!(tables);
}
