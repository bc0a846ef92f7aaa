//! Quiet shards, into which a sweep need not step: one load shows that they have no record.

use bytemuck::AnyBitPattern;

use super::Sweep;
use super::sources::Slots;
use super::watch::Quiet;
use crate::abi::seq::state;
use crate::sync::{Ordering, now};

/// The evidence that is enough to consider a shard quiet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Only evidence that the next ticket was certainly not claimed.
    Slots,
    /// Also `head`, which may be stale: for callers that poll again at once.
    Head,
}

impl<T: AnyBitPattern> Sweep<T> {
    /// Whether one load shows that a shard has no record, and no closer check is due.
    #[inline(always)]
    pub(super) fn is_quiet(&mut self, at: usize, trust: Trust) -> bool {
        let Slots::Mapped(shared) = self.sources.of(at) else {
            if self.looks.now {
                self.shards[at].cursor.look_past();
            }
            return false;
        };
        let (quiet, watch) = (self.quiet[at], &mut self.watches[at]);
        // SYNC none: no words are read because of this load; any other value leads to a step. The mask for the
        // discarded bit also removes the pending mark of `head`.
        let seen = state(shared.words().load(quiet.word, Ordering::Relaxed));
        if seen == quiet.free && !self.looks.now {
            if trust == Trust::Slots && watch.by_head() {
                return false;
            }
            #[allow(clippy::cast_possible_truncation)] // any bits will do: not all shards in one sweep
            let turn = self.sweep.wrapping_add(at as u32) & self.mask;
            if !turn.is_multiple_of(Self::HEAD_EVERY) || turn != 0 && !watch.by_head() {
                return true;
            }
        } else if seen == quiet.free.wrapping_add(1) {
            watch.saw_half_way();
            if !self.looks.now {
                return false;
            }
        } else if seen != quiet.free {
            return false;
        }
        self.shards[at].cursor.look_past();
        false
    }

    /// Passes over quiet shards, from the current one on, at most `most`; each costs one step of `left`. Returns how
    /// many.
    #[inline(always)]
    pub(super) fn pass_quiet(&mut self, left: &mut u32, most: usize) -> usize {
        // Local variables, so that no iteration waits for a store of the previous one.
        let (mut turn, mut passed) = (self.turn, 0);
        if let Some(Slots::Mapped(shared)) = self.sources.only() {
            // A faster loop with the same result, from one quiet shard to the next.
            let (words, sweep) = (shared.words(), self.sweep);
            let most = most.min(*left as usize).min(self.shards.len() - turn);
            let quiet = &self.quiet[turn..turn + most];
            let is_quiet = |(at, quiet): &(usize, &Quiet)| {
                #[allow(clippy::cast_possible_truncation)] // as above
                let turn = sweep.wrapping_add(*at as u32) & self.mask;
                !turn.is_multiple_of(Self::HEAD_EVERY)
                    && state(words.load(quiet.word, Ordering::Relaxed)) == quiet.free
            };
            if !self.looks.now {
                passed = (turn..).zip(quiet).take_while(is_quiet).count();
                #[allow(clippy::cast_possible_truncation)] // no more than is left
                let quiet = passed as u32;
                *left -= quiet;
                turn = if passed == 0 { turn } else { self.after(turn + passed - 1) };
            }
        }
        while passed < most && *left > 0 && self.is_quiet(turn, Trust::Head) {
            (passed, *left) = (passed + 1, *left - 1);
            turn = self.after(turn);
        }
        self.turn = turn;
        passed
    }

    /// Stores the next ticket of a shard, whose slot shows whether the shard is quiet.
    #[inline(always)]
    pub(super) fn came_to_the_end(&mut self, at: usize) {
        let (shard, watch) = (&self.shards[at], &mut self.watches[at]);
        watch.waits_for(shard.cursor.next());
        self.quiet[at] = Quiet::new(&shard.place, watch);
        self.has_read(at);
    }

    /// Advances to the next shard.
    #[inline(always)]
    pub(super) fn next_shard(&mut self) {
        self.burst = 0;
        self.turn = self.after(self.turn);
    }

    /// The shard after `turn`. Counts a sweep when all shards had their turn.
    #[inline(always)]
    fn after(&mut self, turn: usize) -> usize {
        if turn + 1 < self.shards.len() {
            return turn + 1;
        }
        self.sweep = self.sweep.wrapping_add(1);
        self.looks.swept();
        0
    }
}

/// When a sweep checks later tickets in each shard: every millisecond, or every time if a reader sweeps less often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// Whether this sweep does so.
    now: bool,
    /// Sweeps until the clock is read.
    sweeps: u32,
    /// When the clock was read, and when the last such sweep began, in nanoseconds.
    read: u64,
    last: u64,
}

impl Looks {
    const EVERY: u64 = 1_000_000;
    /// Sweeps between two readings of the clock, for readers that sweep all the time.
    const SWEEPS: u32 = 64;

    pub(super) fn new() -> Self {
        let now = now();
        Self { now: false, sweeps: Self::SWEEPS, read: now, last: now }
    }

    /// Checks later tickets in the next sweep.
    pub(super) fn check(&mut self) {
        (self.now, self.sweeps) = (true, 0);
    }

    #[inline(always)]
    fn swept(&mut self) {
        if self.sweeps == 0 {
            self.read_clock();
        } else {
            self.sweeps -= 1;
        }
    }

    #[cold]
    fn read_clock(&mut self) {
        let now = now();
        let seldom = now.saturating_sub(self.read) >= Self::EVERY;
        (self.now, self.read) = (now.saturating_sub(self.last) >= Self::EVERY, now);
        if self.now {
            self.last = now;
        }
        // After such a sweep comes one that does not check later tickets.
        self.sweeps = if self.now || seldom { 0 } else { Self::SWEEPS };
    }
}
