//! The next records of the shard whose turn it is: `poll` and `drain` take them one by one.

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{NoRecord, Run, Shard, ShardPlace, Step};

use super::pass::Pass;
use super::sources::Slots;
use super::{Part, SMALL, Sweep};
use crate::ring::event::Event;
use crate::ring::in_slot::InSlot;

/// A run of the shard whose turn it is, with what is needed to copy its records. The shard's cursor does not count what
/// was taken until the run [ends](Sweep::settle).
#[derive(Debug)]
pub(super) struct Ahead {
    run: Run,
    begun: bool,
    /// The number of the shard, for [`Event::shard`].
    number: usize,
    place: ShardPlace,
}

impl Ahead {
    /// No run; `place` is that of any shard.
    pub(super) fn new(place: &ShardPlace) -> Self {
        Self { run: Run::default(), begun: false, number: 0, place: *place }
    }

    /// Whether there is a run, which may be over.
    #[inline(always)]
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }
}

impl<T: AnyBitPattern> Sweep<T> {
    /// The next record of the run.
    #[inline(always)] // so that the record need not go through memory
    pub(in crate::ring) fn take<R: InSlot<T>>(&mut self) -> Result<Event<R>, NoRecord> {
        let Ahead { run, number: shard, place, .. } = &mut self.ahead;
        let shard = *shard;
        if run.is_over() {
            return Err(NoRecord::End);
        }
        if let Slots::Mapped(shared) = self.sources.of(self.rotation.turn) {
            let mut source = Shard::new(shared.words(), place);
            if size_of::<R>() <= SMALL {
                let mut record = R::zeroed();
                let ticket = run.take(&mut source, &mut record)?;
                return Ok(Event { shard, ticket, record, tail: () });
            }
            let record = R::place(&mut self.record);
            let ticket = run.take(&mut source, record)?;
            return Ok(Event { shard, ticket, record: *record, tail: () });
        }
        let ticket = self.take_by_call::<R>()?;
        Ok(Event { shard, ticket, record: *R::place(&mut self.record), tail: () })
    }

    /// The same for a ring that is not mapped; stores the record in `self.record`. If it returned the event, the
    /// compiler would also keep the events of the other paths in memory.
    #[cold]
    fn take_by_call<R: InSlot<T>>(&mut self) -> Result<u64, NoRecord> {
        let Ahead { run, place, .. } = &mut self.ahead;
        let (Slots::Lookup(window), shard) = self.sources.of_mut(self.rotation.turn) else {
            return Err(NoRecord::End);
        };
        run.take(&mut window.of(shard, place), R::place(&mut self.record))
    }

    /// Begins a run of the shard whose turn it is, of at most `limit` records.
    #[inline]
    pub(super) fn begin_run(&mut self, limit: usize) {
        let Part { number, place, cursor, .. } = &self.shards[self.rotation.turn];
        let run = match self.sources.of_mut(self.rotation.turn) {
            (Slots::Mapped(shared), _) => cursor.begin_run(&Shard::new(shared.words(), place), limit),
            (Slots::Lookup(window), shard) => cursor.begin_run(&window.of(shard, place), limit),
        };
        self.ahead = Ahead { run, begun: true, number: *number, place: *place };
    }

    /// The step after a run that has ended before all its records were taken.
    pub(super) fn step_after(&mut self, no: NoRecord) -> Step {
        let Part { place, cursor, .. } = &mut self.shards[self.rotation.turn];
        match self.sources.of_mut(self.rotation.turn) {
            (Slots::Mapped(shared), _) => cursor.without(&mut Shard::new(shared.words(), place), no),
            (Slots::Lookup(window), shard) => cursor.without(&mut window.of(shard, place), no),
        }
    }

    /// Ends the run, if there is one: its shard's cursor counts what was taken. Returns how many records. After some, a call of
    /// `poll` begins anew.
    #[inline]
    pub(in crate::ring) fn settle(&mut self) -> usize {
        if !std::mem::take(&mut self.ahead.begun) {
            return 0;
        }
        let run = std::mem::take(&mut self.ahead.run);
        self.shards[self.rotation.turn].cursor.end_run(&run);
        #[allow(clippy::cast_possible_truncation)] // at most the limit
        let taken = run.taken() as usize;
        self.rotation.burst += taken;
        if taken > 0 {
            self.few = Pass::of_few(self);
        }
        taken
    }

    /// The records that were taken from the shard at `at`, and that its cursor does not count yet.
    pub(super) fn taken(&self, at: usize) -> u64 {
        if at == self.rotation.turn { self.ahead.run.taken() } else { 0 }
    }
}
