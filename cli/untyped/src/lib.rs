//! Reads records and cells as bytes, for the command. The library reads typed records: this crate picks, by their size, an
//! array of words as the type. Only here are sizes types. It is a crate of its own so that these many types are compiled
//! with few optimizations, and beside the rest of the command.

use std::time::Duration;

use anyhow::{Result, bail};
use bytemuck::{Pod, bytes_of};
use mapring::abi::{Kind, Tails};
use mapring::{
    Cells, Latches, Loss, Merged, PerCpuCells, ReadError, ReadStats, Reader, Region, Ring, Start, Tailed,
};

/// Evaluates an expression with `T` as the array of this many bytes; otherwise `None`. Each size takes seconds to compile.
macro_rules! with_type {
    ($bytes:expr, $T:ident => $do:expr) => {
        with_type!(@ $bytes, $T, $do, 1 2 3 4 5 6 7 8 10 12 14 16 18 20 22 24 26 28 30 32 40 48 64 128 256 1024)
    };
    (@ $bytes:expr, $T:ident, $do:expr, $($words:literal)*) => {
        match $bytes {
            $(bytes if bytes == 4 * $words => {
                type $T = [u32; $words];
                Some($do)
            })*
            _ => None,
        }
    };
}

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
    /// Waits for records, at most for `timeout`.
    ///
    /// # Errors
    /// The library's.
    fn wait(&mut self, timeout: Duration) -> Result<()>;
    /// What it read and lost.
    fn stats(&self) -> ReadStats;
    /// The shards, each with the next ticket.
    fn positions(&self) -> Vec<(usize, u64)>;
    /// What it lost since the last call.
    fn take_losses(&mut self) -> Vec<Loss>;
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
    /// Reads a value, or that of each CPU.
    ///
    /// # Errors
    /// The library's.
    fn read(&self, index: usize) -> Result<Vec<Copied>, ReadError>;
}

/// A reader of the ring in these regions, each with the number of its first shard. With `stamp`, the offset of a number of
/// nanoseconds in each record, it merges the shards by it.
///
/// # Errors
/// For records of other sizes, and the library's.
pub fn records(regions: &[(usize, Region)], start: Start, stamp: Option<usize>) -> Result<Box<dyn Records>> {
    let Some((_, first)) = regions.first() else { bail!("the ring has no region") };
    let geometry = first.geometry();
    let (bytes, tails) = (geometry.record(), geometry.tails().is_some());
    let stamp = stamp.filter(|at| at.checked_add(8).is_some_and(|end| end <= bytes));
    let reader = match tails {
        true => with_type!(bytes.saturating_sub(Tails::PREFIX), T => tailed::<T>(first, start)),
        false => with_type!(bytes, T => plain::<T>(regions, start, stamp)),
    };
    reader.unwrap_or_else(|| bail!("{}", unreadable(bytes)))
}

/// The cells or latches of a region.
///
/// # Errors
/// For values of other sizes, and the library's.
pub fn table(region: &Region) -> Result<Box<dyn Table>> {
    let (bytes, kind) = (region.geometry().record(), region.geometry().kind());
    let table = with_type!(bytes, T => match kind {
        Kind::Cells => Cells::<T>::from_region(region.clone()).map(|table| Box::new(table) as Box<dyn Table>),
        Kind::Latches => Latches::<T>::from_region(region.clone()).map(|table| Box::new(table) as Box<dyn Table>),
        _ => PerCpuCells::<T>::from_region(region.clone()).map(|table| Box::new(table) as Box<dyn Table>),
    });
    table.map_or_else(|| bail!("{}", unreadable(bytes)), |table| Ok(table?))
}

fn unreadable(bytes: usize) -> String {
    format!(
        "records of {bytes} bytes: this command reads multiples of 4 up to 32, of 8 up to 128, and 160, 192, 256, 512, 1024 \
         and 4096; a program with the record's type reads any"
    )
}

fn plain<T: Pod>(
    regions: &[(usize, Region)],
    start: Start,
    stamp: Option<usize>,
) -> Result<Box<dyn Records>> {
    let ring = match regions {
        [(0, region)] if !region.geometry().is_of_cpu() => Ring::<T>::from_region(region.clone())?,
        _ => Ring::<T>::from_regions(regions.iter().cloned())?,
    };
    let reader = ring.reader_from(start);
    let Some(at) = stamp else { return Ok(Box::new(reader)) };
    let stamp = move |record: &T| {
        bytes_of(record).get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    Ok(Box::new(Ordered { merged: reader.merged(stamp), nap: Ordered::<T, fn(&T) -> u64>::SHORT }))
}

fn tailed<T: Pod>(region: &Region, start: Start) -> Result<Box<dyn Records>> {
    Ok(Box::new(WithTails(Ring::<Tailed<T>>::from_region(region.clone())?.reader_from(start))))
}

impl<T: Pod> Records for Reader<T> {
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize {
        self.for_each(limit, |event| {
            let bytes = bytes_of(event.record);
            f(Item { shard: event.shard, ticket: event.ticket, bytes, tail: None });
        })
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        Self::wait(self, timeout)?;
        Ok(())
    }

    fn stats(&self) -> ReadStats {
        Self::stats(self)
    }

    fn positions(&self) -> Vec<(usize, u64)> {
        self.shards().filter_map(|shard| Some((shard, self.position(shard)?))).collect()
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        Self::take_losses(self)
    }

    fn take_error(&mut self) -> Option<mapring::Error> {
        Self::take_error(self)
    }
}

/// A reader of records with tails.
struct WithTails<T>(Reader<Tailed<T>>);

impl<T: Pod> Records for WithTails<T> {
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize {
        self.0.for_each_with_tail(limit, |event, tail| {
            let bytes = bytes_of(event.record);
            f(Item { shard: event.shard, ticket: event.ticket, bytes, tail: Some(tail) });
        })
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.0.wait(timeout)?;
        Ok(())
    }

    fn stats(&self) -> ReadStats {
        self.0.stats()
    }

    fn positions(&self) -> Vec<(usize, u64)> {
        self.0.shards().filter_map(|shard| Some((shard, self.0.position(shard)?))).collect()
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.0.take_losses()
    }

    fn take_error(&mut self) -> Option<mapring::Error> {
        self.0.take_error()
    }
}

/// A reader that merges the shards by time.
struct Ordered<T, F> {
    merged: Merged<T, F>,
    nap: Duration,
}

impl<T, F> Ordered<T, F> {
    /// The naps between two looks, as the library's readers take them.
    const SHORT: Duration = Duration::from_micros(50);
    const LONG: Duration = Duration::from_millis(1);
}

impl<T: Pod, F: FnMut(&T) -> u64> Records for Ordered<T, F> {
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize {
        let count = self.merged.for_each(limit, |event| {
            let bytes = bytes_of(event.record);
            f(Item { shard: event.shard, ticket: event.ticket, bytes, tail: None });
        });
        if count > 0 {
            self.nap = Self::SHORT;
        }
        count
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        std::thread::sleep(self.nap.min(timeout));
        self.nap = (2 * self.nap).min(Self::LONG);
        Ok(())
    }

    fn stats(&self) -> ReadStats {
        self.merged.stats().read
    }

    fn positions(&self) -> Vec<(usize, u64)> {
        let reader = self.merged.reader();
        reader.shards().filter_map(|shard| Some((shard, reader.position(shard)?))).collect()
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.merged.take_losses()
    }

    fn take_error(&mut self) -> Option<mapring::Error> {
        self.merged.take_error()
    }
}

macro_rules! tables {
    ($($table:ident)*) => {
        $(impl<T: Pod> Table for $table<T> {
            fn read(&self, index: usize) -> Result<Vec<Copied>, ReadError> {
                let snapshot = self.snapshot(index)?;
                let bytes = bytes_of(&snapshot.value).to_vec();
                Ok(vec![Copied { cpu: None, version: snapshot.version, bytes }])
            }
        })*
    };
}
tables!(Cells Latches);

impl<T: Pod> Table for PerCpuCells<T> {
    fn read(&self, index: usize) -> Result<Vec<Copied>, ReadError> {
        let copies = self.cpus().iter().zip(self.snapshots(index)?);
        let copied = |(cpu, snapshot): (&usize, mapring::Snapshot<T>)| Copied {
            cpu: Some(*cpu),
            version: snapshot.version,
            bytes: bytes_of(&snapshot.value).to_vec(),
        };
        Ok(copies.map(copied).collect())
    }
}
