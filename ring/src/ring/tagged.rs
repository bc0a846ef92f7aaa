//! Readers of records of several types.

use std::marker::PhantomData;

use super::either::Either;
use super::tails::for_each_with_tail_counted;
use super::{Event, Merged, Reader, Tailed};
use crate::tagged::{TaggedRecord, Unknown, Variants};

impl<E: Variants> Reader<TaggedRecord<E::Payload, PhantomData<E>>> {
    /// Calls `f` with up to `limit` records, like [`for_each`](Self::for_each), each as its variant. Variants refer to
    /// the reader's private copy. A record with an unknown tag comes as its tag and bytes, and counts in
    /// [`ReadStats::unknown`](crate::ReadStats::unknown). Returns the number of records.
    #[inline]
    pub fn for_each_variant(
        &mut self,
        limit: usize,
        f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>),
    ) -> usize {
        for_each_variant::<E>(self, limit, f)
    }
}

impl<E: Variants> Reader<Tailed<TaggedRecord<E::Payload, PhantomData<E>>>> {
    /// The same for records with tails: like [`for_each_with_tail`](Self::for_each_with_tail).
    #[inline]
    pub fn for_each_variant_with_tail(
        &mut self,
        limit: usize,
        f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>, &[u8]),
    ) -> usize {
        for_each_variant_with_tail::<E>(self, limit, f)
    }
}

impl<E: Variants, F> Merged<TaggedRecord<E::Payload, PhantomData<E>>, F>
where
    F: FnMut(&TaggedRecord<E::Payload, PhantomData<E>>) -> u64,
{
    /// As [`Reader::for_each_variant`], in order.
    #[inline]
    pub fn for_each_variant(
        &mut self,
        limit: usize,
        f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>),
    ) -> usize {
        for_each_variant::<E>(self, limit, f)
    }
}

impl<E: Variants, F> Merged<Tailed<TaggedRecord<E::Payload, PhantomData<E>>>, F>
where
    F: FnMut(&Tailed<TaggedRecord<E::Payload, PhantomData<E>>>) -> u64,
{
    /// As [`Reader::for_each_variant_with_tail`], in order.
    #[inline]
    pub fn for_each_variant_with_tail(
        &mut self,
        limit: usize,
        f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>, &[u8]),
    ) -> usize {
        for_each_variant_with_tail::<E>(self, limit, f)
    }
}

#[inline(always)] // as if it were in its callers
fn for_each_variant<E: Variants>(
    reader: &mut impl Either<Record = TaggedRecord<E::Payload, PhantomData<E>>>,
    limit: usize,
    mut f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>),
) -> usize {
    reader.for_each_counted(limit, |Event { shard, ticket, record }, unknown| {
        let record = counted(record.variant(), unknown);
        f(Event { shard, ticket, record });
    })
}

#[inline(always)]
fn for_each_variant_with_tail<E: Variants>(
    reader: &mut impl Either<Record = Tailed<TaggedRecord<E::Payload, PhantomData<E>>>>,
    limit: usize,
    mut f: impl FnMut(Event<Result<E::With<'_>, Unknown<'_>>>, &[u8]),
) -> usize {
    for_each_with_tail_counted(reader, limit, |Event { shard, ticket, record }, tail, unknown| {
        let record = counted(record.variant(), unknown);
        f(Event { shard, ticket, record }, tail);
    })
}

/// The result of a match, after counting it if it is unknown.
#[inline(always)] // so that the match is decided once
fn counted<'r, V>(variant: Result<V, Unknown<'r>>, unknown: &mut u64) -> Result<V, Unknown<'r>> {
    // A branch, not an addition to memory for each record.
    #[cold]
    fn count(unknown: &mut u64) {
        *unknown = unknown.wrapping_add(1);
    }
    if variant.is_err() {
        count(unknown);
    }
    variant
}
