//! The header and the slots of a ring of commands.

use super::{Geometry, LINE, WORD};

/// Words of the header.
pub const HEADER: usize = LINE / WORD;
/// The word with the number of commands that were pushed. Only the owner writes it.
pub const PUSHED: usize = 0;
/// The word with the number of commands that programs carried out or skipped. Only programs write it.
pub const APPLIED: usize = 1;
/// The word that is 1 while a program carries out commands, else 0.
pub const LOCK: usize = 2;
/// The word with the number of times that programs found, instead of a command, words that no owner writes.
pub const SKIPPED: usize = 3;
/// The word with the owner, the one [`Process`](super::Process) that writes the commands, or 0.
pub const OWNER: usize = 4;

/// The words of a ring of commands, from the start of its region.
#[derive(Clone, Copy, Debug)]
pub struct CommandsPlace {
    header: usize,
    slots: usize,
    stride: usize,
    count: usize,
}

impl CommandsPlace {
    /// The places in a region of the shape `geometry`.
    pub fn new(geometry: &Geometry) -> Self {
        let stride = geometry.element_words();
        let [header, slots] = [geometry.first(), geometry.slots(0)].map(|element| element * stride);
        Self { header, slots, stride, count: geometry.capacity() }
    }

    /// The first word of the header.
    #[inline]
    pub fn header(&self) -> usize {
        self.header
    }

    /// The first word of the slot of command `number`, and its number of words.
    #[inline]
    pub fn slot(&self, number: u64) -> (usize, usize) {
        // Less than `count`, which is a power of two.
        #[allow(clippy::cast_possible_truncation)]
        let index = (number.wrapping_sub(1) & (self.count as u64 - 1)) as usize;
        (self.slots + index * self.stride, self.stride)
    }

    /// The number of slots.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Kind;

    #[test]
    fn every_number_has_a_slot_in_the_region() {
        for record in 1..100 {
            let geometry = Geometry::new(Kind::Commands, record, 4, 1).unwrap();
            let places = CommandsPlace::new(&geometry);
            assert!(places.header() + HEADER <= places.slot(1).0);
            for number in [1, 2, 3, 4, 5, 0, u64::MAX, 1 << 63] {
                let (at, len) = places.slot(number);
                assert!((at + len) * WORD <= geometry.bytes(), "command {number}");
                assert_eq!(places.slot(number.wrapping_add(4)), (at, len), "command {number}");
                assert_ne!(places.slot(number.wrapping_add(1)), (at, len), "command {number}");
            }
        }
    }
}
