//! Shows the records of a BPF ringbuf, and takes none from its consumer.
//!
//! The pages of a ringbuf are the consumer's position, the kernel's position, and the data. Positions count bytes. A record
//! is a header (its length and two flags) and its bytes, filled up to whole words. The kernel overwrites a record only after
//! the consumer has passed it.
//!
//! The kernel stores the header of a record at its position `p`, then moves `p` past the record, and then the program
//! writes the record. So it has written nothing at or after `p + 8`. An observer copies a record, and then loads `p`
//! (acquire). If `p + 8` is at most the record's position plus the size of the ringbuf, nothing has overwritten the
//! copy.
//!
//! The kernel's release store of `p` is not ordered before the program's later stores. On x86-64 all stores are in
//! order. On other architectures `membarrier` waits for an RCU grace period, in which each CPU executes a full barrier.
//! This is an argument, not a test: the tests ran on x86-64.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};

use mapring_core::protocol::ring::Start;
use mapring_sys::BPF_F_NUMA_NODE;
use mapring_sys::kinds::MapType;
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::abi::WORD;
use crate::bpf::MapFd;
use crate::error::{Cause, Error, Result};
use crate::region::{Mapping, Source};

/// Shows the records of a BPF ringbuf (`BPF_MAP_TYPE_RINGBUF`) without taking them: its consumer still gets them all, and any
/// number of observers can read at the same time. It maps the ringbuf for reading only. Reading makes no system call on
/// x86-64; on other architectures, one that waits for an RCU grace period (milliseconds), each time there are records.
///
/// The kernel does not wait for observers, and overwrites the records that the consumer has taken. An observer that is slower
/// than that loses records, and counts their bytes: it can't know how many they were. For an observer,
///
/// > the bytes of the records it has passed + [`lost_bytes`](ObserverStats::lost_bytes) = how far its
/// > [`position`](Self::position) has moved
///
/// where a record takes a header of 8 bytes, and its own, rounded up to a multiple of 8. A record is delivered only if the kernel
/// had not begun to overwrite it when it was copied. This relies on the consumer: each process that can open the ringbuf for
/// writing can forge the consumer's position. An observer then shows bytes that are not a record. It stays safe.
///
/// Memory order: a delivered record contains all that its program wrote before `bpf_ringbuf_submit`.
pub struct RingbufObserver {
    pages: Mapping,
    /// Bytes of data: a power of two of pages.
    capacity: u64,
    at: u64,
    stats: ObserverStats,
    /// Copies of records and their headers, from `at` on. Discarded records have only a header.
    copies: Vec<u64>,
}

/// What an observer of a ringbuf has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserverStats {
    /// Records delivered.
    pub delivered: u64,
    /// Records that programs discarded. Not lost.
    pub discarded: u64,
    /// Bytes of records, with their headers, that were overwritten before the observer could read them. (If the consumer's
    /// position is forged, also bytes that are not records.)
    pub lost_bytes: u64,
}

/// A copy ends after the record that brings it to this number of words. When the kernel overwrites one of its records
/// meanwhile, all of them are lost.
const COPY: usize = 2048;

/// The header of a record.
#[derive(Clone, Copy)]
struct Header(u64);

impl Header {
    const BUSY: u32 = 1 << 31;
    const DISCARDED: u32 = 1 << 30;

    /// The length and the flags. The other half is the kernel's.
    fn word(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    fn is(self, flag: u32) -> bool {
        self.word() & flag != 0
    }

    /// The bytes of the record alone.
    fn len(self) -> usize {
        (self.word() & !(Self::BUSY | Self::DISCARDED)) as usize
    }

    /// The bytes from here to the next header.
    fn step(self) -> u64 {
        (WORD + self.len().next_multiple_of(WORD)) as u64
    }
}

impl RingbufObserver {
    /// Opens a ringbuf: its pin, its id, or a descriptor. Makes system calls. The descriptor must be open for reading and
    /// writing, since the kernel maps no other; so a pin needs write permission.
    ///
    /// [`Start::Oldest`] starts with the oldest record that the consumer has not taken, [`Start::First`] with the first record
    /// of the ringbuf, and [`Start::Now`] with the next one.
    ///
    /// # Errors
    /// [`ErrorKind::Open`](crate::ErrorKind::Open); [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for another map, and
    /// for a ringbuf with flags that this version does not know, such as `BPF_F_RB_OVERWRITE`;
    /// [`ErrorKind::System`](crate::ErrorKind::System) if the kernel does not map it, and on architectures other than x86-64
    /// where it has no `membarrier`.
    pub fn open(source: impl Into<Source>, start: Start) -> Result<Self> {
        let map = source.into().map()?.0;
        map.expect(MapType::RINGBUF, "a BPF ringbuf")?;
        if map.info.flags & !BPF_F_NUMA_NODE != 0 {
            let found = format!("a ringbuf with the flags {:#x}", map.info.flags);
            let hint =
                "; an observer does not know how the kernel overwrites the records (BPF_F_RB_OVERWRITE)";
            let what = map.what;
            return Err(Cause::MapType { what, found, expected: "one without flags", hint }.into());
        }
        see_reservations().map_err(|e| Error::system("membarrier", e))?;
        Self::map(&map, start)
    }

    fn map(map: &MapFd, start: Start) -> Result<Self> {
        let bytes = map.info.max_entries as usize;
        let pages = Mapping::new(map.fd.as_fd(), 2 * page_size() + bytes, false).map_err(|error| {
            let hint = match Errno::from_io_error(&error) {
                Some(Errno::INVAL) => {
                    "; a descriptor that is read-only can't be mapped: ask the owner of the pin for write permission"
                }
                _ => "",
            };
            Error::from(Cause::System { call: "mmap of a ringbuf", error, hint })
        })?;
        Ok(Self::of(pages, bytes, start))
    }

    /// Observes a ringbuf with this number of bytes of data. The pages of its positions are mapped before them.
    fn of(pages: Mapping, bytes: usize, start: Start) -> Self {
        let stats = ObserverStats::default();
        let mut observer = Self { pages, capacity: bytes as u64, at: 0, stats, copies: Vec::new() };
        // In this order, the kernel's position is never before the consumer's.
        let (consumer, end) = (observer.consumer(), observer.end());
        let is_real = consumer.is_multiple_of(WORD as u64) && consumer <= end;
        observer.at = match start {
            Start::Oldest if is_real => consumer,
            Start::Oldest | Start::Now => end,
            Start::First => 0,
        };
        observer
    }

    /// The position of the next record.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The position at which the kernel will place the next record. It has placed this number of bytes since the ringbuf was
    /// created. One load, and no system call.
    pub fn end(&self) -> u64 {
        self.pages.words().load(page_size() / WORD, Ordering::Acquire)
    }

    /// What it has passed.
    pub fn stats(&self) -> ObserverStats {
        self.stats
    }

    /// Calls `f` with the position and the bytes of records, in order: at most `limit`, and about 16 KiB. Returns how many. With
    /// 0 there is none for now: the next one is not yet there, or being written, or records were lost or discarded
    /// ([`stats`](Self::stats)). It never waits for a program.
    pub fn for_each(&mut self, limit: usize, mut f: impl FnMut(u64, &[u8])) -> usize {
        self.copy(limit);
        if !self.copies.is_empty() {
            // What was copied before this fence is older than the position that is loaded after it.
            fence(Ordering::Acquire);
            let seen = see_reservations();
            if seen.is_err() || self.is_overtaken(self.end()) {
                self.lose();
                return 0;
            }
        }
        let before = self.stats.delivered;
        let mut copies = &self.copies[..];
        while let Some((header, rest)) = copies.split_first() {
            let header = Header(*header);
            let words = if header.is(Header::DISCARDED) { 0 } else { header.len().div_ceil(WORD) };
            let (record, rest) = rest.split_at(words);
            if header.is(Header::DISCARDED) {
                self.stats.discarded += 1;
            } else {
                self.stats.delivered += 1;
                f(self.at, &bytemuck::cast_slice(record)[..header.len()]);
            }
            self.at = self.at.wrapping_add(header.step());
            copies = rest;
        }
        usize::try_from(self.stats.delivered - before).unwrap_or(usize::MAX)
    }

    /// Copies records that programs have submitted. They may be overwritten meanwhile.
    fn copy(&mut self, limit: usize) {
        self.copies.clear();
        let end = self.end();
        if self.is_overtaken(end) {
            return self.lose();
        }
        let (words, mut at, mut count) = (self.pages.words(), self.at, 0);
        #[allow(clippy::cast_possible_truncation)] // less than the capacity, which is the length of a mapping
        let word = |at: u64| 2 * page_size() / WORD + (at % self.capacity) as usize / WORD;
        while at != end && count < limit && self.copies.len() < COPY {
            // Pairs with the kernel's `xchg` of the header, after the program has written the record.
            let header = Header(words.load(word(at), Ordering::Acquire));
            if header.is(Header::BUSY) {
                break;
            }
            if header.step() > end.wrapping_sub(at) {
                // No header: it was overwritten, or the consumer's position was forged.
                if at == self.at {
                    self.lose();
                }
                break;
            }
            self.copies.push(header.0);
            if !header.is(Header::DISCARDED) {
                count += 1;
                let record = (WORD as u64..header.step()).step_by(WORD);
                let record = record.map(|byte| words.load(word(at.wrapping_add(byte)), Ordering::Relaxed));
                self.copies.extend(record);
            }
            at = at.wrapping_add(header.step());
        }
    }

    /// Whether the kernel may have overwritten the record at this observer's position. It writes the header of a record before it
    /// moves its own position over the record.
    fn is_overtaken(&self, end: u64) -> bool {
        end.wrapping_sub(self.at) > self.capacity - WORD as u64
    }

    /// Continues at the consumer's position, where a record starts; or at the kernel's, if the consumer's is forged.
    fn lose(&mut self) {
        self.copies.clear();
        let (consumer, end) = (self.consumer(), self.end());
        let rest = end.wrapping_sub(self.at);
        let step = consumer.wrapping_sub(self.at);
        let is_real = consumer.is_multiple_of(WORD as u64) && (1..=rest).contains(&step);
        let step = if is_real { step } else { rest };
        self.at = self.at.wrapping_add(step);
        self.stats.lost_bytes = self.stats.lost_bytes.wrapping_add(step);
    }

    fn consumer(&self) -> u64 {
        self.pages.words().load(0, Ordering::Acquire)
    }
}

impl fmt::Debug for RingbufObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingbufObserver").field("position", &self.at).field("stats", &self.stats).finish()
    }
}

/// Makes the kernel's position visible from before each record of which this thread has seen a byte. The kernel stores its
/// position before the program writes the record. x86-64 keeps this order; on other architectures a grace period does.
fn see_reservations() -> rustix::io::Result<()> {
    if cfg!(target_arch = "x86_64") { Ok(()) } else { membarrier(MembarrierCommand::Global) }
}

#[cfg(test)]
mod tests;
