//! A reader as one of several that are merged.

use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::Turn;

use super::super::bell::Bell;
use super::super::by_time::{ByTime, most};
use super::super::event::Event;
use super::{AnyReader, Reader};
use crate::record::Tailed;

/// What a merge of several rings needs of each ring, whose records `C` gets.
pub(in crate::ring) trait Turns<C> {
    /// What the ring delivers next, in this round or in the next one, which begins if nothing is left of this one.
    fn turn(&mut self, begin: bool) -> Turn;
    /// Takes up to `limit` records whose stamp is before `end`. Returns how many, and how many of them had their tails and were
    /// delivered. `last` is the latest stamp of all rings.
    fn deliver(&mut self, context: &mut C, end: u64, limit: usize, last: &mut u64) -> [usize; 2];
    /// The most records that a call delivers.
    fn most(&self) -> usize;
    /// Whether it holds records.
    fn holds(&self) -> bool;
    fn stopped_early(&mut self) -> bool;
    /// See [`Reader::arm_bell`].
    fn arm(&mut self) -> Option<Duration>;
    /// The bell, if programs may ring it now.
    fn armed(&self) -> Option<&Bell>;
    fn disarm(&mut self);
    fn reader(&self) -> &dyn AnyReader;
    fn reader_mut(&mut self) -> &mut dyn AnyReader;
}

impl<C, T, F, H> Turns<C> for (Reader<T, ByTime<T, F>>, H)
where
    T: AnyBitPattern,
    F: FnMut(&T) -> u64,
    H: FnMut(&mut C, Event<&T, &[u8]>),
{
    fn turn(&mut self, begin: bool) -> Turn {
        let Reader { order, rings, tails, .. } = &mut self.0;
        if tails.is_some() { order.turn::<Tailed<T>>(rings, begin) } else { order.turn::<T>(rings, begin) }
    }

    fn deliver(&mut self, context: &mut C, end: u64, limit: usize, last: &mut u64) -> [usize; 2] {
        let (Reader { order, rings, tails, .. }, f) = self;
        let Some(tails) = tails.as_deref_mut() else {
            let taken = order.for_each_before::<T>(rings, end, limit, last, |event| {
                let Event { shard, ticket, record, .. } = event;
                f(context, Event { shard, ticket, record, tail: &[] });
            });
            return [taken, taken];
        };
        let mut whole = 0;
        let taken = order.for_each_before::<Tailed<T>>(rings, end, limit, last, |event| {
            let Event { shard, ticket, record, .. } = event;
            if let Some(tail) = tails.read(shard, ticket, record) {
                whole += 1;
                f(context, Event { shard, ticket, record: &record.record, tail });
            }
        });
        tails.locate(&rings.sweep);
        [taken, whole]
    }

    fn most(&self) -> usize {
        most(&self.0.rings)
    }

    fn holds(&self) -> bool {
        self.0.order.merges.held() > 0
    }

    fn stopped_early(&mut self) -> bool {
        self.0.stopped_early()
    }

    fn arm(&mut self) -> Option<Duration> {
        self.0.arm_bell(false)
    }

    fn armed(&self) -> Option<&Bell> {
        self.0.armed_bell()
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }

    fn reader(&self) -> &dyn AnyReader {
        &self.0
    }

    fn reader_mut(&mut self) -> &mut dyn AnyReader {
        &mut self.0
    }
}
