//! What became of the records of a ring.

use core::fmt;

/// What became of the records of a ring, by cause.
///
/// Each reserved record has a ticket. A reader counts what became of those that it has passed, and
/// `delivered + lost() + discarded` is how far it came. A record that could not be reserved has no ticket: programs
/// count it in the ring, for all readers, from the ring's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadStats {
    /// Records delivered.
    pub delivered: u64,
    /// Tickets overwritten before they were read.
    pub lapped: u64,
    /// Tickets passed over because they had not ended while later ones had: their writer was
    /// slow, died, or never ended the record; or producers stepped over the slot.
    pub skipped: u64,
    /// Tickets that ended without a record. Not lost.
    pub discarded: u64,
    /// Copies thrown away because the record was overwritten meanwhile (the ticket is then
    /// counted as lapped).
    pub torn: u64,
    /// Records that programs dropped because all slots that they tried were being written.
    pub no_slot: u64,
    /// Records that programs dropped because their CPU has no shard, or the ring was not initialized.
    pub no_shard: u64,
}

impl ReadStats {
    /// Records lost to this reader.
    pub fn lost(&self) -> u64 {
        self.lapped.wrapping_add(self.skipped)
    }

    /// Records that programs dropped, which no reader sees.
    pub fn dropped(&self) -> u64 {
        self.no_slot.wrapping_add(self.no_shard)
    }
}

/// `5 delivered, 2 lost (1 overwritten, 1 skipped), 1 dropped (1 no free slot)`
impl fmt::Display for ReadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} delivered", self.delivered)?;
        let lost = [(self.lapped, "overwritten"), (self.skipped, "skipped")];
        let dropped = [(self.no_slot, "no free slot"), (self.no_shard, "no shard for the CPU")];
        for (sum, word, causes) in [(self.lost(), "lost", lost), (self.dropped(), "dropped", dropped)] {
            write!(f, ", {sum} {word}")?;
            let causes = causes.into_iter().filter(|(count, _)| *count != 0);
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
            (&mut self.lapped, other.lapped),
            (&mut self.skipped, other.skipped),
            (&mut self.discarded, other.discarded),
            (&mut self.torn, other.torn),
            (&mut self.no_slot, other.no_slot),
            (&mut self.no_shard, other.no_shard),
        ] {
            *sum = sum.wrapping_add(more);
        }
    }
}
