//! Reads one ring, from each shard in turn. Its shards are in one region, or each in its own region.

mod ahead;
mod budget;
mod counts;
mod lease;
mod losses;
mod one;
mod pass;
mod recheck;
mod rotation;
mod sources;

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use ahead::Ahead;
use budget::Budget;
use bytemuck::{AnyBitPattern, Zeroable};
use lease::Lease;
use losses::Drops;
use parking_lot::Mutex;
pub(super) use pass::Pass;
use rotation::Rotation;
use sources::{DROPS, Slots, Sources};

use super::seat::ReaderSeat;
use crate::abi::{Epoch, Gate};
use crate::record::Tailed;
use crate::region::Region;
use mapring_core::protocol::ring::{Cursor, END, PROGRAM_GATE, Shard, ShardPlace, Start, Unread};

/// The largest record, in bytes, that is copied to the stack, where the compiler can keep it in registers. Larger ones
/// are copied to the reader.
const SMALL: usize = 256;

/// A shard that is read.
#[derive(Debug)]
#[repr(C, align(64))] // two lines are all that a pass over many idle shards needs of each
struct Part {
    place: ShardPlace,
    /// Its number, for [`Event::shard`].
    number: usize,
    cursor: Cursor,
    /// The drops that were reported as losses, for each cause.
    drops: [Drops; DROPS.len()],
    /// The next tickets when a merged reader last stored the time at which it had read all, and the time before.
    read_all: [u64; 2],
}

/// A position in each shard of a ring.
pub(super) struct Sweep<T> {
    /// The ring's region, or the first of several.
    region: Region,
    sources: Sources,
    shards: Box<[Part]>,
    rotation: Rotation,
    ahead: Ahead,
    budget: Budget,
    lease: Lease,
    /// What remains of a call of `poll`.
    pub(super) few: Pass,
    /// The drops without a shard that were reported as losses.
    no_shard: Drops,
    /// The last failed system call of those that no window makes.
    error: Mutex<Option<io::Error>>,
    /// The record that was read last, if it did not go elsewhere.
    pub(super) record: Tailed<T>,
}

impl<T: AnyBitPattern> Sweep<T> {
    /// See [`Reader::PATIENCE`](super::Reader::PATIENCE).
    pub(super) const PATIENCE: Duration = Duration::from_millis(10);
    pub(super) const STEPS: u32 = Budget::STEPS;
    pub(super) const STEPS_BY_CALL: u32 = Budget::STEPS_BY_CALL;

    /// All shards of a region, starting at `start` in each.
    pub(super) fn of(region: &Region, start: Start) -> Self {
        Self::new(region, [(0, region)], start)
    }

    /// The shards of some regions of a ring whose first region is `first`, starting at `start` in each. The shards of a
    /// region are numbered from the number that comes with it. Either there is one region, or each has one shard.
    pub(super) fn new<'r>(
        first: &Region,
        regions: impl IntoIterator<Item = (usize, &'r Region)>,
        start: Start,
    ) -> Self {
        let (mut sources, mut shards) = (Vec::new(), Vec::new());
        let patience = nanoseconds(Self::PATIENCE);
        for (number, region) in regions {
            let geometry = region.geometry();
            let mut source = Slots::new(region);
            shards.extend((0..geometry.shards()).map(|shard| {
                let place = ShardPlace::new(geometry, shard);
                let cursor = match &mut source {
                    Slots::Mapped(shared) => {
                        Cursor::new(&mut Shard::new(shared.words(), &place), start, patience)
                    }
                    Slots::Lookup(window) => Cursor::new(&mut window.of(shard, &place), start, patience),
                };
                Part { number: number + shard, place, cursor, drops: Default::default(), read_all: [0; 2] }
            }));
            sources.push(source);
        }
        assert!(sources.len() == 1 || sources.len() == shards.len(), "one for all, or one for each");
        let by_call = sources.iter().any(|source| matches!(source, Slots::Lookup(_)));
        Self {
            region: first.clone(),
            sources: Sources::new(sources.remove(0), sources),
            ahead: Ahead::new(&shards[0].place),
            rotation: Rotation::new(&shards),
            few: Pass::of(shards.len(), Budget::new(by_call).steps),
            shards: shards.into(),
            budget: Budget::new(by_call),
            lease: Lease::default(),
            no_shard: Drops::default(),
            error: Mutex::new(None),
            record: Tailed::zeroed(),
        }
    }

    /// See [`Reader::with_patience`](super::Reader::with_patience).
    pub(super) fn set_patience(&mut self, patience: u64) {
        self.shards.iter_mut().for_each(|shard| shard.cursor.set_patience(patience));
        self.rotation.set_checks_always(patience == 0);
    }

    /// Makes [`stopped_early`](Self::stopped_early) true.
    pub(super) fn stop_early(&mut self) {
        self.budget.stopped_early = true;
    }

    /// True if any call since the last check stopped early.
    pub(super) fn stopped_early(&mut self) -> bool {
        core::mem::take(&mut self.budget.stopped_early)
    }

    /// See [`Reader::required`](super::Reader::require).
    pub(super) fn require(&mut self, seat: Arc<ReaderSeat>, lease: Duration) {
        self.settle();
        let positions = self.shards.iter().map(|shard| (shard.number, shard.cursor.next()));
        self.lease = Lease::new(seat, nanoseconds(lease), positions, self.region.geometry());
    }

    /// Whether programs wait for this reader.
    pub(super) fn is_required(&self) -> bool {
        self.lease.is_required()
    }

    /// Whether programs have ceased to wait for this reader since the last call of this method.
    pub(super) fn lease_ended(&mut self) -> bool {
        self.lease.has_ended()
    }

    /// Tells programs how far a shard was read, if they wait for this reader.
    #[inline(always)]
    fn has_read(&mut self, at: usize) {
        self.lease.has_read(at, self.shards[at].cursor.next());
    }

    /// The next ticket to be read in the shard with this number.
    pub(super) fn position(&self, number: usize) -> Option<u64> {
        self.positions().find(|&(shard, _)| shard == number).map(|(_, next)| next)
    }

    /// The numbers of the shards, in the order in which they are visited.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.shards.iter().map(|shard| shard.number)
    }

    fn shard(&self, number: usize) -> Option<&Part> {
        self.shards.iter().find(|shard| shard.number == number)
    }

    /// A count, or 0 if the system call for it failed. Stores the error.
    fn or_zero(&self, count: io::Result<u64>) -> u64 {
        count.unwrap_or_else(|error| {
            *self.error.lock() = Some(error);
            0
        })
    }

    /// The last system call that failed on the fallback path, since the last call of this method.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.get_mut().take().or_else(|| self.sources.iter_mut().find_map(Slots::take_error))
    }

    /// How long it waits for a record, in nanoseconds.
    pub(super) fn patience(&self) -> u64 {
        self.shards.first().map_or(0, |shard| shard.cursor.patience())
    }

    /// The number of tickets that were given out in all shards, once the ring is retired. `None` if a system call fails
    /// on the fallback path: [`take_error`](Self::take_error).
    pub(super) fn ends(&mut self) -> Option<u64> {
        let Self { sources, shards, .. } = &*self;
        let mut ends = shards.iter().enumerate().map(|(at, part)| {
            sources.of(at).header(sources.shard_of(at), &part.place, |shard| shard.end(), END)
        });
        match ends.try_fold(0, |sum: u64, end| Ok(sum.wrapping_add(end?))) {
            Ok(sum) => Some(sum),
            Err(error) => {
                *self.error.get_mut() = Some(error);
                None
            }
        }
    }

    /// The state of the ring's gate; [`Gate::None`] if a system call fails on the fallback path:
    /// [`take_error`](Self::take_error).
    #[inline]
    pub(super) fn gate(&mut self) -> Gate {
        self.region.gate().unwrap_or_else(|error| {
            *self.error.get_mut() = Some(error);
            Gate::None
        })
    }

    /// The epoch of a ring that can be replaced; that of the first if a system call fails on the fallback path, which
    /// only wakes a reader too early: [`take_error`](Self::take_error).
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.region.geometry().options().is_resizable().then(|| {
            let epoch =
                self.sources.of(0).header(0, &self.shards[0].place, |shard| shard.gate(), PROGRAM_GATE);
            Epoch::of(self.or_zero(epoch))
        })
    }

    /// Whether all records of a ring were read that is no longer written, apart from those that were skipped after a
    /// wait.
    pub(super) fn at_end(&mut self) -> bool {
        let sources = &mut self.sources;
        let mut shards = self.shards.iter_mut().enumerate();
        shards.all(|(at, shard)| match sources.of_mut(at) {
            (Slots::Mapped(shared), _) => shard.cursor.at_end(&mut Shard::new(shared.words(), &shard.place)),
            // After a failed call a slot only seems empty.
            (Slots::Lookup(window), number) => window
                .without_error(|window| shard.cursor.at_end(&mut window.of(number, &shard.place)))
                .unwrap_or(false),
        })
    }

    /// What the next reads would find: the most of all shards. If it is something, they check later tickets too.
    pub(super) fn unread(&mut self, many: u64) -> Unread {
        self.settle();
        let sources = &mut self.sources;
        let shards = self.shards.iter_mut().enumerate();
        let found = shards.map(|(at, shard)| match sources.of_mut(at) {
            (Slots::Mapped(shared), _) => {
                shard.cursor.unread(&mut Shard::new(shared.words(), &shard.place), many)
            }
            (Slots::Lookup(window), number) => window
                .without_error(|window| shard.cursor.unread(&mut window.of(number, &shard.place), many))
                .unwrap_or(Unread::Many), // so that the caller learns of the error
        });
        let found = found.max().unwrap_or(Unread::Nothing);
        if found > Unread::Held {
            self.rotation.recheck.check();
        }
        found
    }

    /// The number of each shard, and the next ticket to be read in it.
    pub(super) fn positions(&self) -> impl Iterator<Item = (usize, u64)> {
        let shards = self.shards.iter().enumerate();
        shards.map(|(at, shard)| (shard.number, shard.cursor.next().wrapping_add(self.taken(at))))
    }

    /// The region that is read, or the first of several.
    pub(super) fn region(&self) -> &Region {
        &self.region
    }
}

/// The duration in nanoseconds, at most `u64::MAX`.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl<T> fmt::Debug for Sweep<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep").field("shards", &self.shards).finish_non_exhaustive()
    }
}
