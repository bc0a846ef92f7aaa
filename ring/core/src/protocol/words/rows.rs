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
