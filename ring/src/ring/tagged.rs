//! Readers of records of several types.

use std::marker::PhantomData;

use super::{Event, Reader, Tailed};
use crate::tagged::{TaggedRecord, Unknown, Variants};

impl<E: Variants> Reader<TaggedRecord<E::Payload, PhantomData<E>>> {
    /// Calls `f` with up to `limit` records, like [`for_each`](Self::for_each), each as its variant. Variants refer to
    /// the reader's private copy. A record with an unknown tag comes as its tag and bytes, and counts in
    /// [`ReadStats::unknown`](crate::ReadStats::unknown). Returns the number of records.
    #[inline]
    pub fn for_each_variant(
        &mut self,
        limit: usize,
        mut f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>),
    ) -> usize {
        self.for_each_counted(limit, |Event { shard, ticket, record }, unknown| {
            let record = record.variant();
            *unknown = unknown.wrapping_add(u64::from(record.is_err()));
            f(Event { shard, ticket, record });
        })
    }
}

impl<E: Variants> Reader<Tailed<TaggedRecord<E::Payload, PhantomData<E>>>> {
    /// The same for records with tails: like [`for_each_with_tail`](Self::for_each_with_tail).
    #[inline]
    pub fn for_each_variant_with_tail(
        &mut self,
        limit: usize,
        mut f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>, &[u8]),
    ) -> usize {
        self.for_each_with_tail_counted(limit, |Event { shard, ticket, record }, tail, unknown| {
            let record = record.variant();
            *unknown = unknown.wrapping_add(u64::from(record.is_err()));
            f(Event { shard, ticket, record }, tail);
        })
    }
}
