//! Reading elements through copies that take no care: three copies show whether the second is whole.
//!
//! A lookup copies a value while programs write, in no order that the kernel promises (it is a
//! `memcpy`, which on recent x86 is one `rep movsb`). So one lookup proves nothing, and neither do
//! two. But sequences are never used twice: if the first and the last of three copies, with full
//! barriers between them, hold the same sequence, nothing was written during the one in the middle.
//!
//! Not even a word is copied whole: an interrupt can come in the midst of it, and what changes
//! meanwhile leaves bytes of two values, which may be more or less than both. But our words only
//! grow. So of three copies of one the median is taken: if only one of them was torn, it lies
//! between the other two, and the word had that value. (For the first and the last sequence to be
//! torn alike, a slot would have to be written dozens of times in three lookups.)

use bytemuck::AnyBitPattern;

use crate::layout::WORD;
use crate::sync::{Ordering, fence};

/// Elements that are fetched at once, at most: a bit each in the record of a window's served slots.
const BATCH: usize = 64;
/// Bytes that are fetched at once, at most, so that handles stay small.
const BYTES: usize = 16 << 10;

/// How many elements of `words` words to fetch at once.
pub fn batch(words: usize) -> usize {
    (BYTES / (words * WORD)).clamp(1, BATCH)
}

/// Elements that can be copied, and not loaded word by word in an order of one's own.
pub trait Elements {
    /// Why a copy failed.
    type Error;

    /// Copies `count` elements from `first` on to `out`, which has room for just those. Others may
    /// write meanwhile, and the words may be copied in any order.
    ///
    /// # Errors
    /// If the copy failed. Then `out` may hold anything.
    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), Self::Error>;
}

/// Three copies of the same elements.
#[derive(Debug)]
pub struct TripleRead {
    copies: [Vec<u64>; 3],
    words: usize,
}

impl TripleRead {
    /// Room for three copies of `count` elements of `words` words.
    pub fn new(count: usize, words: usize) -> Self {
        Self { copies: std::array::from_fn(|_| vec![0; count * words]), words }
    }

    /// Copies `count` elements from `first` on, three times.
    ///
    /// # Errors
    /// If a copy failed.
    pub fn fetch<S: Elements>(&mut self, source: &S, first: usize, count: usize) -> Result<(), S::Error> {
        self.fetch_by(count, |out| source.fetch(first, count, out))
    }

    /// Has `copy` copy what comes as `count` elements, three times.
    ///
    /// # Errors
    /// If a copy failed.
    pub fn fetch_by<E>(
        &mut self,
        count: usize,
        mut copy: impl FnMut(&mut [u64]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.copy(count, &mut copy, |_| true).map(drop)
    }

    /// As [`fetch`](Self::fetch), but stops once `goes_on` says so of the first element's sequence in a copy.
    /// Returns the one it saw last.
    ///
    /// # Errors
    /// If a copy failed.
    pub fn fetch_while<S: Elements>(
        &mut self,
        source: &S,
        first: usize,
        count: usize,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<u64, S::Error> {
        self.copy(count, |out| source.fetch(first, count, out), goes_on)
    }

    fn copy<E>(
        &mut self,
        count: usize,
        mut copy: impl FnMut(&mut [u64]) -> Result<(), E>,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<u64, E> {
        let mut seen = 0;
        for out in &mut self.copies {
            fence(Ordering::SeqCst); // SYNC publish, claim: each copy comes after the one before it
            copy(&mut out[..count * self.words])?;
            seen = out[0];
            if !goes_on(seen) {
                break;
            }
        }
        Ok(seen)
    }

    /// The sequence of element `at`.
    pub fn seq(&self, at: usize) -> u64 {
        self.word(at, 0)
    }

    /// A word of element `at` that only grows (wrapping): a value that it had between the first and the last
    /// copy, unless two of the three were torn.
    pub fn word(&self, at: usize, word: usize) -> u64 {
        let [first, middle, last] = self.copies.each_ref().map(|copy| copy[at * self.words + word]);
        let [middle, last] = [middle, last].map(|value| value.wrapping_sub(first).cast_signed());
        first.wrapping_add_signed(0.clamp(middle.min(last), middle.max(last)))
    }

    /// Copies to `out` what starts with word `word` of element `at`. Returns whether that is whole: its
    /// sequence was the same all along.
    pub fn take<T: AnyBitPattern>(&self, at: usize, word: usize, out: &mut T) -> bool {
        let element = at * self.words..(at + 1) * self.words;
        let [first, middle, last] = self.copies.each_ref().map(|copy| &copy[element.clone()]);
        if first[0] != last[0] {
            return false;
        }
        let bytes: &[u8] = bytemuck::cast_slice(&middle[word..]);
        *out = bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()]);
        true
    }

    /// As [`take`](Self::take), of the value that starts where `word` says for the sequence: that sequence.
    /// `None` if the value is not whole.
    pub fn value<T: AnyBitPattern>(
        &self,
        at: usize,
        word: impl FnOnce(u64) -> Option<usize>,
        out: &mut T,
    ) -> Option<u64> {
        let seq = self.seq(at);
        word(seq).is_some_and(|word| self.take(at, word, out)).then_some(seq)
    }
}
