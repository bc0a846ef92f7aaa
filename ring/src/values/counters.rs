//! Counters: a bank for each CPU, read apart or summed, in one array or in a per-CPU array.

use mapring_core::protocol::counters;

use super::per_cpu_elements::{PerCpuElements, per_cpu_elements};
use crate::abi::{Kind, WORD};
use crate::error::{ReadError, Result};

/// PerCpuElements of `u64` counters, one for each CPU that counts.
///
/// Each counter is exact. Two counters that are read one after the other show different moments.
///
/// Counters in a `PERCPU_ARRAY` (`MAPRING_PERCPU_COUNTERS` of `percpu.bpf.h`) are read in the same way, but always by
/// system call. On Linux 7.0 and later, [`get`](Self::get) reads the bank of one CPU; other reads, and earlier kernels,
/// get the banks of all CPUs. If the numbers of the CPUs have gaps, these banks have the same gaps, which read as zeros.
///
/// Each read by system call makes three lookups, because the kernel may copy one part of a number before it changes and
/// the rest after.
#[derive(Clone)]
pub struct Counters {
    elements: PerCpuElements,
}

per_cpu_elements!(Counters, CountersWriter, "counter", Kind::Counters, WORD);

impl Counters {
    /// One counter of one CPU. If mapped: one load. Otherwise system calls.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn get(&self, cpu: usize, index: usize) -> Result<u64, ReadError> {
        self.elements.check(cpu, index)?;
        if let Some(words) = self.elements.words() {
            return Ok(counters::get(words, self.elements.bank(cpu) + index));
        }
        let mut value = 0;
        self.elements.fetch(cpu..cpu + 1, |bank| value = bank(index))?;
        Ok(value)
    }

    /// One counter, summed over all CPUs (wrapping). If mapped: a load for each CPU.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn sum(&self, index: usize) -> Result<u64, ReadError> {
        self.elements.check(0, index)?;
        let cpus = 0..self.shards();
        if let Some(words) = self.elements.words() {
            let counts = cpus.map(|cpu| counters::get(words, self.elements.bank(cpu) + index));
            return Ok(counts.fold(0, u64::wrapping_add));
        }
        let mut sum = 0_u64;
        self.elements.fetch(cpus, |bank| sum = sum.wrapping_add(bank(index)))?;
        Ok(sum)
    }

    /// All counters, summed over all CPUs (wrapping): counter `i` in `sums[i]`, up to the shorter of both lengths.
    ///
    /// # Errors
    /// [`ReadError::Lookup`].
    pub fn sums(&self, sums: &mut [u64]) -> Result<(), ReadError> {
        let count = sums.len().min(self.len());
        let sums = &mut sums[..count];
        sums.fill(0);
        let cpus = 0..self.shards();
        let Some(words) = self.elements.words() else {
            return self.elements.fetch(cpus, |bank| add(sums, bank));
        };
        for cpu in cpus {
            let bank = words.slice(self.elements.bank(cpu), count);
            add(sums, |index| counters::get(bank, index));
        }
        Ok(())
    }
}

fn add(sums: &mut [u64], bank: impl Fn(usize) -> u64) {
    sums.iter_mut().enumerate().for_each(|(index, sum)| *sum = sum.wrapping_add(bank(index)));
}

impl CountersWriter {
    /// Adds to a counter, atomically and relaxed. Makes no system call.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    #[inline]
    pub fn add(&self, index: usize, by: u64) -> Result<()> {
        counters::add(self.0.shared.words(), self.0.word(index, 1)?, by);
        Ok(())
    }
}
