//! Reading where the kernel refuses the mapping: the same protocols over system calls.
//!
//! A lookup copies a value while programs write, in no order that the kernel promises (it is a
//! `memcpy`, which on recent x86 is one `rep movsb`). So one lookup proves nothing, and neither do
//! two. But sequences are never used twice: if the first and the last of three looks, with full
//! barriers between them, hold the same sequence, nothing was written during the one in the
//! middle, on any machine.

use std::io;

use bytemuck::AnyBitPattern;

use crate::layout::seq::Slots;
use crate::layout::{Geometry, WORD};
use crate::protocol::ring::{Look, Place};
use crate::region::Region;
use crate::sync::{Ordering, fence};

/// Elements that are fetched with one system call, at most: a bit each in [`Window::served`].
const BATCH: usize = 64;
/// Bytes that are fetched with one system call, at most, so that handles stay small.
const BYTES: usize = 16 << 10;

/// How many elements of `words` words to fetch at once.
pub(super) fn batch(words: usize) -> usize {
    (BYTES / (words * WORD)).clamp(1, BATCH)
}

/// Three looks at the same elements.
pub(super) struct Looks {
    looks: [Vec<u64>; 3],
    words: usize,
}

impl Looks {
    /// Room for three looks at `count` elements of `words` words.
    pub(super) fn new(count: usize, words: usize) -> Self {
        Self { looks: std::array::from_fn(|_| vec![0; count * words]), words }
    }

    /// Looks three times at `count` elements from `first` on.
    pub(super) fn fetch(&mut self, region: &Region, first: usize, count: usize) -> io::Result<()> {
        let lookup = region.lookup().expect("the fallback is for regions that are not mapped");
        self.fetch_by(count, |look| lookup.run(first, count, look))
    }

    /// Looks three times, with `look`, at what comes as `count` elements.
    pub(super) fn fetch_by(
        &mut self,
        count: usize,
        mut look: impl FnMut(&mut [u64]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.looks.iter_mut().try_for_each(|words| {
            fence(Ordering::SeqCst);
            look(&mut words[..count * self.words])
        })
    }

    /// The same, but for the second and third look if the first sees no `seq` in the first element.
    /// Returns what it sees there.
    fn fetch_if(&mut self, region: &Region, first: usize, count: usize, seq: u64) -> io::Result<u64> {
        let lookup = region.lookup().expect("the fallback is for regions that are not mapped");
        let words = count * self.words;
        for look in &mut self.looks {
            fence(Ordering::SeqCst);
            lookup.run(first, count, &mut look[..words])?;
            if look[0] != seq {
                return Ok(look[0]);
            }
        }
        Ok(seq)
    }

    /// The sequence of element `at` at the last look.
    pub(super) fn seq(&self, at: usize) -> u64 {
        self.looks[2][at * self.words]
    }

    /// Copies what starts with word `word` of element `at`, if its sequence was the same all along.
    pub(super) fn take<T: AnyBitPattern>(&self, at: usize, word: usize, out: &mut T) -> bool {
        let element = at * self.words..(at + 1) * self.words;
        let [first, middle, last] = self.looks.each_ref().map(|look| &look[element.clone()]);
        if first[0] != last[0] {
            return false;
        }
        let bytes: &[u8] = bytemuck::cast_slice(&middle[word..]);
        *out = bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()]);
        true
    }
}

/// A run of slots of one shard, as three looks found them.
pub(super) struct Window {
    region: Region,
    looks: Looks,
    shard: usize,
    first: usize,
    count: usize,
    /// A bit for each slot that was handed out: looking at it again means fetching it again.
    served: u64,
    one: Vec<u64>,
    error: Option<io::Error>,
}

impl Window {
    pub(super) fn new(region: Region) -> Self {
        let words = region.geometry().element_words();
        let looks = Looks::new(batch(words), words);
        Self { region, looks, shard: 0, first: 0, count: 0, served: 0, one: vec![0; words], error: None }
    }

    /// The window as a way to look at a shard.
    pub(super) fn of<'a>(&'a mut self, shard: usize, place: &'a Place) -> WindowOf<'a> {
        WindowOf { window: self, shard, place }
    }

    /// The last system call that failed since this was asked, if one did.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Whether `f` holds and no system call failed in it.
    #[cfg(feature = "bpf")]
    pub(super) fn without_error(&mut self, f: impl FnOnce(&mut Self) -> bool) -> bool {
        let earlier = self.error.take();
        let holds = f(self);
        let failed = self.error.is_some();
        self.error = self.error.take().or(earlier);
        holds && !failed
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// A word of an element, or 0 if the system call fails: an empty shard.
    pub(super) fn word(&mut self, element: usize, at: usize) -> u64 {
        // An element may be shorter than the header that starts with it.
        let lookup = self.region.lookup().expect("the fallback is for regions that are not mapped");
        let words = self.one.len();
        match lookup.run(element + at / words, 1, &mut self.one) {
            Ok(()) => self.one[at % words],
            Err(e) => {
                self.error = Some(e);
                0
            }
        }
    }

    fn geometry(&self) -> &Geometry {
        self.region.geometry()
    }
}

/// A [`Window`] on one shard.
pub(super) struct WindowOf<'a> {
    window: &'a mut Window,
    shard: usize,
    place: &'a Place,
}

impl WindowOf<'_> {
    /// Where the slot of `t` is in the window, if it is there.
    fn find(&self, t: u64) -> Option<usize> {
        let at = self.place.slots().of(t).wrapping_sub(self.window.first);
        (self.window.shard == self.shard && at < self.window.count).then_some(at)
    }

    /// Whether slot `first` is the one after the window.
    fn follows(&self, first: usize) -> bool {
        let Window { shard, first: start, count, .. } = *self.window;
        shard == self.shard && count != 0 && (start + count) % self.window.geometry().capacity() == first
    }
}

impl Look for WindowOf<'_> {
    fn slots(&self) -> Slots {
        self.place.slots()
    }

    fn head(&mut self) -> u64 {
        let header = self.window.geometry().shard(self.shard);
        self.window.word(header, 0)
    }

    fn seq(&mut self, t: u64) -> u64 {
        if let Some(at) = self.find(t).filter(|at| self.window.served & 1 << at == 0) {
            self.window.served |= 1 << at;
            return self.window.looks.seq(at);
        }
        let (first, published) = (self.place.slots().of(t), self.place.slots().published(t));
        // Where a window ended there may well be more. Elsewhere one small look is cheap beside three
        // at many slots, if there is nothing: most shards, most of the time.
        if !self.follows(first) {
            let seen = self.peek(t);
            if seen != published {
                return seen;
            }
        }
        let window = &mut *self.window;
        let geometry = window.region.geometry();
        let count = batch(geometry.element_words()).min(geometry.capacity() - first);
        let element = geometry.slots(self.shard) + first;
        (window.shard, window.first, window.count, window.served) = (self.shard, first, 0, 1);
        match window.looks.fetch_if(&window.region, element, count, published) {
            Ok(seen) => {
                if seen == published {
                    window.count = count;
                }
                seen
            }
            Err(e) => {
                window.error = Some(e);
                0
            }
        }
    }

    fn peek(&mut self, t: u64) -> u64 {
        let element = self.window.geometry().slots(self.shard) + self.place.slots().of(t);
        self.window.word(element, 0)
    }

    fn take<T: AnyBitPattern>(&mut self, t: u64, published: u64, out: &mut T) -> bool {
        self.find(t)
            .is_some_and(|at| self.window.looks.seq(at) == published && self.window.looks.take(at, 1, out))
    }
}
