//! Reading elements through copies that take no care: three copies show whether the second is whole.
//!
//! A lookup copies a value while programs write, in no order that the kernel promises (it is a
//! `memcpy`, which on recent x86 is one `rep movsb`). So one lookup proves nothing, and neither do
//! two. But sequences are never used twice: if the first and the last of three copies, with full
//! barriers between them, hold the same sequence, nothing was written during the one in the
//! middle, on any machine.

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
        self.fetch_while(count, &mut copy, |_| true)
    }

    /// As [`fetch`](Self::fetch), but stops once a copy does not have `seq` in its first element.
    /// Returns what that has, or `seq`.
    ///
    /// # Errors
    /// If a copy failed.
    pub fn fetch_if<S: Elements>(
        &mut self,
        source: &S,
        first: usize,
        count: usize,
        seq: u64,
    ) -> Result<u64, S::Error> {
        let mut seen = seq;
        let mut is_same = |first| {
            seen = first;
            first == seq
        };
        self.fetch_while(count, |out| source.fetch(first, count, out), &mut is_same)?;
        Ok(seen)
    }

    /// Copies three times, as long as `goes_on` wants more after it saw the first element's sequence.
    fn fetch_while<E>(
        &mut self,
        count: usize,
        mut copy: impl FnMut(&mut [u64]) -> Result<(), E>,
        mut goes_on: impl FnMut(u64) -> bool,
    ) -> Result<(), E> {
        for out in &mut self.copies {
            fence(Ordering::SeqCst); // SYNC publish, claim: each copy comes after the one before it
            copy(&mut out[..count * self.words])?;
            if !goes_on(out[0]) {
                break;
            }
        }
        Ok(())
    }

    /// The sequence of element `at` in the last copy.
    pub fn seq(&self, at: usize) -> u64 {
        self.copies[2][at * self.words]
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
