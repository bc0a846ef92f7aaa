//! Replaces the module `bpf` in builds without that feature: there are no maps, so its types are empty.

use std::io;

use crate::abi::Preamble;
use crate::error::Error;

/// Replaces every type of that module that the other modules use.
#[derive(Clone, Debug)]
pub(crate) enum Map {}

pub(crate) use Map as Lookup;
pub(crate) use Map as MapOfMaps;

/// No source is ever gone.
pub(crate) fn is_gone(_: &Error) -> bool {
    false
}

impl Map {
    pub(crate) fn at(&self, _: &[u8]) -> Self {
        match *self {}
    }

    pub(crate) fn preamble(&self) -> io::Result<[u64; Preamble::WORDS]> {
        match *self {}
    }

    pub(crate) fn cpus(&self) -> Option<&[usize]> {
        match *self {}
    }

    pub(crate) fn one_cpu(&self) -> bool {
        match *self {}
    }

    pub(crate) fn copy(&self, _: usize, _: usize, _: &mut [u64]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn run(&self, _: usize, _: usize, _: &mut [u64]) -> io::Result<()> {
        match *self {}
    }
}
