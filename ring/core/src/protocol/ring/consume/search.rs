//! Searches for the ends of what a shard contains: its oldest record, its last ticket, and a later one that has ended. And
//! for the first record of a time.

use bytemuck::AnyBitPattern;

use super::{Cursor, NoRecord, SlotSource};
use crate::abi::seq::{PENDING, TRIES, WALK, after, state};
use crate::sync::{At, fence, order};

/// The most tickets in a row among which a bisection looks for a record.
const PROBES: u64 = 64;

/// Where to continue after the slot of `t` was found with the `state` of a later lap: the oldest ticket that is not
/// about to be overwritten, and in any case one after `t`.
#[cold]
pub(super) fn oldest(source: &mut impl SlotSource, t: u64, state: u64) -> u64 {
    let slots = source.slots();
    let last = last_taken(source, slots.taken(state, t)).unwrap_or(t);
    // A few tickets later, or the writer would overwrite the slot before the first copy is done.
    let margin = slots.count() / 8;
    let oldest = last.wrapping_add(1).wrapping_sub(slots.count() - margin);
    if after(oldest, t) { oldest } else { t.wrapping_add(1) }
}

/// The last claimed ticket according to `head`.
fn newest(head: u64) -> u64 {
    (head & !PENDING).wrapping_sub(1)
}

/// The last taken ticket, if there is one. The search starts from `head` if the slot of its ticket confirms it, else
/// from the slot of `t`.
pub(in super::super) fn last_taken(source: &mut impl SlotSource, t: u64) -> Option<u64> {
    let slots = source.slots();
    let hint = newest(source.head());
    fence(order!(At::RingLast)); // SYNC order: a guarded claim that stored this `head` has claimed its slot before
    let seen = state(source.peek(hint));
    let mut from = if seen == slots.writing(hint) || seen == slots.published(hint) {
        hint
    } else {
        match state(source.peek(t)) {
            0 => return None,
            seen => slots.taken(seen, t),
        }
    };
    // A stuck writer's slot can confirm a `head` that is laps old, and stop the bisection: check the slots after it.
    for _ in 0..WALK {
        from = slots.last_taken(from, |t| source.peek(t));
        let gaps = 1..=u64::from(TRIES).min(slots.count());
        let Some(later) = gaps.map(|gap| from.wrapping_add(gap)).find_map(|t| {
            let seen = state(source.peek(t));
            (seen > slots.free(t)).then(|| slots.taken(seen, t))
        }) else {
            break;
        };
        from = later;
    }
    Some(from)
}

/// Copies the newest record to `out` and returns its ticket. Looks at the last few tickets, whose programs may still write
/// them, or have discarded them.
#[cold]
pub fn newest_record<T: AnyBitPattern>(source: &mut impl SlotSource, out: &mut T) -> Option<u64> {
    // A ring of one slot that is empty seems to end with the ticket before 0.
    let (slots, last) = (source.slots(), last_taken(source, 0).filter(|last| *last != u64::MAX)?);
    let back = u64::from(TRIES).min(slots.count() - 1).min(last);
    (0..=back)
        .map(|back| last - back)
        .find(|&t| source.take::<T, true>(source.slot(t), slots.published(t), out).is_ok())
}

/// How far after `t` a ticket has ended, if one has. Checks the ticket of `head`, and the tickets to which producers
/// step.
#[cold]
pub(super) fn later(source: &mut impl SlotSource, t: u64) -> Option<u64> {
    let slots = source.slots();
    let hint = newest(source.head());
    let near = (1..=u64::from(TRIES).min(slots.count() - 1)).map(|gap| t.wrapping_add(gap));
    [hint].into_iter().filter(|&hint| after(hint, t)).chain(near).find_map(|later| {
        let seen = state(source.peek(later));
        (!after(slots.published(later), seen)).then(|| slots.taken(seen, later).wrapping_sub(t))
    })
}

impl Cursor {
    /// Moves to the last record that `is_before` accepts, as if the cursor had begun there, if it accepts one. Whatever the
    /// order of the records: it accepted that record. Takes a bisection, which copies one record in each step.
    #[cold]
    pub fn skip_before<T: AnyBitPattern>(
        &mut self,
        source: &mut impl SlotSource,
        out: &mut T,
        mut is_before: impl FnMut(&T) -> bool,
    ) {
        let slots = source.slots();
        let Some(last) = last_taken(source, self.next).filter(|&last| !after(self.next, last)) else {
            return;
        };
        // Nothing before `end - left` is searched any more, and nothing from `end` on.
        let mut end = last.wrapping_add(1);
        let mut left = end.wrapping_sub(self.next).min(slots.count());
        while left > 0 {
            let middle = end.wrapping_sub(left.div_ceil(2));
            let upto = PROBES.min(end.wrapping_sub(middle));
            let mut overwritten = false;
            let found = (0..upto).map(|gap| middle.wrapping_add(gap)).find(|&t| {
                match source.take::<T, true>(source.slot(t), slots.published(t), out) {
                    Err(NoRecord::Not(seen)) => overwritten |= after(state(seen), slots.published(t)),
                    Err(_) => {}
                    Ok(()) => return true,
                }
                false
            });
            match found {
                Some(ticket) if is_before(out) => {
                    self.move_to(ticket);
                    left = end.wrapping_sub(ticket) - 1;
                }
                None if overwritten => left = end.wrapping_sub(middle) - 1,
                // Also if there is no record: rather too many are read than too few.
                _ => {
                    left -= end.wrapping_sub(middle);
                    end = middle;
                }
            }
        }
    }
}
