//! The limit of a ring that keeps its oldest records: programs do not overwrite what a required reader has not read yet. `keep.bpf.h`
//! is the same in C; `ring/core/src/protocol/readers.rs` is the readers' side, and says why this is correct.

use crate::layout::{HELD, LEASES, OF_SHARD, POSITIONS, REQUIRED, SEATS};
use crate::words::{MapPtr, Word, cpu, forget, full_barrier, lookup, now};

/// Whether a lease has ended since the time in `word`. If that is 0, the lease begins now.
#[inline(always)]
pub(crate) fn lease_ended(word: Word, lease: u64) -> bool {
    let (since, now) = (word.load(), now());
    if since == 0 {
        word.store(now);
        return false;
    }
    now.wrapping_sub(since) > lease
}

/// The oldest ticket that a required reader has not read, or `t`, the next ticket to be claimed. A reader that has not read `within`
/// tickets before `t` holds programs back. When its lease has ended, it is no longer required.
#[inline(always)]
pub(crate) fn oldest(readers: MapPtr, t: u64, within: u64) -> u64 {
    let of_shard = |element: usize| lookup(readers, element as u32 + cpu() * OF_SHARD as u32);
    // SYNC keep: the claims of the tickets before `t` come before the load of who is required; pairs with the fence of a reader that
    // becomes required, after which it loads slots.
    full_barrier();
    let (Some(words), Some(leases)) = (lookup(readers, 0), lookup(readers, LEASES as u32)) else {
        return t.wrapping_sub(within);
    };
    let (Some(positions), Some(held)) = (of_shard(POSITIONS), of_shard(HELD)) else {
        return t.wrapping_sub(within);
    };
    let required = words.plus(REQUIRED).load();
    let t = forget(t, required);
    let (mut most, mut reader) = (0, 0);
    // One jump back, at the end: of several, LLVM makes nested loops, which the verifier multiplies.
    while reader < SEATS {
        'next: {
            let bit = 1_u64 << reader;
            if required & bit == 0 {
                break 'next;
            }
            let behind = t.wrapping_sub(positions.plus(reader).load());
            if (behind as i64) < 0 {
                break 'next; // no reader is there: forged
            }
            if behind < within {
                held.plus(reader).store(0);
            } else if lease_ended(held.plus(reader), leases.plus(reader).load()) {
                words.plus(REQUIRED).fetch_and(!bit); // reading restarts the lease; the next claim notices
                break 'next;
            }
            most = most.max(behind);
        }
        reader += 1;
    }
    // SYNC read: the loads of positions come before the stores of claims that they allow, which depend on them.
    t.wrapping_sub(most)
}

/// The limit: no ticket from this one on may be claimed, because its slot holds a record that a required reader has not read. Stores
/// it in `word`. `t` is the next ticket to be claimed.
///
/// It is never more than a lap after `t`. So a reader that becomes required, and does not find ticket `t` claimed after its fence, is
/// not overrun by programs that have not seen it: they claim tickets before `t + slots`.
#[inline(always)]
pub(crate) fn limit(readers: MapPtr, word: Option<Word>, t: u64, slots: u64) -> u64 {
    let Some(word) = word else { return t };
    let limit = oldest(readers, t, slots).wrapping_add(slots);
    word.store(limit);
    limit
}
