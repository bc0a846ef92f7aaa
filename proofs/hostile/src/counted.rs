//! A shard whose reader's loads are counted.

use bytemuck::AnyBitPattern;
use mapring::abi::seq::{Slots, TRIES};
use mapring_core::protocol::ring::{NoRecord, Shard, SlotSource};

/// A shard that counts its reads.
#[derive(Debug)]
pub struct Counted<'a> {
    shard: Shard<'a>,
    /// Loads since this was last set to 0; a record counts as one.
    pub loads: u64,
}

impl<'a> Counted<'a> {
    /// Counts for `shard`.
    pub fn new(shard: Shard<'a>) -> Self {
        Self { shard, loads: 0 }
    }

    /// The maximum number of loads in one step of a reader.
    pub fn limit(&self) -> u64 {
        let bits = u64::from(self.slots().count().trailing_zeros());
        let tries = u64::from(TRIES);
        16 + tries * (bits + tries)
    }
}

impl<'a> SlotSource for Counted<'a> {
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
        self.loads += 2;
        self.shard.take::<T, TO_MEMORY>(slot, published, out)
    }
}
