//! Replaces the module `bpf` in builds without that feature: there are no maps, so all of its types are empty.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::abi::Preamble;
use crate::error::{Cause, Error, Result};
use crate::region::{OpenOptions, Region};

/// Replaces every type of that module that the other modules use for maps.
#[derive(Debug)]
pub(crate) enum Map {}

pub(crate) use Map as Bell;
pub(crate) use Map as ByCall;
pub(crate) use Map as Lookup;
pub(crate) use Map as Origin;
pub(crate) use Map as MapSource;
pub(crate) use Map as ReaderPlace;

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

pub(crate) fn readers_of(ring: &Region) -> Result<Region> {
    Map::of(ring).map(|map| match map {})
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

    /// A place among the readers of a ring.
    pub(crate) fn of(ring: &Region) -> Result<Self> {
        let why = "without mapring's cargo feature `bpf` there are no programs";
        Err(Error::from(Cause::NotWakeable { what: ring.what().to_owned(), why }))
    }

    pub(crate) fn at(place: std::sync::Arc<Self>, _: u64) -> Result<Self> {
        match *place {}
    }

    pub(crate) fn shards(&self) -> usize {
        match *self {}
    }

    pub(crate) fn get(&self) -> crate::protocol::readers::Place<'_> {
        match *self {}
    }

    pub(crate) fn another(&self) -> Result<Self> {
        match *self {}
    }

    pub(crate) fn is_inherited(&self) -> bool {
        match *self {}
    }

    pub(crate) fn is_mine(&self) -> bool {
        match *self {}
    }

    pub(crate) fn wait_for_programs() {}

    pub(crate) fn sleeps_until(&self, _: usize, _: Option<u64>) {
        match *self {}
    }

    pub(crate) fn has_rung(&self) -> bool {
        match *self {}
    }

    pub(crate) fn asleep(&mut self) -> bool {
        match *self {}
    }

    pub(crate) fn awake(&self) {
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
