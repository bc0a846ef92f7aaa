//! Iterates over the records that are present.

use std::fmt;

use bytemuck::AnyBitPattern;

use super::Reader;
use crate::ring::Event;
use crate::ring::order::{ByShard, Order};
use crate::ring::tails::Tailed;

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
            return self.next_with_tail();
        }
        let Reader { order, rings, .. } = &mut *self.reader;
        order.next(rings, &mut self.pass)
    }
}

impl<'r, T: AnyBitPattern, O: Order<T>> Drain<'r, T, O> {
    pub(super) fn new(reader: &'r mut Reader<T, O>) -> Self {
        Self { pass: reader.order.pass(&mut reader.rings), reader }
    }

    #[inline(never)]
    fn next_with_tail(&mut self) -> Option<Event<T>> {
        let Reader { order, rings, .. } = &mut *self.reader;
        let Event { shard, ticket, record, tail } = order.next::<Tailed<T>>(rings, &mut self.pass)?;
        Some(Event { shard, ticket, record: record.record, tail })
    }
}

impl<T: AnyBitPattern, O: Order<T>> fmt::Debug for Drain<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("reader", &self.reader).field("pass", &self.pass).finish()
    }
}
