//! Top keys: which keys have most events or bytes, merged over all CPUs.

use std::fmt;

use crossbeam_utils::Backoff;
use mapring_core::protocol::top::{self, Copy};
use mapring_core::protocol::{Element, cell};

use super::openers;
use crate::abi::top::{BUCKET, STRIDE, bucket};
use crate::abi::{Geometry, Kind};
use crate::error::{Cause, Error, ReadError, Result};
use crate::region::fallback::{TripleRead, batch, lookup};
use crate::region::{Region, SharedMut, SharedRows};

/// The keys to which programs added most (`MAPRING_TOP_KEYS` of `top.bpf.h`): processes, cgroups, addresses.
///
/// Each CPU has a table of buckets, and each bucket counts 10 keys exactly. When an eleventh comes, it takes the place of
/// the one with the smallest count. So the count of a key can be too large, by at most its `error`: less than a tenth of
/// everything that was added to the keys of its bucket. Keys with more than that are never missing.
///
/// ```
/// use mapring::TopKeys;
///
/// let bytes = TopKeys::create_memfd(64, 1)?; // buckets, shards
/// let writer = bytes.writer(0)?;
/// for pid in 1..=100 {
///     writer.add(pid, 10 * pid);
/// }
/// let top = bytes.largest(3)?;
/// assert_eq!(top.keys.iter().map(|top| (top.key, top.count, top.error)).collect::<Vec<_>>(), [
///     (100, 1000, 0), (99, 990, 0), (98, 980, 0),
/// ]);
/// assert_eq!((top.total, top.other, top.unlisted), (50_500, 0, 970));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TopKeys {
    region: Region,
    /// Empty if the region is not mapped.
    mapped: SharedRows<Bucket>,
}

struct Bucket;

impl Element for Bucket {
    const WORDS: Option<usize> = Some(STRIDE);
}

openers!(TopKeys);

/// A key and what was added to it: at least `count - error`, and at most `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key.
    pub key: u64,
    /// The most that was added to it.
    pub count: u64,
    /// How much too large `count` can be.
    pub error: u64,
}

/// The largest keys, and what is known about all others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranking {
    /// The keys with the largest counts, in descending order.
    pub keys: Vec<TopKey>,
    /// Everything that was added, exactly.
    pub total: u64,
    /// The part of it that is in no count, because the program interrupted another one in the same bucket. It is part of
    /// the errors of all keys of that bucket.
    pub other: u64,
    /// No key that is not in `keys` has more than this.
    pub unlisted: u64,
}

impl TopKeys {
    /// How often a read of a bucket tries before it returns [`ReadError::Busy`].
    pub const MAX_TRIES: u32 = 128;

    /// Top keys over a region that is already open.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType).
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect(Kind::TopKeys)?;
        let geometry = region.geometry();
        let (first, count) = (geometry.first() * STRIDE, geometry.capacity() * geometry.shards());
        let mapped = SharedRows::of(&region, first, count, STRIDE);
        Ok(Self { region, mapped })
    }

    /// Creates `shards` tables of `buckets` (a power of two) between ordinary processes, in a memfd. See
    /// [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that no table can have,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(buckets: usize, shards: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::TopKeys, BUCKET as u64, buckets as u64, shards as u64)?;
        Self::from_region(Region::create_memfd(geometry, "u64")?)
    }

    /// The number of buckets of a table. Each counts 10 keys.
    pub fn buckets(&self) -> usize {
        self.region.geometry().capacity()
    }

    /// The number of tables: the possible CPUs, if BPF programs add.
    pub fn shards(&self) -> usize {
        self.region.geometry().shards()
    }

    /// The `k` keys with the largest counts, summed over all CPUs. Copies all tables. If mapped: no system call.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if a program was in one bucket during each of [`MAX_TRIES`](Self::MAX_TRIES) attempts to copy
    /// it: it was preempted there. [`ReadError::Lookup`].
    pub fn largest(&self, k: usize) -> Result<Ranking, ReadError> {
        let copies = self.copies()?;
        let (mut keys, mut ranking) =
            (Vec::new(), Ranking { keys: Vec::new(), total: 0, other: 0, unlisted: 0 });
        for number in 0..self.buckets() {
            let here = || copies.iter().skip(number).step_by(self.buckets());
            // The most that a key has which no CPU counts.
            let absent = sum(here().map(|copy| top::least(copy).saturating_add(top::other(copy))));
            ranking.unlisted = ranking.unlisted.max(absent);
            ranking.other = ranking.other.saturating_add(sum(here().map(top::other)));
            let mut entries: Vec<_> = here()
                .flat_map(|copy| {
                    let least = top::least(copy);
                    top::entries(copy)
                        .map(move |(key, count, error)| (key, count, error, count.saturating_sub(least)))
                })
                .collect();
            ranking.total = ranking.total.saturating_add(sum(entries.iter().map(|entry| entry.1)));
            entries.sort_unstable();
            keys.extend(entries.chunk_by(|a, b| a.0 == b.0).map(|same| {
                let sure = sum(same.iter().map(|(_, count, error, _)| count.saturating_sub(*error)));
                let count = absent.saturating_add(sum(same.iter().map(|entry| entry.3)));
                TopKey { key: same[0].0, count, error: count.saturating_sub(sure) }
            }));
        }
        ranking.total = ranking.total.saturating_add(ranking.other);
        keys.sort_unstable_by_key(|top| (std::cmp::Reverse(top.count), top.key));
        ranking.unlisted = ranking.unlisted.max(keys.get(k).map_or(0, |top| top.count));
        keys.truncate(k);
        ranking.keys = keys;
        Ok(ranking)
    }

    /// A writer into one table. The region must be mapped for writing: a memfd that this process created or opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    pub fn writer(&self, shard: usize) -> Result<TopKeysWriter> {
        if shard >= self.shards() {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count: self.shards() }));
        }
        let first = self.region.geometry().shard(shard);
        Ok(TopKeysWriter { shared: self.region.shared_mut()?, first, buckets: self.buckets() })
    }

    /// Copies of all buckets, shard by shard.
    fn copies(&self) -> Result<Vec<Copy>, ReadError> {
        let count = self.buckets() * self.shards();
        if self.region.lookup().is_none() {
            return (0..count).map(|at| self.retry(|| Ok(self.try_read(at)))).collect();
        }
        let most = batch(STRIDE).min(count);
        let mut triple = TripleRead::new(most, STRIDE);
        let mut copies = Vec::with_capacity(count);
        for first in (0..count).step_by(most) {
            let some = most.min(count - first);
            triple.fetch(lookup(&self.region), self.region.geometry().first() + first, some)?;
            for at in 0..some {
                match taken(&triple, at) {
                    Some(copy) => copies.push(copy),
                    None => copies.push(self.retry(|| self.by_call(first + at))?),
                }
            }
        }
        Ok(copies)
    }

    fn try_read(&self, at: usize) -> Option<Copy> {
        let mut copy = [0; STRIDE - 1];
        cell::try_read(self.mapped.get(at)?, &mut copy).map(|_| copy)
    }

    fn by_call(&self, at: usize) -> Result<Option<Copy>, ReadError> {
        let mut triple = TripleRead::new(1, STRIDE);
        triple.fetch(lookup(&self.region), self.region.geometry().first() + at, 1)?;
        Ok(taken(&triple, 0))
    }

    fn retry(&self, mut read: impl FnMut() -> Result<Option<Copy>, ReadError>) -> Result<Copy, ReadError> {
        let backoff = Backoff::new();
        for _ in 0..Self::MAX_TRIES {
            if let Some(copy) = read()? {
                return Ok(copy);
            }
            backoff.spin();
        }
        Err(ReadError::Busy { tries: Self::MAX_TRIES })
    }
}

/// The bucket `at`, if the lookups found it whole.
fn taken(triple: &TripleRead, at: usize) -> Option<Copy> {
    let mut copy = [0; STRIDE - 1];
    triple.value(at, cell::value_at, &mut copy).map(|_| copy)
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

impl fmt::Debug for TopKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TopKeys").field(&self.region).finish()
    }
}

/// A writer into one table of top keys, in Rust.
pub struct TopKeysWriter {
    shared: SharedMut,
    first: usize,
    buckets: usize,
}

impl TopKeysWriter {
    /// Adds to the count of a key. Makes no system call and never waits. Returns whether it is in the key's count: not if
    /// another writer is in the same bucket ([`Ranking::other`]).
    #[inline]
    pub fn add(&self, key: u64, amount: u64) -> bool {
        let at = (self.first + bucket(key, self.buckets)) * STRIDE;
        top::add(self.shared.words().slice(at, STRIDE), key, amount)
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl fmt::Debug for TopKeysWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopKeysWriter").field("buckets", &self.buckets).finish_non_exhaustive()
    }
}
