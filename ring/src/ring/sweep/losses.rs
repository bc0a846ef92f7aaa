//! The losses of a sweep: what its cursors found, and what programs dropped since the last look.

use std::io;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring_core::clock::{latest, now};
use mapring_core::protocol::ring::{Loss, LossCause, ReadStats, SPELL};

use super::Sweep;
use super::sources::DROPS;
use crate::abi::Preamble;
use crate::abi::seq::after;

/// A count of drops in the ring, as far as it was reported as losses.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ring) struct Drops {
    known: u64,
    /// When the count was last read.
    looked: Option<u64>,
}

impl Drops {
    /// How far the times of programs may be ahead of the coarse clock: its ticks may be late. Words of a hostile writer
    /// may be ahead by as much.
    const AHEAD: u64 = 1_000_000_000;

    /// The drops that were not reported yet. `count` reads how many there are. `spell` reads when the latest spell of
    /// drops began and when it ended, or 0; it may return anything.
    pub(in crate::ring) fn new_ones(
        &mut self,
        shard: Option<usize>,
        cause: LossCause,
        count: impl FnOnce() -> io::Result<u64>,
        spell: impl FnOnce() -> io::Result<[u64; 2]>,
    ) -> io::Result<Option<Loss>> {
        let before = now();
        let known = count()?;
        let more = known.wrapping_sub(self.known);
        if more == 0 {
            self.looked = Some(before);
            return Ok(None);
        }
        let ([begun, last], end) = (spell()?, latest() + Self::AHEAD);
        let begun = (1..=end).contains(&begun).then_some(begun);
        let since = match (self.looked, begun) {
            // A drop between this look and the begin would be of an earlier spell, and a whole `SPELL` before the begin.
            (Some(looked), Some(begun)) if begun.saturating_sub(looked) > SPELL => self.looked,
            _ => begun.max(self.looked),
        };
        let earliest = since.unwrap_or(1);
        let until = if (earliest..=end).contains(&last) { last } else { latest().max(earliest) };
        *self = Self { known, looked: Some(before) };
        Ok(Some(Loss::new(shard, cause, None, more).between(since, until)))
    }
}

impl<T: AnyBitPattern> Sweep<T> {
    /// Calls `f` with each loss that was not reported yet, for each shard in the order of its tickets.
    pub(in crate::ring) fn take_losses(&mut self, mut f: impl FnMut(Loss)) {
        let Self { sources, shards, no_shard, error, .. } = self;
        let mut report = |loss: io::Result<Option<Loss>>| match loss {
            Ok(loss) => loss.into_iter().for_each(&mut f),
            Err(e) => *error.get_mut() = Some(e),
        };
        for (at, part) in shards.iter_mut().enumerate() {
            let shard = Some(part.number);
            part.cursor.take_losses().for_each(|mut loss| {
                loss.shard = shard;
                report(Ok(Some(loss)));
            });
            let (source, index, place) = (sources.of(at), sources.shard_of(at), &part.place);
            for (drops, cause) in part.drops.iter_mut().zip(DROPS) {
                let count = || source.dropped(index, place, cause);
                report(drops.new_ones(shard, cause, count, || source.spell(index, place)));
            }
        }
        let count = || {
            let mut counts = sources.iter().map(|of| of.region().live(Preamble::DROPPED));
            counts.try_fold(0, |sum: u64, count| Ok(sum.wrapping_add(count?)))
        };
        report(no_shard.new_ones(None, LossCause::NoShard, count, || Ok([0; 2])));
    }

    /// How long it has found no new tickets.
    pub(in crate::ring) fn idle(&self) -> Duration {
        self.rotation.recheck.idle()
    }

    /// The counts that the losses reported so far add up to.
    pub(in crate::ring) fn reported(&self) -> ReadStats {
        let mut reported = self.passed();
        reported.no_shard = self.no_shard.known;
        for part in &self.shards {
            part.drops.iter().zip(DROPS).for_each(|(drops, cause)| reported.add(cause, drops.known));
        }
        reported
    }

    /// When the shard with this number had been read to its end at the last visit but one, or earlier. `None` if `ticket`
    /// was read before that.
    pub(in crate::ring) fn whole_before(&self, number: usize, ticket: u64) -> Option<u64> {
        let part = self.shard(number).filter(|part| !after(part.read_all[1], ticket))?;
        part.cursor.whole_before()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loss of `count` drops in all, with these words of the region.
    fn drops(drops: &mut Drops, count: u64, spell: [u64; 2]) -> Option<Loss> {
        drops.new_ones(Some(1), LossCause::NoSlot, || Ok(count), || Ok(spell)).unwrap()
    }

    #[test]
    fn new_drops_are_reported_once_with_the_spell_in_the_ring() {
        let mut known = Drops::default();
        let start = now();
        let first = drops(&mut known, 5, [start - 20, start - 10]).unwrap();
        assert_eq!((first.shard, first.count, first.tickets), (Some(1), 5, None));
        assert_eq!((first.since, first.until), (Some(start - 20), start - 10));
        assert_eq!(drops(&mut known, 5, [start - 20, start - 10]), None);
        // Two more in the same spell: not before the last look.
        let looked = known.looked.unwrap();
        let last = latest();
        let more = drops(&mut known, 7, [start - 20, last]).unwrap();
        assert_eq!((more.count, more.since, more.until), (2, Some(looked), last));
        // A new spell within a second of the last look: exact. Later, there may have been another one before it.
        for (looked, since) in [(last - SPELL, last), (last - SPELL - 1, last - SPELL - 1)] {
            let mut known = Drops { known: 7, looked: Some(looked) };
            let loss = drops(&mut known, 8, [last, last]).unwrap();
            assert_eq!((loss.since, loss.until), (Some(since), last));
        }
    }

    #[test]
    fn any_words_give_an_interval_that_ends_soon() {
        for [begun, last] in [[0, 0], [u64::MAX, 0], [0, u64::MAX], [5, 3], [u64::MAX; 2], [1, 1]] {
            for looked in [None, Some(now())] {
                let mut known = Drops { known: 9, looked };
                let before = now();
                let loss = drops(&mut known, 3, [begun, last]).unwrap();
                assert_eq!(loss.count, 3_u64.wrapping_sub(9));
                assert!(loss.since <= Some(loss.until) && loss.until <= latest() + Drops::AHEAD, "{loss:?}");
                assert!(looked.is_none() || loss.since == looked && loss.until >= before, "{loss:?}");
            }
        }
    }

    #[test]
    fn a_count_that_can_t_be_read_changes_nothing() {
        let mut known = Drops { known: 9, looked: Some(1) };
        let failed = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(known.new_ones(None, LossCause::NoShard, failed, || Ok([0; 2])).is_err());
        assert_eq!((known.known, known.looked), (9, Some(1)));
    }
}
