//! Consecutive elements: tables whose elements are found by their index.

use core::marker::PhantomData;

use super::Words;

/// A type of element.
pub trait Element {
    /// The number of words, if it is the same for all elements of this type.
    const WORDS: Option<usize>;
}

/// Consecutive elements. Access to an element checks only its index.
pub struct Rows<'a, E> {
    words: Words<'a>,
    count: usize,
    stride: usize,
    of: PhantomData<fn() -> E>,
}

impl<E> Clone for Rows<'_, E> {
    fn clone(&self) -> Self {
        Self { of: PhantomData, ..*self }
    }
}

impl<'a, E: Element> Rows<'a, E> {
    /// `count` elements of `stride` words from word `first` of `words` on.
    ///
    /// # Panics
    /// If they are not all in `words`, or have another number of words.
    pub fn new(words: Words<'a>, first: usize, count: usize, stride: usize) -> Self {
        assert_eq!(stride, E::WORDS.unwrap_or(stride), "an element's size follows from its record's");
        let len = stride.checked_mul(count).expect("a region's words can be counted");
        Self { words: words.slice(first, len), count, stride, of: PhantomData }
    }

    /// No elements.
    pub fn none() -> Self {
        Self { words: Words::new(&[]), count: 0, stride: 0, of: PhantomData }
    }

    /// The words of the element with this index, if it exists.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Words<'a>> {
        if index >= self.count {
            return None;
        }
        let len = E::WORDS.unwrap_or(self.stride);
        // SAFETY: `index < count`, and `words` has `count * stride` words, of which `len` is the same number, so the whole
        // element is in it.
        let base = unsafe { self.words.base.add(index * len) };
        Some(Words { base, len, of: PhantomData })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    struct Two;

    impl Element for Two {
        const WORDS: Option<usize> = Some(2);
    }

    struct Any;

    impl Element for Any {
        const WORDS: Option<usize> = None;
    }

    #[test]
    fn each_index_has_its_own_words() {
        let memory: Vec<_> = (0..9).map(AtomicU64::new).collect();
        let words = Words::new(&memory);
        let found = |row: Option<Words<'_>>| row.map(|row| (row.len(), row.load(0, Ordering::Relaxed)));
        let two = Rows::<Two>::new(words, 1, 4, 2).clone();
        assert_eq!(
            [0, 1, 3, 4].map(|at| found(two.get(at))),
            [Some((2, 1)), Some((2, 3)), Some((2, 7)), None]
        );
        let any = Rows::<Any>::new(words, 0, 3, 3);
        assert_eq!([0, 2, 3].map(|at| found(any.get(at))), [Some((3, 0)), Some((3, 6)), None]);
        assert!(Rows::<Two>::none().get(0).is_none());
    }
}
