//! Copies of rings while a writer writes them.
#![cfg(not(miri))] // which knows no memory files

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapring::abi::Tails;
use mapring::reading::ByTime;
use mapring::writers::MemfdOptions;
use mapring::{Reader, Ring, Start};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

type Record = [u64; 3];

/// The copy as a ring.
fn restored(words: &[u64]) -> Ring<Record> {
    let memory = memfd_create("copied", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memory);
    file.write_all(bytemuck::cast_slice(words)).unwrap();
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE).unwrap();
    Ring::open(file).unwrap()
}

type Stamp = fn(&Record) -> u64;

fn reader(ring: &Ring<Record>) -> Reader<Record, ByTime<Record, Stamp>> {
    ring.reader().merged((|record| record[0]) as Stamp).of_the_past()
}

#[test]
fn a_copy_has_the_records_and_tails_in_the_order_of_stamps_that_this_clock_has_not_reached() {
    let with_tails = MemfdOptions::default().tails(Tails::new(64, 4096).unwrap());
    for options in [MemfdOptions::default(), with_tails] {
        let ring = Ring::<Record>::create_memfd_with(8, 2, options).unwrap();
        let writers = [ring.writer(1).unwrap(), ring.writer(0).unwrap()];
        let later = u64::MAX / 2;
        let has_tails = ring.options().has_tails();
        for n in 0..20 {
            let mut slot = writers[usize::from(n % 3 == 0)].reserve().unwrap();
            slot.write(&[later + n, n, n]);
            assert!(slot.write_tail(if has_tails { b"tail" } else { b"" }));
            slot.commit();
        }
        let unended = writers[1].reserve().unwrap();
        let copy = restored(&ring.region().copy_ring().unwrap());
        drop(unended);
        writers[1].push(&[0; 3]);
        let (mut read, mut reader) = (Vec::new(), reader(&copy));
        while reader.for_each(usize::MAX, |event| {
            assert_eq!(event.tail, if has_tails { &b"tail"[..] } else { b"" });
            read.push(event.record[1]);
        }) > 0
        {}
        // The last 8 of one shard, and all of the other.
        let expected: Vec<u64> = (0..20).filter(|n| n % 3 == 0 || *n > 7).collect();
        assert_eq!(read, expected);
    }
}

#[test]
fn no_record_of_a_copy_is_torn() {
    let ring = Ring::<Record>::create_memfd(64, 1).unwrap();
    let (over, mut found) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let writer = ring.writer(0).unwrap();
        let over = SetAtEnd(&over);
        let is_over = over.0;
        scope.spawn(move || {
            (0..).take_while(|_| !is_over.load(Ordering::Relaxed)).for_each(|n| {
                writer.push(&[n, n, n]);
                // Else each copy of a reader that gets little of a CPU is lapped.
                if u64::is_multiple_of(n, 64) {
                    std::thread::sleep(Duration::from_micros(1));
                }
            });
        });
        let mut last = 0;
        while found < 50_000 {
            let copy = restored(&ring.region().copy_ring().unwrap());
            let mut of_copy = Vec::new();
            reader(&copy).for_each(usize::MAX, |event| {
                let [stamp, one, other] = *event.record;
                assert!(stamp == one && one == other && stamp == event.ticket, "{:?}", event.record);
                of_copy.push(stamp);
            });
            // A copy that was preempted lacks what was overwritten meanwhile.
            let next = ring.reader_from(Start::Now).position(0).unwrap();
            let lapped = next + 1 >= last + 64;
            assert!(of_copy.is_sorted() && of_copy.last().is_none_or(|newest| *newest >= last || lapped));
            last = of_copy.last().copied().unwrap_or(last);
            found += of_copy.len();
        }
    });
}

/// Also ends the writer of a test that fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
