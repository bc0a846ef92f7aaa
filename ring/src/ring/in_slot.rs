//! What readers copy from a slot: a record, or a record with the place of its tail.

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::Merge;

use super::merges::Merges;
use crate::record::Tailed;

/// A `T` as it is in slots: alone, or with the place of its tail. So a ring without tails does not copy that.
pub trait InSlot<T>: AnyBitPattern {
    /// Whether there is a place of a tail.
    const HAS_TAIL: bool;

    /// The record.
    fn record(&self) -> &T;
    /// The part of a `Tailed` that has room for it.
    fn place(of: &mut Tailed<T>) -> &mut Self;
    /// The merge of what such slots contain, if the ring has such slots.
    fn merge(of: &mut Merges<T>) -> &mut Merge<Self>;
}

impl<T: AnyBitPattern> InSlot<T> for T {
    const HAS_TAIL: bool = false;

    #[inline(always)]
    fn record(&self) -> &T {
        self
    }

    #[inline(always)]
    fn place(of: &mut Tailed<T>) -> &mut Self {
        &mut of.record
    }

    #[inline(always)]
    fn merge(of: &mut Merges<T>) -> &mut Merge<Self> {
        let Merges::Plain(merge) = of else { unreachable!("the reader knows whether its ring has tails") };
        merge
    }
}

impl<T: AnyBitPattern> InSlot<T> for Tailed<T> {
    const HAS_TAIL: bool = true;

    #[inline(always)]
    fn record(&self) -> &T {
        &self.record
    }

    #[inline(always)]
    fn place(of: &mut Self) -> &mut Self {
        of
    }

    #[inline(always)]
    fn merge(of: &mut Merges<T>) -> &mut Merge<Self> {
        let Merges::Tailed(merge) = of else { unreachable!("as above") };
        merge
    }
}
