//! Replaces a ring by another one, without losing a record of either.
//!
//! The new ring is put in place first; then the old ring's gates are closed. A program loads the gate again after it
//! claims a slot, with a full barrier in between (`detail/replace.bpf.h`). The resizer loads the slots after it closes the
//! gates, also with a full barrier in between. So at least one of the two sees the other (the barriers forbid store
//! buffering): each claim is either given back, or counted here and seen by every reader that has seen the ring
//! retired.
//!
//! A process can die at any step. Each of the two rings then names the other in its gate, so that another process can
//! [`finish`] the replacement.
//!
//! If a process died in a resize, and no process has the old ring open any more, its tickets count up to the moment
//! when the next ring replaced it.

use super::consume::last_taken;
use super::{END, PROGRAM_GATE, Shard, ShardPlace};
use crate::abi::{Epoch, Gate, Geometry};
use crate::protocol::{Words, WordsMut};
use crate::sync::{At, Ordering, fence, order};

/// A ring that can be replaced, mapped for writing.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// Its words.
    pub words: WordsMut<'a>,
    /// Its shape.
    pub geometry: &'a Geometry,
    /// Its map's id.
    pub id: u32,
}

/// Replaces `old` by `new`, an open ring that no other process has found yet. After `put`, programs find `new`. If
/// `put` fails, nothing has changed.
///
/// # Errors
/// The errors of `put`.
pub fn replace<E>(old: Whole<'_>, new: Whole<'_>, put: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    // The count so far. It stays if this process dies and the old ring is freed.
    let so_far = before(*old.words).wrapping_add(tickets(*old.words, old.geometry, |_, _| ()));
    count(new, so_far | Gate::COUNTING);
    gates(new.words, new.geometry, Gate::Open, epoch(old.words, old.geometry).next());
    mark(new, old.id, 0);
    mark(old, new.id, Gate::LEAVING);
    if let Err(e) = put() {
        mark(old, 0, 0);
        return Err(e);
    }
    finish(old, new);
    Ok(())
}

/// The steps after `put`, once programs find `new` in place of `old`. They may be repeated.
pub fn finish(old: Whole<'_>, new: Whole<'_>) {
    let end = close(old.words, old.geometry);
    count(new, before(*old.words).wrapping_add(end) & !Gate::COUNTING);
    retire(old.words, old.geometry);
    mark(new, 0, 0);
}

/// The id of the ring that `new` replaced, if the process that replaced it has not finished. Also cancels the attempt
/// of a process that died before it put another ring in place of `new`.
pub fn unfinished(new: Whole<'_>) -> Option<u32> {
    let word = new.words.load(Gate::WORD, Ordering::Relaxed);
    if Gate::for_readers(word) == Gate::Closing {
        mark(new, 0, 0);
        return None;
    }
    Some(Gate::other(word)).filter(|&id| id != 0)
}

/// Whether a process began to replace `old` by the ring with the id `new`, and has not finished.
pub fn is_replaced_by(old: Words<'_>, new: u32) -> bool {
    let word = old.load(Gate::WORD, Ordering::Relaxed);
    Gate::for_readers(word) == Gate::Closing && Gate::other(word) == new
}

/// Ends a replacement that can't be [finished](finish) because the old ring is gone. Only its tickets from before `new`
/// replaced it are counted.
pub fn give_up(new: Whole<'_>) {
    count(new, before(*new.words));
    mark(new, 0, 0);
}

/// Opens the gates of a new ring: from here on programs that find it claim slots in it.
pub fn open(words: WordsMut<'_>, geometry: &Geometry) {
    gates(words, geometry, Gate::Open, Epoch::default());
}

/// Closes the gates of the ring in `words`: from here on programs claim slots in the ring that replaced it, which they
/// must already be able to find. Returns how many tickets were given out in it.
pub fn close(words: WordsMut<'_>, geometry: &Geometry) -> u64 {
    gates(words, geometry, Gate::Closing, epoch(words, geometry));
    fence(order!(At::GateClosed)); // SYNC retire: pairs with the claim, a full barrier, in `detail/replace.bpf.h`
    tickets(*words, geometry, |place, end| words.store(place.header + END, end, Ordering::Relaxed))
}

/// How many tickets were given out in all shards together. Calls `each` with the number of each shard.
fn tickets(words: Words<'_>, geometry: &Geometry, mut each: impl FnMut(&ShardPlace, u64)) -> u64 {
    let end = |shard| {
        let place = ShardPlace::new(geometry, shard);
        let last = last_taken(&mut Shard::new(words, &place), 0);
        let end = last.map_or(0, |last| last.wrapping_add(1));
        each(&place, end);
        end
    };
    (0..geometry.shards()).map(end).fold(0, u64::wrapping_add)
}

/// The epoch of a ring.
fn epoch(words: WordsMut<'_>, geometry: &Geometry) -> Epoch {
    Epoch::of(Shard::new(*words, &ShardPlace::new(geometry, 0)).gate())
}

fn gates(words: WordsMut<'_>, geometry: &Geometry, state: Gate, epoch: Epoch) {
    for shard in 0..geometry.shards() {
        let (place, gate) = (ShardPlace::new(geometry, shard), state.encode_shard(geometry, shard, epoch));
        // SYNC replaced: a program that finds it closed (a barrier in `detail/replace.bpf.h`) finds the other ring.
        words.store(place.header + PROGRAM_GATE, gate, order!(At::GateClose));
    }
}

/// Lets readers leave a ring that was closed.
pub fn retire(words: WordsMut<'_>, geometry: &Geometry) {
    let retired = Gate::Retired.encode(geometry.capacity());
    words.store(Gate::WORD, retired, order!(At::GateRetire)); // SYNC retired: pairs with the load in `gate`
}

/// The state of a region's gate. A reader that finds it retired sees every claim that was not given back.
#[inline]
pub fn gate(words: Words<'_>) -> Gate {
    Gate::for_readers(words.load(Gate::WORD, order!(At::GateLoad))) // SYNC retired: pairs with the store in `retire`
}

/// Writes the id of the other ring, or 0, in the readers' gate of an open ring.
fn mark(ring: Whole<'_>, other: u32, leaving: u64) {
    let word = Gate::Open.encode(ring.geometry.capacity()) | u64::from(other) << 32 | leaving;
    ring.words.store(Gate::WORD, word, Ordering::Relaxed);
}

/// The number of tickets in the rings before this one, as far as it is known.
fn before(words: Words<'_>) -> u64 {
    words.load(Gate::BEFORE, Ordering::Relaxed) & !Gate::COUNTING
}

fn count(ring: Whole<'_>, before: u64) {
    ring.words.store(Gate::BEFORE, before, Ordering::Relaxed);
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::super::ShardMut;
    use super::*;
    use crate::abi::Kind;
    use crate::sync::AtomicU64;

    const BEFORE: usize = 15;

    #[test]
    fn what_was_counted_is_said_and_whether_it_is_all() {
        let geometry = Geometry::new(Kind::Ring, 8, 4, 2).unwrap().resizable().unwrap();
        let memory =
            [(); 2].map(|()| (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let ring = |at: usize| {
            let words = WordsMut::new(&memory[at]);
            Whole { words, geometry: &geometry, id: [7, 8][at] }
        };
        let word = |at: usize, word: usize| memory[at][word].load(Ordering::Relaxed);
        let (old, new) = (ring(0), ring(1));
        mark(old, 0, 0);
        mark(new, 0, 0);
        old.words.store(BEFORE, 10, Ordering::Relaxed);
        for (shard, records) in [(0, 3), (1, 2)] {
            let place = ShardPlace::new(&geometry, shard);
            let writer = ShardMut::new(old.words, &place);
            (0..records).for_each(|n: u64| assert_eq!(writer.push(&n), Some(n)));
        }

        // As in docs/abi.md: bit 63 is set until all tickets are counted.
        assert_eq!(replace(old, new, || Err("no")), Err("no"));
        assert_eq!((word(0, Gate::WORD), word(1, BEFORE)), (Gate::Open.encode(4), 1 << 63 | 15));
        let put = || {
            assert_eq!(word(1, BEFORE), 1 << 63 | 15);
            assert!(is_replaced_by(*old.words, 8) && !is_replaced_by(*old.words, 9));
            // One more, by a program that has not seen the new ring yet.
            let place = ShardPlace::new(&geometry, 1);
            assert_eq!(ShardMut::new(old.words, &place).push(&2_u64), Some(2));
            Ok::<_, &str>(())
        };
        assert_eq!(replace(old, new, put), Ok(()));
        assert_eq!((word(1, BEFORE), gate(*old.words), gate(*new.words)), (16, Gate::Retired, Gate::Open));
        assert_eq!(
            [0, 1].map(|shard| Shard::new(*old.words, &ShardPlace::new(&geometry, shard)).end()),
            [3, 3]
        );
        assert_eq!(unfinished(new), None);
    }

    #[test]
    fn gates_are_opened_and_closed_in_all_shards_and_what_was_begun_is_found() {
        let geometry = Geometry::new(Kind::Ring, 8, 4, 3).unwrap().resizable().unwrap();
        let memory: Vec<_> = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let ring = Whole { words: WordsMut::new(&memory), geometry: &geometry, id: 7 };
        let gate = |shard| Shard::new(*ring.words, &ShardPlace::new(&geometry, shard)).gate();
        open(ring.words, &geometry);
        assert!([0, 1, 2].map(gate).iter().all(|gate| *gate != 0));
        // The epoch stays: who sleeps by it is not woken too early.
        let epoch = Epoch::default().next();
        gates(ring.words, &geometry, Gate::Open, epoch);
        let opened = [0, 1, 2].map(gate);
        assert_eq!(close(ring.words, &geometry), 0);
        let closed = [0, 1, 2].map(gate);
        assert!(closed.iter().zip(opened).all(|(closed, opened)| *closed != opened));
        assert!(closed.iter().all(|closed| Epoch::of(*closed) == epoch));

        // As in docs/abi.md: the gate of a ring that another process is putting in the place of ring 9, and died.
        mark(ring, 9, 0);
        assert_eq!(unfinished(ring), Some(9));
        ring.words.store(BEFORE, 1 << 63 | 5, Ordering::Relaxed);
        give_up(ring);
        assert_eq!((unfinished(ring), before(*ring.words)), (None, 5));
        // One that died before it put another ring in place of this one.
        let id = 1 << 32 | Gate::Closing.encode(geometry.capacity());
        ring.words.store(Gate::WORD, id, Ordering::Relaxed);
        assert_eq!(unfinished(ring), None);
        assert_eq!(super::gate(*ring.words), Gate::Open, "the attempt is cancelled");
    }
}
