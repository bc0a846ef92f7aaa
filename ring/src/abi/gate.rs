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

    /// The word of a shard's header with this state, for a ring of the shape `geometry`: the same, and from bit 32 the
    /// element of the shard's first slot.
    pub fn encode_shard(self, geometry: &Geometry, shard: usize) -> u64 {
        (geometry.slots(shard) as u64) << 32 | self.encode(geometry.capacity())
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
            let word = Gate::Open.encode_shard(&ring, shard);
            assert_eq!((word >> 32) as usize, ring.slots(shard));
            assert_eq!(word & 0xffff_ffff, Gate::Open.encode(64));
        }
    }
}
