//! The tails of a ring: how long they are, and where a shard has them.

use super::{GeometryError, LINE, Preamble, WORD};

/// The tails of a ring's records: bytes of any length up to a maximum, in an area of each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tails {
    longest: u32,
    bytes: u32,
}

impl Tails {
    /// Writers of a shard that can be inside a tail at once.
    pub const WRITERS: usize = 16;
    /// Bytes before a record that say where its tail is, and how long it is.
    pub const PREFIX: usize = 2 * WORD;
    /// Every tail starts at a multiple of this.
    pub const ALIGN: u64 = 16;
    /// Bytes of the smallest area and of the largest one.
    pub const AREAS: core::ops::RangeInclusive<u64> = 1 << 7..=1 << 28;
    /// Words of a shard's header for tails, which follows the shard's header.
    pub const HEADER: usize = 32;

    /// The header's word with the next position to claim, in bytes.
    pub const NEXT: usize = 0;
    /// The header's word with a position at and beyond which no byte was ever written. Never decreases.
    pub const HIGH: usize = 1;
    /// The header's word with a position at and beyond which no writer may write yet.
    pub const GRANTED: usize = 2;
    /// The header's word that counts records that were dropped because no bytes could be claimed for their tail.
    pub const NO_SPACE: usize = 3;
    /// The header's word that counts tails that were refused because they were longer than the longest.
    pub const TOO_LONG: usize = 4;
    /// The header's word with a position before which programs claimed beside [`NEXT`](Self::NEXT) or stepped over.
    pub const BESIDE: usize = 5;
    /// The header's word with a position before which required readers have read all records with tails.
    pub const READ: usize = 6;
    /// The header's word with a position, and a ticket that all records with tails before it precede.
    pub const MARK: usize = 7;
    /// The header's word with 1 + the newest ticket that has ended, in a ring that keeps its oldest records.
    pub const ENDED: usize = 8;
    /// The header's word with a position: what was claimed before it and not granted then is void.
    pub const STEPPED: usize = 9;
    /// The first word of the header with the position of a writer, plus 1. 0 if it is unused.
    pub const ACTIVE: usize = Self::HEADER - Self::WRITERS;

    /// Tails of at most `longest` bytes, in an area of `bytes` bytes for each shard. `bytes` is a power of two from 128
    /// on, and at least twice `longest`.
    ///
    /// # Errors
    /// [`GeometryError::Tails`] for other numbers.
    pub fn new(longest: u64, bytes: u64) -> Result<Self, GeometryError> {
        let refused = GeometryError::Tails { longest, bytes };
        let (Ok(small), Ok(area)) = (u32::try_from(longest), u32::try_from(bytes)) else {
            return Err(refused);
        };
        let fits = small != 0 && area.is_power_of_two() && Self::AREAS.contains(&bytes);
        // All tails together take whole multiples of `ALIGN`, and so does half of the area.
        if fits && small <= area / 2 { Ok(Self { longest: small, bytes: area }) } else { Err(refused) }
    }

    /// Bytes of the longest tail.
    pub fn longest(&self) -> usize {
        self.longest as usize
    }

    /// Bytes of a shard's area: a power of two. The longest tail can start at its end, so the area's memory is longer by
    /// one tail.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// The first word of a shard's header, in its element. The preamble comes before it, in the first element.
    pub const SHARD: usize = Preamble::WORDS;
    /// The first word of a shard's slots, in its element.
    pub const SLOTS: usize = Self::SHARD + LINE / WORD + Self::HEADER;

    /// The first word of the area, in an element with `slots` bytes of slots.
    pub fn area(slots: usize) -> usize {
        Self::SLOTS + slots.next_multiple_of(LINE) / WORD
    }

    /// Bytes of the area's memory.
    pub fn memory(&self) -> usize {
        self.bytes() + self.longest().next_multiple_of(LINE)
    }

    /// The bits of the preamble's word with the numbers: log2 of the bytes of the area in bits 16 to 23, the bytes of the
    /// longest tail in bits 32 to 63.
    pub fn encode(self) -> u64 {
        u64::from(self.longest) << 32 | u64::from(self.bytes.trailing_zeros()) << 16
    }

    /// The reverse of [`encode`](Self::encode), for any word.
    pub fn decode(word: u64) -> Result<Self, GeometryError> {
        Self::new(word >> 32, 1_u64.checked_shl((word >> 16 & 0xff) as u32).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_fit_twice_into_their_area() {
        assert_eq!(Tails::new(1 << 16, 1 << 20).map(|t| (t.longest(), t.bytes())), Ok((1 << 16, 1 << 20)));
        for (longest, bytes) in
            [(0, 128), (65, 128), (8, 64), (8, 192), (8, 1 << 29), (1 << 40, 1 << 20), (8, 1 << 40)]
        {
            assert_eq!(Tails::new(longest, bytes), Err(GeometryError::Tails { longest, bytes }));
        }
        assert!(Tails::new(64, 128).is_ok());
    }

    #[test]
    fn any_word_is_decoded_or_refused() {
        let tails = Tails::new(4095, 1 << 20).unwrap();
        assert_eq!(Tails::decode(tails.encode()), Ok(tails));
        for (word, longest, bytes) in [(0, 0, 1), (64 << 16, 0, 0), (u64::MAX, u32::MAX.into(), 0)] {
            assert_eq!(Tails::decode(word), Err(GeometryError::Tails { longest, bytes }), "{word:#x}");
        }
    }

    #[test]
    fn an_element_has_its_parts_on_lines() {
        // A preamble, the shard's header and that for tails come before the slots.
        assert_eq!((Tails::SHARD, Tails::SLOTS, Tails::area(64), Tails::area(65)), (16, 56, 64, 72));
        assert_eq!(Tails::new(65, 256).unwrap().memory(), 256 + 128);
        assert_eq!(Tails::new(65, 256).unwrap().encode(), 65 << 32 | 8 << 16);
    }
}
