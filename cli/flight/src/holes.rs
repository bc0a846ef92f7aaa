//! Tickets that are missing among those that were read, and how many of them are lost records.

use std::ops::Range;

use mapring::Loss;
use mapring::reading::LossCause;

/// The tickets that are missing in each shard.
pub(crate) struct Holes {
    /// For each shard, the ticket after the largest one that was read, and this one's time.
    last: Vec<Option<(u64, u64)>>,
    found: Vec<Hole>,
}

/// Tickets that are missing between two records of a shard, and the times of these two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) shard: usize,
    tickets: Range<u64>,
    pub(crate) times: Range<u64>,
}

impl Holes {
    /// A program that interrupts another one has a later ticket, and may have an earlier stamp. More tickets are never out of
    /// order.
    const NESTED: u64 = 16;

    pub(crate) fn new(shards: usize) -> Self {
        Self { last: vec![None; shards], found: Vec::new() }
    }

    pub(crate) fn see(&mut self, shard: usize, ticket: u64, ns: u64) {
        let Some(last) = self.last.get_mut(shard) else { return };
        match *last {
            Some((next, _)) if ticket < next => return self.fill(shard, ticket),
            Some((next, before)) if next < ticket => {
                self.found.push(Hole { shard, tickets: next..ticket, times: before..ns.max(before) });
            }
            _ => {}
        }
        *last = Some((ticket.saturating_add(1), ns));
    }

    /// This ticket is not missing, it only came after a later one.
    #[cold]
    fn fill(&mut self, shard: usize, ticket: u64) {
        let is_here = |hole: &Hole| hole.shard == shard && hole.tickets.contains(&ticket);
        let Some(at) = self.found.iter().rposition(is_here) else { return };
        let Hole { tickets, times, .. } = self.found.swap_remove(at);
        for tickets in [tickets.start..ticket, ticket + 1..tickets.end] {
            if !tickets.is_empty() {
                self.found.push(Hole { shard, tickets, times: times.clone() });
            }
        }
    }

    /// The holes that remain.
    pub(crate) fn take(&mut self, is_last: bool) -> Vec<Hole> {
        let last = &self.last;
        let is_over = |hole: &mut Hole| {
            let next = last.get(hole.shard).copied().flatten().map_or(0, |(next, _)| next);
            is_last || next >= hole.tickets.end.saturating_add(Self::NESTED)
        };
        self.found.extract_if(.., is_over).collect()
    }

    /// Whether a hole may still be found among the tickets of a loss.
    pub(crate) fn is_ahead(&self, loss: &Loss) -> bool {
        let last = loss.shard.and_then(|shard| *self.last.get(shard)?);
        let tickets = loss.tickets.as_ref();
        tickets.is_some_and(|tickets| {
            last.is_none_or(|(next, _)| tickets.end.saturating_add(Self::NESTED) > next)
        })
    }
}

impl Hole {
    /// The records of this hole that are lost, by cause. Takes them from the losses. The other tickets had no record: programs
    /// stepped over them, or discarded them.
    pub(crate) fn lost(&self, losses: &mut [Loss]) -> Vec<(LossCause, u64)> {
        let mut left = self.tickets.end - self.tickets.start;
        let mut lost = Vec::new();
        for loss in losses.iter_mut().filter(|loss| loss.shard == Some(self.shard)) {
            let Some(tickets) = &loss.tickets else { continue };
            let both =
                tickets.end.min(self.tickets.end).saturating_sub(tickets.start.max(self.tickets.start));
            let count = both.min(loss.count).min(left); // merged losses have more tickets than records
            if count > 0 {
                left -= count;
                loss.count -= count;
                lost.push((loss.cause, count));
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_what_is_missing_and_not_what_comes_later() {
        let mut holes = Holes::new(2);
        for ticket in [7, 6, 8, 11, 9, 12, 15] {
            holes.see(1, ticket, 10 * ticket);
        }
        holes.see(0, 3, 1);
        holes.see(9, 3, 1); // a shard that there is not
        assert_eq!(holes.take(false), []);
        holes.see(1, 29, 290);
        let hole = |tickets, times| Hole { shard: 1, tickets, times };
        assert_eq!(holes.take(false), [hole(10..11, 80..110)]);
        assert_eq!(holes.take(true), [hole(13..15, 120..150), hole(16..29, 150..290)]);
        assert_eq!(holes.take(true), []);
    }

    #[test]
    fn tickets_of_a_hole_are_lost_only_as_far_as_the_reader_lost_them() {
        // Overwritten: 0 to 5. Two records that are not ended: tickets 8 and 40, with 16 slots.
        let ring = mapring::Ring::<u64>::create_memfd(16, 1).unwrap();
        let (writer, mut reader) =
            (ring.writer(0).unwrap(), ring.reader().with_patience(std::time::Duration::ZERO));
        let mut read = Vec::new();
        for n in 0..60 {
            if [8, 40].contains(&n) {
                std::mem::forget(writer.reserve().unwrap());
            } else {
                writer.push(&n);
            }
            if n > 20 {
                while let Some(event) = reader.poll() {
                    read.push(event.ticket);
                }
            }
        }
        while reader.poll().is_some() || reader.stopped_early() {}
        let stats = reader.stats();
        let mut losses = reader.take_losses();
        let lost: u64 = losses.iter().map(|loss| loss.count).sum();
        assert!(stats.stepped_over > 0 && lost == stats.lost(), "{stats}");
        // All that is not read is one hole.
        let all = Hole { shard: 0, tickets: 0..60, times: 0..1 };
        let of = |cause| losses_of(&all.lost(&mut losses.clone()), cause);
        assert_eq!((of(LossCause::Lapped), of(LossCause::Skipped)), (stats.lapped, stats.skipped));
        // Each is taken once, and another shard has none.
        let elsewhere = Hole { shard: 1, ..all.clone() };
        assert!(elsewhere.lost(&mut losses).is_empty());
        assert!(!all.lost(&mut losses).is_empty() && all.lost(&mut losses).is_empty());
    }

    fn losses_of(lost: &[(LossCause, u64)], cause: LossCause) -> u64 {
        lost.iter().filter(|(of, _)| *of == cause).map(|(_, count)| count).sum()
    }
}
