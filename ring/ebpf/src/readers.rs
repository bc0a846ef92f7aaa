//! How programs wake the readers of a ring. `readers.bpf.h` is the same in C, `ring/core/src/protocol/readers.rs` the readers' side.

use crate::claim::{DISCARDED, PENDING, Shard, TRIES};
use crate::keep::lease_ended;
use crate::layout::{ASLEEP, IDLE_SINCE, LOOK, OF_SHARD, SEATS, WAKE_AT};
use crate::words::{MapPtr, Word, cpu, full_barrier, lookup, ring_bell};

/// After how long without a reader that says that it sleeps programs stop looking, in nanoseconds.
const IDLE: u64 = 10_000_000_000;
/// The low half of a word.
const LOW: u64 = 0xffff_ffff;

/// 1 if this slot is the last one of its shard, else 0. Without a branch.
#[inline(always)]
fn is_last(shift: u32, number: u32) -> u64 {
    (u64::from(number) + 1) >> shift
}

/// Whether the program that has just ended the ticket in this slot must look further: a reader sleeps, or a lap is over. Readers
/// say at which tickets programs look. Only there does a program pay for a barrier.
#[inline(always)]
pub(crate) fn sleeps(readers: MapPtr, shift: u32, number: u32) -> bool {
    // SYNC look: this load comes after the end of the ticket (for the compiler, because the lookup does), but no barrier is
    // between the two. A reader that makes programs look more often waits for an RCU grace period before it sleeps.
    let Some(words) = lookup(readers, 0) else { return false };
    if !u64::from(number) & (words.plus(LOOK).load() & LOW) != 0 {
        return false;
    }
    // SYNC asleep: between the end of the ticket and the loads of what readers said; pairs with their fence before they check for
    // records.
    full_barrier();
    words.plus(ASLEEP).load() | is_last(shift, number) != 0
}

/// Whether ticket t has ended, or is far behind: t may be one that no program can claim, because its slot is stuck. Called by
/// programs that ended a ticket, so the one that ends t finds that it has.
#[inline(always)]
fn is_reached(shard: &Shard, t: u64) -> bool {
    let Some(seq) = shard.slot(t) else { return true };
    let ahead = (seq.load() & !DISCARDED).wrapping_sub(shard.lap(t).wrapping_add(2));
    ahead as i64 >= 0 || (shard.header.load() & !PENDING).wrapping_sub(t) as i64 > TRIES as i64
}

/// Whether programs stop looking for sleepers from now on, because no reader has said for long that it sleeps. The caller then
/// wakes all that sleep. A reader that is about to sleep notices it, and says again how often programs must look.
#[inline(always)]
fn stops_looking(words: Word) -> bool {
    let look = words.plus(LOOK).load();
    // SYNC idle: the swap is a full barrier before the load of the readers' bits; pairs with the fence between a reader's bit and
    // its look at this word. It fails if a reader has said anything meanwhile.
    lease_ended(words.plus(IDLE_SINCE), IDLE) && words.plus(LOOK).compare_exchange(look, look | LOW) == look
}

/// Wakes the readers that sleep until now. A reader's bit is cleared before its bell is rung, so it is rung once. If the kernel
/// can't ring it (an NMI inside the kernel's own lock), the bit is set again for the next program that looks.
#[inline(always)]
pub(crate) fn wake(readers: MapPtr, bells: MapPtr, shard: &Shard, number: u32) {
    let Some(words) = lookup(readers, 0) else { return };
    let Some(wake_at) = lookup(readers, WAKE_AT as u32 + cpu() * OF_SHARD as u32) else { return };
    let all = is_last(shard.shift, number) != 0 && stops_looking(words);
    let asleep_word = words.plus(ASLEEP);
    let asleep = asleep_word.load();
    for reader in 0..SEATS as u32 {
        let bit = 1_u64 << reader;
        if asleep & bit == 0 {
            continue;
        }
        let until = wake_at.plus(reader as usize).load();
        if until != 0 && !all && !is_reached(shard, until - 1) {
            continue;
        }
        if asleep_word.fetch_and(!bit) & bit == 0 {
            continue; // another program wakes it
        }
        if let Some(bell) = lookup(bells, reader)
            && !ring_bell(bell)
        {
            asleep_word.or(bit);
            if all {
                words.plus(LOOK).fetch_and(!LOW);
            }
        }
    }
}
