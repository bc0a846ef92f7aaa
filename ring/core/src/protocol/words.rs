//! Words of shared memory. All accesses are here, except the stores of single global variables (`region/scalar.rs`).
//!
//! Every access is an atomic access of a whole word through a raw pointer. No reference to plain data ever points here.
//! So nothing that another process or a BPF program writes, at any time, can be undefined behaviour. Readers use only
//! relaxed loads, which Rust guarantees to work on read-only pages (fences provide the orderings), and equivalent
//! instructions on machines that have them: [`wide_loads`].
#![allow(unsafe_code, clippy::disallowed_types)]

mod rows;

use core::marker::PhantomData;
use core::ops::Deref;

use bytemuck::{AnyBitPattern, NoUninit};

pub use self::rows::{Element, Rows};

use crate::abi::{LINE, WORD};
use crate::sync::{AtomicU32, AtomicU64, Ordering, half, wide_loads};

/// The size in bytes from which loads of two words are faster.
const LARGE: usize = 256;

/// Words that can be read. Copies are views of the same words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    base: *const AtomicU64,
    len: usize,
    of: PhantomData<&'a [AtomicU64]>,
}

// SAFETY: a view of atomic words, which threads may share (`from_raw` requires that).
unsafe impl Send for Words<'_> {}
// SAFETY: as above; no method changes the view itself.
unsafe impl Sync for Words<'_> {}

impl<'a> Words<'a> {
    /// A view of words that this process owns.
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { base: words.as_ptr(), len: words.len(), of: PhantomData }
    }

    /// A view of `len` words at `base`, which other threads and processes may change at any time.
    ///
    /// # Safety
    /// For all of `'a`, `base` is aligned to 8 and `len` words from it can be read. This process writes them only
    /// through [`WordsMut`].
    pub unsafe fn from_raw(base: *const AtomicU64, len: usize) -> Self {
        Self { base, len, of: PhantomData }
    }

    /// The number of words.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the view has no words.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `len` words from `at`.
    ///
    /// # Panics
    /// If they are not all in this view. Offsets come from a `Geometry`, never from shared memory.
    #[inline]
    pub fn slice(&self, at: usize, len: usize) -> Self {
        self.check(at, len);
        // SAFETY: `at + len <= self.len` was checked, so this stays in the words of this view.
        let base = unsafe { self.base.add(at) };
        Self { base, len, of: PhantomData }
    }

    /// Loads a word.
    ///
    /// # Panics
    /// If `at` is not in this view.
    #[inline]
    pub fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    /// Tells the machine that `lines` lines from word `at` on will be read soon. They may be anywhere.
    #[inline]
    pub fn prefetch(&self, at: usize, lines: usize) {
        let first = self.base.wrapping_add(at);
        (0..lines).for_each(|line| wide_loads::prefetch(first.wrapping_add(line * (LINE / WORD))));
    }

    /// Loads a value that starts with word `at`, by relaxed loads of whole words, so that the compiler can keep it in
    /// registers. On x86-64 a large value is loaded as by [`copy`](Self::copy).
    ///
    /// # Panics
    /// If the value reaches beyond this view.
    #[inline]
    pub fn read<T: AnyBitPattern>(&self, at: usize, out: &mut T) {
        self.fetch::<T, false>(at, out);
    }

    /// Copies a value that starts with word `at` to memory, by relaxed loads of whole words. On x86-64 it loads two
    /// words at once, each of them whole.
    ///
    /// # Panics
    /// If the value reaches beyond this view.
    #[inline]
    pub fn copy<T: AnyBitPattern>(&self, at: usize, out: &mut T) {
        self.fetch::<T, true>(at, out);
    }

    #[inline(always)]
    fn fetch<T: AnyBitPattern, const BY_PAIRS: bool>(&self, at: usize, out: &mut T) {
        let size = self.size_at::<T>(at);
        self.check(at, size.div_ceil(WORD));
        let to = core::ptr::from_mut(out).cast::<u8>();
        let whole = size / WORD;
        let mut done = 0;
        if wide_loads::ARE_FASTER && size >= LARGE {
            let lines = size / LINE;
            // SAFETY: `at` and all words of `size` bytes from there are in this view, as was checked.
            let from = unsafe { self.base.add(at) };
            // SAFETY: `from_raw` guarantees that the words can be read; `lines * LINE <= size`, so that many bytes are in
            // the view, and in `out`, which only this function accesses; and `lines` isn't 0.
            unsafe { wide_loads::copy_lines(from, to, lines) };
            done = lines * (LINE / WORD);
        } else if wide_loads::ARE_FASTER && BY_PAIRS {
            while done + 2 <= whole {
                // SAFETY: `done + 1 < size.div_ceil(WORD)`, and that many words from `at` on are in this view, as was
                // checked.
                let from = unsafe { self.base.add(at + done) };
                // SAFETY: `(done + 2) * WORD <= size <= size_of::<T>()`, so this is in `out`.
                let to = unsafe { to.add(done * WORD) };
                // SAFETY: `from_raw` guarantees that both words are aligned and can be read; both words of `to` are in
                // `out`, which only this function accesses, and any bytes are a valid `T`.
                unsafe { wide_loads::copy(from, to) };
                done += 2;
            }
        }
        for i in done..whole {
            let word = self.word(at + i).load(Ordering::Relaxed);
            // SAFETY: `i * WORD + WORD <= size <= size_of::<T>()`, so this is in `out`.
            let to = unsafe { to.add(i * WORD) };
            // SAFETY: `to` is in `out`, which only this function accesses, and any bytes are a valid `T`.
            unsafe { to.cast::<u64>().write_unaligned(word) };
        }
        let rest = size % WORD;
        if rest != 0 {
            let bytes = self.word(at + whole).load(Ordering::Relaxed).to_ne_bytes();
            // SAFETY: `whole * WORD + rest == size <= size_of::<T>()`, so this is in `out`.
            let to = unsafe { to.add(whole * WORD) };
            // SAFETY: `rest < WORD` bytes, from the stack into `out`; any bytes are a valid `T`.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), rest) };
        }
    }

    /// Copies pairs of words that start with word `at`, by relaxed loads. On x86-64 it loads two or more words at once.
    ///
    /// # Panics
    /// If they reach beyond this view.
    #[inline]
    pub fn copy_pairs(&self, at: usize, out: &mut [[u8; 2 * WORD]]) {
        self.check(at, 2 * out.len());
        if wide_loads::ARE_FASTER {
            // SAFETY: `at` and all words of `out` from there are in this view, as was checked.
            let from = unsafe { self.base.add(at) };
            // SAFETY: `from_raw` guarantees that the words can be read, and only this function accesses `out`.
            return unsafe { wide_loads::copy_pairs(from, out.as_mut_ptr().cast(), out.len()) };
        }
        for (i, pair) in out.iter_mut().enumerate() {
            for (word, to) in pair.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
                *to = self.word(at + 2 * i + word).load(Ordering::Relaxed).to_ne_bytes();
            }
        }
    }

    /// The bytes that are copied of a `T` at `at`: all of them, or of [any record](is_any) what this view has.
    #[inline(always)]
    fn size_at<T>(&self, at: usize) -> usize {
        let size = size_of::<T>();
        if is_any::<T>() { size.min(self.len.saturating_sub(at) * WORD) } else { size }
    }

    #[inline]
    fn check(&self, at: usize, len: usize) {
        // In a loop, only the second comparison remains.
        if len > self.len || at > self.len - len {
            outside(at, len, self.len);
        }
    }

    #[inline]
    fn word(&self, at: usize) -> &'a AtomicU64 {
        self.check(at, 1);
        // SAFETY: `at < self.len` was checked.
        let word = unsafe { self.base.add(at) };
        // SAFETY: `from_raw` guarantees that the word is aligned and can be read for `'a`, and that it is written
        // atomically; a shared reference to an `AtomicU64` allows concurrent changes.
        unsafe { &*word }
    }
}

/// The number of words of a value.
#[inline]
pub(super) const fn words_of<T>() -> usize {
    size_of::<T>().div_ceil(WORD)
}

/// Whether a `T` is an `AnyRecord`, or such a record with a tail: only its first bytes are copied, as
/// many as the view of the memory has. For the compiler to decide, it is so for all types that are aligned to more than
/// a word.
#[inline]
pub const fn is_any<T>() -> bool {
    align_of::<T>() > WORD
}

/// The number of words of an element that are used for a `T`, if the element has `stride`, and `copies` values after its
/// sequence.
#[inline]
pub(super) const fn used<T>(stride: usize, copies: usize) -> usize {
    if is_any::<T>() { stride } else { 1 + copies * words_of::<T>() }
}

/// Not an `assert!` at the check: its message would keep the checked numbers in memory, in every loop.
#[cold]
#[inline(never)]
fn outside(at: usize, len: usize, of: usize) -> ! {
    panic!("words {at}..{at}+{len} of {of}")
}

/// Words that can also be written.
#[derive(Clone, Copy, Debug)]
pub struct WordsMut<'a>(Words<'a>);

impl<'a> WordsMut<'a> {
    /// A view of words that this process owns.
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(Words::new(words))
    }

    /// A view of `len` words at `base`, which other threads and processes may change at any time.
    ///
    /// # Safety
    /// As for [`Words::from_raw`], and the words can be written.
    pub unsafe fn from_raw(base: *const AtomicU64, len: usize) -> Self {
        // SAFETY: guaranteed by the caller.
        Self(unsafe { Words::from_raw(base, len) })
    }

    /// The `len` words from `at`.
    ///
    /// # Panics
    /// If they are not all in this view.
    #[inline]
    pub fn slice(&self, at: usize, len: usize) -> Self {
        Self(self.0.slice(at, len))
    }

    /// Stores a word.
    #[inline]
    pub fn store(&self, at: usize, value: u64, order: Ordering) {
        self.word(at).store(value, order);
    }

    /// Adds to a word, relaxed: no addition is lost, and nothing is ordered.
    #[inline]
    pub fn add(&self, at: usize, by: u64) {
        self.word(at).fetch_add(by, Ordering::Relaxed);
    }

    /// Sets bits of a word, relaxed.
    #[inline]
    pub fn set(&self, at: usize, bits: u64) {
        self.word(at).fetch_or(bits, Ordering::Relaxed);
    }

    /// Clears bits of a word, relaxed, and returns its old value.
    #[inline]
    pub fn clear(&self, at: usize, bits: u64) -> u64 {
        self.word(at).fetch_and(!bits, Ordering::Relaxed)
    }

    /// Half of a word, for futex(2): the bits from 32 on if `upper`.
    ///
    /// # Panics
    /// If `at` is not in this view.
    pub fn half(&self, at: usize, upper: bool) -> &'a AtomicU32 {
        half(self.word(at), upper)
    }

    /// Adds to a word with `order`, and returns its old value.
    #[inline]
    pub fn fetch_add(&self, at: usize, by: u64, order: Ordering) -> u64 {
        self.word(at).fetch_add(by, order)
    }

    /// Changes `from` to `to`, if the word contains `from`, with `order` on success. Fails only if the word contained
    /// something else.
    #[inline]
    pub fn swap_if(&self, at: usize, from: u64, to: u64, order: Ordering) -> bool {
        self.word(at).compare_exchange(from, to, order, Ordering::Relaxed).is_ok()
    }

    /// Writes a value that starts with word `at`, by relaxed stores of whole words. Fills the rest of its last word
    /// with zeros. Of any record it writes what this view has.
    ///
    /// # Panics
    /// If the value reaches beyond this view.
    #[inline]
    pub fn write<T: NoUninit>(&self, at: usize, value: &T) {
        self.write_bytes(at, &bytemuck::bytes_of(value)[..self.size_at::<T>(at)]);
    }

    /// The same for bytes.
    ///
    /// # Panics
    /// If they reach beyond this view.
    #[inline]
    pub fn write_bytes(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len().div_ceil(WORD));
        for (i, bytes) in bytes.chunks(WORD).enumerate() {
            let mut word = [0; WORD];
            word[..bytes.len()].copy_from_slice(bytes);
            self.store(at + i, u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }
}

impl<'a> Deref for WordsMut<'a> {
    type Target = Words<'a>;

    fn deref(&self) -> &Words<'a> {
        &self.0
    }
}

#[cfg(test)]
mod tests;
