//! What lies ahead of a cursor: for readers that wait, and for those that order the records of several shards.

use super::{Cursor, SlotSource, last_taken, later, may_end};
use crate::abi::readers::watermark;
use crate::abi::seq::{PENDING, after, state};

/// What a reader that waits would find in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// No ticket has ended.
    Nothing,
    /// Tickets have ended, behind one that has not, and for which the reader's patience lasts.
    Held,
    /// A ticket has ended, or some have, but fewer than were asked for.
    Some,
    /// As many tickets as were asked for have ended, up to a quarter more, or the steps pass a ticket that will never end.
    Many,
}

impl Cursor {
    /// What the next steps would find, if they checked later tickets too; `many` (at least 1, at most half of the slots) is
    /// a [`watermark`]. Takes a few dozen loads at most.
    pub fn unread(&mut self, source: &mut impl SlotSource, many: u64) -> Unread {
        let (slots, t) = (source.slots(), self.next);
        let seen = source.peek(t);
        if after(state(seen), slots.published(t)) {
            return Unread::Many; // a whole lap
        }
        if state(seen) == slots.published(t) {
            // The ticket whose program wakes the reader, and no earlier one that may end after it.
            let last = watermark(t, many);
            let ended = many == 1 || !after(slots.published(last), state(source.peek(last)));
            return if ended { Unread::Many } else { Unread::Some };
        }
        let Some(gap) = later(source, t) else { return Unread::Nothing };
        if may_end(source, seen, slots.published(t)) && !self.has_waited(t.wrapping_add(gap)) {
            return Unread::Held;
        }
        Unread::Many
    }

    /// Whether no ticket from the next one on was claimed when this call began. So a program that claims one later reads
    /// a later clock than the caller did, if the caller read it before this call ([`clock_fence`](crate::protocol::ring::clock_fence)).
    ///
    /// One exception, where a later ticket can already be claimed: a slot that was stepped over because its writer was
    /// interrupted for a lap (`docs/guarantees.md`, *Non-guarantees*).
    #[inline]
    pub fn nothing_claimed(&self, source: &mut impl SlotSource) -> bool {
        let (slots, t) = (source.slots(), self.next);
        if after(state(source.peek(t)), slots.free(t)) {
            return false;
        }
        // A guarded claim that was interrupted between `head` and the slot leaves a free slot before later tickets.
        !after(source.head() & !PENDING, t) || last_taken(source, t).is_none_or(|last| after(t, last))
    }
}
