//! A ring's slots as copies show them: many at once, each handed out once.

use bytemuck::AnyBitPattern;

use super::{HEAD, Look, Place};
use crate::layout::Geometry;
use crate::layout::seq::Slots;
use crate::protocol::triple::{Elements, TripleRead, batch};

/// A run of slots of one shard, each copied three times.
#[derive(Debug)]
pub struct Window<S: Elements> {
    source: S,
    geometry: Geometry,
    copies: TripleRead,
    shard: usize,
    first: usize,
    count: usize,
    /// A bit for each slot that was handed out: to look at it again, it is fetched again.
    served: u64,
    one: TripleRead,
    error: Option<S::Error>,
}

impl<S: Elements> Window<S> {
    /// A window on the ring of the shape `geometry` that `source` has. Copies nothing yet.
    pub fn new(source: S, geometry: &Geometry) -> Self {
        let words = geometry.element_words();
        let copies = TripleRead::new(batch(words), words);
        let geometry = *geometry;
        let (shard, first, count, served) = (0, 0, 0, 0);
        Self {
            source,
            geometry,
            copies,
            shard,
            first,
            count,
            served,
            one: TripleRead::new(1, words),
            error: None,
        }
    }

    /// The window as a way to look at a shard.
    pub fn of<'a>(&'a mut self, shard: usize, place: &'a Place) -> WindowOf<'a, S> {
        WindowOf { window: self, shard, place }
    }

    /// What is copied from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Why the last copy that failed did so, if one has since this was asked.
    pub fn take_error(&mut self) -> Option<S::Error> {
        self.error.take()
    }

    /// What `f` says, unless a copy failed in it.
    pub fn without_error<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let earlier = self.error.take();
        let said = f(self);
        let failed = self.error.is_some();
        self.error = self.error.take().or(earlier);
        (!failed).then_some(said)
    }

    /// A word of a shard's header, which only grows. Allocates.
    ///
    /// # Errors
    /// If the copy failed.
    pub fn header(&self, shard: usize, word: usize) -> Result<u64, S::Error> {
        // An element may be shorter than the header that starts with it.
        let words = self.geometry.element_words();
        let mut copies = TripleRead::new(1, words);
        copies.fetch(&self.source, self.geometry.shard(shard) + word / words, 1)?;
        Ok(copies.word(0, word % words))
    }

    /// The first word of an element, which only grows, or 0 if the copy fails. One for which `goes_on` is false is
    /// taken from one copy.
    fn first_word(&mut self, element: usize, goes_on: impl Fn(u64) -> bool) -> u64 {
        match self.one.fetch_while(&self.source, element, 1, &goes_on) {
            Ok(seen) if !goes_on(seen) => seen,
            Ok(_) => self.one.word(0, 0),
            Err(e) => {
                self.error = Some(e);
                0
            }
        }
    }
}

/// A [`Window`] on one shard.
pub struct WindowOf<'a, S: Elements> {
    window: &'a mut Window<S>,
    shard: usize,
    place: &'a Place,
}

impl<S: Elements> WindowOf<'_, S> {
    /// Where the slot of `t` is in the window, if it is there.
    fn find(&self, t: u64) -> Option<usize> {
        let at = self.place.slots().of(t).wrapping_sub(self.window.first);
        (self.window.shard == self.shard && at < self.window.count).then_some(at)
    }

    /// The sequence of the slot of `t`; from one copy, if `goes_on` is false for what that says.
    fn slot(&mut self, t: u64, goes_on: impl Fn(u64) -> bool) -> u64 {
        let element = self.window.geometry.slots(self.shard) + self.place.slots().of(t);
        self.window.first_word(element, goes_on)
    }

    /// Whether slot `first` is the one after the window.
    fn follows(&self, first: usize) -> bool {
        let Window { shard, first: start, count, geometry, .. } = &*self.window;
        *shard == self.shard && *count != 0 && (start + count) % geometry.capacity() == first
    }
}

impl<S: Elements> Look for WindowOf<'_, S> {
    fn slots(&self) -> Slots {
        self.place.slots()
    }

    fn head(&mut self) -> u64 {
        const { assert!(HEAD == 0) };
        self.window.first_word(self.window.geometry.shard(self.shard), |_| true)
    }

    fn seq(&mut self, t: u64) -> u64 {
        if let Some(at) = self.find(t).filter(|at| self.window.served & 1 << at == 0) {
            self.window.served |= 1 << at;
            return self.window.copies.seq(at);
        }
        let (first, published) = (self.place.slots().of(t), self.place.slots().published(t));
        // Where a window ended there may well be more. Elsewhere one small copy is cheap beside three
        // of many slots, if there is nothing: most shards, most of the time.
        let free = self.place.slots().free(t);
        if !self.follows(first) {
            let seen = self.slot(t, |seen| seen != free);
            if seen != published {
                return seen;
            }
        }
        let window = &mut *self.window;
        let geometry = &window.geometry;
        let count = batch(geometry.element_words()).min(geometry.capacity() - first);
        let element = geometry.slots(self.shard) + first;
        (window.shard, window.first, window.count, window.served) = (self.shard, first, 0, 1);
        match window.copies.fetch_while(&window.source, element, count, |seen| seen == published) {
            Ok(seen) if seen == published => {
                window.count = count;
                seen
            }
            // Not as a moment ago, or torn.
            Ok(_) => self.peek(t),
            Err(e) => {
                window.error = Some(e);
                0
            }
        }
    }

    fn peek(&mut self, t: u64) -> u64 {
        self.slot(t, |_| true)
    }

    fn take<T: AnyBitPattern>(&mut self, t: u64, published: u64, out: &mut T) -> bool {
        self.find(t)
            .is_some_and(|at| self.window.copies.seq(at) == published && self.window.copies.take(at, 1, out))
    }
}
