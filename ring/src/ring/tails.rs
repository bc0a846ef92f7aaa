//! Records with tails: bytes of any length that programs write beside a record.

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable, cast_slice, cast_slice_mut};

use super::either::Either;
use super::sweep::Sweep;
use super::{Event, Merged, Reader, Ring, Writer};
use crate::abi::{Geometry, Kind, LINE, Tails};
use crate::error::{Cause, Error, Result};
use crate::protocol::ring::tails::{Area, TailsMut};
use crate::protocol::ring::{Loss, LossCause, Losses, ReadStats, ShardMut, ShardPlace};
use crate::record::{Expected, Field, Record, TypeLayout};
use crate::region::{Region, Shared, View};
use crate::sync::latest;

/// A record `T` with a tail, as it is in the slots of a ring with the option `TAILS`.
///
/// `Ring<Tailed<T>>` is such a ring. [`Reader::poll_with_tail`] and [`Reader::for_each_with_tail`], and those of [`Merged`],
/// return records together with the bytes of their tails; the other functions of readers return records alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AnyBitPattern)]
#[repr(C)]
pub struct Tailed<T> {
    tail_at: u64,
    tail_len: u64,
    /// The record.
    pub record: T,
}

/// The names of its fields, as in C.
const FIELDS: [&str; 3] = ["tail_at", "tail_len", "record"];

impl<T: Record> Record for Tailed<T> {
    const LAYOUT: TypeLayout = TypeLayout::Struct(
        size_of::<Self>(),
        &[
            Field { name: FIELDS[0], offset: 0, layout: TypeLayout::Integer(8) },
            Field { name: FIELDS[1], offset: 8, layout: TypeLayout::Integer(8) },
            Field { name: FIELDS[2], offset: Tails::PREFIX, layout: T::LAYOUT },
        ],
    );
}

/// Refuses a type with tails for a region without, and the other way round: the fields of both would differ, in words that
/// nobody wrote.
pub(crate) fn expect_tails(
    what: &str,
    memfd: bool,
    geometry: &Geometry,
    expected: Option<&Expected>,
) -> Result<()> {
    let Some(expected) = expected.filter(|_| geometry.kind() == Kind::Ring) else { return Ok(()) };
    match (geometry.tails().is_some(), is_tailed(&expected.layout)) {
        (true, false) => Err(Error::from(Cause::HasTails { what: what.to_owned(), rust: expected.rust })),
        (false, true) => Err(no_tails(what, memfd)),
        _ => Ok(()),
    }
}

/// Whether it is the layout of a [`Tailed`] record.
fn is_tailed(layout: &TypeLayout) -> bool {
    let names = |fields: &[Field]| fields.iter().map(|field| field.name).eq(FIELDS);
    matches!(layout, TypeLayout::Struct(_, fields) if names(fields))
}

fn no_tails(what: &str, memfd: bool) -> Error {
    Error::from(Cause::NoTails { what: what.to_owned(), memfd })
}

/// What a reader of tails needs beside the ring's reader.
pub(super) struct TailReader {
    /// Where the tails of each shard are, by its number.
    areas: Box<[Option<(Shared, Area)>]>,
    /// Records whose tails were overwritten, for each shard.
    lost: Box<[u64]>,
    /// The same as losses, and those whose interval is not known yet.
    losses: Losses,
    found: Losses,
    tail: Box<[Line]>,
}

/// Bytes of a tail, aligned to a line: copies take a third less time.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

impl TailReader {
    /// For the regions of a ring with tails, which are mapped, each with the number of its first shard.
    pub(super) fn new<'r>(regions: impl Iterator<Item = (usize, &'r Region)>) -> Option<Box<Self>> {
        let (mut areas, mut room) = (Vec::new(), 0);
        for (first, region) in regions {
            let View::Mapped(shared) = region.view() else { return None };
            for shard in 0..region.geometry().shards() {
                let area = Area::new(region.geometry(), shard)?;
                room = area.room();
                areas.resize_with((first + shard + 1).max(areas.len()), || None);
                areas[first + shard] = Some((shared.clone(), area));
            }
        }
        let lost = vec![0; areas.len()].into();
        let (losses, found) = (Losses::new(Losses::OF_READER), Losses::new(Losses::OF_READER));
        let tail = vec![Line::zeroed(); room.div_ceil(LINE)].into();
        Some(Box::new(Self { areas: areas.into(), lost, losses, found, tail }))
    }

    /// The tail of a record that was just read, or `None` if it was overwritten; counts that.
    #[inline]
    fn read<T>(&mut self, shard: usize, ticket: u64, record: &Tailed<T>) -> Option<&[u8]> {
        let (shared, area) = self.areas.get(shard)?.as_ref()?;
        let tail = area.copy(shared.words(), record.tail_at, record.tail_len, cast_slice_mut(&mut self.tail));
        if tail.is_none() {
            lose(&mut self.lost[shard], &mut self.found, shard, ticket);
        }
        tail
    }

    /// Adds the intervals of the losses that the last read found in `sweep`.
    #[inline]
    fn locate<T: AnyBitPattern>(&mut self, sweep: &Sweep<T>) {
        if !self.found.is_empty() {
            self.locate_found(sweep);
        }
    }

    #[cold]
    fn locate_found<T: AnyBitPattern>(&mut self, sweep: &Sweep<T>) {
        for loss in self.found.take() {
            let first = loss.shard.zip(loss.tickets.as_ref());
            let since = first.and_then(|(shard, tickets)| sweep.whole_before(shard, tickets.start));
            self.losses.push(Loss { since, ..loss });
        }
    }

    /// The losses that were not reported yet.
    pub(super) fn take_losses(&mut self) -> impl Iterator<Item = Loss> {
        self.losses.take()
    }

    /// Counts as lost, not as delivered, the records of these shards whose tails were overwritten.
    pub(super) fn count_lost(&self, stats: &mut ReadStats, shards: impl Iterator<Item = usize>) {
        let lost =
            shards.filter_map(|shard| self.lost.get(shard)).fold(0, |sum: u64, lost| sum.wrapping_add(*lost));
        stats.delivered = stats.delivered.wrapping_sub(lost);
        stats.tail_lost = stats.tail_lost.wrapping_add(lost);
    }
}

impl<T: AnyBitPattern> Ring<Tailed<T>> {
    /// Creates a ring with tails between ordinary processes in a memfd. See
    /// [`create_memfd`](Self::create_memfd).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for numbers that no ring can have,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd_with_tails(slots: usize, shards: usize, tails: Tails) -> Result<Self> {
        let record = size_of::<Tailed<T>>() as u64;
        let geometry = Geometry::new(Kind::Ring, record, slots as u64, shards as u64)?.with_tails(tails)?;
        Self::from_region(Region::create_memfd(geometry, std::any::type_name::<T>())?)
    }

    /// [`writer`](Self::writer) for records with tails.
    ///
    /// # Errors
    /// As for [`writer`](Self::writer); [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) if the ring has no tails.
    pub fn writer_with_tails(&self, shard: usize) -> Result<Writer<Tailed<T>>> {
        self.expect_tails()?;
        self.any_writer(shard)
    }

    fn expect_tails(&self) -> Result<()> {
        let region = self.region();
        region.geometry().tails().map(|_| ()).ok_or_else(|| no_tails(region.what(), region.is_memfd()))
    }
}

impl<T: AnyBitPattern> Reader<Tailed<T>> {
    /// Returns the next record with its tail, if there is one, like [`poll`](Self::poll). Copies the tail to a buffer of
    /// this reader: no system call, no allocation.
    ///
    /// A record whose tail was overwritten is lost: [`ReadStats::tail_lost`]. In a ring without tails all records are.
    #[inline]
    pub fn poll_with_tail(&mut self) -> Option<(Event<T>, &[u8])> {
        poll_with_tail(self)
    }

    /// Calls `f` with up to `limit` records and their tails, like [`for_each`](Self::for_each). Returns the number of
    /// calls. Records whose tails were overwritten also count for the limit.
    #[inline]
    pub fn for_each_with_tail(&mut self, limit: usize, mut f: impl FnMut(Event<&T>, &[u8])) -> usize {
        for_each_with_tail_counted(self, limit, |event, tail, _| f(event, tail))
    }
}

/// A tail is copied when its record is delivered, not when it is read. Programs that keep the oldest records for this reader
/// keep the tails until then.
impl<T: AnyBitPattern, F: FnMut(&Tailed<T>) -> u64> Merged<Tailed<T>, F> {
    /// Returns the record with the earliest stamp and its tail, like [`poll`](Self::poll). A record whose tail was
    /// overwritten is lost, as in [`Reader::poll_with_tail`].
    #[inline]
    pub fn poll_with_tail(&mut self) -> Option<(Event<T>, &[u8])> {
        poll_with_tail(self)
    }

    /// As [`Reader::for_each_with_tail`], in order.
    #[inline]
    pub fn for_each_with_tail(&mut self, limit: usize, mut f: impl FnMut(Event<&T>, &[u8])) -> usize {
        for_each_with_tail_counted(self, limit, |event, tail, _| f(event, tail))
    }
}

#[inline(always)] // as if it were in its callers
fn poll_with_tail<T: AnyBitPattern>(
    reader: &mut impl Either<Record = Tailed<T>>,
) -> Option<(Event<T>, &[u8])> {
    for _ in 0..Reader::<T>::STEPS {
        let Event { shard, ticket, record } = reader.poll()?;
        if let Some(len) = reader.base().read_tail(shard, ticket, &record) {
            return Some((Event { shard, ticket, record: record.record }, reader.base().tail(len)));
        }
    }
    reader.base().stop_early();
    None
}

/// `f` also gets the count of unknown tags.
#[inline(always)]
pub(super) fn for_each_with_tail_counted<T: AnyBitPattern>(
    reader: &mut impl Either<Record = Tailed<T>>,
    limit: usize,
    mut f: impl FnMut(Event<&T>, &[u8], &mut u64),
) -> usize {
    let Some(mut tails) = reader.base().tails.take() else { return 0 };
    let mut whole = 0;
    reader.for_each_counted(limit, |Event { shard, ticket, record }, unknown| {
        if let Some(tail) = tails.read(shard, ticket, record) {
            whole += 1;
            f(Event { shard, ticket, record: &record.record }, tail, unknown);
        }
    });
    let base = reader.base();
    tails.locate(&base.sweep);
    base.tails = Some(tails);
    whole
}

impl<T: AnyBitPattern> Reader<Tailed<T>> {
    /// Copies the tail of a record that was just returned, and returns its length, or `None` if it was overwritten; counts
    /// that.
    #[inline]
    fn read_tail(&mut self, shard: usize, ticket: u64, record: &Tailed<T>) -> Option<usize> {
        let tails = self.tails.as_mut()?;
        let len = tails.read(shard, ticket, record).map(<[u8]>::len);
        tails.locate(&self.sweep);
        len
    }

    /// The first bytes of the tail that was copied last.
    #[inline]
    fn tail(&self, len: usize) -> &[u8] {
        self.tails.as_ref().map_or(&[], |tails| &cast_slice(&tails.tail)[..len])
    }
}

impl<T: NoUninit> Writer<Tailed<T>> {
    /// Publishes a record with a tail and returns its ticket, or `None` if the record was dropped and counted: there was
    /// no free slot, no space for the tail, or the tail is longer than the ring's longest. Makes no system call, never
    /// waits, takes a bounded number of steps.
    #[inline]
    pub fn push_with_tail(&self, record: &T, tail: &[u8]) -> Option<u64> {
        let area = self.area.as_ref()?;
        let tails = TailsMut::new(self.shared.words(), area);
        let shard = ShardMut::new(self.shared.words(), &self.place);
        shard.push_with_tail(&tails, record, tail).ok()
    }
}

/// Counts a record whose tail was overwritten.
#[cold]
fn lose(count: &mut u64, found: &mut Losses, shard: usize, ticket: u64) {
    *count = count.wrapping_add(1);
    let (cause, tickets) = (LossCause::TailLost, Some(ticket..ticket.wrapping_add(1)));
    found.push(Loss { shard: Some(shard), cause, tickets, count: 1, since: None, until: latest() });
}

/// The places of a shard and its tails, for writers.
pub(super) fn places(region: &Region, shard: usize) -> (ShardPlace, Option<Area>) {
    (ShardPlace::new(region.geometry(), shard), Area::new(region.geometry(), shard))
}
