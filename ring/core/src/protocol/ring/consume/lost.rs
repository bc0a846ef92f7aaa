//! The losses of a cursor: which tickets, for which cause, and in which interval.

use super::Cursor;
use crate::clock::latest;
use crate::protocol::ring::loss::{Loss, LossCause};

impl Cursor {
    /// After a step that found nothing. At this time, or later, the cursor had read everything, unless the next ticket is
    /// being written: later ones may be lost then.
    #[inline]
    pub fn caught_up(&mut self, time: u64) {
        if self.unclaimed {
            self.read_all(time);
        }
    }

    /// At this time, or later, the cursor had read everything: losses that it finds from now on happened after it.
    #[inline]
    pub fn read_all(&mut self, time: u64) {
        self.whole = [self.whole[1], Some(time)];
    }

    /// A time at which nothing was lost yet of the tickets that it has read since the last call but one of
    /// [`read_all`](Self::read_all). `None` if it is not known.
    pub fn whole_before(&self) -> Option<u64> {
        self.whole[0]
    }

    /// The losses that it has found since the last call of this method, in the order of their tickets, without a shard.
    pub fn take_losses(&mut self) -> impl Iterator<Item = Loss> {
        self.losses.take()
    }

    /// Counts the tickets up to `to`, which is not among them, as lost, and continues there.
    #[cold]
    pub(super) fn lose(&mut self, cause: LossCause, to: u64) {
        let count = to.wrapping_sub(self.next);
        self.stats.add(cause, count);
        let since = self.whole[1];
        let until = latest().max(since.unwrap_or(0)); // a merged reader knows the exact clock
        let tickets = Some(self.next..to);
        self.losses.push(Loss { shard: None, cause, tickets, count, since, until });
        self.move_to(to);
    }
}
