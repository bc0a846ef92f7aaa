//! Counters: a bank for each CPU, read apart or summed, in one array or in a per-CPU one.

use std::fmt;
use std::ops::Range;

use parking_lot::Mutex;

use super::fallback::{batch, lookup};
use super::openers;
use crate::error::{Error, ReadError, Result};
use crate::layout::{Geometry, Kind, WORD};
use crate::protocol::counters;
use crate::region::{Region, Shared, SharedMut, Source};

/// Banks of `u64` counters, one for each CPU that counts.
///
/// Each counter is exact; two counters read one after the other are of different moments.
///
/// Counters in a `PERCPU_ARRAY` (`MAPRING_PERCPU_COUNTERS` of `percpu.bpf.h`) are read in the same
/// way, but always by system call: one for the banks of all CPUs.
pub struct Counters {
    region: Region,
    source: Banks,
    count: usize,
    shards: usize,
}

enum Banks {
    /// With the first bank's word, and how many words on the next one is.
    Mapped(Shared, usize, usize),
    Lookup(Mutex<Vec<u64>>),
    /// Room for the banks of all CPUs.
    PerCpu(Mutex<Vec<u64>>),
}

openers!(Counters);

impl Counters {
    /// Counters over a region that is already open.
    ///
    /// # Errors
    /// [`Error::Kind`].
    pub fn from_region(region: Region) -> Result<Self> {
        let geometry = *region.geometry();
        let stride = geometry.element_words();
        if let Some(per_cpu) = region.lookup().and_then(|lookup| lookup.copies()) {
            region.expect(Kind::PerCpuCounters)?;
            let banks = Banks::PerCpu(Mutex::new(vec![0; stride * per_cpu.cpus.len()]));
            let shards = per_cpu.cpus.last().map_or(0, |last| last + 1);
            return Ok(Self { source: banks, count: geometry.capacity(), shards, region });
        }
        region.expect(Kind::Counters)?;
        let source = match region.source() {
            Source::Mapped(shared) => Banks::Mapped(shared, geometry.shard(0) * stride, stride),
            Source::Lookup(_) => {
                Banks::Lookup(Mutex::new(vec![0; batch(stride).min(geometry.shards()) * stride]))
            }
        };
        Ok(Self { source, count: geometry.capacity(), shards: geometry.shards(), region })
    }

    /// Makes `shards` banks of `count` counters between ordinary processes, in a memfd. See
    /// [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`Error::Geometry`] for numbers that can't be, [`Error::System`].
    pub fn create_memfd(count: usize, shards: usize) -> Result<Self> {
        let geometry = Geometry::new(Kind::Counters, WORD as u64, count as u64, shards as u64)?;
        Self::from_region(Region::create_memfd(geometry, "u64")?)
    }

    /// How many counters a bank has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none. There is always one.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many banks there are: possible CPUs, for what BPF programs count. (Where their numbers
    /// have gaps, a `PERCPU_ARRAY`'s banks are numbered with them, and read as zeros.)
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// One counter of one CPU. Mapped: one load. Otherwise a system call, behind a lock of this
    /// handle's.
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
            Banks::Lookup(banks) => {
                let mut value = 0;
                self.fetch(banks, cpu..cpu + 1, |bank| value = bank[index])?;
                Ok(value)
            }
            Banks::PerCpu(banks) => {
                let mut value = 0;
                self.fetch_copies(banks, Some(cpu), |bank| value = bank[index])?;
                Ok(value)
            }
        }
    }

    /// One counter, all CPUs together (wrapping). Mapped: a load for each CPU.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn sum(&self, index: usize) -> Result<u64, ReadError> {
        self.check(0, index)?;
        let add = |sum: u64, value: u64| sum.wrapping_add(value);
        match &self.source {
            Banks::Mapped(shared, first, stride) => {
                let words = shared.words();
                Ok((0..self.shards)
                    .map(|cpu| counters::get(words, first + cpu * stride + index))
                    .fold(0, add))
            }
            Banks::Lookup(banks) => {
                let mut sum = 0;
                self.fetch(banks, 0..self.shards, |bank| sum = add(sum, bank[index]))?;
                Ok(sum)
            }
            Banks::PerCpu(banks) => {
                let mut sum = 0;
                self.fetch_copies(banks, None, |bank| sum = add(sum, bank[index]))?;
                Ok(sum)
            }
        }
    }

    /// All counters, all CPUs together (wrapping): counter `i` in `sums[i]`, as many as both have.
    ///
    /// # Errors
    /// [`ReadError::Lookup`].
    pub fn sums(&self, sums: &mut [u64]) -> Result<(), ReadError> {
        let count = sums.len().min(self.count);
        let sums = &mut sums[..count];
        sums.fill(0);
        let add = |bank: &[u64]| {
            sums.iter_mut().zip(bank).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        };
        match &self.source {
            Banks::Mapped(shared, first, stride) => {
                for cpu in 0..self.shards {
                    let bank = shared.words().slice(first + cpu * stride, count);
                    for (index, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.wrapping_add(counters::get(bank, index));
                    }
                }
            }
            Banks::Lookup(banks) => self.fetch(banks, 0..self.shards, add)?,
            Banks::PerCpu(banks) => self.fetch_copies(banks, None, add)?,
        }
        Ok(())
    }

    /// A writer into one bank. The region must be mapped for writing: a memfd that was made here
    /// or opened with [`Options::write`](crate::Options::write).
    ///
    /// # Errors
    /// [`Error::NotWritable`] with the reason, [`Error::Sealed`], [`Error::Index`].
    pub fn writer(&self, shard: usize) -> Result<CountersWriter> {
        if shard >= self.shards {
            return Err(Error::Index { thing: "shard", index: shard, count: self.shards });
        }
        let geometry = self.region.geometry();
        let first = geometry.shard(shard) * geometry.element_words();
        Ok(CountersWriter { shared: self.region.shared_mut()?, first, count: self.count })
    }

    /// Calls `f` with the bank of each of these CPUs, fetched by a few at a time.
    fn fetch(
        &self,
        banks: &Mutex<Vec<u64>>,
        cpus: Range<usize>,
        mut f: impl FnMut(&[u64]),
    ) -> Result<(), ReadError> {
        let lookup = lookup(&self.region);
        let mut banks = banks.lock();
        let stride = self.region.geometry().element_words();
        let some = banks.len() / stride;
        for first in cpus.clone().step_by(some) {
            let count = some.min(cpus.end - first);
            let banks = &mut banks[..count * stride];
            lookup.run(self.region.geometry().shard(first), count, banks)?;
            banks.chunks(stride).for_each(&mut f);
        }
        Ok(())
    }

    /// Calls `f` with the bank of `cpu`, or with those of all, out of a per-CPU map.
    fn fetch_copies(
        &self,
        banks: &Mutex<Vec<u64>>,
        cpu: Option<usize>,
        f: impl FnMut(&[u64]),
    ) -> Result<(), ReadError> {
        let lookup = self.region.lookup().expect("per-CPU maps are never mapped");
        let per_cpu = lookup.copies().expect("checked when it was opened");
        let (element, stride) = (self.region.geometry().first(), self.region.geometry().element_words());
        let mut banks = banks.lock();
        let wanted = match cpu {
            Some(cpu) if per_cpu.one && per_cpu.cpus.contains(&cpu) => {
                lookup.copy(element, cpu, &mut banks[..stride])?;
                0..1
            }
            _ => {
                lookup.run(element, 1, &mut banks)?;
                match cpu.map(|cpu| per_cpu.cpus.binary_search(&cpu)) {
                    None => 0..per_cpu.cpus.len(),
                    Some(Ok(at)) => at..at + 1,
                    Some(Err(_)) => 0..0,
                }
            }
        };
        banks[wanted.start * stride..wanted.end * stride].chunks(stride).for_each(f);
        Ok(())
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

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counters").field(&self.region).finish()
    }
}

/// A writer into one bank of counters in ordinary Rust.
pub struct CountersWriter {
    shared: SharedMut,
    first: usize,
    count: usize,
}

impl CountersWriter {
    /// Adds to a counter, atomically and relaxed. No system call.
    ///
    /// # Errors
    /// [`Error::Index`].
    #[inline]
    pub fn add(&self, index: usize, by: u64) -> Result<()> {
        if index >= self.count {
            return Err(Error::Index { thing: "counter", index, count: self.count });
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
