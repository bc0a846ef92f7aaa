//! A shard in ordinary memory, for tests: any state of any slot, and sources that count their loads.

use std::vec::Vec;

use bytemuck::AnyBitPattern;

use super::{NoRecord, Shard, ShardMut, ShardPlace, SlotSource};
use crate::abi::seq::Slots;
use crate::abi::{Geometry, Kind};
use crate::protocol::WordsMut;
use crate::sync::{AtomicU64, Ordering};

/// A ring of one shard, in ordinary memory.
pub(super) struct Memory {
    words: Vec<AtomicU64>,
    pub(super) place: ShardPlace,
}

impl Memory {
    pub(super) fn new(slots: u64) -> Self {
        let geometry = Geometry::new(Kind::Ring, 8, slots, 1).unwrap();
        let words = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        Self { words, place: ShardPlace::new(&geometry, 0) }
    }

    /// The same after programs pushed records with the values of their tickets.
    pub(super) fn with(slots: u64, records: u64) -> Self {
        let new = Self::new(slots);
        (0..records).for_each(|t| assert_eq!(new.writer().push(&t), Some(t)));
        new
    }

    pub(super) fn writer(&self) -> ShardMut<'_> {
        ShardMut::new(WordsMut::new(&self.words), &self.place)
    }

    pub(super) fn source(&self) -> Counted<'_> {
        let shard = Shard::new(*WordsMut::new(&self.words), &self.place);
        Counted { shard, loads: 0, before_take: None }
    }

    /// Puts any sequence into the slot of a ticket, as a hostile or a dead writer can.
    pub(super) fn put(&self, t: u64, seq: u64) {
        self.words[self.place.seq(t)].store(seq, Ordering::Relaxed);
    }

    /// The ticket is being written.
    pub(super) fn write(&self, t: u64) {
        self.put(t, self.place.slots().writing(t));
    }

    /// The ticket has ended.
    pub(super) fn publish(&self, t: u64) {
        self.put(t, self.place.slots().published(t));
        self.words[self.place.seq(t) + 1].store(t, Ordering::Relaxed);
    }

    pub(super) fn set_head(&self, head: u64) {
        self.words[self.place.head()].store(head, Ordering::Relaxed);
    }
}

/// A source that counts its loads of sequences and of the head.
pub(super) struct Counted<'a> {
    shard: Shard<'a>,
    pub(super) loads: u32,
    /// What happens before the next record is taken, as a program can write at any time.
    pub(super) before_take: Option<&'a dyn Fn()>,
}

impl SlotSource for Counted<'_> {
    fn slots(&self) -> Slots {
        self.shard.slots()
    }

    fn head(&mut self) -> u64 {
        self.loads += 1;
        self.shard.head()
    }

    fn peek(&mut self, t: u64) -> u64 {
        self.loads += 1;
        self.shard.peek(t)
    }

    fn slot(&self, t: u64) -> usize {
        self.shard.slot(t)
    }

    fn stride(&self) -> usize {
        self.shard.stride()
    }

    fn take<T: AnyBitPattern, const TO_MEMORY: bool>(
        &mut self,
        slot: usize,
        published: u64,
        out: &mut T,
    ) -> Result<(), NoRecord> {
        if let Some(meanwhile) = self.before_take.take() {
            meanwhile();
        }
        self.shard.take::<T, TO_MEMORY>(slot, published, out)
    }
}
