//! Reads elements through copies that promise no order: three copies show whether the second is whole.
//!
//! A lookup copies a value while programs write it, in an order that the kernel does not specify (it is a `memcpy`, on
//! recent x86 one `rep movsb`). So one lookup proves nothing, and neither do two. But sequences are never used twice:
//! if the first and the last of three copies, with full barriers between them, contain the same sequence, nothing was
//! written during the one in the middle.
//!
//! Even a single word can be torn: an interrupt can come in the middle of copying it. If the word changes meanwhile,
//! the copy has bytes of two values, and can be less or more than both. But these words only grow. So the median of the
//! three copies of a word is used: if only one of them was torn, the median lies between the other two, and the word
//! had that value. (For the first and the last sequence to be torn alike, a slot would have to be written dozens of
//! times during three lookups.) Under QEMU, which copies byte by byte, a copy is torn in most lookups. On hardware it
//! is very rare: it explains one counter that went back in a test on Linux 6.18.

use bytemuck::AnyBitPattern;

use super::words::is_any;
use crate::abi::WORD;
use crate::sync::{At, fence, order};

/// The most elements that are copied at once: a window has a bit for each slot that it has returned.
const BATCH: usize = 64;
/// The most bytes that are copied at once, so that handles stay small.
const BYTES: usize = 16 << 10;

/// How many elements of `words` words are copied at once.
pub fn batch(words: usize) -> usize {
    (BYTES / (words * WORD)).clamp(1, BATCH)
}

/// Elements that can only be copied, in an order that is not specified.
pub trait Elements {
    /// The error of a copy.
    type Error;

    /// Copies `count` elements from `first` on to `out`, which has exactly their size. Writers may write meanwhile, and
    /// the words may be copied in any order.
    ///
    /// # Errors
    /// If the copy failed. Then `out` can contain anything.
    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), Self::Error>;
}

/// Three copies of the same elements.
#[derive(Debug)]
pub struct TripleRead {
    copies: [Vec<u64>; 3],
    words: usize,
}

impl TripleRead {
    /// Buffers for three copies of `count` elements of `words` words.
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

    /// Calls `copy` three times; each call copies `count` elements.
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

    /// Like [`fetch`](Self::fetch), but stops after a copy if `goes_on` returns `false` for the first element's
    /// sequence in it. Returns the last sequence seen.
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
            fence(order!(At::Copies)); // SYNC publish, claim: each copy comes after the one before it
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

    /// A word of element `at` that only grows (wrapping). The result is a value that the word had between the first and
    /// the last copy, unless two of the three were torn.
    pub fn word(&self, at: usize, word: usize) -> u64 {
        let [first, middle, last] = self.copies.each_ref().map(|copy| copy[at * self.words + word]);
        let [middle, last] = [middle, last].map(|value| value.wrapping_sub(first).cast_signed());
        first.wrapping_add_signed(0.clamp(middle.min(last), middle.max(last)))
    }

    /// Copies the value that starts with word `word` of element `at` to `out`, of any record as much
    /// as the element has. Returns whether it is whole: whether the first and the last copy have the same sequence.
    pub fn take<T: AnyBitPattern>(&self, at: usize, word: usize, out: &mut T) -> bool {
        let element = at * self.words..(at + 1) * self.words;
        let [first, middle, last] = self.copies.each_ref().map(|copy| &copy[element.clone()]);
        if first[0] != last[0] {
            return false;
        }
        let bytes: &[u8] = bytemuck::cast_slice(&middle[word..]);
        *out = first_of(bytes);
        true
    }

    /// Like [`take`](Self::take), but `word` returns the value's first word for the sequence. Returns the sequence, or
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

/// The value that starts these bytes; of any record as much as there is, and zeros.
pub fn first_of<T: AnyBitPattern>(bytes: &[u8]) -> T {
    if is_any::<T>() && bytes.len() < size_of::<T>() {
        let mut all = vec![0; size_of::<T>()];
        all[..bytes.len()].copy_from_slice(bytes);
        return bytemuck::pod_read_unaligned(&all);
    }
    bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each copy has the next of these elements.
    fn copied(copies: [[u64; 3]; 3]) -> TripleRead {
        let mut triple = TripleRead::new(2, 3);
        let mut left = copies.iter();
        let copy = |out: &mut [u64]| {
            out.copy_from_slice([[0; 3], *left.next().ok_or("a fourth copy")?].as_flattened());
            Ok::<_, &str>(())
        };
        triple.fetch_by(2, copy).unwrap();
        triple
    }

    #[test]
    fn a_copy_is_whole_between_two_with_its_sequence() {
        let value = |copies| {
            let mut out = 0_u64;
            copied(copies).value(1, |_| Some(2), &mut out).map(|seq| (seq, out))
        };
        assert_eq!(value([[4, 1, 1], [4, 2, 7], [4, 3, 3]]), Some((4, 7)), "that of the middle");
        assert_eq!(value([[4, 1, 1], [4, 2, 7], [6, 3, 3]]), None);
        let mut out = 0_u64;
        let same = copied([[5, 1, 1]; 3]);
        assert_eq!(same.value(1, |seq| (seq != 5).then_some(1), &mut out), None, "it is being written");
        assert!(same.take(1, 1, &mut out) && out == 1);
        assert_eq!(same.seq(0), 0);
        let mut half = 0_u32;
        assert!(copied([[2, 9 << 32 | 8, 0]; 3]).take(1, 1, &mut half) && half == 8);
    }

    #[test]
    fn a_word_is_the_median_of_its_copies() {
        let word = |a, b, c| copied([a, b, c].map(|word| [0, word, 0])).word(1, 1);
        for (a, b, c) in [(5, 6, 7), (7, 6, 5), (6, 5, 7), (6, 7, 5), (5, 7, 6), (7, 5, 6)] {
            assert_eq!(word(a, b, c), 6);
        }
        assert_eq!((word(5, 5, 9), word(9, 5, 9)), (5, 9));
        assert_eq!((word(u64::MAX, 0, 1), word(u64::MAX - 1, 3, u64::MAX)), (0, u64::MAX), "it wraps");
    }

    struct Counting(std::cell::Cell<u64>);

    impl Elements for Counting {
        type Error = &'static str;

        fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), &'static str> {
            let n = self.0.get() + 1;
            self.0.set(n);
            out.fill(100 * first as u64 + 10 * count as u64 + n);
            if n == 9 { Err("no more") } else { Ok(()) }
        }
    }

    #[test]
    fn copies_end_when_the_caller_has_seen_enough_or_one_fails() {
        let (source, mut triple) = (Counting(std::cell::Cell::new(0)), TripleRead::new(4, 2));
        assert_eq!(triple.fetch(&source, 7, 2), Ok(()));
        assert_eq!((source.0.get(), triple.seq(1)), (3, 722), "the median of three");
        assert_eq!(triple.fetch_while(&source, 7, 2, |seq| seq < 725), Ok(725));
        assert_eq!(triple.fetch_while(&source, 7, 4, |_| true), Ok(748));
        assert_eq!(triple.fetch_while(&source, 7, 4, |_| true), Err("no more"));
    }

    #[test]
    fn so_much_is_copied_at_once() {
        assert_eq!([1, 31, 32, 33, 64, 2048, 1 << 20].map(batch), [64, 64, 64, 62, 32, 1, 1]);
    }

    /// As any record: aligned to more than a word.
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::AnyBitPattern)]
    #[repr(C, align(16))]
    struct Any([u8; 32]);

    #[test]
    fn of_any_record_there_is_as_much_as_there_is() {
        let bytes: Vec<_> = (1..=40).collect();
        let first = |count: usize| first_of::<Any>(&bytes[..count]).0;
        for count in [0, 1, 31, 32, 40] {
            let copied = count.min(32);
            assert_eq!(first(count)[..copied], bytes[..copied]);
            assert!(first(count)[copied..].iter().all(|&byte| byte == 0));
        }
        assert_eq!(first_of::<[u8; 3]>(&bytes), [1, 2, 3]);
    }
}
