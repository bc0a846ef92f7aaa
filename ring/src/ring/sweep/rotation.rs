//! Whose turn it is. Idle shards have none: one load shows that they have no record.

use std::sync::atomic::Ordering;

use mapring_core::protocol::ring::ShardPlace;

use super::Part;
use super::recheck::RecheckClock;
use super::sources::{Slots, Sources};
use crate::abi::seq::state;

/// The slot of a shard's next ticket, with its state while that ticket is not claimed. On a large machine most shards
/// are in this state most of the time: a sweep over them loads only this, 16 bytes per shard, and the word.
///
/// States only grow, so a slot whose ticket was passed never looks idle again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct IdleShard {
    word: usize,
    free: u64,
}

impl IdleShard {
    #[inline]
    fn new(place: &ShardPlace, next: u64) -> Self {
        Self { word: place.seq(next), free: place.slots().free(next) }
    }
}

/// The shards of a sweep, one after the other.
pub(super) struct Rotation {
    /// The shard whose turn it is.
    pub(super) turn: usize,
    /// Records and steps in a row from it, apart from those of the run.
    pub(super) burst: usize,
    idle: Box<[IdleShard]>,
    /// The number of the round: how many times all shards had their turn.
    round: u32,
    /// An idle shard is stepped into when these bits of `round` and its number are zero.
    mask: u32,
    /// When idle shards are stepped into, by the clock.
    pub(super) recheck: RecheckClock,
}

impl Rotation {
    /// A shard whose next ticket is not claimed is checked by one load, without a step. Only in one of this number of
    /// turns (a power of two), and each millisecond ([`RecheckClock`]), a step checks for later tickets. Only a writer that
    /// was preempted for a lap, or one that overwrites the region, leaves such a slot behind; and the check takes the
    /// line with `head` away from the next writer.
    const LOOK_EVERY: u32 = 1 << 16;

    pub(super) fn new(shards: &[Part]) -> Self {
        let idle = shards.iter().map(|shard| IdleShard::new(&shard.place, shard.cursor.next())).collect();
        let (mask, recheck) = (Self::LOOK_EVERY - 1, RecheckClock::new());
        Self { turn: 0, burst: 0, idle, round: 0, mask, recheck }
    }

    /// Whether each turn of an idle shard checks for later tickets.
    pub(super) fn set_checks_always(&mut self, always: bool) {
        self.mask = if always { 0 } else { Self::LOOK_EVERY - 1 };
    }

    /// Stores that a shard was read to ticket `next`. Its slot shows whether the shard is idle.
    #[inline]
    pub(super) fn has_read(&mut self, at: usize, place: &ShardPlace, next: u64) {
        let idle = IdleShard::new(place, next);
        if idle != self.idle[at] {
            self.recheck.found();
        }
        self.idle[at] = idle;
    }

    /// Whether one load shows that a shard has no record, and no closer check is due.
    #[inline(always)]
    fn is_idle(&self, sources: &Sources, shards: &mut [Part], at: usize) -> bool {
        let Slots::Mapped(shared) = sources.of(at) else {
            if self.recheck.now {
                shards[at].cursor.look_past();
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
        shards[at].cursor.look_past();
        false
    }

    /// Passes over idle shards, from the current one on, at most `most`; each costs one step of `left`. Returns how
    /// many.
    #[inline(always)]
    pub(super) fn pass_idle(
        &mut self,
        sources: &Sources,
        shards: &mut [Part],
        left: &mut u32,
        most: usize,
    ) -> usize {
        // Local variables, so that no iteration waits for a store of the previous one.
        let (mut turn, mut passed) = (self.turn, 0);
        if let Some(Slots::Mapped(shared)) = sources.only() {
            // A faster loop with the same result, from one idle shard to the next.
            let (words, round) = (shared.words(), self.round);
            let most = most.min(*left as usize).min(shards.len() - turn);
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
        while passed < most && *left > 0 && self.is_idle(sources, shards, turn) {
            (passed, *left) = (passed + 1, *left - 1);
            turn = self.after(turn);
        }
        if passed > 0 {
            (self.turn, self.burst) = (turn, 0);
        }
        passed
    }

    /// Advances to the next shard.
    #[inline(always)]
    pub(super) fn advance(&mut self) {
        self.burst = 0;
        self.turn = self.after(self.turn);
    }

    /// The shard after `turn`. Counts a round when all shards had their turn.
    #[inline(always)]
    fn after(&mut self, turn: usize) -> usize {
        if turn + 1 < self.idle.len() {
            return turn + 1;
        }
        self.round = self.round.wrapping_add(1);
        self.recheck.swept();
        0
    }
}
