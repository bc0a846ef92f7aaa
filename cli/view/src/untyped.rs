//! Reads records and cells as bytes, of any size.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use bytemuck::AnyBitPattern;
use mapring::abi::{Kind, Tails};
use mapring::any::{AnyMap, AnyRecord};
use mapring::liveness::Unended;
use mapring::loader::PinOptions;
use mapring::table::Snapshot;
use mapring::{
    Cells, Event, Latches, Loss, Merged, PerCpuCells, ReadError, ReadStats, Reader, Region, Ring, Start,
};

use crate::stamp::Stamp;

/// Evaluates an expression with `N` of the smallest [`AnyRecord`] that holds this many bytes; otherwise it is an error.
/// Small ones are faster to copy, and each takes seconds to compile.
macro_rules! with_size {
    ($bytes:expr, $N:ident => $do:expr) => {
        with_size!(@ $bytes, $N, $do, 4 32 1024)
    };
    (@ $bytes:expr, $N:ident, $do:expr, $($n:literal)*) => {
        match $bytes {
            $(0..=AnyRecord::<$n>::MAX => {
                const $N: usize = $n;
                $do
            })*
            bytes => bail!("records of {bytes} bytes: this command reads up to {}", AnyRecord::<1024>::MAX),
        }
    };
}

pub(crate) use with_size;

/// A record as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The shard.
    pub shard: usize,
    /// Its ticket.
    pub ticket: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its tail, if the ring has tails.
    pub tail: Option<&'a [u8]>,
}

/// A reader of a ring's records as bytes.
pub trait Records {
    /// Calls `f` with up to `limit` records; returns how many.
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize;
    /// Calls `f` with the newest record of each shard, without reading on. Tails are left out.
    fn newest(&mut self, f: &mut dyn FnMut(Item<'_>));
    /// Waits for records, at most for `timeout`.
    fn wait(&mut self, timeout: Duration) -> Result<()>;
    /// What it read and lost.
    fn stats(&self) -> ReadStats;
    /// The shards, each with the next ticket.
    fn positions(&self) -> Vec<(usize, u64)>;
    /// What it lost since the last call.
    fn take_losses(&mut self) -> Vec<Loss>;
    /// Records that were reserved and have not ended.
    fn unended(&mut self) -> Vec<Unended> {
        Vec::new()
    }
    /// Bytes that it lost since the last call, if it can't know how many records they were.
    fn take_lost_bytes(&mut self) -> u64 {
        0
    }
    /// The number of its tickets, if it is a resizable ring that another one replaced, and all were read.
    fn ended(&mut self) -> Option<u64> {
        None
    }
    /// The last failed system call.
    fn take_error(&mut self) -> Option<mapring::Error>;
}

/// A value of a table of cells or latches.
pub struct Copied {
    /// Its CPU, if each CPU has its own.
    pub cpu: Option<usize>,
    /// How often it was written; 0 if never.
    pub version: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A table of cells or latches.
pub trait Table {
    /// Reads a value, or the values of all CPUs.
    fn read(&self, index: usize) -> Result<Vec<Copied>, ReadError>;
}

/// The copies of the value at `index` of an array, which has `size` bytes: one for each CPU, or one for all.
pub(crate) fn copies<'a>(
    map: &'a AnyMap,
    size: usize,
    index: usize,
    words: &'a mut Vec<u64>,
) -> Result<impl Iterator<Item = (Option<usize>, &'a [u8])>, ReadError> {
    map.read(index, words)?;
    let cpus = map.cpus().unwrap_or_default();
    Ok(words.chunks(size.div_ceil(8).max(1)).enumerate().map(move |(at, copy)| {
        let bytes: &[u8] = bytemuck::cast_slice(copy);
        (cpus.get(at).copied(), bytes.get(..size).unwrap_or(bytes))
    }))
}

/// A reader of the ring in these regions, each with the number of its first shard.
pub fn records(regions: &[(usize, Region)], start: Start) -> Result<Box<dyn Records>> {
    let (bytes, has_tails) = record(regions)?;
    with_size!(bytes, N => {
        let reader = ring::<AnyRecord<N>>(regions)?.reader_from(start);
        Ok(Box::new(Typed { reader, bytes, has_tails }))
    })
}

/// Adds the ring in these regions to a merge, by this stamp; each shard stays in the order of its tickets. `f` gets the
/// records.
pub(crate) fn join<C>(
    merged: Merged<'static, C>,
    regions: &[(usize, Region)],
    start: Start,
    stamp: Stamp,
    mut f: impl FnMut(&mut C, Item<'_>) + Send + 'static,
) -> Result<Merged<'static, C>> {
    let (bytes, has_tails) = record(regions)?;
    with_size!(bytes, N => {
        let reader = ring::<AnyRecord<N>>(regions)?.reader_from(start);
        let reader = reader.merged(move |record| stamp.order(record.bytes(bytes))).with_ticket_order();
        Ok(merged.with(reader, move |context, event| f(context, item(&event, bytes, has_tails))))
    })
}

/// The bytes of a record without its tail, and whether it has one.
fn record(regions: &[(usize, Region)]) -> Result<(usize, bool)> {
    let Some((_, first)) = regions.first() else { bail!("the ring has no region") };
    let has_tails = first.geometry().tails().is_some();
    Ok((first.geometry().record().saturating_sub(if has_tails { Tails::PREFIX } else { 0 }), has_tails))
}

fn item<'a, const N: usize>(
    event: &Event<&'a AnyRecord<N>, &'a [u8]>,
    bytes: usize,
    has_tails: bool,
) -> Item<'a> {
    let Event { shard, ticket, record, tail } = *event;
    Item { shard, ticket, bytes: record.bytes(bytes), tail: has_tails.then_some(tail) }
}

/// The ring in these regions, each with the number of its first shard.
fn ring<T: AnyBitPattern>(regions: &[(usize, Region)]) -> Result<Ring<T>> {
    Ok(match regions {
        [(0, region)] if !region.geometry().options().has_per_cpu_maps() => {
            Ring::from_region(region.clone())?
        }
        _ => Ring::from_regions(regions.iter().cloned())?,
    })
}

/// Pins what is in these regions, and freezes it before.
pub fn pin(regions: &[(usize, Region)], path: &Path, how: PinOptions, freeze: bool) -> Result<()> {
    let first = &regions[0].1;
    if !first.geometry().options().has_per_cpu_maps() {
        let pinned = if freeze { first.freeze_and_pin(path, how) } else { first.pin(path, how) };
        return pinned.map_err(Into::into);
    }
    with_size!(first.geometry().record(), N => {
        let ring = ring::<AnyRecord<N>>(regions)?;
        let pinned = if freeze { ring.freeze_and_pin(path, how) } else { ring.pin(path, how) };
        pinned.map_err(Into::into)
    })
}

/// The cells or latches of a region.
pub fn table(region: &Region) -> Result<Box<dyn Table>> {
    let (region, bytes, kind) = (region.clone(), region.geometry().record(), region.geometry().kind());
    with_size!(bytes, N => Ok(match kind {
        Kind::Cells => Box::new(Cells::<AnyRecord<N>>::from_region(region)?) as Box<dyn Table>,
        Kind::Latches => Box::new(Latches::<AnyRecord<N>>::from_region(region)?),
        _ => Box::new(PerCpuCells::<AnyRecord<N>>::from_region(region)?),
    }))
}

/// Records of up to 16 × `N` bytes.
struct Typed<const N: usize> {
    reader: Reader<AnyRecord<N>>,
    bytes: usize,
    has_tails: bool,
}

impl<const N: usize> Records for Typed<N> {
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize {
        let Self { bytes, has_tails, .. } = *self;
        self.reader.for_each(limit, |event| f(item(&event, bytes, has_tails)))
    }

    fn newest(&mut self, f: &mut dyn FnMut(Item<'_>)) {
        let bytes = self.bytes;
        self.reader.for_each_newest(|Event { shard, ticket, record, .. }| {
            f(Item { shard, ticket, bytes: record.bytes(bytes), tail: None });
        });
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.reader.wait(timeout)?;
        Ok(())
    }

    fn stats(&self) -> ReadStats {
        self.reader.stats()
    }

    fn positions(&self) -> Vec<(usize, u64)> {
        self.reader.shards().filter_map(|shard| Some((shard, self.reader.position(shard)?))).collect()
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.reader.take_losses()
    }

    fn unended(&mut self) -> Vec<Unended> {
        self.reader.unended()
    }

    fn ended(&mut self) -> Option<u64> {
        self.reader.ended()
    }

    fn take_error(&mut self) -> Option<mapring::Error> {
        self.reader.take_error()
    }
}

fn copied<const N: usize>(cpu: Option<usize>, snapshot: &Snapshot<AnyRecord<N>>, bytes: usize) -> Copied {
    Copied { cpu, version: snapshot.version, bytes: snapshot.value.bytes(bytes).to_vec() }
}

macro_rules! tables {
    ($($table:ident)*) => {
        $(impl<const N: usize> Table for $table<AnyRecord<N>> {
            fn read(&self, index: usize) -> Result<Vec<Copied>, ReadError> {
                Ok(vec![copied(None, &self.snapshot(index)?, self.region().geometry().record())])
            }
        })*
    };
}
tables!(Cells Latches);

impl<const N: usize> Table for PerCpuCells<AnyRecord<N>> {
    fn read(&self, index: usize) -> Result<Vec<Copied>, ReadError> {
        let (bytes, copies) = (self.region().geometry().record(), self.snapshots(index)?);
        Ok(self.cpus().iter().zip(&copies).map(|(cpu, one)| copied(Some(*cpu), one, bytes)).collect())
    }
}
