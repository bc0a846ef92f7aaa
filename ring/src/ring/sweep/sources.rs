//! The memory from which the shards of a ring are read: one region for all, or one for each.

use std::io;

use mapring_core::abi::Tails;
use mapring_core::protocol::ring::tails::Area;
use mapring_core::protocol::ring::{DROPS_SINCE, DROPS_UNTIL, FULL, LossCause, NO_SLOT, Shard, ShardPlace};

use crate::region::fallback::{ByCall, Window};
use crate::region::{Region, Shared};

/// The causes for which a shard counts the records that programs dropped.
pub(super) const DROPS: [LossCause; 4] =
    [LossCause::NoSlot, LossCause::Full, LossCause::NoTail, LossCause::TooLong];

/// A region of slots.
pub(super) enum Slots {
    Mapped(Shared),
    Lookup(Box<Window>),
}

impl Slots {
    pub(super) fn new(region: &Region) -> Self {
        let window = || Window::new(ByCall(region.clone()), region.geometry());
        region.shared().map_or_else(|| Self::Lookup(Box::new(window())), Self::Mapped)
    }

    pub(super) fn region(&self) -> &Region {
        match self {
            Self::Mapped(shared) => shared.region(),
            Self::Lookup(window) => &window.source().0,
        }
    }

    /// A word of the header of shard `shard`, which is at `place`: by `mapped` if the region is mapped, else by
    /// lookups.
    pub(super) fn header(
        &self,
        shard: usize,
        place: &ShardPlace,
        mapped: impl Fn(&Shard<'_>) -> u64,
        word: usize,
    ) -> io::Result<u64> {
        match self {
            Self::Mapped(shared) => Ok(mapped(&Shard::new(shared.words(), place))),
            Self::Lookup(window) => window.header(shard, word),
        }
    }

    /// The records of shard `shard`, which is at `place`, that programs dropped for one of the causes [`DROPS`].
    pub(super) fn dropped(&self, shard: usize, place: &ShardPlace, cause: LossCause) -> io::Result<u64> {
        let geometry = self.region().geometry();
        let tails = |word| match (self, Area::new(geometry, shard)) {
            (Self::Mapped(shared), Some(area)) => area.count(shared.words(), word),
            _ => 0, // rings with tails are always mapped
        };
        match cause {
            LossCause::NoSlot => self.header(shard, place, |shard| shard.dropped(), NO_SLOT),
            LossCause::Full if geometry.options().keeps_oldest() => {
                self.header(shard, place, |shard| shard.full(), FULL)
            }
            LossCause::NoTail => Ok(tails(Tails::NO_SPACE)),
            LossCause::TooLong => Ok(tails(Tails::TOO_LONG)),
            _ => Ok(0),
        }
    }

    /// When the latest spell of drops in a shard began and ended.
    pub(super) fn spell(&self, shard: usize, place: &ShardPlace) -> io::Result<[u64; 2]> {
        Ok([
            self.header(shard, place, |shard| shard.spell()[0], DROPS_SINCE)?,
            self.header(shard, place, |shard| shard.spell()[1], DROPS_UNTIL)?,
        ])
    }

    /// Whether a system call has failed since the last call of [`take_error`](Self::take_error): a slot may only seem
    /// empty.
    #[inline]
    pub(super) fn failed(&self) -> bool {
        match self {
            Self::Mapped(_) => false,
            Self::Lookup(window) => window.failed(),
        }
    }

    /// The last system call that failed since the last call of this method.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match self {
            Self::Mapped(_) => None,
            Self::Lookup(window) => window.take_error(),
        }
    }
}

/// The regions of a ring. The first is stored in place, not behind a pointer, because most rings have only one.
pub(super) struct Sources {
    pub(super) first: Slots,
    /// Empty if the first one contains all shards.
    others: Box<[Slots]>,
}

impl Sources {
    pub(super) fn new(first: Slots, others: Vec<Slots>) -> Self {
        Self { first, others: others.into() }
    }

    /// The region with all shards, if there is only one.
    #[inline(always)]
    pub(super) fn only(&self) -> Option<&Slots> {
        self.others.is_empty().then_some(&self.first)
    }

    /// The region with the shard at `at`.
    #[inline(always)]
    pub(super) fn of(&self, at: usize) -> &Slots {
        if self.others.is_empty() || at == 0 { &self.first } else { &self.others[at - 1] }
    }

    /// The same, mutable, with the shard's [number](Self::shard_of) in it.
    #[inline(always)]
    pub(super) fn of_mut(&mut self, at: usize) -> (&mut Slots, usize) {
        if self.others.is_empty() {
            (&mut self.first, at)
        } else if at == 0 {
            (&mut self.first, 0)
        } else {
            (&mut self.others[at - 1], 0)
        }
    }

    /// The number in its region of the shard at `at`.
    pub(super) fn shard_of(&self, at: usize) -> usize {
        if self.others.is_empty() { at } else { 0 }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slots> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slots> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }
}
