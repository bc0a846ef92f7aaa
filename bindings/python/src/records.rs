//! Readers of rings of any record type, behind one trait: in the order of shards, or of time.

use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring::any::AnyRecord;
use mapring::liveness::{Liveness, Unended};
use mapring::reading::{ByTime, Order};
use mapring::time::Clock;
use mapring::{Event, Loss, Merged, ReadStats, Region, Ring, Start};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::fd::AsRawFd;

use crate::{error, error_of};

/// One read takes no more tails once it has so many bytes. Forged records can all have the same tail, of 128 MiB.
pub(crate) const TAILS: usize = 64 << 20;

/// Evaluates an expression with `N` of the smallest [`AnyRecord`] that holds this many bytes.
macro_rules! with_size {
    ($bytes:expr, $N:ident => $do:expr) => {
        $crate::records::with_size!(@ $bytes, $N, $do, 4 32 1024)
    };
    (@ $bytes:expr, $N:ident, $do:expr, $($n:literal)*) => {
        match $bytes {
            $(0..=mapring::any::AnyRecord::<$n>::MAX => {
                const $N: usize = $n;
                $do
            })*
            bytes => Err($crate::wrong(mapring::ErrorKind::Layout, format!(
                "records of {bytes} bytes: this package reads up to {}", mapring::any::AnyRecord::<1024>::MAX
            ))),
        }
    };
}
pub(crate) use with_size;

/// A reader of a ring of any record type.
pub(crate) trait Records: Send {
    /// Appends up to `limit` records and their tails to `bytes`, and calls `found` with shard, ticket and length of the tail.
    fn each(&mut self, limit: usize, bytes: &mut Vec<u8>, found: &mut dyn FnMut(usize, u64, usize));
    /// The same with the newest record of each shard, without its tail.
    fn newest(&mut self, bytes: &mut Vec<u8>, found: &mut dyn FnMut(usize, u64, usize));
    /// Writes up to `limit` records without their tails to `bytes` from `at` on, which grows as needed. Returns where they end.
    fn fill(&mut self, limit: usize, bytes: &mut Vec<u8>, at: usize) -> usize;
    /// Passes over records whose number at this offset is less than `time`.
    fn skip_before(&mut self, time: u64, at: usize);
    fn with(self: Box<Self>, setting: Setting) -> Box<dyn Records>;
    /// Adds it to others, as the ring with this number. Refuses one that is not in the order of time.
    fn join(self: Box<Self>, others: Merged<'static, Rows>, ring: usize) -> PyResult<Merged<'static, Rows>>;
    fn wait(&mut self, timeout: Duration) -> mapring::Result<bool>;
    fn arm(&mut self) -> Option<Duration>;
    fn bell(&mut self) -> PyResult<i32>;
    fn require(&mut self, lease: Duration) -> mapring::Result<()>;
    /// The counts of all shards or of one; `None` if the reader does not read it.
    fn stats(&self, shard: Option<usize>) -> Option<ReadStats>;
    fn losses(&mut self) -> Vec<Loss>;
    fn unended(&mut self) -> Vec<Unended>;
    fn liveness(&self) -> Liveness;
    fn ended(&mut self) -> bool;
    /// The last error, if nothing was read. Otherwise the next read that finds nothing has it.
    fn take_error_if(&mut self, nothing: bool) -> Option<mapring::Error>;
}

/// Records of several rings that were read.
#[derive(Default)]
pub(crate) struct Rows {
    /// Records and tails.
    pub(crate) bytes: Vec<u8>,
    /// Ring, shard, ticket and length of the tail.
    pub(crate) places: Vec<(usize, usize, u64, usize)>,
}

/// How a reader waits.
#[derive(Clone, Copy)]
pub(crate) enum Setting {
    Patience(Duration),
    Watermark(u64, Duration),
}

/// The order of time: of the number at this offset.
#[derive(Clone, Copy)]
pub(crate) struct ByStamp {
    pub(crate) at: usize,
    pub(crate) clock: Clock,
    pub(crate) delay: Option<Duration>,
    pub(crate) in_ticket_order: bool,
}

/// Records whose bytes can be read.
trait Row: AnyBitPattern + Send {
    /// How many bytes to copy of a record of `size` bytes. A number that the compiler knows is copied faster; then the next record
    /// overwrites what is too much.
    fn copied(size: usize) -> usize;
    /// Its first bytes.
    fn bytes(&self, len: usize) -> &[u8];
}

impl<const N: usize> Row for AnyRecord<N> {
    #[inline]
    fn copied(size: usize) -> usize {
        if N <= 4 { Self::MAX } else { size }
    }

    #[inline]
    fn bytes(&self, len: usize) -> &[u8] {
        self.bytes(len)
    }
}

/// The usual records: readers of a size that the compiler knows are twice as fast.
impl<const N: usize> Row for [u64; N] {
    #[inline]
    fn copied(_: usize) -> usize {
        8 * N
    }

    #[inline]
    fn bytes(&self, len: usize) -> &[u8] {
        &bytemuck::cast_slice(self)[..len]
    }
}

/// The number at an offset of a record of `size` bytes.
fn number<T: Row>(record: &T, size: usize, at: usize) -> u64 {
    record.bytes(size)[at..].first_chunk().copied().map_or(0, u64::from_ne_bytes)
}

struct Typed<T, O> {
    reader: mapring::Reader<T, O>,
    size: usize,
    join: Join<T, O>,
}

/// Adds a reader of records of this size to others, as the ring with this number.
type Join<T, O> =
    fn(mapring::Reader<T, O>, usize, Merged<'static, Rows>, usize) -> PyResult<Merged<'static, Rows>>;

fn join_by_time<T: Row, F: FnMut(&T) -> u64 + Send + 'static>(
    reader: mapring::Reader<T, ByTime<T, F>>,
    size: usize,
    others: Merged<'static, Rows>,
    ring: usize,
) -> PyResult<Merged<'static, Rows>> {
    Ok(others.with(reader, move |rows: &mut Rows, Event { shard, ticket, record, tail }| {
        rows.bytes.extend_from_slice(record.bytes(size));
        rows.bytes.extend_from_slice(tail);
        rows.places.push((ring, shard, ticket, tail.len()));
    }))
}

fn join_by_shard<T>(
    _: mapring::Reader<T>,
    _: usize,
    _: Merged<'static, Rows>,
    ring: usize,
) -> PyResult<Merged<'static, Rows>> {
    let text = format!("ring {ring} is not in the order of stamps: merge what ring.merged(field) returns");
    Err(PyValueError::new_err(text))
}

impl<T: Row, O: Order<T>> Typed<T, O> {
    /// Calls `f` with up to `limit` records and their tails.
    #[inline]
    fn read(&mut self, limit: usize, mut f: impl FnMut(Event<&T, &[u8]>)) {
        let Some(tails) = self.reader.region().geometry().tails() else {
            self.reader.for_each(limit, f);
            return;
        };
        let part = (TAILS / tails.longest()).max(1);
        let (mut left, mut bytes) = (limit, 0);
        while left > 0 && bytes < TAILS {
            let found = self.reader.for_each(left.min(part), |event| {
                bytes += event.tail.len();
                f(event);
            });
            if found == 0 {
                return;
            }
            left -= found;
        }
    }
}

impl<T: Row + 'static, O: Order<T> + Send + 'static> Records for Typed<T, O> {
    fn each(&mut self, limit: usize, bytes: &mut Vec<u8>, found: &mut dyn FnMut(usize, u64, usize)) {
        let size = self.size;
        self.read(limit, |Event { shard, ticket, record, tail }| {
            bytes.extend_from_slice(record.bytes(size));
            bytes.extend_from_slice(tail);
            found(shard, ticket, tail.len());
        });
    }

    fn newest(&mut self, bytes: &mut Vec<u8>, found: &mut dyn FnMut(usize, u64, usize)) {
        let size = self.size;
        self.reader.for_each_newest(|Event { shard, ticket, record, .. }| {
            bytes.extend_from_slice(record.bytes(size));
            found(shard, ticket, 0);
        });
    }

    fn fill(&mut self, limit: usize, bytes: &mut Vec<u8>, mut at: usize) -> usize {
        let size = self.size;
        let copied = T::copied(size);
        self.read(limit, |event| {
            if bytes.len() - at < copied {
                bytes.resize(2 * bytes.len() + copied, 0);
            }
            bytes[at..][..copied].copy_from_slice(event.record.bytes(copied));
            at += size;
        });
        at
    }

    fn skip_before(&mut self, time: u64, at: usize) {
        let size = self.size;
        self.reader.skip_before(time, |record| number(record, size, at));
    }

    fn with(self: Box<Self>, setting: Setting) -> Box<dyn Records> {
        let Self { reader, size, join } = *self;
        let reader = match setting {
            Setting::Patience(patience) => reader.with_patience(patience),
            Setting::Watermark(records, age) => reader.with_watermark(records, age),
        };
        Box::new(Self { reader, size, join })
    }

    fn join(self: Box<Self>, others: Merged<'static, Rows>, ring: usize) -> PyResult<Merged<'static, Rows>> {
        (self.join)(self.reader, self.size, others, ring)
    }

    fn wait(&mut self, timeout: Duration) -> mapring::Result<bool> {
        self.reader.wait(timeout)
    }

    fn arm(&mut self) -> Option<Duration> {
        self.reader.arm()
    }

    fn bell(&mut self) -> PyResult<i32> {
        self.reader.bell().map(|bell| bell.as_raw_fd()).map_err(|e| error_of(&e))
    }

    fn require(&mut self, lease: Duration) -> mapring::Result<()> {
        self.reader.require(lease)
    }

    fn stats(&self, shard: Option<usize>) -> Option<ReadStats> {
        shard.map_or_else(|| Some(self.reader.stats()), |shard| self.reader.shard_stats(shard))
    }

    fn losses(&mut self) -> Vec<Loss> {
        self.reader.take_losses()
    }

    fn unended(&mut self) -> Vec<Unended> {
        self.reader.unended()
    }

    fn liveness(&self) -> Liveness {
        self.reader.liveness()
    }

    fn ended(&mut self) -> bool {
        self.reader.ended().is_some()
    }

    fn take_error_if(&mut self, nothing: bool) -> Option<mapring::Error> {
        if nothing { self.reader.take_error() } else { None }
    }
}

/// A reader of the ring in these regions, whose records have `size` bytes: by shard, or by time.
pub(crate) fn open(
    regions: &[(usize, Region)],
    size: usize,
    start: Start,
    by_stamp: Option<ByStamp>,
) -> PyResult<Box<dyn Records>> {
    by_stamp.map_or(Ok(()), |by| check_stamp(size, by.at))?;
    with_size!(size, N => match by_stamp {
        None => by_shard(regions, size, start).unwrap_or_else(|| read::<AnyRecord<N>>(regions, size, start)),
        Some(ByStamp { at, clock, delay, in_ticket_order }) => {
            let stamp = move |record: &AnyRecord<N>| number(record, size, at);
            let mut reader = ring(regions)?.reader_from(start).merged(stamp).with_clock(clock);
            if let Some(delay) = delay {
                reader = reader.with_delay(delay);
            }
            if in_ticket_order {
                reader = reader.with_ticket_order();
            }
            Ok(Box::new(Typed { reader, size, join: join_by_time }))
        }
    })
}

/// Refuses an offset at which a record of `size` bytes has no number of 8 bytes.
pub(crate) fn check_stamp(size: usize, at: usize) -> PyResult<()> {
    match at.checked_add(8) {
        Some(end) if end <= size => Ok(()),
        _ => Err(PyValueError::new_err("the time stamp is not inside of the record")),
    }
}

/// A reader by shard for a usual size.
fn by_shard(regions: &[(usize, Region)], size: usize, start: Start) -> Option<PyResult<Box<dyn Records>>> {
    macro_rules! of_words {
        ($($words:literal)*) => {
            match size {
                $(size if size == 8 * $words => Some(read::<[u64; $words]>(regions, size, start)),)*
                _ => None,
            }
        };
    }
    of_words!(2 3 4 5 6 7 8)
}

fn read<T: Row + 'static>(
    regions: &[(usize, Region)],
    size: usize,
    start: Start,
) -> PyResult<Box<dyn Records>> {
    let reader = ring::<T>(regions)?.reader_from(start);
    Ok(Box::new(Typed { reader, size, join: join_by_shard }))
}

fn ring<T: AnyBitPattern>(regions: &[(usize, Region)]) -> PyResult<Ring<T>> {
    let ring = match regions {
        [(0, region)] if !region.geometry().options().has_per_cpu_maps() => Ring::from_region(region.clone()),
        _ => Ring::from_regions(regions.iter().cloned()),
    };
    ring.map_err(error)
}
