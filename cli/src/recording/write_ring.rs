//! Writes records of many sizes into a ring in a memory file. The library writes typed records: this picks, by their size,
//! an array of bytes as the type.

use anyhow::{Result, bail, ensure};
use mapring::abi::{Geometry, Kind, Tails};
use mapring::{Region, Ring, Tailed, Writer};

use super::untyped::Item;

/// Evaluates an expression with `N` as this number of bytes; otherwise `None`.
macro_rules! with_size {
    ($bytes:expr, $N:ident => $do:expr) => {
        with_size!(@ $bytes, $N, $do, 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60 64 72 80 88 96 104 112 120 128 136 144 152
            160 168 176 184 192 200 208 216 224 232 240 248 256 264 272 280 288 296 304 312 320 328 336 344 352 360 368 376
            384 400 416 432 448 464 480 496 512 576 640 704 768 832 896 960 1024 1280 1536 2048 4096 8192 16384 32768 65536)
    };
    (@ $bytes:expr, $N:ident, $do:expr, $($size:literal)*) => {
        match $bytes {
            $($size => {
                const $N: usize = $size;
                Some($do)
            })*
            _ => None,
        }
    };
}

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
        crate::output::bytes(geometry.bytes() as u64)
    );
    let region = Region::create_memfd(geometry, "replayed")?;
    let writers = match tails {
        None => with_size!(record, N => plain::<N>(&region)),
        Some(_) => with_size!(record, N => tailed::<N>(&region)),
    };
    let Some(writers) = writers else {
        bail!(
            "records of {record} bytes can't be replayed: the sizes are multiples of 4 up to 64, of 8 up to 384, of 16 up \
             to 512, of 64 up to 1024, and 1280, 1536, 2048, 4096, 8192, 16384, 32768, 65536"
        );
    };
    Ok((region, writers?))
}

fn plain<const N: usize>(region: &Region) -> Result<Box<dyn Push>> {
    let ring = Ring::<[u8; N]>::from_region(region.clone())?;
    let writers: Result<Vec<_>, _> = (0..ring.shards()).map(|shard| ring.writer(shard)).collect();
    Ok(Box::new(Plain(writers?)))
}

fn tailed<const N: usize>(region: &Region) -> Result<Box<dyn Push>> {
    let ring = Ring::<Tailed<[u8; N]>>::from_region(region.clone())?;
    let writers: Result<Vec<_>, _> = (0..ring.shards()).map(|shard| ring.writer_with_tails(shard)).collect();
    Ok(Box::new(WithTails(writers?)))
}

struct Plain<const N: usize>(Vec<Writer<[u8; N]>>);

impl<const N: usize> Push for Plain<N> {
    fn push(&self, item: &Item<'_>) -> bool {
        let found = self.0.get(item.shard).zip(item.bytes.first_chunk::<N>());
        found.is_some_and(|(writer, record)| writer.push(record).is_some())
    }
}

struct WithTails<const N: usize>(Vec<Writer<Tailed<[u8; N]>>>);

impl<const N: usize> Push for WithTails<N> {
    fn push(&self, item: &Item<'_>) -> bool {
        let found = self.0.get(item.shard).zip(item.bytes.first_chunk::<N>());
        let tail = item.tail.unwrap_or_default();
        found.is_some_and(|(writer, record)| writer.push_with_tail(record, tail).is_some())
    }
}
