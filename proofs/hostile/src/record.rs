//! A record that shows whether it is whole.

use bytemuck::{Pod, Zeroable};

/// Three words, each computed from the first. Two different records differ in every word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
pub struct Record {
    /// Its number.
    pub n: u64,
    product: u64,
    inverse: u64,
}

impl Record {
    /// Its words: the number of stores that write it.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// Record `n`.
    pub fn new(n: u64) -> Self {
        Self { n, product: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), inverse: !n }
    }

    /// Whether all words are from one record.
    pub fn is_whole(&self) -> bool {
        *self == Self::new(self.n)
    }

    /// The tail of a record, of whole words. Two tails differ in each word, and none is 0.
    pub fn tail(&self, bytes: usize) -> Vec<u8> {
        (1..)
            .take(bytes / 8)
            .flat_map(|i| (self.product.rotate_left(7 * i) | 1 << 63).to_ne_bytes())
            .collect()
    }
}
