//! The same protocols over system calls, where the kernel refuses the mapping.

use std::io;

use mapring_core::protocol::{Elements, ring};

use super::region::Region;
use crate::bpf::Lookup;
pub(crate) use mapring_core::protocol::{TripleRead, batch};

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
