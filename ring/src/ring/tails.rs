//! Records with tails: bytes of any length that programs write beside a record.

use bytemuck::{AnyBitPattern, Pod, Zeroable, cast_slice, cast_slice_mut};
use mapring_core::clock::latest;
use mapring_core::protocol::ring::tails::Area;
use mapring_core::protocol::ring::{Loss, LossCause, Losses, ReadStats};

use super::sweep::Sweep;
use crate::abi::LINE;
use crate::record::Tailed;
use crate::region::{Region, Shared};

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
            let shared = region.shared()?;
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
    #[inline(never)] // inlined, it would take the registers of the loop around it: a third slower
    pub(super) fn read<T>(&mut self, shard: usize, ticket: u64, record: &Tailed<T>) -> Option<&[u8]> {
        let (shared, area) = self.areas.get(shard)?.as_ref()?;
        let tail = area.copy(shared.words(), record.tail_at, record.tail_len, cast_slice_mut(&mut self.tail));
        if tail.is_none() {
            lose(&mut self.lost[shard], &mut self.found, shard, ticket);
        }
        tail
    }

    /// Adds the intervals of the losses that the last read found in `sweep`.
    #[inline]
    pub(super) fn locate<T: AnyBitPattern>(&mut self, sweep: &Sweep<T>) {
        if !self.found.is_empty() {
            self.locate_found(sweep);
        }
    }

    #[cold]
    fn locate_found<T: AnyBitPattern>(&mut self, sweep: &Sweep<T>) {
        for mut loss in self.found.take() {
            let first = loss.shard.zip(loss.tickets.as_ref().map(|tickets| tickets.start));
            loss.since = first.and_then(|(shard, first)| sweep.whole_before(shard, first));
            self.losses.push(loss);
        }
    }

    /// The first bytes of the tail that was read last.
    #[inline]
    pub(super) fn tail(&self, len: usize) -> &[u8] {
        &cast_slice(&self.tail)[..len]
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

/// Counts a record whose tail was overwritten.
#[cold]
fn lose(count: &mut u64, found: &mut Losses, shard: usize, ticket: u64) {
    *count = count.wrapping_add(1);
    let (cause, tickets) = (LossCause::TailLost, Some(ticket..ticket.wrapping_add(1)));
    found.push(Loss::new(Some(shard), cause, tickets, 1).between(None, latest()));
}
