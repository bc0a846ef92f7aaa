//! Writes records of any size into a ring in a memory file.

use std::os::fd::AsFd;

use anyhow::{Result, bail, ensure};
use mapring::abi::{Geometry, Kind, Tails};
use mapring::any::AnyRecord;
use mapring::{OpenOptions, Region, Ring, Writer};

use crate::untyped::{Item, with_size};

/// Writes records into a ring; returns whether there was room.
pub(super) trait Push {
    fn push(&self, item: &Item<'_>) -> bool;
}

/// Creates a ring in a memory file. Refuses one of more than `most` bytes.
pub(super) fn create(
    most: usize,
    record: usize,
    slots: usize,
    shards: usize,
    tails: Option<Tails>,
) -> Result<(Region, Box<dyn Push>)> {
    let bytes = record + tails.map_or(0, |_| Tails::PREFIX);
    let mut geometry = Geometry::new(Kind::Ring, bytes as u64, slots as u64, shards as u64)?;
    if let Some(tails) = tails {
        geometry = geometry.with_tails(tails)?;
    }
    ensure!(
        geometry.bytes() <= most,
        "the ring takes {} of memory: --slots makes a smaller one",
        mapring_kit::output::bytes(geometry.bytes() as u64)
    );
    let made = Region::create_memfd(geometry, "replayed")?;
    let region = OpenOptions::new().write(true).any_record().open(made.as_fd().try_clone_to_owned()?)?;
    let writers = with_size!(record, N => {
        let ring = Ring::<AnyRecord<N>>::from_region(region.clone())?;
        let writers: Result<Vec<_>, _> = (0..ring.shards()).map(|shard| ring.writer(shard)).collect();
        Box::new(Writers(writers?)) as Box<dyn Push>
    });
    Ok((region, writers))
}

struct Writers<const N: usize>(Vec<Writer<AnyRecord<N>>>);

impl<const N: usize> Push for Writers<N> {
    fn push(&self, item: &Item<'_>) -> bool {
        let found = self.0.get(item.shard).zip(AnyRecord::new(item.bytes));
        let tail = item.tail.unwrap_or_default();
        found.is_some_and(|(writer, record)| writer.push_with_tail(&record, tail).is_some())
    }
}
