//! Replaces the module `bpf` in builds without that feature: there are no maps, so all of its types are empty.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::abi::Preamble;
use crate::error::{Cause, Error, Result};
use crate::region::{OpenOptions, Region, SharedMut};

/// Replaces every type of that module that the other modules use for maps.
#[derive(Clone, Debug)]
pub(crate) enum Map {}

pub(crate) use Map as ByCall;
pub(crate) use Map as Lookup;
pub(crate) use Map as MapOfMaps;
pub(crate) use Map as Origin;
pub(crate) use Map as MapSource;
pub(crate) use Map as Ringbuf;

/// A loaded program that uses a region's map: there is none without the cargo feature `bpf`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapUser {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The number of links by which it is attached.
    pub links: usize,
}

impl Region {
    /// The loaded programs that use this region's map: none, as it is a memfd.
    ///
    /// # Errors
    /// None.
    pub fn programs(&self) -> Result<Vec<MapUser>> {
        Ok(Vec::new())
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options;

/// No source is ever gone.
pub(crate) fn is_gone(_: &Error) -> bool {
    false
}

/// No region is in a map.
pub(crate) fn places_of(ring: &Region) -> Result<(SharedMut, MapOfMaps)> {
    Err(Error::from(Cause::NotWakeable { what: ring.what().to_owned(), why: "it is not in a memfd" }))
}

pub(crate) fn readers_of(ring: &Region) -> Result<Region> {
    places_of(ring).map(|(_, bells)| match bells {})
}

pub(crate) fn open_fd(fd: OwnedFd, _: OpenOptions) -> Result<Region> {
    Err(Error::from(Cause::NotARegion {
        what: format!("fd {}", fd.as_raw_fd()),
        expected: "a memfd",
        hint: " (BPF maps need mapring's cargo feature `bpf`)",
    }))
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl Map {
    pub(crate) fn new(_: &Region) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn at(&self, _: &[u8]) -> Self {
        match *self {}
    }

    pub(crate) fn for_entry(entry: Self) -> Result<Self> {
        match entry {}
    }

    pub(crate) fn put(&self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn remove(&self) {
        match *self {}
    }

    pub(crate) fn silence(&self) {
        match *self {}
    }

    pub(crate) fn has_rung(&self) -> bool {
        match *self {}
    }

    pub(crate) fn open(self, _: OpenOptions) -> Result<Region> {
        match self {}
    }

    pub(crate) fn successor(&self) -> Result<Option<Region>> {
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

    pub(crate) fn elements(&self, _: usize, _: &mut [u64]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn update(&self, _: usize, _: &[u64]) -> Result<()> {
        match *self {}
    }
}
