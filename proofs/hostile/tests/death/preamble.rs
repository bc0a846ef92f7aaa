//! Death while a region is created.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use mapring::abi::{Preamble, PreambleError};
use mapring::{OpenOptions, Region, Ring};
use mapring_hostile_tests::{Memory, kill_after, run};
use rustix::fs::{SealFlags, fcntl_get_seals};

use super::{VICTIM, at_every_store};

/// The victim's first free descriptor.
const FD: u32 = 3;

fn victims_file(pid: u32) -> Option<File> {
    File::options().read(true).write(true).open(format!("/proc/{pid}/fd/{FD}")).ok()
}

/// Whether the file exists, its length, its seals, and the words of the preamble.
fn look(file: Option<&File>) -> Vec<u64> {
    let mut seen = vec![0; 3 + Preamble::WORDS];
    if let Some(file) = file {
        seen[0] = 1;
        seen[1] = file.metadata().unwrap().len();
        seen[2] = fcntl_get_seals(file).unwrap().bits().into();
        // Reads nothing while the file has no length.
        let _ = file.read_at(bytemuck::cast_slice_mut(&mut seen[3..]), 0).unwrap();
    }
    seen
}

#[test]
fn a_region_whose_maker_died_is_refused_or_whole() {
    // The file, its length, its seals; nine non-zero words, the first one last.
    const DONE: usize = 3 + 9 + 1;
    let whole = Ring::<[u64; 2]>::create_memfd(4, 1).unwrap();
    at_every_store("region made", DONE, |stores| {
        let file = RefCell::new(None);
        let death = kill_after(stores, VICTIM, &["create"], Stdio::null(), |pid| {
            let mut file = file.borrow_mut();
            if file.is_none() {
                *file = victims_file(pid);
            }
            look(file.as_ref())
        });
        let Some(file) = file.into_inner() else {
            assert_eq!(death.stores, 0);
            return death;
        };
        let open = |options: OpenOptions| options.open(file.try_clone().unwrap());
        let sealed = fcntl_get_seals(&file).unwrap().contains(SealFlags::SHRINK | SealFlags::GROW);
        assert_eq!(sealed, death.stores >= 3);
        match (death.stores, open(OpenOptions::new())) {
            (1..3, Err(e)) if e.to_string().contains(" is not sealed against resizing ") => {}
            (3..DONE, Err(e)) if e.preamble_error() == Some(&PreambleError::Magic { found: 0 }) => {}
            (DONE, Ok(region)) => is_whole(&region, &whole),
            (stores, other) => panic!("after {stores}: {other:?}"),
        }
        match (death.stores, open(OpenOptions::new().allow_unsealed(true).write(true))) {
            (1, Err(e)) if e.to_string().contains("has 0 bytes, expected at least") => {}
            (2..DONE, Err(e)) if e.preamble_error() == Some(&PreambleError::Magic { found: 0 }) => {}
            (DONE, Ok(region)) => is_whole(&region, &whole),
            (stores, other) => panic!("after {stores}: {other:?}"),
        }
        death
    });
}

fn is_whole(region: &Region, like: &Ring<[u64; 2]>) {
    assert_eq!(region.geometry(), like.region().geometry());
    assert_eq!(region.preamble().name, like.region().preamble().name);
    assert_ne!(region.preamble().generation, 0);
    assert!(Ring::<[u64; 2]>::from_region(region.clone()).unwrap().reader().poll().is_none());
}

#[test]
fn victims_do_what_they_are_told() {
    // A check of the test itself: an untraced victim writes and reports it.
    let ring = Ring::<mapring_hostile_tests::Record>::create_memfd(4, 1).unwrap();
    assert_eq!(run(VICTIM, &["push", "2", "7"], Memory::of(&ring.region()).fd()), "0 1");
    let read: Vec<_> = ring.reader().drain().map(|event| event.record.n).collect();
    assert_eq!(read, [7, 8]);
}
