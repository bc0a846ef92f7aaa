//! The values of a map or memory file, opened by kind. Nothing else decides which reader of the library reads which kind.

use anyhow::{Context, Result};
use mapring::abi::Kind;
use mapring::any::AnyMap;
use mapring::{Counters, Error, Gauges, Histograms, TopKeys};

use crate::target::{Layout, Target};
use crate::untyped::{self, Table};

/// What a target holds, ready to be read.
pub enum Content<'t> {
    /// Records, which [`Target::records`] reads.
    Ring,
    /// The kernel's own ring buffer, whose records [`Target::records`] reads too.
    Ringbuf,
    /// Cells or latches, and how many.
    Table(Box<dyn Table>, usize),
    /// Counters of programs.
    Counters(Counters),
    /// Histograms of programs.
    Histograms(Histograms),
    /// Gauges of programs.
    Gauges(Gauges),
    /// The keys that programs count most.
    TopKeys(TopKeys),
    /// An array without a protocol.
    Array(&'t AnyMap),
    /// The global variables of a BPF object.
    Globals(&'t AnyMap),
    /// A region whose values only programs use.
    Internal(Kind),
    /// A map that this command does not show.
    Other,
    /// A region that can't be read.
    Damaged(&'t Error),
}

impl Target {
    /// Opens its values.
    ///
    /// # Errors
    /// The library can't map or read the region.
    pub fn content(&self) -> Result<Content<'_>> {
        let map = || self.map.as_ref().context("not a map");
        let region = match &self.layout {
            Layout::Region(region) => region.clone(),
            Layout::RingInMaps(_) => return Ok(Content::Ring),
            Layout::Ringbuf => return Ok(Content::Ringbuf),
            Layout::Array => return Ok(Content::Array(map()?)),
            Layout::Globals => return Ok(Content::Globals(map()?)),
            Layout::Other => return Ok(Content::Other),
            Layout::Damaged(error) => return Ok(Content::Damaged(error)),
        };
        Ok(match region.geometry().kind() {
            Kind::Ring => Content::Ring,
            Kind::Cells | Kind::Latches | Kind::PerCpuCells => {
                Content::Table(untyped::table(&region)?, region.geometry().capacity())
            }
            Kind::Counters | Kind::PerCpuCounters => Content::Counters(Counters::from_region(region)?),
            Kind::Histograms => Content::Histograms(Histograms::from_region(region)?),
            Kind::Gauges => Content::Gauges(Gauges::from_region(region)?),
            Kind::TopKeys => Content::TopKeys(TopKeys::from_region(region)?),
            kind => Content::Internal(kind),
        })
    }
}
