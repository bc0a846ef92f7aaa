//! The same protocols over system calls, where the kernel refuses the mapping.

use std::io;
use std::ops::Range;

use crate::bpf::Lookup;
use crate::error::ReadError;
use crate::protocol::{Elements, ring};
pub(super) use crate::protocol::{TripleRead, batch};
use crate::region::Region;

/// Slots of a ring that is not mapped.
pub(crate) type Window = ring::Window<ByCall>;

/// A region that is not mapped.
#[derive(Debug)]
pub(crate) struct ByCall(pub(crate) Region);

impl Elements for ByCall {
    type Error = io::Error;

    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> io::Result<()> {
        lookup(&self.0).fetch(first, count, out)
    }
}

impl Elements for Lookup {
    type Error = io::Error;

    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> io::Result<()> {
        self.run(first, count, out)
    }
}

/// The lookups of a region that is not mapped.
pub(crate) fn lookup(region: &Region) -> &Lookup {
    region.lookup().expect("the fallback is for regions that are not mapped")
}

/// Calls `f` for the bank of each of these CPUs, with a function that returns the word at an index. A CPU
/// without a copy has no bank.
pub(super) fn fetch_banks(
    region: &Region,
    cpus: Range<usize>,
    mut f: impl FnMut(&dyn Fn(usize) -> u64),
) -> Result<(), ReadError> {
    let (lookup, geometry) = (lookup(region), region.geometry());
    let words = geometry.element_words();
    if let Some(copies) = lookup.cpus() {
        let mut banks = 0..copies.len();
        if cpus.len() == 1 {
            let Ok(at) = copies.binary_search(&cpus.start) else { return Ok(()) };
            banks = at..at + 1;
        }
        let mut looks = TripleRead::new(copies.len(), words);
        if banks.len() == 1 && lookup.one_cpu() {
            looks.fetch_by(1, |out| lookup.copy(geometry.first(), cpus.start, out))?;
            banks = 0..1;
        } else {
            looks.fetch_by(copies.len(), |out| lookup.run(geometry.first(), 1, out))?;
        }
        banks.for_each(|at| f(&|index| looks.word(at, index)));
        return Ok(());
    }
    let most = batch(words).min(cpus.len());
    let mut looks = TripleRead::new(most, words);
    for first in cpus.clone().step_by(most) {
        let count = most.min(cpus.end - first);
        looks.fetch(lookup, geometry.shard(first), count)?;
        (0..count).for_each(|at| f(&|index| looks.word(at, index)));
    }
    Ok(())
}
