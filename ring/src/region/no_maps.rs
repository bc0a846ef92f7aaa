//! Replaces the module `maps` in builds without the feature `bpf`: every region is a memfd.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::options::OpenOptions;
use super::region::Region;
use super::shared::SharedMut;
use super::users::MapUser;
use crate::bpf::MapOfMaps;
use crate::error::{Cause, Error, Result};

/// A region that this process writes by system calls.
#[derive(Debug)]
pub(crate) enum ByCall {}

/// The bell of a reader.
#[derive(Debug)]
pub(crate) enum Ringbuf {}

impl Region {
    /// No region is in a map, so none has a successor.
    #[allow(clippy::unnecessary_wraps)] // as with maps
    pub(crate) fn successor(&self) -> Result<Option<Self>> {
        Ok(None)
    }
}

/// No program uses a map.
#[allow(clippy::unnecessary_wraps)] // as with maps
pub(crate) fn users(_: u32) -> Result<Vec<MapUser>> {
    Ok(Vec::new())
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

impl ByCall {
    #[allow(clippy::unnecessary_wraps)] // as with maps
    pub(crate) fn new(_: &Region) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn elements(&self, _: usize, _: &mut [u64]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn update(&self, _: usize, _: &[u64]) -> Result<()> {
        match *self {}
    }
}

impl Ringbuf {
    pub(crate) fn for_entry(entry: MapOfMaps) -> Result<Self> {
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
}

impl AsFd for Ringbuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
