//! Memory that changes under its readers: shrunk, grown, punched.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mapring::{Cells, Counters, ErrorKind, Latches, OpenOptions, Region, Ring};
use mapring_hostile_tests::{Memory, Record, forge, read_all};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, ftruncate};
use rustix::io::Errno;

use super::images::is_unsealed;

fn regions() -> [Region; 4] {
    let ring = Ring::<Record>::create_memfd(8, 2).unwrap();
    let cells = Cells::<Record>::create_memfd(3).unwrap();
    let latches = Latches::<Record>::create_memfd(3).unwrap();
    let counters = Counters::create_memfd(3, 2).unwrap();
    [&ring.region(), cells.region(), latches.region(), counters.region()].map(Region::clone)
}

#[test]
fn a_sealed_region_can_neither_shrink_nor_grow_nor_be_unsealed() {
    for region in regions() {
        let fd: OwnedFd = Memory::of(&region).fd();
        let bytes = region.geometry().bytes() as u64;
        for to in [0, 1, bytes - 1, bytes + 1, 1 << 20] {
            assert_eq!(ftruncate(&fd, to), Err(Errno::PERM), "to {to}");
        }
        assert_eq!(fallocate(&fd, FallocateFlags::empty(), 0, bytes + 4096), Err(Errno::PERM));
        let seals = fcntl_get_seals(&fd).unwrap();
        fcntl_add_seals(&fd, SealFlags::SEAL).unwrap();
        assert!(fcntl_get_seals(&fd).unwrap().contains(seals | SealFlags::GROW | SealFlags::SHRINK));
        assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM));
        read_all(&region, None);
    }
}

#[test]
fn an_unsealed_one_is_refused_unless_asked_for() {
    for region in regions() {
        let words = Memory::of(&region).words();
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        let forged = forge(bytes, false);
        let refused = Region::open(forged.try_clone().unwrap()).unwrap_err();
        assert!(is_unsealed(&refused), "{refused}");
        // One seal is not enough.
        for seal in [SealFlags::SHRINK, SealFlags::GROW] {
            let half = forge(bytes, false);
            fcntl_add_seals(&half, seal).unwrap();
            let refused = Region::open(half).unwrap_err();
            assert!(is_unsealed(&refused), "{refused}");
        }
        let risky = OpenOptions::new().allow_unsealed(true).open(forged.try_clone().unwrap()).unwrap();
        read_all(&risky, Some(&words));
        // Another process shrinks it: opening it then is an error.
        drop(risky);
        ftruncate(&forged, 128).unwrap();
        let refused = OpenOptions::new().allow_unsealed(true).open(forged.try_clone().unwrap()).unwrap_err();
        assert!(refused.to_string().contains("has 128 bytes, expected at least"), "{refused}");
        // Sealed by its creator, but no longer as long as its preamble claims.
        fcntl_add_seals(&forged, SealFlags::GROW | SealFlags::SHRINK).unwrap();
        let refused = Region::open(forged).unwrap_err();
        assert!(refused.to_string().contains("has 128 bytes, expected at least"), "{refused}");
    }
}

#[test]
fn pages_punched_out_are_zeros_and_no_signal() {
    // Seals against resizing do not forbid this; the reader's pages vanish.
    let ring = Ring::<Record>::create_memfd(1024, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    let mut reader = ring.reader().with_patience(Duration::ZERO);
    for n in 0..600 {
        assert_eq!(writer.push(&Record::new(n)), Some(n));
    }
    assert_eq!(reader.drain().take(100).filter(|event| event.record.is_whole()).count(), 100);
    let file = File::from(Memory::of(&ring.region()).fd());
    let bytes = ring.region().geometry().bytes() as u64;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 0, bytes).unwrap();
    assert!(Memory::of(&ring.region()).words().iter().all(|&word| word == 0));
    assert_eq!(reader.drain().count(), 0);
    read_all(&ring.region(), None);
    let gone = Region::open(Memory::of(&ring.region()).fd()).unwrap_err();
    assert!(gone.kind() == ErrorKind::Preamble, "{gone}");
    // Sealed against future writes: not even the creator, which can still store, punches.
    ring.region().seal_future_writes().unwrap();
    assert_eq!(fallocate(&file, punch, 0, bytes), Err(Errno::PERM));
    // Writers see an empty ring; the reader sees their records once they reach its ticket.
    for n in 0..300 {
        assert_eq!(writer.push(&Record::new(n)), Some(n));
    }
    let read: Vec<_> = (0..64).flat_map(|_| reader.drain().collect::<Vec<_>>()).collect();
    assert!(read.iter().all(|event| event.record.is_whole() && event.record.n == event.ticket), "{read:?}");
    assert_eq!(read.iter().map(|event| event.ticket).collect::<Vec<_>>(), (100..300).collect::<Vec<_>>());
}
