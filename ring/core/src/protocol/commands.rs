//! A ring of commands: userspace pushes them, programs carry them out.
//!
//! One process at a time *owns* the ring and writes it; its threads take turns by a lock that is not here. So there is
//! one writer, and a command is published by one store: `PUSHED`, the number of commands so far. A writer that dies
//! before this store leaves no trace that a program looks at. When `push` returns, every command up to it is published:
//! a writer that was preempted in the middle of a command never hides a later one.
//!
//! Programs also take turns: by `LOCK`, which they try once. The program that has it copies command `APPLIED + 1` to its
//! stack, carries it out, and only then stores the next `APPLIED`. Thus commands are carried out once each, in order,
//! and `APPLIED` acknowledges them. It also frees the slot. Programs are in `include/mapring/commands.bpf.h`.

use bytemuck::NoUninit;

use super::{Words, WordsMut};
use crate::abi::commands::{APPLIED, CommandsPlace, HEADER, OWNER, PUSHED};
use crate::sync::{At, Ordering, order};

/// How often [`own`] tries: more than once only if another process takes the ring or gives it back meanwhile.
const TRIES: u32 = 16;

/// Pushes a command. Returns its number, from 1 on, or `None` if no slot is free: then nothing was written. The caller
/// is the owner's only thread here. Never waits. `words` is the whole region.
#[inline]
pub fn push<T: NoUninit>(words: WordsMut<'_>, places: &CommandsPlace, command: &T) -> Option<u64> {
    let header = words.slice(places.header(), HEADER);
    let pushed = header.load(PUSHED, Ordering::Relaxed);
    // SYNC applied: pairs with the store of programs: a command that has a slot again is written after a program
    // copied the previous one.
    let applied = header.load(APPLIED, order!(At::CommandSlot));
    // Forged words can also be more than a whole ring apart.
    if pushed.wrapping_sub(applied) >= places.count() as u64 {
        return None;
    }
    let number = pushed.wrapping_add(1);
    let (at, len) = places.slot(number);
    let slot = words.slice(at, len);
    slot.write(1, command);
    slot.store(0, number, Ordering::Relaxed);
    header.store(PUSHED, number, order!(At::CommandPush)); // SYNC publish: pairs with the barrier of programs
    Some(number)
}

/// The number of commands that programs carried out or skipped. What they changed before is visible: to this thread,
/// and to each program that begins after this load.
#[inline]
pub fn acknowledged(words: Words<'_>, places: &CommandsPlace) -> u64 {
    // SYNC applied: pairs with the store of programs.
    words.load(places.header() + APPLIED, order!(At::CommandAcknowledged))
}

/// Makes the process `me` (an encoded [`Process`](crate::abi::Process)) the owner, unless another one is `alive`.
///
/// # Errors
/// The owner, if another process is.
pub fn own(
    words: WordsMut<'_>,
    places: &CommandsPlace,
    me: u64,
    mut alive: impl FnMut(u64) -> bool,
) -> Result<(), u64> {
    let at = places.header() + OWNER;
    let mut owner = words.load(at, Ordering::Relaxed);
    for _ in 0..TRIES {
        if owner == me {
            return Ok(());
        }
        if alive(owner) {
            break;
        }
        // SYNC own: pairs with `disown`. (The kernel orders the stores of a process that died before its end.)
        if words.swap_if(at, owner, me, order!(At::CommandsOwn)) {
            return Ok(());
        }
        owner = words.load(at, Ordering::Relaxed);
    }
    Err(owner)
}

/// Gives the ring back, so that another process can own it. `me` writes nothing afterwards.
pub fn disown(words: WordsMut<'_>, places: &CommandsPlace, me: u64) {
    // SYNC own: pairs with the compare-and-swap in `own`: the next owner continues after the last command.
    words.swap_if(places.header() + OWNER, me, 0, order!(At::CommandsDisown));
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::abi::{Geometry, Kind};
    use crate::sync::AtomicU64;

    fn region(slots: u64) -> (Vec<AtomicU64>, CommandsPlace) {
        let geometry = Geometry::new(Kind::Commands, 12, slots, 1).unwrap();
        ((0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect(), CommandsPlace::new(&geometry))
    }

    #[test]
    fn commands_are_where_programs_expect_them() {
        let (memory, places) = region(2);
        let words = WordsMut::new(&memory);
        let word = |at| words.load(at, Ordering::Relaxed);
        assert_eq!(push(words, &places, &[7_u32, 0, 8]), Some(1));
        assert_eq!(push(words, &places, &[9_u32, 0, 6]), Some(2));
        assert_eq!(push(words, &places, &[1_u32, 1, 1]), None, "full");
        // As in docs/abi.md: elements of 24 bytes, of which 8 are the preamble and 8 the header.
        assert_eq!([24, 25].map(word), [2, 0], "pushed and applied");
        assert_eq!([48, 49, 50, 51, 52, 53].map(word), [1, 7, 8, 2, 9, 6]);
        words.store(25, 1, Ordering::Relaxed);
        assert_eq!(push(words, &places, &[5_u32, 0, 5]), Some(3));
        assert_eq!(([48, 49, 50].map(word), acknowledged(*words, &places)), ([3, 5, 5], 1));
        words.store(25, 3, Ordering::Relaxed);
        assert_eq!(acknowledged(*words, &places), 3);
    }

    #[test]
    fn forged_positions_are_a_full_ring() {
        let (memory, places) = region(2);
        let words = WordsMut::new(&memory);
        for (pushed, applied) in [(0, 1), (3, 0), (u64::MAX, 0), (1 << 63, 0), (5, 9)] {
            words.store(24, pushed, Ordering::Relaxed);
            words.store(25, applied, Ordering::Relaxed);
            let full = push(words, &places, &[0_u32; 3]).is_none();
            assert_eq!(full, (pushed, applied) != (u64::MAX, u64::MAX), "{pushed} and {applied}");
        }
        // The number after the last one is 0.
        words.store(24, u64::MAX, Ordering::Relaxed);
        words.store(25, u64::MAX - 1, Ordering::Relaxed);
        assert_eq!(push(words, &places, &[0_u32; 3]), Some(0));
    }

    #[test]
    fn one_process_owns_it() {
        let (memory, places) = region(2);
        let words = WordsMut::new(&memory);
        let own = |me, alive: &[u64]| own(words, &places, me, |owner| alive.contains(&owner));
        assert_eq!(own(5, &[]), Ok(()));
        assert_eq!(own(5, &[5]), Ok(()), "again");
        assert_eq!(own(6, &[5]), Err(5));
        assert_eq!(own(6, &[]), Ok(()), "5 died");
        disown(words, &places, 5);
        assert_eq!(own(7, &[6]), Err(6), "5 gave back what it did not have");
        disown(words, &places, 6);
        assert_eq!(own(7, &[6]), Ok(()));
    }
}
