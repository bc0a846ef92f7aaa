//! Iterates over the records that are present.

use std::fmt;

use bytemuck::AnyBitPattern;

use super::Reader;
use crate::record::Tailed;
use crate::ring::event::Event;
use crate::ring::order::{ByShard, Order};

/// The iterator of [`Reader::drain`].
pub struct Drain<'r, T: AnyBitPattern, O: Order<T> = ByShard> {
    reader: &'r mut Reader<T, O>,
    pass: O::Pass,
}

impl<T: AnyBitPattern, O: Order<T>> Iterator for Drain<'_, T, O> {
    type Item = Event<T>;

    #[inline(always)] // as in `poll`
    fn next(&mut self) -> Option<Event<T>> {
        if self.reader.tails.is_some() {
            let Event { shard, ticket, .. } = self.next_with_tail()?;
            return Some(Event { shard, ticket, record: self.reader.rings.sweep.record.record, tail: () });
        }
        let Reader { order, rings, .. } = &mut *self.reader;
        order.next(rings, &mut self.pass)
    }

    /// Of `for_each`, `sum` and others: asks once whether the ring has tails.
    #[inline]
    fn fold<B, F: FnMut(B, Event<T>) -> B>(mut self, init: B, mut f: F) -> B {
        let mut all = init;
        if self.reader.tails.is_some() {
            for event in self {
                all = f(all, event);
            }
            return all;
        }
        let Reader { order, rings, .. } = self.reader;
        while let Some(event) = order.next(rings, &mut self.pass) {
            all = f(all, event);
        }
        all
    }
}

impl<'r, T: AnyBitPattern, O: Order<T>> Drain<'r, T, O> {
    pub(super) fn new(reader: &'r mut Reader<T, O>) -> Self {
        Self { pass: reader.order.begin_pass(&mut reader.rings), reader }
    }

    /// The next record of a ring with tails, which stays in the sweep, as in `poll`.
    #[cold] // and so apart from the loop that has no calls
    fn next_with_tail(&mut self) -> Option<Event<()>> {
        let Reader { order, rings, .. } = &mut *self.reader;
        let Event { shard, ticket, record, tail } = order.next::<Tailed<T>>(rings, &mut self.pass)?;
        rings.sweep.record = record;
        Some(Event { shard, ticket, record: (), tail })
    }
}

impl<T: AnyBitPattern, O: Order<T>> fmt::Debug for Drain<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("reader", &self.reader).field("pass", &self.pass).finish()
    }
}
