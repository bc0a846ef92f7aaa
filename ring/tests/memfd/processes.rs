//! Other processes that have a ring's file, and the words of the file.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64};

use mapring::abi::readers::ASLEEP;

use super::*;

/// Opens the ring of another process, by its descriptor there.
pub(crate) fn open(path: &str, write: bool) -> Ring<u64> {
    let file = std::fs::File::options().read(true).write(write).open(path).unwrap();
    Ring::open_with(OwnedFd::from(file), OpenOptions::new().write(write)).unwrap()
}

pub(crate) fn path(ring: &Ring<u64>) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), ring.region().as_fd().as_raw_fd())
}

/// All words of the file, behind the library's back.
pub(crate) struct Scribble {
    pub(crate) map: memmap2::MmapRaw,
    /// The first word of the table of readers, as docs/abi.md says.
    table: usize,
}

impl Scribble {
    pub(crate) fn of(ring: &Ring<u64>) -> Self {
        let map = memmap2::MmapOptions::new().map_raw(&std::fs::File::from(fd_of(&ring.region()))).unwrap();
        let table = ring.region().geometry().bytes().next_multiple_of(64) / 8;
        Self { map, table }
    }

    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.map.len() / 8);
        // SAFETY: in the mapping, as was checked.
        let word = unsafe { self.map.as_mut_ptr().cast::<u64>().add(at) };
        // SAFETY: aligned, and mapped as long as `self`.
        unsafe { AtomicU64::from_ptr(word) }
    }

    pub(crate) fn shared(&self, word: usize) -> &AtomicU64 {
        self.word(self.table + word)
    }

    /// The half of the word of sleepers with the bits of the first seats.
    pub(crate) fn sleepers(&self) -> &AtomicU32 {
        let word = std::ptr::from_ref(self.shared(ASLEEP)).cast::<u32>().cast_mut();
        // SAFETY: the first half of an aligned word (tests run on little-endian machines).
        unsafe { AtomicU32::from_ptr(word) }
    }
}

/// This test program in another process, where it runs the test `child::ROLE` with the ring at `path`.
pub(crate) struct Other(Child);

impl Other {
    pub(crate) fn start(role: &str, ring: &Ring<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            &format!("processes::child::{role}"),
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        let child = command.env("RING", path(ring)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self(child.unwrap())
    }

    /// Waits until it says this.
    pub(crate) fn says(&mut self, what: &str) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        // The test program prints the name of the test before it, in the same line.
        assert!(lines.any(|line| line.unwrap().ends_with(what)), "it ended");
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn ends(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// What other processes do.
mod child {
    use super::super::readers::FOREVER;
    use super::*;

    fn path() -> String {
        std::env::var("RING").unwrap()
    }

    fn wait_for_parent() {
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }

    /// Pushes until it is killed.
    #[test]
    #[ignore = "run by the tests of this file"]
    fn pushes() {
        let writer = open(&path(), true).writer(0).unwrap();
        println!("\nready");
        for n in 0.. {
            let _ = writer.push_with_tail(&n, &[]);
        }
    }

    /// Answers each record by one in the other shard.
    #[test]
    #[ignore = "run by the tests of this file"]
    fn answers() {
        let ring = open(&path(), true);
        let (writer, mut reader) = (ring.writer(1).unwrap(), ring.reader());
        println!("\nready");
        let mut last = 0;
        while last != u64::MAX {
            assert!(reader.wait(FOREVER).unwrap());
            for event in reader.drain().filter(|event| event.shard == 0) {
                last = event.record;
                writer.push(&last).unwrap();
            }
        }
    }

    /// Is required, and reads nothing.
    #[test]
    #[ignore = "run by the tests of this file"]
    fn requires() {
        let mut reader = open(&path(), true).reader();
        reader.require(Duration::from_millis(50)).unwrap();
        println!("\nready");
        wait_for_parent();
    }
}
