//! The header of a ring of commands, and the word that names its owner: the one process that writes it.

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
/// The word with the [`Owner`], or 0.
pub const OWNER: usize = 4;

/// The words of a ring of commands, from the start of its region.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    header: usize,
    slots: usize,
    stride: usize,
    count: usize,
}

impl Places {
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

/// A process, as the header names it: the pid in the lowest 22 bits, and above it the lowest 42 bits of the time when
/// it started, in clock ticks since boot. No two processes since boot have the same pid and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its pid, less than 2^22: Linux has no higher ones.
    pub pid: u32,
    /// When it started: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

impl Owner {
    const PID_BITS: u32 = 22;

    /// The word that names it; never 0 for a process, whose pid is at least 1.
    pub fn encode(self) -> u64 {
        self.start << Self::PID_BITS | u64::from(self.pid)
    }

    /// The process that a word names, if it names one.
    pub fn decode(word: u64) -> Option<Self> {
        // At most 22 bits remain.
        #[allow(clippy::cast_possible_truncation)]
        let pid = (word & ((1 << Self::PID_BITS) - 1)) as u32;
        (pid != 0).then_some(Self { pid, start: word >> Self::PID_BITS })
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
            let places = Places::new(&geometry);
            assert!(places.header() + HEADER <= places.slot(1).0);
            for number in [1, 2, 3, 4, 5, 0, u64::MAX, 1 << 63] {
                let (at, len) = places.slot(number);
                assert!((at + len) * WORD <= geometry.bytes(), "command {number}");
                assert_eq!(places.slot(number.wrapping_add(4)), (at, len), "command {number}");
                assert_ne!(places.slot(number.wrapping_add(1)), (at, len), "command {number}");
            }
        }
    }

    #[test]
    fn an_owner_is_what_it_was() {
        for owner in [Owner { pid: 1, start: 0 }, Owner { pid: (1 << 22) - 1, start: (1 << 42) - 1 }] {
            assert_eq!(Owner::decode(owner.encode()), Some(owner));
        }
        assert_eq!([0, 1 << 22, u64::MAX << 22].map(Owner::decode), [None; 3]);
    }
}
