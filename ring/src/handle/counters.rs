//! Counters: a bank for each CPU, read apart or summed, in one array or in a per-CPU array.

use std::fmt;

use super::fallback::fetch_banks;
use super::openers;
use crate::abi::{Geometry, Kind, WORD};
use crate::error::{Cause, Error, ReadError, Result};
use crate::protocol::counters;
use crate::region::{Region, Shared, SharedMut, View};

/// Banks of `u64` counters, one for each CPU that counts.
///
/// Each counter is exact. Two counters that are read one after the other show different moments.
///
/// Counters in a `PERCPU_ARRAY` (`MAPRING_PERCPU_COUNTERS` of `percpu.bpf.h`) are read in the same way, but always by
/// system call. On Linux 7.0 and later, [`get`](Self::get) reads the bank of one CPU; other reads, and earlier kernels,
/// get the banks of all CPUs.
///
/// Each read by system call makes three lookups, because the kernel may copy one part of a number before it changes and
/// the rest after.
#[derive(Clone)]
pub struct Counters {
    region: Region,
    source: Banks,
    count: usize,
    shards: usize,
}

#[derive(Clone)]
enum Banks {
    /// The first word of the first bank, and the distance to the next bank in words.
    Mapped(Shared, usize, usize),
    Lookup,
}

openers!(Counters);

impl Counters {
    /// Counters over a region that is already open.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType).
    pub fn from_region(region: Region) -> Result<Self> {
        let geometry = *region.geometry();
        let stride = geometry.element_words();
        if let Some(cpus) = region.lookup().and_then(|lookup| lookup.cpus()) {
            region.expect(Kind::PerCpuCounters)?;
            let source = Banks::Lookup;
            let shards = cpus.last().map_or(0, |last| last + 1);
            return Ok(Self { source, count: geometry.capacity(), shards, region });
        }
        region.expect(Kind::Counters)?;
        let source = match region.view() {
            View::Mapped(shared) => Banks::Mapped(shared, geometry.shard(0) * stride, stride),
            View::Lookup(_) => Banks::Lookup,
        };
        Ok(Self { source, count: geometry.capacity(), shards: geometry.shards(), region })
    }

    /// Creates `shards` banks of `count` counters between ordinary processes, in a memfd. See [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that can't be counters or shards,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(count: usize, shards: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::Counters, WORD as u64, count as u64, shards as u64)?;
        Self::from_region(Region::create_memfd(geometry, "u64")?)
    }

    /// How many counters a bank has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Always false: a bank has at least one counter.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of banks: the possible CPUs, if BPF programs count. (If their numbers have gaps, the banks of a
    /// `PERCPU_ARRAY` have the same gaps, which read as zeros.)
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// One counter of one CPU. If mapped: one load. Otherwise system calls.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn get(&self, cpu: usize, index: usize) -> Result<u64, ReadError> {
        self.check(cpu, index)?;
        match &self.source {
            Banks::Mapped(shared, first, stride) => {
                Ok(counters::get(shared.words(), first + cpu * stride + index))
            }
            Banks::Lookup => {
                let mut value = 0;
                fetch_banks(&self.region, cpu..cpu + 1, |bank| value = bank(index))?;
                Ok(value)
            }
        }
    }

    /// One counter, summed over all CPUs (wrapping). If mapped: a load for each CPU.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn sum(&self, index: usize) -> Result<u64, ReadError> {
        self.check(0, index)?;
        match &self.source {
            Banks::Mapped(shared, first, stride) => {
                let words = shared.words();
                Ok((0..self.shards)
                    .map(|cpu| counters::get(words, first + cpu * stride + index))
                    .fold(0, u64::wrapping_add))
            }
            Banks::Lookup => {
                let mut sum = 0_u64;
                fetch_banks(&self.region, 0..self.shards, |bank| sum = sum.wrapping_add(bank(index)))?;
                Ok(sum)
            }
        }
    }

    /// All counters, summed over all CPUs (wrapping): counter `i` in `sums[i]`, up to the shorter of both lengths.
    ///
    /// # Errors
    /// [`ReadError::Lookup`].
    pub fn sums(&self, sums: &mut [u64]) -> Result<(), ReadError> {
        let count = sums.len().min(self.count);
        let sums = &mut sums[..count];
        sums.fill(0);
        match &self.source {
            Banks::Mapped(shared, first, stride) => {
                for cpu in 0..self.shards {
                    let bank = shared.words().slice(first + cpu * stride, count);
                    add(sums, |index| counters::get(bank, index));
                }
            }
            Banks::Lookup => fetch_banks(&self.region, 0..self.shards, |bank| add(sums, bank))?,
        }
        Ok(())
    }

    /// A writer into one bank. The region must be mapped for writing: a memfd that this process created or opened with
    /// [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
    /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    pub fn writer(&self, shard: usize) -> Result<CountersWriter> {
        if shard >= self.shards {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count: self.shards }));
        }
        let geometry = self.region.geometry();
        let first = geometry.shard(shard) * geometry.element_words();
        Ok(CountersWriter { shared: self.region.shared_mut()?, first, count: self.count })
    }

    #[inline]
    fn check(&self, cpu: usize, index: usize) -> Result<(), ReadError> {
        if cpu >= self.shards {
            return Err(ReadError::Index { thing: "shard", index: cpu, count: self.shards });
        }
        if index >= self.count {
            return Err(ReadError::Index { thing: "counter", index, count: self.count });
        }
        Ok(())
    }
}

fn add(sums: &mut [u64], bank: impl Fn(usize) -> u64) {
    sums.iter_mut().enumerate().for_each(|(index, sum)| *sum = sum.wrapping_add(bank(index)));
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counters").field(&self.region).finish()
    }
}

/// A writer into one bank of counters, in Rust.
pub struct CountersWriter {
    shared: SharedMut,
    first: usize,
    count: usize,
}

impl CountersWriter {
    /// Adds to a counter, atomically and relaxed. Makes no system call.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    #[inline]
    pub fn add(&self, index: usize, by: u64) -> Result<()> {
        if index >= self.count {
            return Err(Error::from(Cause::Index { thing: "counter", index, count: self.count }));
        }
        counters::add(self.shared.words(), self.first + index, by);
        Ok(())
    }

    /// The region that is written.
    pub fn region(&self) -> &Region {
        self.shared.region()
    }
}

impl fmt::Debug for CountersWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountersWriter").field("count", &self.count).finish_non_exhaustive()
    }
}
