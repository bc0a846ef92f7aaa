//! A production reader of resizable rings, mapped or by lookups, that follows a ring to its replacement.

use std::convert::Infallible;
use std::sync::Arc;

use mapring_core::abi::Gate;
use mapring_core::protocol::ring::{
    Cursor, Follow, Leaving, Losses, ReadStats, Shard, SlotSource, Start, Step, Window, gate,
};
use mapring_core::protocol::{Elements, Words};

use super::{Rings, SHARDS};
use crate::models::PATIENT;
use crate::sync::Ordering;

/// A ring read by lookups: copies of words, in no order.
struct Lookups {
    rings: Arc<Rings>,
    ring: usize,
}

impl Elements for Lookups {
    type Error = Infallible;

    fn fetch(&self, first: usize, count: usize, out: &mut [u64]) -> Result<(), Infallible> {
        let stride = self.rings.map.stride;
        assert_eq!(out.len(), count * stride);
        let from = &self.rings.words(self.ring)[first * stride..];
        out.iter_mut().zip(from).rev().for_each(|(out, word)| *out = word.load(Ordering::Relaxed));
        Ok(())
    }
}

/// A reader of the shards of one ring, mapped or by lookups.
struct Current {
    rings: Arc<Rings>,
    ring: usize,
    cursors: [Cursor; SHARDS],
    window: Option<Window<Lookups>>,
}

/// A record that a follower got: the shard, the value, the ring.
pub(super) type Given = (usize, u64, usize);

impl Current {
    fn new(rings: Arc<Rings>, ring: usize, start: Start, patience: u64, mapped: bool) -> Self {
        let lookups = || Window::new(Lookups { rings: Arc::clone(&rings), ring }, &rings.geometry[ring]);
        let mut window = (!mapped).then(lookups);
        let cursors = std::array::from_fn(|shard| {
            let place = rings.place(ring, shard);
            match &mut window {
                None => Cursor::new(&mut Shard::new(Words::new(rings.words(ring)), &place), start, patience),
                Some(window) => Cursor::new(&mut window.of(shard, &place), start, patience),
            }
        });
        Self { rings, ring, cursors, window }
    }

    /// The next record, from any shard.
    fn poll(&mut self) -> Option<Given> {
        (0..SHARDS).find_map(|shard| {
            let mut value = 0;
            let place = self.rings.place(self.ring, shard);
            let cursor = &mut self.cursors[shard];
            let found = match &mut self.window {
                None => record(
                    cursor,
                    &mut Shard::new(Words::new(self.rings.words(self.ring)), &place),
                    &mut value,
                ),
                Some(window) => record(cursor, &mut window.of(shard, &place), &mut value),
            };
            found.then_some((shard, value, self.ring))
        })
    }
}

/// Steps until it finds a record, or nothing is left.
fn record(cursor: &mut Cursor, look: &mut impl SlotSource, value: &mut u64) -> bool {
    loop {
        match cursor.step(look, value) {
            Step::Record(_) => return true,
            Step::Moved => {}
            Step::Empty => return false,
        }
    }
}

impl Leaving for Current {
    type Ring = (Arc<Rings>, usize, bool);
    type Error = Infallible;

    fn enter((rings, ring, mapped): Self::Ring, start: Start, patience: u64) -> Result<Self, Infallible> {
        Ok(Self::new(rings, ring, start, patience, mapped))
    }

    fn patience(&self) -> u64 {
        self.cursors[0].patience()
    }

    fn gate(&mut self) -> Gate {
        gate(Words::new(self.rings.words(self.ring)))
    }

    fn before(&self) -> Result<u64, Infallible> {
        Ok(self.rings.before(self.ring))
    }

    fn replaced(&self) -> Result<Option<(Self::Ring, u64)>, Infallible> {
        let now = usize::try_from(self.rings.in_use().load(Ordering::Acquire)).unwrap();
        let next = (Arc::clone(&self.rings), now, self.window.is_none());
        Ok((now != self.ring).then(|| (next, self.rings.before(now))))
    }

    fn at_end(&mut self) -> bool {
        (0..SHARDS).all(|shard| {
            let place = self.rings.place(self.ring, shard);
            let cursor = &mut self.cursors[shard];
            match &mut self.window {
                None => cursor.at_end(&mut Shard::new(Words::new(self.rings.words(self.ring)), &place)),
                Some(window) => cursor.at_end(&mut window.of(shard, &place)),
            }
        })
    }

    fn ends(&mut self) -> Option<u64> {
        Some(self.rings.ends(self.ring))
    }

    fn stats(&self) -> ReadStats {
        let mut sum = ReadStats::default();
        self.cursors.iter().for_each(|cursor| sum += cursor.stats());
        sum
    }

    fn leave(&mut self, losses: &mut Losses) -> ReadStats {
        self.cursors.iter_mut().flat_map(Cursor::take_losses).for_each(|loss| losses.push(loss));
        self.stats()
    }
}

/// A production follower, and the records that it got.
pub(super) struct Reader {
    current: Current,
    follow: Follow<Infallible>,
    pub(super) log: Vec<Given>,
}

impl Reader {
    /// Reads the first ring from its first record.
    pub(super) fn new(rings: &Arc<Rings>, mapped: bool) -> Self {
        let first = Current::new(Arc::clone(rings), 0, Start::First, PATIENT, mapped);
        Self { current: first, follow: Follow::default(), log: Vec::new() }
    }

    pub(super) fn poll(&mut self) -> bool {
        let given = self.current.poll().or_else(|| self.follow.poll_on(&mut self.current, Current::poll));
        self.log.extend(given);
        given.is_some()
    }

    pub(super) fn ring(&self) -> usize {
        self.current.ring
    }

    /// After all programs have ended: reads every pushed record once; nothing is left, and the tickets are counted.
    pub(super) fn finish(mut self, rings: &Rings, pushed: &[Given]) -> ReadStats {
        let (left, known) = (self.ring(), self.log.len());
        let mut empty = 0;
        while empty < 20 || self.ring() == 0 {
            let at = self.ring();
            empty = if self.poll() || self.ring() != at { 0 } else { empty + 1 };
            assert!(empty < 200, "does not leave the old ring: {:?}", self.log);
        }
        let late = self.log[known..].iter().find(|given| given.2 < left);
        assert_eq!(late, None, "a record came after the end: {:?}", self.log);
        let mut pushed = pushed.to_vec();
        pushed.sort_unstable();
        self.log.sort_unstable();
        assert_eq!(self.log, pushed, "given, and pushed");
        let stats = self.follow.stats(&self.current);
        assert_eq!(stats.lost(), 0, "{stats:?}");
        assert_eq!(rings.before(1), rings.before(0) + rings.ends(0), "tickets that were counted");
        // A slot given back late need not be counted.
        let there = pushed.iter().filter(|given| given.2 == 0).count() as u64;
        assert!((there..=there + stats.discarded).contains(&rings.ends(0)), "tickets that were passed");
        stats
    }
}
