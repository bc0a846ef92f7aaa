//! The gates of a resizable ring: words that say whether programs claim slots of it.

use super::Geometry;

/// Whether a ring is in use, by what its preamble says: one that can be replaced by another.
///
/// There is one in the preamble, for readers, and one in the header of each shard, for programs. These
/// look at it before they claim a slot, and again afterwards: who then finds it changed
/// gives the slot back. So after a ring was closed, and the claims made before were seen, no record
/// is written to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Gate {
    /// Not a ring that can be replaced.
    None = 0,
    /// In use.
    Open = 1,
    /// Another one is in use, or about to be, and programs are to see it; the tickets of this one are being
    /// counted. In the headers: the preamble says that it is open, and [`LEAVING`](Self::LEAVING).
    Closing = 2,
    /// Another one is in use, and all is said of this one: readers may move on. In the preamble alone.
    Retired = 3,
    /// A state that this library does not know. No region is opened with it; a reader that meets it later treats the
    /// ring as one in use, and programs claim no slot.
    Unknown = 0xff,
}

impl Gate {
    /// The preamble's word with the state, and from bit 8 on log2 of the slots. While a ring is put in the place
    /// of another, in both of them from bit 32 on the id of the other's map.
    pub const WORD: usize = 14;
    /// The preamble's word with the number of tickets, of all shards together, that were given out
    /// in the rings before this one.
    pub const BEFORE: usize = 15;
    /// Set in [`BEFORE`](Self::BEFORE) while the last of them is not yet counted.
    pub const COUNTING: u64 = 1 << 63;

    /// The word that says so, of a ring of so many slots (a power of two) a shard.
    pub fn encode(self, slots: usize) -> u64 {
        match self {
            Self::None => 0,
            state => u64::from(slots.trailing_zeros()) << 8 | state as u64,
        }
    }

    /// The word that says so in the header of a shard, of a ring of the shape `geometry`: the same, and from
    /// bit 32 on the element of the shard's first slot.
    pub fn encode_shard(self, geometry: &Geometry, shard: usize) -> u64 {
        (geometry.slots(shard) as u64) << 32 | self.encode(geometry.capacity())
    }

    /// Set in the preamble's word of an open ring while another one is put in its place.
    pub const LEAVING: u64 = 1 << 16;

    /// What the preamble's word says to readers.
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

    /// The state that a word names, whatever the rest of it says.
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
    use crate::layout::Kind;

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
