//! Cells in a `PERCPU_ARRAY`, with a copy for each CPU: always read by system call.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::AnyBitPattern;
use crossbeam_utils::Backoff;
use mapring_core::protocol::cell;

use super::openers;
use super::table::Snapshot;
use crate::abi::Kind;
use crate::bpf::Lookup;
use crate::error::{ReadError, Result};
use crate::region::Region;
use crate::region::fallback::{TripleRead, batch};

/// A table of cells of type `T` for each CPU: `MAPRING_PERCPU_CELLS` of `percpu.bpf.h`.
///
/// CPUs never meet in a cell. Programs drop an update only if one interrupts or preempts another on the same CPU. Each
/// value is still read whole. In return, the kernel does not map a `PERCPU_ARRAY`: every read makes three system calls.
/// They return the values of all CPUs. Only on Linux 7.0 and later, [`read`](Self::read) and
/// [`snapshot`](Self::snapshot) get the value of one CPU. For values that are read very often, use
/// [`Cells`](super::Cells) indexed by CPU.
///
/// There are values for all [possible CPUs](Self::cpus). The values of a CPU that went
/// [offline](crate::cpus::online_cpus) stay.
pub struct PerCpuCells<T> {
    region: Region,
    value: PhantomData<fn() -> T>,
}

openers!([] PerCpuCells<T>, T, Kind::PerCpuCells);

impl<T: AnyBitPattern> PerCpuCells<T> {
    /// How many times a read tries before it returns [`ReadError::Busy`].
    pub const MAX_TRIES: u32 = 128;

    /// Cells over a region that is already open. Whether the values are compared: see
    /// [`Ring::from_region`](crate::Ring::from_region).
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) and [`ErrorKind::Layout`](crate::ErrorKind::Layout), with
    /// both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect_record::<T>(Kind::PerCpuCells)?;
        Ok(Self { region, value: PhantomData })
    }

    /// How many cells each CPU has.
    pub fn len(&self) -> usize {
        self.region.geometry().capacity()
    }

    /// Always false: there is at least one cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The CPUs that have cells, in ascending order, sometimes with gaps.
    pub fn cpus(&self) -> &[usize] {
        cpus(&self.region)
    }

    /// Whether the kernel can return the value of a single CPU (`BPF_F_CPU`, Linux 7.0 and later). Otherwise reading
    /// one CPU's value costs as much as reading all.
    pub fn one_cpu_lookups(&self) -> bool {
        lookup(&self.region).one_cpu()
    }

    /// One CPU's latest value, all zeros if it was never written. Three system calls per attempt, at most
    /// [`MAX_TRIES`](Self::MAX_TRIES) attempts.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if a writer interfered with each attempt, [`ReadError::Index`] for a cell or CPU that does
    /// not exist, [`ReadError::Lookup`].
    pub fn read(&self, cpu: usize, index: usize) -> Result<T, ReadError> {
        self.snapshot(cpu, index).map(|snapshot| snapshot.value)
    }

    /// Like [`read`](Self::read), with the value's version.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn snapshot(&self, cpu: usize, index: usize) -> Result<Snapshot<T>, ReadError> {
        let cpus = self.cpus();
        let no_such = ReadError::Index { thing: "CPU", index: cpu, count: cpus.len() };
        let at = cpus.iter().position(|&c| c == cpu).ok_or(no_such)?;
        let element = self.element(index)?;
        let (lookup, one) = (lookup(&self.region), self.one_cpu_lookups());
        let mut triple = self.buffers(1);
        read_retry(|| {
            if one {
                triple.fetch_by(1, |words| lookup.copy(element, cpu, words))?;
                return Ok(whole(&triple, 0));
            }
            triple.fetch_by(cpus.len(), |words| lookup.run(element, 1, words))?;
            Ok(whole(&triple, at))
        })
    }

    /// One cell's values on all CPUs, in the order of [`cpus`](Self::cpus): each is whole, but they are of different
    /// moments. Three system calls per attempt, for all together.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn snapshots(&self, index: usize) -> Result<Vec<Snapshot<T>>, ReadError> {
        let element = self.element(index)?;
        let lookup = lookup(&self.region);
        let mut found = vec![None; self.cpus().len()];
        let mut triple = self.buffers(1);
        read_retry(|| {
            triple.fetch_by(found.len(), |words| lookup.run(element, 1, words))?;
            for (at, found) in found.iter_mut().enumerate().filter(|(_, found)| found.is_none()) {
                *found = whole(&triple, at);
            }
            Ok(found.iter().copied().collect())
        })
    }

    /// Calls `f` with the index, the CPU and the value of every cell. Reads many cells per batch, each cell once.
    /// Returns how many were skipped because a writer interfered.
    ///
    /// # Errors
    /// [`ReadError::Lookup`].
    pub fn for_each(&self, mut f: impl FnMut(usize, usize, Snapshot<T>)) -> Result<usize, ReadError> {
        let (cpus, lookup, geometry) = (self.cpus(), lookup(&self.region), self.region.geometry());
        let most = batch(geometry.element_words() * cpus.len());
        let mut busy = 0;
        let mut triple = self.buffers(most);
        for first in (0..self.len()).step_by(most) {
            let count = most.min(self.len() - first);
            triple
                .fetch_by(count * cpus.len(), |words| lookup.run(geometry.first() + first, count, words))?;
            for (index, at) in (first..first + count).zip((0..).step_by(cpus.len())) {
                for (at, &cpu) in (at..).zip(cpus) {
                    match whole(&triple, at) {
                        Some(snapshot) => f(index, cpu, snapshot),
                        None => busy += 1,
                    }
                }
            }
        }
        Ok(busy)
    }

    /// Buffers for the copies of this many elements.
    fn buffers(&self, elements: usize) -> TripleRead {
        TripleRead::new(elements * self.cpus().len(), self.region.geometry().element_words())
    }

    fn element(&self, index: usize) -> Result<usize, ReadError> {
        if index >= self.len() {
            return Err(ReadError::Index { thing: "cell", index, count: self.len() });
        }
        Ok(self.region.geometry().first() + index)
    }
}

/// The value at `at`, if no writer interfered.
fn whole<T: AnyBitPattern>(triple: &TripleRead, at: usize) -> Option<Snapshot<T>> {
    let mut value = T::zeroed();
    let seq = triple.value(at, cell::value_at, &mut value)?;
    Some(Snapshot { version: seq / 2, value })
}

/// Tries until there is a result, with growing pauses.
fn read_retry<R>(mut try_read: impl FnMut() -> Result<Option<R>, ReadError>) -> Result<R, ReadError> {
    let tries = PerCpuCells::<u64>::MAX_TRIES;
    let backoff = Backoff::new();
    for _ in 0..tries {
        if let Some(found) = try_read()? {
            return Ok(found);
        }
        backoff.spin();
    }
    Err(ReadError::Busy { tries })
}

fn lookup(region: &Region) -> &Lookup {
    region.lookup().expect("per-CPU maps are never mapped")
}

fn cpus(region: &Region) -> &[usize] {
    lookup(region).cpus().expect("a per-CPU kind is in a per-CPU map")
}

impl<T> Clone for PerCpuCells<T> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for PerCpuCells<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerCpuCells").field(&self.region).finish()
    }
}
