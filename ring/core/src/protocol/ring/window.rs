//! A window: copies of many slots of a ring at once, each returned once.

use bytemuck::AnyBitPattern;

use super::{HEAD, NoRecord, ShardPlace, SlotSource};
use crate::abi::Geometry;
use crate::abi::seq::Slots;
use crate::protocol::torn_copy::{Elements, TripleRead, batch};

/// A run of slots of one shard, each copied three times.
#[derive(Debug)]
pub struct Window<S: Elements> {
    source: S,
    geometry: Geometry,
    copies: TripleRead,
    shard: usize,
    first: usize,
    count: usize,
    /// A bit for each slot that was returned. To read such a slot again, it is copied again.
    served: u64,
    one: TripleRead,
    error: Option<S::Error>,
}

impl<S: Elements> Window<S> {
    /// A window on the ring in `source`, of the shape `geometry`. Copies nothing yet.
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

    /// The window as the slots of one shard.
    pub fn of<'a>(&'a mut self, shard: usize, place: &'a ShardPlace) -> WindowOf<'a, S> {
        WindowOf { window: self, shard, place }
    }

    /// The source of the copies.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The last error of a copy since the last call.
    pub fn take_error(&mut self) -> Option<S::Error> {
        self.error.take()
    }

    /// Whether a copy has failed since the last call of [`take_error`](Self::take_error).
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// The result of `f`, or `None` if a copy failed in it.
    pub fn without_error<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let earlier = self.error.take();
        let result = f(self);
        let failed = self.error.is_some();
        self.error = self.error.take().or(earlier);
        (!failed).then_some(result)
    }

    /// A word of a shard's header that only grows. Allocates.
    ///
    /// # Errors
    /// If the copy failed.
    pub fn header(&self, shard: usize, word: usize) -> Result<u64, S::Error> {
        // An element may be shorter than the header, which begins in it.
        let words = self.geometry.element_words();
        let mut copies = TripleRead::new(1, words);
        copies.fetch(&self.source, self.geometry.shard(shard) + word / words, 1)?;
        Ok(copies.word(0, word % words))
    }

    /// The first word of an element, which only grows, or 0 if the copy fails. If `goes_on` is false for the word, it
    /// comes from a single copy.
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
    place: &'a ShardPlace,
}

impl<S: Elements> WindowOf<'_, S> {
    /// The index in the window of a slot, if the window contains it.
    fn find(&self, slot: usize) -> Option<usize> {
        let at = slot.wrapping_sub(self.window.first);
        (self.window.shard == self.shard && at < self.window.count).then_some(at)
    }

    /// The sequence of a slot, from a single copy if `goes_on` is false for it.
    fn copy_seq(&mut self, slot: usize, goes_on: impl Fn(u64) -> bool) -> u64 {
        let element = self.window.geometry.slots(self.shard) + slot;
        self.window.first_word(element, goes_on)
    }

    /// The sequence of a slot, which shall be `published`: from the window, which moves to the slot if that pays.
    fn seq(&mut self, slot: usize, published: u64) -> u64 {
        if let Some(at) = self.find(slot).filter(|at| self.window.served & 1 << at == 0) {
            self.window.served |= 1 << at;
            return self.window.copies.seq(at);
        }
        // After the end of a window there are often more records. Elsewhere there are usually none, and one small copy
        // costs less than three copies of many slots.
        let free = published.wrapping_sub(2);
        if !self.follows(slot) {
            let seen = self.copy_seq(slot, |seen| seen != free);
            if seen != published {
                return seen;
            }
        }
        let window = &mut *self.window;
        let geometry = &window.geometry;
        let count = batch(geometry.element_words()).min(geometry.capacity() - slot);
        let element = geometry.slots(self.shard) + slot;
        (window.shard, window.first, window.count, window.served) = (self.shard, slot, 0, 1);
        match window.copies.fetch_while(&window.source, element, count, |seen| seen == published) {
            Ok(seen) if seen == published => {
                window.count = count;
                seen
            }
            // It changed in the meantime, or was torn.
            Ok(_) => self.copy_seq(slot, |_| true),
            Err(e) => {
                window.error = Some(e);
                0
            }
        }
    }

    /// Whether slot `first` is the next one after the window.
    fn follows(&self, first: usize) -> bool {
        let Window { shard, first: start, count, geometry, .. } = &*self.window;
        *shard == self.shard && *count != 0 && (start + count) % geometry.capacity() == first
    }
}

impl<S: Elements> SlotSource for WindowOf<'_, S> {
    fn slots(&self) -> Slots {
        self.place.slots()
    }

    fn head(&mut self) -> u64 {
        const { assert!(HEAD == 0) };
        self.window.first_word(self.window.geometry.shard(self.shard), |_| true)
    }

    fn slot(&self, t: u64) -> usize {
        self.place.slots().of(t)
    }

    fn stride(&self) -> usize {
        1
    }

    fn peek(&mut self, t: u64) -> u64 {
        self.copy_seq(self.place.slots().of(t), |_| true)
    }

    fn take<T: AnyBitPattern, const TO_MEMORY: bool>(
        &mut self,
        slot: usize,
        published: u64,
        out: &mut T,
    ) -> Result<(), NoRecord> {
        let seen = self.seq(slot, published);
        if seen != published {
            return Err(NoRecord::Not(seen));
        }
        let copies = &self.window.copies;
        let whole = self.find(slot).is_some_and(|at| copies.seq(at) == published && copies.take(at, 1, out));
        if whole { Ok(()) } else { Err(NoRecord::Torn) }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use std::cell::Cell;

    use super::super::{Cursor, ReadStats, ShardMut, Step};
    use super::*;
    use crate::abi::Kind;
    use crate::protocol::WordsMut;
    use crate::sync::{AtomicU64, Ordering};

    /// Copies elements of a region, and counts how many. The copy with this number fails.
    struct Copied<'a> {
        memory: &'a [AtomicU64],
        words: usize,
        elements: Cell<usize>,
        fails: Cell<bool>,
        /// The copy after so many others has other bits.
        tears: Cell<Option<usize>>,
    }

    impl Elements for Copied<'_> {
        type Error = &'static str;

        fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), &'static str> {
            self.elements.set(self.elements.get() + count);
            let from = &self.memory[first * self.words..][..count * self.words];
            out.iter_mut().zip(from).for_each(|(out, word)| *out = word.load(Ordering::Relaxed));
            match self.tears.take() {
                Some(0) => out.iter_mut().for_each(|word| *word = !*word),
                later => self.tears.set(later.map(|left| left - 1)),
            }
            if self.fails.get() { Err("no copy") } else { Ok(()) }
        }
    }

    const SLOTS: u64 = 8;

    fn geometry() -> Geometry {
        Geometry::new(Kind::Ring, 24, SLOTS, 2).unwrap()
    }

    fn memory() -> Vec<AtomicU64> {
        (0..geometry().bytes() / 8).map(|_| AtomicU64::new(0)).collect()
    }

    fn window(memory: &[AtomicU64]) -> Window<Copied<'_>> {
        let words = geometry().element_words();
        let source =
            Copied { memory, words, elements: Cell::new(0), fails: Cell::new(false), tears: Cell::new(None) };
        Window::new(source, &geometry())
    }

    #[test]
    fn each_record_comes_once_and_few_slots_are_copied() {
        let memory = memory();
        let places = [0, 1].map(|shard| ShardPlace::new(&geometry(), shard));
        let writers = places.map(|place| ShardMut::new(WordsMut::new(&memory), &place));
        let mut window = window(&memory);
        let mut cursors = [0, 1].map(|_| Cursor::at(0, u64::MAX));
        let mut read = |shard: usize, window: &mut Window<Copied<'_>>| {
            let before = window.source().elements.get();
            let mut found = vec![];
            let mut value = [0_u64; 3];
            while let Step::Record(t) = cursors[shard].step(&mut window.of(shard, &places[shard]), &mut value)
            {
                found.push((t, value[2]));
            }
            (found, window.source().elements.get() - before)
        };
        let push = |shard: usize, n: u64| assert!(writers[shard].push(&[0, 1, n]).is_some());
        assert_eq!(read(0, &mut window).0, []);
        (10..15).for_each(|n| push(0, n));
        push(1, 20);
        let (found, copied) = read(0, &mut window);
        assert_eq!(found, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]);
        assert!(copied <= 3 * 8 + 8, "{copied}");
        assert_eq!(read(1, &mut window).0, [(0, 20)]);
        (15..21).for_each(|n| push(0, n));
        assert_eq!(read(0, &mut window).0, [(5, 15), (6, 16), (7, 17), (8, 18), (9, 19), (10, 20)]);
        let (found, copied) = read(0, &mut window);
        assert_eq!(found, []);
        assert!(copied <= 12, "looks for nothing cost little: {copied}");
        assert_eq!(cursors[0].stats(), ReadStats { delivered: 11, ..ReadStats::default() });
        assert_eq!((window.header(0, HEAD), window.header(1, HEAD)), (Ok(11), Ok(1)));
        let word = places[1].head() + 6;
        memory[word].store(77, Ordering::Relaxed);
        assert_eq!(window.header(1, 6), Ok(77), "in the second element of the header");
        let mut cursor = Cursor::at(5, u64::MAX);
        let (mut found, mut value) = (vec![], [0_u64; 3]);
        let see = |t, value: &[u64; 3]| found.push((t, value[2]));
        assert_eq!(cursor.run(&mut window.of(0, &places[0]), &mut value, 9, see), (3, Step::Moved));
        assert_eq!(found, [(5, 15), (6, 16), (7, 17)], "a run goes from slot to slot");
    }

    #[test]
    fn one_slot_is_copied_where_none_is_expected_and_many_where_a_window_goes_on() {
        let memory = memory();
        let places = [0, 1].map(|shard| ShardPlace::new(&geometry(), shard));
        let writer = ShardMut::new(WordsMut::new(&memory), &places[0]);
        let push = |count: u64| (0..count).for_each(|n| assert!(writer.push(&[n; 3]).is_some()));
        let mut window = window(&memory);
        // The result for a slot with this sequence, and how many elements were copied for it.
        let take = |window: &mut Window<Copied<'_>>, shard: usize, slot, published| {
            let before = window.source().elements.get();
            let mut of = window.of(shard, &places[shard]);
            let taken = of.take::<[u64; 3], true>(slot, published, &mut [0; 3]);
            (taken, window.source().elements.get() - before)
        };
        assert_eq!(take(&mut window, 0, 0, 2), (Err(NoRecord::Not(0)), 1), "it is free");
        push(8);
        // The slots from 5 to the end, three times, after one was copied as often.
        assert_eq!(take(&mut window, 0, 5, 2), (Ok(()), 3 + 3 * 3));
        assert_eq!([6, 7].map(|slot| take(&mut window, 0, slot, 2)), [(Ok(()), 0); 2]);
        assert_eq!(take(&mut window, 1, 0, 2), (Err(NoRecord::Not(0)), 1), "another shard does not go on");
        // Its first slot is free, and the next one has a record.
        assert_eq!(take(&mut window, 0, 0, 4).0, Err(NoRecord::Not(2)));
        memory[places[0].seq(9)].store(4, Ordering::Relaxed);
        assert_eq!(take(&mut window, 0, 1, 4).0, Ok(()));
        push(8);
        assert_eq!(
            [(); 2].map(|()| take(&mut window, 0, 5, 4).0),
            [Err(NoRecord::Not(2)), Ok(())],
            "once as it was"
        );
        assert_eq!(
            take(&mut window, 0, 0, 4),
            (Err(NoRecord::Not(6)), 3 + 8),
            "the window goes on, and is behind"
        );
        assert_eq!(take(&mut window, 0, 5, 4).0, Ok(()));
        push(5);
        assert_eq!(take(&mut window, 0, 0, 6), (Ok(()), 3 * 8));
    }

    #[test]
    fn a_slot_that_was_returned_is_copied_again() {
        let memory = memory();
        let place = ShardPlace::new(&geometry(), 1);
        let writer = ShardMut::new(WordsMut::new(&memory), &place);
        let push = |count: u64| (0..count).for_each(|n| assert!(writer.push(&[n; 3]).is_some()));
        let mut window = window(&memory);
        let take = |window: &mut Window<Copied<'_>>, slot, published| {
            window.of(1, &place).take::<[u64; 3], true>(slot, published, &mut [0; 3])
        };
        push(8);
        assert!((0..8).all(|slot| take(&mut window, slot, 2) == Ok(())));
        push(8);
        assert!((0..8).all(|slot| take(&mut window, slot, 2) == Err(NoRecord::Not(4))));
        assert!((0..8).all(|slot| take(&mut window, slot, 4) == Ok(())));
        // A word is what two of three copies say; and a single copy is not mixed with those before.
        for torn in 0..3 {
            window.source().tears.set(Some(torn));
            assert_eq!(window.of(1, &place).head(), 16);
        }
        let empty = ShardPlace::new(&geometry(), 0);
        assert_eq!(window.of(0, &empty).take::<[u64; 3], true>(0, 2, &mut [0; 3]), Err(NoRecord::Not(0)));
    }

    #[test]
    fn a_copy_that_fails_is_no_record_and_an_error() {
        let memory = memory();
        let place = ShardPlace::new(&geometry(), 0);
        assert_eq!(ShardMut::new(WordsMut::new(&memory), &place).push(&[1_u64, 2, 3]), Some(0));
        let mut window = window(&memory);
        let mut cursor = Cursor::at(0, u64::MAX);
        let mut value = [0_u64; 3];
        window.source().fails.set(true);
        assert!(!matches!(cursor.step(&mut window.of(0, &place), &mut value), Step::Record(_)));
        assert!(window.failed() && window.header(0, HEAD) == Err("no copy"));
        assert_eq!((window.take_error(), window.take_error()), (Some("no copy"), None));
        assert!(!window.failed());
        let head = |window: &mut Window<Copied<'_>>| window.of(0, &place).head();
        assert_eq!(window.without_error(head), None);
        assert!(window.failed());
        window.source().fails.set(false);
        assert_eq!(window.without_error(head), Some(1));
        assert_eq!(window.take_error(), Some("no copy"), "the earlier one");
        assert_eq!(cursor.step(&mut window.of(0, &place), &mut value), Step::Record(0));
        assert_eq!(window.of(0, &place).peek(0), 2);
    }
}
