//! What a reader and a merged reader have in common, for the code that serves both.

#[cfg(feature = "tokio")]
use std::time::Duration;

use bytemuck::AnyBitPattern;

use super::{Event, Merged, Reader};

/// A [`Reader`] or a [`Merged`] reader. Their own methods of the same names say what these do.
#[cfg_attr(not(feature = "tokio"), allow(unreachable_pub))] // streams have this bound
pub trait Either {
    type Record: AnyBitPattern;

    /// The reader that reads the shards.
    fn base(&mut self) -> &mut Reader<Self::Record>;

    fn poll(&mut self) -> Option<Event<Self::Record>>;

    /// `f` also gets the count of unknown tags.
    fn for_each_counted(&mut self, limit: usize, f: impl FnMut(Event<&Self::Record>, &mut u64)) -> usize;

    #[cfg(feature = "tokio")]
    fn arm(&mut self) -> Option<Duration>;
}

impl<T: AnyBitPattern> Either for Reader<T> {
    type Record = T;

    #[inline(always)] // here and below: as if it were in its callers
    fn base(&mut self) -> &mut Self {
        self
    }

    #[inline(always)]
    fn poll(&mut self) -> Option<Event<T>> {
        Self::poll(self)
    }

    #[inline(always)]
    fn for_each_counted(&mut self, limit: usize, f: impl FnMut(Event<&T>, &mut u64)) -> usize {
        Self::for_each_counted(self, limit, f)
    }

    #[cfg(feature = "tokio")]
    fn arm(&mut self) -> Option<Duration> {
        Self::arm(self)
    }
}

impl<T: AnyBitPattern, F: FnMut(&T) -> u64> Either for Merged<T, F> {
    type Record = T;

    #[inline(always)]
    fn base(&mut self) -> &mut Reader<T> {
        &mut self.reader
    }

    #[inline(always)]
    fn poll(&mut self) -> Option<Event<T>> {
        Self::poll(self)
    }

    #[inline(always)]
    fn for_each_counted(&mut self, limit: usize, f: impl FnMut(Event<&T>, &mut u64)) -> usize {
        Self::for_each_counted(self, limit, f)
    }

    #[cfg(feature = "tokio")]
    fn arm(&mut self) -> Option<Duration> {
        Self::arm(self)
    }
}
