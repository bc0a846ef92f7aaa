//! Readers that deliver the records of all shards in the order of their timestamps.

use std::time::Duration;

use bytemuck::AnyBitPattern;

use super::super::by_time::ByTime;
use super::super::sweep::nanoseconds;
use super::Reader;
use crate::time::Clock;

impl<T: AnyBitPattern> Reader<T> {
    /// Delivers the records of all shards in the order of their timestamps, which `stamp` returns. See
    /// [`ByTime`](crate::reading::ByTime). Allocates.
    pub fn merged<F: FnMut(&T) -> u64>(mut self, stamp: F) -> Reader<T, ByTime<T, F>> {
        self.rings.sweep.settle();
        let [delay, settle] = [Self::DELAY, Self::SETTLE].map(nanoseconds);
        let order = ByTime::new(self.shards().collect(), self.tails.is_some(), delay, settle, stamp);
        self.in_order(order)
    }
}

impl<T: AnyBitPattern, F: FnMut(&T) -> u64> Reader<T, ByTime<T, F>> {
    /// Sets how long a record that is still being written holds back records with later stamps: until the clock is
    /// `delay` after their stamps. The default is [`DELAY`](Reader::DELAY). If the record is committed after that, it is
    /// delivered late. If it takes longer than the reader's [patience](Self::with_patience), and later records of its
    /// shard are present, it is lost.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.order.merges.set_delay(nanoseconds(delay));
        self
    }

    /// Sets the clock that programs stamp records with. The default is [`Clock::Monotonic`], which
    /// `bpf_ktime_get_ns()` reads.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.order.clock = clock;
        self
    }

    /// For a ring that nothing writes any more, such as a [copy](crate::Region::copy_ring), maybe of another machine: delivers
    /// all records at once, whatever this machine's clock says. Waits for no record that has not ended.
    #[must_use]
    pub fn of_the_past(mut self) -> Self {
        self.order.is_past = true;
        self.with_patience(Duration::ZERO)
    }

    /// Delivers the records of each shard in the order of their tickets, whatever their stamps. A record with an earlier
    /// stamp than the one before it then takes its place directly after that one.
    #[must_use]
    pub fn with_ticket_order(mut self) -> Self {
        self.order.merges.keep_ticket_order();
        self
    }
}
