//! Tables of latest values, read whole: cells and latches, which differ only in their protocol.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{AnyBitPattern, NoUninit};
use crossbeam_utils::Backoff;
use mapring_core::protocol::{Element, Words, WordsMut, cell, is_any, latch};

use super::openers;
use crate::abi::{Geometry, Kind, WORD};
use crate::error::{ReadError, Result};
use crate::region::fallback::{TripleRead, batch, lookup};
use crate::region::{Region, SharedMut, SharedRows};

/// A table of values of type `T`, each with a sequence word: [`Cells`](super::Cells) or [`Latches`](super::Latches).
pub struct Table<T, P> {
    pub(super) region: Region,
    /// Empty if the region is not mapped.
    mapped: SharedRows<Guarded<T, P>>,
    pub(super) span: Span,
}

/// A value with its sequence word.
struct Guarded<T, P>(PhantomData<(T, P)>);

impl<T, P: Guard> Element for Guarded<T, P> {
    const WORDS: Option<usize> =
        if is_any::<T>() { None } else { Some(1 + P::COPIES * size_of::<T>().div_ceil(WORD)) };
}

/// The elements of a table, by their words in its region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    first: usize,
    stride: usize,
    pub(super) count: usize,
}

impl Span {
    /// The first word of an element, and its number of words.
    #[inline]
    pub(super) fn words(&self, index: usize) -> (usize, usize) {
        ((self.first + index) * self.stride, self.stride)
    }
}

/// The protocol that guards a table's values.
pub trait Guard: sealed::Guard {}

pub(super) mod sealed {
    use super::{AnyBitPattern, Kind, NoUninit, Words, WordsMut};

    pub trait Guard {
        const KIND: Kind;
        /// The name of one element.
        const THING: &'static str;
        /// The number of values in an element, after its sequence word.
        const COPIES: usize;

        /// One attempt to read a mapped element. Returns the sequence if `out` is whole.
        fn try_read<T: AnyBitPattern>(words: Words<'_>, out: &mut T) -> Option<u64>;
        /// The first word of the value that is whole while the sequence is `seq`, in an element of `words` words.
        fn at<T>(seq: u64, words: usize) -> Option<usize>;
        /// Writes a mapped element. Returns `false` if another writer is in it.
        fn set<T: NoUninit>(words: WordsMut<'_>, value: &T) -> bool;
        /// How many times the value was written.
        fn version(seq: u64) -> u64;
    }
}

/// A cell's guard: a seqlock. Any number of writers, none of which waits.
#[derive(Clone, Copy, Debug)]
pub enum Seqlock {}

impl Guard for Seqlock {}

impl sealed::Guard for Seqlock {
    const KIND: Kind = Kind::Cells;
    const THING: &'static str = "cell";
    const COPIES: usize = 1;

    #[inline]
    fn try_read<T: AnyBitPattern>(words: Words<'_>, out: &mut T) -> Option<u64> {
        cell::try_read(words, out)
    }

    fn at<T>(seq: u64, _words: usize) -> Option<usize> {
        cell::value_at(seq)
    }

    fn set<T: NoUninit>(words: WordsMut<'_>, value: &T) -> bool {
        cell::set(words, value)
    }

    #[inline]
    fn version(seq: u64) -> u64 {
        seq / 2
    }
}

/// A latch's guard: two copies, one of which is always whole. One writer.
#[derive(Clone, Copy, Debug)]
pub enum TwoCopies {}

impl Guard for TwoCopies {}

impl sealed::Guard for TwoCopies {
    const KIND: Kind = Kind::Latches;
    const THING: &'static str = "latch";
    const COPIES: usize = 2;

    #[inline]
    fn try_read<T: AnyBitPattern>(words: Words<'_>, out: &mut T) -> Option<u64> {
        latch::try_read(words, out)
    }

    fn at<T>(seq: u64, words: usize) -> Option<usize> {
        Some(latch::copy_at::<T>(seq, words).0)
    }

    fn set<T: NoUninit>(words: WordsMut<'_>, value: &T) -> bool {
        latch::set(words, value);
        true
    }

    #[inline]
    fn version(seq: u64) -> u64 {
        seq
    }
}

/// A value with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// How many times the cell or latch had been written; 0 means never, and the value is all zeros.
    pub version: u64,
    /// The value.
    pub value: T,
}

openers!([P: Guard] Table<T, P>, T, P::KIND);

impl<T: AnyBitPattern, P: Guard> Table<T, P> {
    /// How many times a read tries before it returns [`ReadError::Busy`].
    pub const MAX_TRIES: u32 = 128;

    /// A table over a region that is already open. Whether the values are compared: see
    /// [`Ring::from_region`](crate::Ring::from_region).
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) and [`ErrorKind::Layout`](crate::ErrorKind::Layout), with
    /// both sides.
    pub fn from_region(region: Region) -> Result<Self> {
        region.expect_record::<T>(P::KIND)?;
        let geometry = region.geometry();
        let stride = geometry.element_words();
        let span = Span { first: geometry.first(), stride, count: geometry.capacity() };
        let mapped = SharedRows::of(&region, span.first * stride, span.count, stride);
        Ok(Self { region, mapped, span })
    }

    /// Creates a table of `count` values between ordinary processes, in a memfd. See [`Region::create_memfd`].
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for a number that no table can have,
    /// [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn create_memfd(count: usize) -> Result<Self> {
        let geometry = Geometry::new(P::KIND, size_of::<T>() as u64, count as u64, 1)?;
        Self::from_region(Region::create_memfd(geometry, std::any::type_name::<T>())?)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.span.count
    }

    /// Always false: a table has at least one value.
    pub fn is_empty(&self) -> bool {
        self.span.count == 0
    }

    /// The latest value, all zeros if it was never written. If mapped: no system call, no lock, one attempt unless a
    /// writer interferes, and at most [`MAX_TRIES`](Self::MAX_TRIES) with growing pauses (some microseconds in all). Otherwise
    /// three system calls per attempt.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if a writer interfered with each attempt, [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline(always)] // so that the value need not go through memory
    pub fn read(&self, index: usize) -> Result<T, ReadError> {
        match self.try_read(index) {
            Some(snapshot) => Ok(snapshot.value),
            None => self.read_retry(index).map(|snapshot| snapshot.value),
        }
    }

    /// Like [`read`](Self::read), with the value's version.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    #[inline(always)]
    pub fn snapshot(&self, index: usize) -> Result<Snapshot<T>, ReadError> {
        match self.try_read(index) {
            Some(snapshot) => Ok(snapshot),
            None => self.read_retry(index),
        }
    }

    /// One attempt, without waiting: `None` if a writer interfered.
    ///
    /// # Errors
    /// [`ReadError::Index`], [`ReadError::Lookup`].
    #[inline]
    pub fn try_snapshot(&self, index: usize) -> Result<Option<Snapshot<T>>, ReadError> {
        self.try_read(index).map_or_else(|| self.try_read_by_call(index), |snapshot| Ok(Some(snapshot)))
    }

    /// Reads each value once, and calls `f` with the index and the value of each that was whole. Returns how many were
    /// skipped because a writer interfered. If mapped: no system call. Otherwise three system calls for some dozens of
    /// values together (if the kernel has batches).
    ///
    /// # Errors
    /// [`ReadError::Lookup`].
    pub fn for_each(&self, mut f: impl FnMut(usize, Snapshot<T>)) -> Result<usize, ReadError> {
        let mut busy = 0;
        let mut found = |index, snapshot: Option<Snapshot<T>>| match snapshot {
            Some(snapshot) => f(index, snapshot),
            None => busy += 1,
        };
        if self.region.lookup().is_none() {
            (0..self.len()).for_each(|index| found(index, self.try_read(index)));
            return Ok(busy);
        }
        let most = batch(self.span.stride).min(self.len());
        let mut triple = TripleRead::new(most, self.span.stride);
        for first in (0..self.len()).step_by(most) {
            let count = most.min(self.len() - first);
            triple.fetch(lookup(&self.region), self.span.first + first, count)?;
            (0..count).for_each(|at| found(first + at, self.taken(&triple, at)));
        }
        Ok(busy)
    }

    /// One attempt to read a mapped value.
    #[inline(always)]
    fn try_read(&self, index: usize) -> Option<Snapshot<T>> {
        let element = self.mapped.get(index)?;
        let mut value = T::zeroed();
        let seq = P::try_read(element, &mut value)?;
        Some(Snapshot { version: P::version(seq), value })
    }

    /// Handles the cases in which [`try_read`](Self::try_read) returns `None`: no such value, a writer that interferes, or no
    /// mapping.
    #[cold]
    fn try_read_by_call(&self, index: usize) -> Result<Option<Snapshot<T>>, ReadError> {
        if index >= self.span.count {
            return Err(ReadError::Index { thing: P::THING, index, count: self.span.count });
        }
        let Some(lookup) = self.region.lookup() else { return Ok(None) };
        let mut triple = TripleRead::new(1, self.span.stride);
        triple.fetch(lookup, self.span.first + index, 1)?;
        Ok(self.taken(&triple, 0))
    }

    /// The value of element `at`, if the lookups found it whole.
    fn taken(&self, triple: &TripleRead, at: usize) -> Option<Snapshot<T>> {
        let mut value = T::zeroed();
        let seq = triple.value(at, |seq| P::at::<T>(seq, self.span.stride), &mut value)?;
        Some(Snapshot { version: P::version(seq), value })
    }

    #[cold]
    fn read_retry(&self, index: usize) -> Result<Snapshot<T>, ReadError> {
        let backoff = Backoff::new();
        for _ in 1..Self::MAX_TRIES {
            if let Some(snapshot) = self.try_snapshot(index)? {
                return Ok(snapshot);
            }
            backoff.spin();
        }
        Err(ReadError::Busy { tries: Self::MAX_TRIES })
    }
}

impl<T, P> Table<T, P> {
    pub(super) fn shared_mut(&self) -> Result<SharedMut> {
        self.region.shared_mut()
    }
}

impl<T, P> Clone for Table<T, P> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), mapped: self.mapped.clone(), span: self.span }
    }
}

impl<T, P> fmt::Debug for Table<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.region).finish()
    }
}
