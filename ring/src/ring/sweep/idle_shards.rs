//! Idle shards, into which a sweep need not step: one load shows that they have no record.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring_core::clock::{latest, now};
use mapring_core::protocol::ring::ShardPlace;

use super::Sweep;
use super::sources::Slots;
use crate::abi::seq::state;

/// The slot of a shard's next ticket, with its state while that ticket is not claimed. On a large machine most shards
/// are in this state most of the time: a sweep over them loads only this, 16 bytes per shard, and the word.
///
/// States only grow, so a slot whose ticket was passed never looks idle again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IdleShard {
    word: usize,
    free: u64,
}

impl IdleShard {
    #[inline]
    pub(super) fn new(place: &ShardPlace, next: u64) -> Self {
        Self { word: place.seq(next), free: place.slots().free(next) }
    }
}

impl<T: AnyBitPattern> Sweep<T> {
    /// Whether one load shows that a shard has no record, and no closer check is due.
    #[inline(always)]
    pub(super) fn is_idle(&mut self, at: usize) -> bool {
        let Slots::Mapped(shared) = self.sources.of(at) else {
            if self.recheck.now {
                self.shards[at].cursor.look_past();
            }
            return false;
        };
        let idle = self.idle[at];
        // SYNC none: no words are read because of this load; any other value leads to a step.
        let seen = state(shared.words().load(idle.word, Ordering::Relaxed));
        if seen == idle.free {
            #[allow(clippy::cast_possible_truncation)] // any bits will do: not all shards in one round
            let turn = self.round.wrapping_add(at as u32) & self.mask;
            if turn != 0 && !self.recheck.now {
                return true;
            }
        } else if seen != idle.free.wrapping_add(1) || !self.recheck.now {
            return false;
        }
        self.shards[at].cursor.look_past();
        false
    }

    /// Passes over idle shards, from the current one on, at most `most`; each costs one step of `left`. Returns how
    /// many.
    #[inline(always)]
    pub(super) fn pass_idle(&mut self, left: &mut u32, most: usize) -> usize {
        // Local variables, so that no iteration waits for a store of the previous one.
        let (mut turn, mut passed) = (self.turn, 0);
        if let Some(Slots::Mapped(shared)) = self.sources.only() {
            // A faster loop with the same result, from one idle shard to the next.
            let (words, round) = (shared.words(), self.round);
            let most = most.min(*left as usize).min(self.shards.len() - turn);
            let idle = &self.idle[turn..turn + most];
            let is_idle = |(at, idle): &(usize, &IdleShard)| {
                #[allow(clippy::cast_possible_truncation)] // as above
                let turn = round.wrapping_add(*at as u32) & self.mask;
                turn != 0 && state(words.load(idle.word, Ordering::Relaxed)) == idle.free
            };
            if !self.recheck.now {
                passed = (turn..).zip(idle).take_while(is_idle).count();
                #[allow(clippy::cast_possible_truncation)] // no more than is left
                let idle = passed as u32;
                *left -= idle;
                turn = if passed == 0 { turn } else { self.after(turn + passed - 1) };
            }
        }
        while passed < most && *left > 0 && self.is_idle(turn) {
            (passed, *left) = (passed + 1, *left - 1);
            turn = self.after(turn);
        }
        if passed > 0 {
            (self.turn, self.burst) = (turn, 0);
        }
        passed
    }

    /// After a shard had no more records: stores its next ticket, whose slot shows whether the shard is idle. Nothing was
    /// lost before the clock was last read.
    #[inline(always)]
    pub(super) fn came_to_the_end(&mut self, at: usize) {
        let shard = &mut self.shards[at];
        let idle = IdleShard::new(&shard.place, shard.cursor.next());
        if idle != self.idle[at] {
            self.recheck.found();
        }
        if !self.sources.of(at).failed() {
            shard.cursor.caught_up(self.recheck.read);
        }
        self.idle[at] = idle;
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
        self.round = self.round.wrapping_add(1);
        self.recheck.swept();
        0
    }
}

/// When a sweep checks later tickets in each shard: every millisecond, or every time if a reader sweeps less often.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecheckClock {
    /// Whether this sweep does so.
    now: bool,
    /// Sweeps until the clock is read.
    sweeps: u32,
    /// When the clock was read, and when the last such sweep began, in nanoseconds.
    read: u64,
    last: u64,
    /// When a sweep last found new tickets; and whether one did since the clock was read.
    found: u64,
    fresh: bool,
}

impl RecheckClock {
    const EVERY: u64 = 1_000_000;
    /// Sweeps between two readings of the clock, for readers that sweep all the time.
    const SWEEPS: u32 = 64;

    pub(super) fn new() -> Self {
        latest(); // asks for the length of a tick, so that no later call does
        let now = now();
        Self { now: false, sweeps: Self::SWEEPS, read: now, last: now, found: now, fresh: false }
    }

    /// A time that has passed: when the clock was last read.
    pub(super) fn time(&self) -> u64 {
        self.read
    }

    /// Stores the time: for readers that read the clock themselves.
    pub(super) fn set(&mut self, time: u64) {
        self.read = time;
        self.dated(time);
    }

    /// Notes that new tickets were found.
    #[inline(always)]
    pub(super) fn found(&mut self) {
        self.fresh = true;
    }

    /// How long no new tickets were found.
    pub(super) fn idle(&self) -> Duration {
        let since = if self.fresh { u64::MAX } else { self.found };
        Duration::from_nanos(now().saturating_sub(since))
    }

    /// After the clock was read: dates the tickets that were found before.
    fn dated(&mut self, now: u64) {
        if core::mem::take(&mut self.fresh) {
            self.found = now;
        }
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
        self.dated(now);
        let seldom = now.saturating_sub(self.read) >= Self::EVERY;
        (self.now, self.read) = (now.saturating_sub(self.last) >= Self::EVERY, now);
        if self.now {
            self.last = now;
        }
        // After such a sweep comes one that does not check later tickets.
        self.sweeps = if self.now || seldom { 0 } else { Self::SWEEPS };
    }
}
