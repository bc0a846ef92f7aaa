//! The counts of a ring's records, by outcome.

use core::fmt;

/// The counts of a ring's records, by outcome.
///
/// Each reserved record has a ticket. A reader counts the outcome of every ticket that it has passed. The number of
/// these tickets is `delivered + lost() + discarded`. A record that could not be reserved has no ticket: programs count
/// it in the ring, for all readers, from the ring's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadStats {
    /// Records delivered.
    pub delivered: u64,
    /// Delivered records with a tag that the reader's type does not know, from a newer program. Counted by
    /// [`Reader::for_each_variant`](crate::Reader::for_each_variant) and `for_each_variant_with_tail`, which deliver them
    /// as bytes.
    pub unknown: u64,
    /// Tickets overwritten before they were read.
    pub lapped: u64,
    /// Tickets that had not ended while later ones had: their writer was slow, died, or never ended the record; or
    /// producers stepped over the slot.
    pub skipped: u64,
    /// Tickets that ended without a record. Not lost.
    pub discarded: u64,
    /// Copies discarded because the record was overwritten during the copy. (The ticket is then counted as lapped.)
    pub torn: u64,
    /// Records whose tail was overwritten before it was read.
    pub tail_lost: u64,
    /// Records that programs dropped because no slot that they tried was free.
    pub no_slot: u64,
    /// Records that programs dropped because a [required](crate::Reader::require) reader had not read the oldest ones.
    pub full: u64,
    /// Records that programs dropped because their CPU has no shard, or the ring was not initialized.
    pub no_shard: u64,
    /// Records that programs dropped because there was no space for a tail: a writer had not ended since a whole area
    /// ago, or too many were inside a tail at once.
    pub no_tail: u64,
    /// Records that were refused because their tail was longer than the longest. In BPF programs their tickets are
    /// discarded.
    pub too_long: u64,
}

impl ReadStats {
    /// Records lost to this reader.
    pub fn lost(&self) -> u64 {
        self.lapped.wrapping_add(self.skipped).wrapping_add(self.tail_lost)
    }

    /// Records that programs dropped. No reader gets them.
    pub fn dropped(&self) -> u64 {
        [self.full, self.no_shard, self.no_tail, self.too_long]
            .into_iter()
            .fold(self.no_slot, u64::wrapping_add)
    }
}

/// `5 delivered (1 with an unknown tag), 2 lost (1 overwritten, 1 skipped), 1 dropped (1 no free slot)`
impl fmt::Display for ReadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} delivered", self.delivered)?;
        if self.unknown != 0 {
            write!(f, " ({} with an unknown tag)", self.unknown)?;
        }
        let lost =
            [(self.lapped, "overwritten"), (self.skipped, "skipped"), (self.tail_lost, "tail overwritten")];
        let dropped = [
            (self.no_slot, "no free slot"),
            (self.full, "held back by a reader"),
            (self.no_shard, "no shard for the CPU"),
            (self.no_tail, "no space for the tail"),
            (self.too_long, "tail too long"),
        ];
        for (sum, word, causes) in
            [(self.lost(), "lost", &lost[..]), (self.dropped(), "dropped", &dropped[..])]
        {
            write!(f, ", {sum} {word}")?;
            let causes = causes.iter().filter(|(count, _)| *count != 0);
            for (at, (count, cause)) in causes.enumerate() {
                write!(f, "{}{count} {cause}", if at == 0 { " (" } else { ", " })?;
            }
            f.write_str(if sum == 0 { "" } else { ")" })?;
        }
        Ok(())
    }
}

impl core::ops::AddAssign for ReadStats {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.delivered, other.delivered),
            (&mut self.unknown, other.unknown),
            (&mut self.lapped, other.lapped),
            (&mut self.skipped, other.skipped),
            (&mut self.discarded, other.discarded),
            (&mut self.torn, other.torn),
            (&mut self.no_slot, other.no_slot),
            (&mut self.full, other.full),
            (&mut self.no_shard, other.no_shard),
            (&mut self.tail_lost, other.tail_lost),
            (&mut self.no_tail, other.no_tail),
            (&mut self.too_long, other.too_long),
        ] {
            *sum = sum.wrapping_add(more);
        }
    }
}
