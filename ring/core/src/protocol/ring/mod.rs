//! One shard of a ring: writers overwrite the oldest record, any number of readers read, and producers may interrupt
//! each other anywhere.
//!
//! A claim takes slot and ticket in one step: the producer that changes a slot's sequence from free to being written
//! owns both. `head` is only a hint where to start. Correctness does not depend on it, so it may be stale or
//! overwritten. See [`crate::abi::seq`] for the states, `produce` for writers (the same algorithm as in the BPF
//! headers) and `consume` for readers.

mod consume;
mod copy;
mod follow;
mod loss;
mod memfd_readers;
#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod memory;
mod merge;
mod produce;
mod retire;
mod stats;
pub mod tails;
mod window;

pub use consume::{Cursor, NoRecord, Room, Run, SlotSource, Start, Step, Unread, newest_record};
pub use follow::{Follow, Leaving};
pub use loss::{Loss, LossCause, Losses};
pub use memfd_readers::{Ended, MemfdReaders};
pub use merge::{Found, Merge, OPEN, Shards, Turn, read};
pub use produce::{Dropped, Slot};
pub use retire::{Whole, close, finish, gate, give_up, is_replaced_by, open, replace, retire, unfinished};
pub use stats::ReadStats;
pub use window::{Window, WindowOf};

use super::{Words, WordsMut};
use crate::abi::seq::Slots;
use crate::abi::{Geometry, Kind, LINE, WORD};
use crate::sync::Ordering;
pub use crate::sync::clock_fence;

/// The header's word with a hint of the next ticket.
pub const HEAD: usize = 0;
/// The header's word that counts records for which no slot was free.
pub const NO_SLOT: usize = 1;
/// The header's word with the number of tickets that were given out in this shard, once the ring is retired.
pub const END: usize = 2;
/// The header's word with the limit of a ring that keeps its oldest records: tickets before it may be claimed without a look
/// at the readers.
pub const LIMIT: usize = 4;
/// The header's word that counts records that were dropped because of a required reader, in a ring that keeps its oldest
/// records.
pub const FULL: usize = 5;
/// The header's word with the time when the latest spell of drops began: see `ShardMut::time_drop`.
pub const DROPS_SINCE: usize = 6;
/// The header's word with the time when that spell ended so far.
pub const DROPS_UNTIL: usize = 7;
/// Nanoseconds without a drop after which the next one begins a new spell.
pub const SPELL: u64 = 1_000_000_000;
/// The header's word with the gate of a resizable ring: see [`Gate`](crate::abi::Gate).
pub const PROGRAM_GATE: usize = 3;

/// Words of a header.
const HEADER: usize = LINE / WORD;

/// The place of a shard in its region, in words.
#[derive(Clone, Copy, Debug)]
pub struct ShardPlace {
    header: usize,
    elements: usize,
    len: usize,
    stride: usize,
    slots: Slots,
}

impl ShardPlace {
    /// The place of shard `shard` in a ring of the shape `geometry`.
    ///
    /// # Panics
    /// If `geometry` is not of a ring, or has no such shard.
    pub fn new(geometry: &Geometry, shard: usize) -> Self {
        assert!(geometry.kind() == Kind::Ring && shard < geometry.shards());
        let stride = geometry.slot_words();
        let (header, elements) = geometry.shard_words(shard);
        let slots = u32::try_from(geometry.capacity()).ok().and_then(Slots::new);
        Self {
            header,
            elements,
            len: geometry.capacity() * stride,
            stride,
            slots: slots.expect("a ring's slots are a power of two"),
        }
    }

    /// The shard's slots.
    pub fn slots(&self) -> Slots {
        self.slots
    }

    /// The word of the region with the hint of the next ticket.
    #[inline]
    pub fn head(&self) -> usize {
        self.header + HEAD
    }

    /// The word of the region with the sequence of ticket `t`.
    #[inline]
    pub fn seq(&self, t: u64) -> usize {
        self.elements + self.slot(t)
    }

    /// The first word of the slot of ticket `t`, counted from the first slot.
    #[inline]
    fn slot(&self, t: u64) -> usize {
        self.slots.of(t) * self.stride
    }
}

/// The readers' view of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Shard<'a> {
    words: Words<'a>,
    place: ShardPlace,
}

impl<'a> Shard<'a> {
    /// The shard at `place` of the region `words`. Reading it panics if the region ends before the shard does.
    #[inline]
    pub fn new(words: Words<'a>, place: &ShardPlace) -> Self {
        Self { words, place: *place }
    }

    /// The number of tickets that were given out in this shard, once the ring is retired.
    pub fn end(&self) -> u64 {
        self.words.load(self.place.header + END, Ordering::Relaxed)
    }

    /// Its gate, in a ring that can be replaced.
    pub fn gate(&self) -> u64 {
        self.words.load(self.place.header + PROGRAM_GATE, Ordering::Relaxed)
    }

    /// When the latest spell of drops began, and its last drop so far. Nanoseconds of `CLOCK_MONOTONIC`; 0 if there was
    /// none.
    pub fn spell(&self) -> [u64; 2] {
        [DROPS_SINCE, DROPS_UNTIL].map(|word| self.words.load(self.place.header + word, Ordering::Relaxed))
    }

    /// Records that programs dropped because of a required reader, if the ring keeps its oldest records.
    pub fn full(&self) -> u64 {
        self.words.load(self.place.header + FULL, Ordering::Relaxed)
    }

    /// Records for which producers found no free slot. They have no ticket, and no reader counts them.
    pub fn dropped(&self) -> u64 {
        self.words.load(self.place.header + NO_SLOT, Ordering::Relaxed)
    }
}

/// The Rust producers' view of a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardMut<'a> {
    header: WordsMut<'a>,
    elements: WordsMut<'a>,
    place: ShardPlace,
}

impl<'a> ShardMut<'a> {
    /// The shard at `place` of the region `words`.
    ///
    /// # Panics
    /// If the region ends before the shard does.
    #[inline]
    pub fn new(words: WordsMut<'a>, place: &ShardPlace) -> Self {
        Self {
            header: words.slice(place.header, HEADER),
            elements: words.slice(place.elements, place.len),
            place: *place,
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn a_shard_is_where_its_geometry_says() {
        let geometry = Geometry::new(Kind::Ring, 20, 4, 3).unwrap();
        let memory: Vec<_> = (0..geometry.bytes() as u64 / 8).map(AtomicU64::new).collect();
        let place = ShardPlace::new(&geometry, 2);
        // As in docs/abi.md: elements of 4 words; before the slots of a shard, its header takes two.
        let header = 4 * (4 + 2 * 6);
        assert_eq!((place.head(), place.slots().count()), (header, 4));
        assert_eq!([0, 1, 3, 4].map(|t| place.seq(t)), [8, 12, 20, 8].map(|word| header + word));
        let shard = Shard::new(Words::new(&memory), &place);
        let words = [shard.dropped(), shard.end(), shard.gate(), shard.full()];
        assert_eq!(words, [1, 2, 3, 5].map(|word| header as u64 + word));
        assert_eq!(shard.spell(), [6, 7].map(|word| header as u64 + word));
    }
}
