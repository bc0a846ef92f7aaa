//! The counts of a ring's records, by outcome.

use core::fmt;

use super::LossCause;

/// The counts of a ring's records, by outcome.
///
/// Each reserved record has a ticket. A reader counts the outcome of every ticket that it has passed. The number of
/// these tickets is `delivered + lost() + discarded + stepped_over`. A record that could not be reserved has no ticket: programs count
/// it in the ring, for all readers, from the ring's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadStats {
    /// Records delivered.
    pub delivered: u64,
    /// Tickets overwritten before they were read.
    pub lapped: u64,
    /// Reserved records that had not ended while later ones had: their writer was slow, died, or never ended the record.
    pub skipped: u64,
    /// Tickets that ended without a record. Not lost.
    pub discarded: u64,
    /// Tickets that no program had when the reader passed them: programs stepped over their slots, because an earlier record
    /// of the slot had not ended. Not lost.
    pub stepped_over: u64,
    /// Copies discarded because the record was overwritten during the copy. (The ticket is then counted as lapped.)
    pub torn: u64,
    /// Records whose tail was overwritten before it was read.
    pub tail_lost: u64,
    /// Records that programs dropped because no slot that they tried was free.
    pub no_slot: u64,
    /// Records that programs dropped because a required reader had not read the oldest ones.
    pub full: u64,
    /// Records that programs dropped because their CPU has no shard, or the ring was not initialized.
    pub no_shard: u64,
    /// Records that programs dropped because there was no space for a tail: a writer had not ended since a whole area
    /// ago, or too many were inside a tail at once.
    pub no_tail: u64,
    /// Records that were refused because their tail was longer than the longest. In BPF programs their tickets are
    /// discarded.
    pub too_long: u64,
    /// Records that a merged reader delivered after one with a later stamp.
    pub late: u64,
    /// Records whose stamp was later than the clock: their programs use another clock. A merged
    /// reader delivers each as if it had been stamped when the reader noticed this.
    pub ahead: u64,
    /// Records that a merged reader holds, to deliver them later. They are not counted yet: the reader has not passed them.
    pub held: u64,
}

impl ReadStats {
    /// Adds to the count of a cause.
    pub fn add(&mut self, cause: LossCause, count: u64) {
        let sum = self.of(cause);
        *sum = sum.wrapping_add(count);
    }

    fn of(&mut self, cause: LossCause) -> &mut u64 {
        match cause {
            LossCause::Lapped => &mut self.lapped,
            LossCause::Skipped => &mut self.skipped,
            LossCause::TailLost => &mut self.tail_lost,
            LossCause::NoSlot => &mut self.no_slot,
            LossCause::Full => &mut self.full,
            LossCause::NoShard => &mut self.no_shard,
            LossCause::NoTail => &mut self.no_tail,
            LossCause::TooLong => &mut self.too_long,
        }
    }

    /// Records lost to this reader.
    pub fn lost(&self) -> u64 {
        sum([self.lapped, self.skipped, self.tail_lost])
    }

    /// Records that programs dropped. No reader gets them.
    pub fn dropped(&self) -> u64 {
        sum([self.no_slot, self.full, self.no_shard, self.no_tail, self.too_long])
    }

    /// Records that are missing for this cause.
    pub fn missing(&self, cause: LossCause) -> u64 {
        *{ *self }.of(cause)
    }

    /// The tickets that the reader has passed: `delivered + lost() + discarded + stepped_over`.
    pub fn passed(&self) -> u64 {
        sum([self.delivered, self.lost(), self.discarded, self.stepped_over])
    }
}

#[inline]
fn sum<const N: usize>(counts: [u64; N]) -> u64 {
    counts.into_iter().fold(0, u64::wrapping_add)
}

/// `5 delivered, 2 lost (1 overwritten, 1 skipped), 1 dropped (1 no free slot), 4 stepped over, 2 late, 1 ahead of the clock,
/// 3 held`, of the last four only those that are not 0.
impl fmt::Display for ReadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} delivered", self.delivered)?;
        for (drops, word, sum) in [(false, "lost", self.lost()), (true, "dropped", self.dropped())] {
            write!(f, ", {sum} {word}")?;
            let causes = LossCause::ALL.iter().filter(|cause| cause.is_drop() == drops);
            let causes = causes.map(|cause| (self.missing(*cause), cause)).filter(|(count, _)| *count != 0);
            for (at, (count, cause)) in causes.enumerate() {
                write!(f, "{}{count} {cause}", if at == 0 { " (" } else { ", " })?;
            }
            f.write_str(if sum == 0 { "" } else { ")" })?;
        }
        let others = [
            (self.stepped_over, "stepped over"),
            (self.late, "late"),
            (self.ahead, "ahead of the clock"),
            (self.held, "held"),
        ];
        let mut others = others.into_iter().filter(|(count, _)| *count != 0);
        others.try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

impl core::ops::AddAssign for ReadStats {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.delivered, other.delivered),
            (&mut self.lapped, other.lapped),
            (&mut self.skipped, other.skipped),
            (&mut self.discarded, other.discarded),
            (&mut self.stepped_over, other.stepped_over),
            (&mut self.torn, other.torn),
            (&mut self.no_slot, other.no_slot),
            (&mut self.full, other.full),
            (&mut self.no_shard, other.no_shard),
            (&mut self.tail_lost, other.tail_lost),
            (&mut self.no_tail, other.no_tail),
            (&mut self.too_long, other.too_long),
            (&mut self.late, other.late),
            (&mut self.ahead, other.ahead),
            (&mut self.held, other.held),
        ] {
            *sum = sum.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_of_the_lost_or_of_the_dropped() {
        for &cause in LossCause::ALL {
            let mut stats = ReadStats::default();
            stats.add(cause, 3);
            let expected = if cause.is_drop() { (0, 3) } else { (3, 0) };
            assert_eq!((stats.lost(), stats.dropped()), expected, "{cause}");
        }
    }

    #[test]
    fn counts_are_named_with_their_causes() {
        let none = ReadStats::default();
        assert_eq!(none.to_string(), "0 delivered, 0 lost, 0 dropped");
        let stats =
            ReadStats { delivered: 5, lapped: 1, skipped: 1, no_slot: 3, stepped_over: 4, held: 2, ..none };
        assert_eq!(
            stats.to_string(),
            "5 delivered, 2 lost (1 overwritten, 1 skipped), 3 dropped (3 no free slot), 4 stepped over, 2 held"
        );
        assert_eq!(
            [LossCause::NoSlot, LossCause::Skipped, LossCause::Full].map(|cause| stats.missing(cause)),
            [3, 1, 0]
        );
    }
}
