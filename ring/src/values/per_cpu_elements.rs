//! PerCpuElements: as many elements for each CPU, in one array or in a per-CPU array. Counters, histograms and gauges are in banks.

use std::ops::Range;

use mapring_core::protocol::Words;

use crate::abi::Kind;
use crate::error::{Cause, Error, ReadError, Result};
use crate::region::fallback::{TripleRead, batch, lookup};
use crate::region::{Region, Shared, SharedMut};

/// The banks of a region.
#[derive(Clone)]
pub(super) struct PerCpuElements {
    pub(super) region: Region,
    /// `None` if the region is not mapped.
    shared: Option<Shared>,
    /// The first word of the first bank, and the distance to the next bank in words.
    first: usize,
    stride: usize,
    pub(super) shards: usize,
    /// The elements of a bank.
    pub(super) count: usize,
    /// The name of one element.
    thing: &'static str,
}

impl PerCpuElements {
    /// The banks in a region of this kind.
    pub(super) fn of(region: Region, kind: Kind, thing: &'static str) -> Result<Self> {
        let geometry = *region.geometry();
        let cpus = region.lookup().and_then(|lookup| lookup.cpus());
        let shards = cpus.map_or(geometry.shards(), |cpus| cpus.last().map_or(0, |last| last + 1));
        region.expect(if cpus.is_some() && kind == Kind::Counters { Kind::PerCpuCounters } else { kind })?;
        let shared = region.shared();
        let stride = geometry.element_words();
        let (first, count) = (geometry.shard(0) * stride, geometry.capacity());
        Ok(Self { region, shared, first, stride, shards, count, thing })
    }

    #[inline]
    pub(super) fn check(&self, cpu: usize, index: usize) -> Result<(), ReadError> {
        if cpu >= self.shards {
            return Err(ReadError::Index { thing: "shard", index: cpu, count: self.shards });
        }
        if index >= self.count {
            return Err(ReadError::Index { thing: self.thing, index, count: self.count });
        }
        Ok(())
    }

    /// The words of the region, if it is mapped.
    #[inline]
    pub(super) fn words(&self) -> Option<Words<'_>> {
        self.shared.as_ref().map(Shared::words)
    }

    /// The first word of the bank of this CPU.
    #[inline]
    pub(super) fn bank(&self, cpu: usize) -> usize {
        self.first + cpu * self.stride
    }

    /// Calls `f` for the bank of each of these CPUs in a region that is not mapped, with a function that returns the word at
    /// an index. A CPU without a copy has no bank.
    pub(super) fn fetch(
        &self,
        cpus: Range<usize>,
        mut f: impl FnMut(&dyn Fn(usize) -> u64),
    ) -> Result<(), ReadError> {
        let (lookup, geometry) = (lookup(&self.region), self.region.geometry());
        let words = self.stride;
        if let Some(copies) = lookup.cpus() {
            let mut banks = 0..copies.len();
            if cpus.len() == 1 {
                let Ok(at) = copies.binary_search(&cpus.start) else { return Ok(()) };
                banks = at..at + 1;
            }
            let mut triple = TripleRead::new(copies.len(), words);
            if banks.len() == 1 && lookup.one_cpu() {
                triple.fetch_by(1, |out| lookup.copy(geometry.first(), cpus.start, out))?;
                banks = 0..1;
            } else {
                triple.fetch_by(copies.len(), |out| lookup.run(geometry.first(), 1, out))?;
            }
            banks.for_each(|at| f(&|index| triple.word(at, index)));
            return Ok(());
        }
        let most = batch(words).min(cpus.len());
        let mut triple = TripleRead::new(most, words);
        for first in cpus.clone().step_by(most) {
            let count = most.min(cpus.end - first);
            triple.fetch(lookup, geometry.shard(first), count)?;
            (0..count).for_each(|at| f(&|index| triple.word(at, index)));
        }
        Ok(())
    }

    pub(super) fn writer(&self, shard: usize) -> Result<BankWriter> {
        if shard >= self.shards {
            return Err(Error::from(Cause::Index { thing: "shard", index: shard, count: self.shards }));
        }
        let (first, count, thing) = (self.bank(shard), self.count, self.thing);
        Ok(BankWriter { shared: self.region.shared_mut()?, first, count, thing })
    }
}

/// The writing side of one bank.
pub(super) struct BankWriter {
    pub(super) shared: SharedMut,
    first: usize,
    pub(super) count: usize,
    thing: &'static str,
}

impl BankWriter {
    /// The first word of an element of `stride` words.
    #[inline]
    pub(super) fn word(&self, index: usize, stride: usize) -> Result<usize> {
        if index >= self.count {
            return Err(Error::from(Cause::Index { thing: self.thing, index, count: self.count }));
        }
        Ok(self.first + index * stride)
    }
}

/// What all handles of banks and their writers have in common.
macro_rules! per_cpu_elements {
    ($handle:ident, $writer:ident, $thing:literal, $kind:expr, $bytes:expr) => {
        super::openers!([], [], $handle, |options| options, |handle| &handle.elements.region);

        impl $handle {
            /// A handle to a region that is already open.
            ///
            /// # Errors
            /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType).
            pub fn from_region(region: crate::Region) -> crate::Result<Self> {
                Ok(Self { elements: super::per_cpu_elements::PerCpuElements::of(region, $kind, $thing)? })
            }

            #[doc = concat!("Creates `shards` banks of `count` ", $thing, "s between ordinary processes, in a memfd.")]
            /// See [`Region::create_memfd`](crate::Region::create_memfd).
            ///
            /// # Errors
            /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that no banks can have,
            /// [`ErrorKind::System`](crate::ErrorKind::System).
            pub fn create_memfd(count: usize, shards: usize) -> crate::Result<Self> {
                let geometry = crate::abi::Geometry::new($kind, $bytes as u64, count as u64, shards as u64)?;
                Self::from_region(crate::Region::create_memfd(geometry, "u64")?)
            }

            #[doc = concat!("How many ", $thing, "s a bank has.")]
            pub fn len(&self) -> usize {
                self.elements.count
            }

            #[doc = concat!("Always false: a bank has at least one ", $thing, ".")]
            pub fn is_empty(&self) -> bool {
                self.elements.count == 0
            }

            /// The number of elements: the possible CPUs, if BPF programs write them.
            pub fn shards(&self) -> usize {
                self.elements.shards
            }

            /// A writer into one bank. The region must be mapped for writing: a memfd that this process created or opened
            /// with [`OpenOptions::write`](crate::OpenOptions::write), or a BPF map opened with it.
            ///
            /// # Errors
            /// [`ErrorKind::NotWritable`](crate::ErrorKind::NotWritable) with the reason,
            /// [`ErrorKind::Sealed`](crate::ErrorKind::Sealed), [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
            pub fn writer(&self, shard: usize) -> crate::Result<$writer> {
                self.elements.writer(shard).map($writer)
            }
        }

        impl std::fmt::Debug for $handle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($handle)).field(&self.elements.region).finish()
            }
        }

        #[doc = concat!("A writer into one bank of ", $thing, "s, in Rust.")]
        pub struct $writer(super::per_cpu_elements::BankWriter);

        impl $writer {
            /// The region that is written.
            pub fn region(&self) -> &crate::Region {
                self.0.shared.region()
            }
        }

        impl std::fmt::Debug for $writer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($writer)).field("count", &self.0.count).finish_non_exhaustive()
            }
        }
    };
}
pub(super) use per_cpu_elements;
