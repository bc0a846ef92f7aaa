//! The readers of a ring that programs know: their processes, and how far they are behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::Start;

use super::Ring;
use crate::abi::readers::{ASLEEP, Owner, REQUIRED, SEATS, counts_as_alive, held, lease, owner, position};
use crate::error::{Error, Result};
use crate::region::maps::readers_of;
use crate::region::{Region, owner_is_alive};
use crate::time::Clock;

/// A reader that has a seat in a ring: it waits for records, or is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingReader {
    /// Its process, in the PID namespace of that process.
    pub pid: u32,
    /// Whether that process lives. True if this can't be known, because procfs hides it. In another PID namespace, it counts
    /// as alive while it is required, and for ten minutes after its last sleep.
    pub alive: bool,
    /// Whether it sleeps now.
    pub asleep: bool,
    /// If it is required: its lease, and how far it is behind.
    pub required: Option<Behind>,
}

/// How far a required reader is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behind {
    /// How long it may hold programs back.
    pub lease: Duration,
    /// The tickets that it has not read, in the shard where it is furthest behind.
    pub unread: u64,
    /// How long it has held programs back, if it does.
    pub holds: Option<Duration>,
}

impl<T: AnyBitPattern> Ring<T> {
    /// The readers that have a seat in the ring, also those of dead processes: readers that sleep, or are
    /// [required](super::Reader::require). Programs don't know other readers. Makes system calls.
    ///
    /// # Errors
    /// [`ErrorKind::NotWakeable`](crate::ErrorKind::NotWakeable) if the ring has no seats; else why this process can't
    /// read the map of the ring's readers.
    pub fn readers(&self) -> Result<Vec<RingReader>> {
        let ring = self.region();
        let (words, known) = if ring.is_memfd() {
            (in_memfd(&ring)?, ring.geometry().shards())
        } else {
            let readers = readers_of(&ring)?;
            (words(&readers)?, readers.geometry().shards())
        };
        let ends = self.reader_from(Start::Now);
        let shards: Vec<_> = ends.shards().filter(|&shard| shard < known).collect();
        let now = Clock::Monotonic.now();
        let reader = |at: usize| {
            let process = Owner::decode(words[owner(at)])?;
            let has = |bits: usize| words[bits] & 1 << at != 0;
            let behind = || {
                let end = |shard| ends.position(shard).unwrap_or_default();
                let unread = |&shard: &usize| end(shard).saturating_sub(words[position(shard, at)]);
                let since =
                    shards.iter().map(|&shard| words[held(shard, at)]).filter(|&since| since != 0).min();
                Behind {
                    lease: Duration::from_nanos(words[lease(at)]),
                    unread: shards.iter().map(unread).max().unwrap_or_default(),
                    holds: since.map(|since| Duration::from_nanos(now.saturating_sub(since))),
                }
            };
            let unseen = || counts_as_alive(has(REQUIRED), words[lease(at)], now);
            let (pid, alive) = (process.pid, owner_is_alive(process).unwrap_or_else(unseen));
            Some(RingReader { pid, alive, asleep: has(ASLEEP), required: has(REQUIRED).then(behind) })
        };
        Ok((0..SEATS).filter_map(reader).collect())
    }
}

/// The words of the readers' table of a ring in a memfd.
fn in_memfd(ring: &Region) -> Result<Vec<u64>> {
    let (first, count) = ring.table_of_readers()?;
    let Some(shared) = ring.shared() else { return Ok(vec![0; count]) };
    Ok((first..first + count).map(|word| shared.words().load(word, Ordering::Relaxed)).collect())
}

/// All words of a region.
fn words(region: &Region) -> Result<Vec<u64>> {
    let geometry = region.geometry();
    let count = geometry.entries() * geometry.element_words();
    if let Some(shared) = region.shared() {
        return Ok((0..count).map(|word| shared.words().load(word, Ordering::Relaxed)).collect());
    }
    let mut words = vec![0; count];
    let lookup = region.lookup().map_or(Ok(()), |lookup| lookup.run(0, geometry.entries(), &mut words));
    lookup.map_err(|e| Error::system("bpf(BPF_MAP_LOOKUP_ELEM)", e))?;
    Ok(words)
}
