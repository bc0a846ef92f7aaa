//! The gates of a resizable ring: words that control whether programs claim slots in it.

use super::Geometry;

/// The state of a gate: whether a ring is in use, for rings that can be replaced.
///
/// The preamble has one gate, for readers. The header of each shard has one, for programs. A program loads its gate
/// before it claims a slot, and again afterwards. If the gate has changed, the program gives the slot back. So once a
/// ring is closed and the earlier claims are seen, no record is written to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Gate {
    /// The ring can't be replaced.
    None = 0,
    /// The ring is in use.
    Open = 1,
    /// Another ring is in use, or will be soon, and programs must switch to it; the tickets of this ring are being
    /// counted. Only headers contain this state: the preamble contains [`Open`](Self::Open) with
    /// [`LEAVING`](Self::LEAVING) instead.
    Closing = 2,
    /// Another ring is in use, and the counts of this one are final: readers may continue in the other. Only the
    /// preamble contains this state.
    Retired = 3,
    /// A state that this library does not support. No region with this state can be opened. A reader that meets it
    /// later treats the ring as one in use, and programs claim no slot.
    Unknown = 0xff,
}

impl Gate {
    /// The word of the preamble with the state, and log2 of the slots from bit 8. While a ring is being replaced, this
    /// word of both rings contains the id of the other's map from bit 32.
    pub const WORD: usize = 14;
    /// The word of the preamble with the number of tickets, of all shards together, that were given out in the rings
    /// before this one.
    pub const BEFORE: usize = 15;
    /// Set in [`BEFORE`](Self::BEFORE) until the last of these rings is counted.
    pub const COUNTING: u64 = 1 << 63;

    /// The word of the preamble with this state, for a ring with this many slots (a power of two) per shard.
    pub fn encode(self, slots: usize) -> u64 {
        match self {
            Self::None => 0,
            state => u64::from(slots.trailing_zeros()) << 8 | state as u64,
        }
    }

    /// The word of a shard's header with this state, for a ring of the shape `geometry` and this epoch: the same, the epoch
    /// from bit 13, and from bit 32 the element of the shard's first slot.
    pub fn encode_shard(self, geometry: &Geometry, shard: usize, epoch: Epoch) -> u64 {
        (geometry.slots(shard) as u64) << 32 | epoch.0 << Epoch::FROM | self.encode(geometry.capacity())
    }

    /// Set in the preamble's word of an open ring while another ring is replacing it.
    pub const LEAVING: u64 = 1 << 16;

    /// The state for readers, from the preamble's word.
    #[inline]
    pub fn for_readers(word: u64) -> Self {
        match Self::decode(word) {
            Self::Open if word & Self::LEAVING != 0 => Self::Closing,
            state => state,
        }
    }

    /// The id of the other map in the preamble's word; 0 if there is none.
    pub fn other(word: u64) -> u32 {
        (word >> 32) as u32
    }

    /// The state in a word; all other bits are ignored.
    pub fn decode(word: u64) -> Self {
        match word & 0xff {
            0 => Self::None,
            1 => Self::Open,
            2 => Self::Closing,
            3 => Self::Retired,
            _ => Self::Unknown,
        }
    }
}

/// How many rings were in the place of a resizable ring before it, modulo 2^19. Readers say with it which ring's ticket they
/// mean, in the words that they keep when the ring is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    const BITS: u32 = 19;
    /// Its lowest bit in the gate of a shard.
    const FROM: u32 = 13;

    /// The epoch in the gate of a shard.
    pub fn of(gate: u64) -> Self {
        Self(gate >> Self::FROM & ((1 << Self::BITS) - 1))
    }

    /// That of the ring that replaces this one.
    pub fn next(self) -> Self {
        Self::of((self.0 + 1) << Self::FROM)
    }

    /// A ticket of the ring with this epoch, which is in the highest 19 bits: programs know the others from the tickets that
    /// they give out.
    pub fn ticket(self, ticket: u64) -> u64 {
        self.0 << (64 - Self::BITS) | ticket & (u64::MAX >> Self::BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Kind;

    #[test]
    fn what_is_encoded_is_decoded() {
        for gate in [Gate::None, Gate::Open, Gate::Closing, Gate::Retired] {
            assert_eq!(Gate::decode(gate.encode(4096)), gate);
        }
        assert_eq!(Gate::Open.encode(4096), 12 << 8 | 1);
        for word in [4, 0xff, u64::MAX, 12 << 8 | 4, Gate::Unknown.encode(4096)] {
            assert_eq!(Gate::decode(word), Gate::Unknown);
        }
    }
    #[test]
    fn readers_are_told_of_a_ring_in_its_place() {
        let open = Gate::Open.encode(4096);
        assert_eq!(Gate::for_readers(open), Gate::Open);
        assert_eq!(Gate::for_readers(open | Gate::LEAVING), Gate::Closing);
        assert_eq!(Gate::for_readers(open | 1 << 32), Gate::Open, "not yet");
        for gate in [Gate::None, Gate::Retired] {
            assert_eq!(
                Gate::for_readers(gate.encode(4096) | Gate::LEAVING),
                gate,
                "only what is open closes"
            );
        }
        assert_eq!(Gate::other(open | 77 << 32), 77);
        assert_eq!(Gate::other(open), 0);
    }

    #[test]
    fn a_header_says_where_the_slots_of_its_shard_are() {
        let ring = Geometry::new(Kind::Ring, 56, 64, 3).unwrap().resizable().unwrap();
        for shard in 0..3 {
            let word = Gate::Open.encode_shard(&ring, shard, Epoch::default());
            assert_eq!((word >> 32) as usize, ring.slots(shard));
            assert_eq!(word & 0xffff_ffff, Gate::Open.encode(64));
            let next = Gate::Closing.encode_shard(&ring, shard, Epoch::of(word).next());
            assert_eq!((next >> 32, next & 0xffff_ffff), (word >> 32, 1 << 13 | Gate::Closing.encode(64)));
        }
    }

    #[test]
    fn an_epoch_is_in_its_gate_and_in_the_tickets_of_its_ring() {
        let last = Epoch((1 << 19) - 1);
        assert_eq!((Epoch(6).next(), last.next()), (Epoch(7), Epoch(0)));
        assert_eq!(Epoch::of(u64::MAX), last);
        assert_eq!(Epoch(3).ticket(5), 3 << 45 | 5);
        assert_eq!(last.ticket(u64::MAX), u64::MAX);
    }
}
