//! The producers' own record of their actions, which every reader is checked against.

use std::collections::BTreeMap;

/// The end of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A record with this value in each of its words.
    Published(u64),
    /// No record.
    Discarded,
    /// The ticket has not ended.
    Held,
}

/// The tickets of one shard.
#[derive(Clone, Debug, Default)]
pub struct History {
    tickets: BTreeMap<u64, End>,
    dropped: u64,
}

impl History {
    /// Records the result of a claim: its ticket, or `None` if it was dropped.
    pub fn note(&mut self, claimed: Option<u64>, end: End) {
        match claimed {
            Some(t) => assert_eq!(self.tickets.insert(t, end), None, "ticket {t} twice"),
            None => self.dropped += 1,
        }
    }

    /// Changes the end of a ticket that was held.
    pub fn end(&mut self, t: u64, end: End) {
        assert_eq!(self.tickets.insert(t, end), Some(End::Held));
    }

    /// Merges both. No ticket may be in both.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (t, end) in other.tickets {
            self.note(Some(t), end);
        }
        self.dropped += other.dropped;
        self
    }

    /// The end of `t`, if it was claimed.
    pub fn get(&self, t: u64) -> Option<End> {
        self.tickets.get(&t).copied()
    }

    /// The tickets and their ends, in order.
    pub fn tickets(&self) -> impl Iterator<Item = (u64, End)> + '_ {
        self.tickets.iter().map(|(&t, &end)| (t, end))
    }

    /// Records published.
    pub fn published(&self) -> usize {
        self.tickets.values().filter(|end| matches!(end, End::Published(_))).count()
    }

    /// Claims that got no ticket.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The ticket after the last claimed one.
    pub fn end_of_ring(&self) -> u64 {
        self.tickets.last_key_value().map_or(0, |(&t, _)| t + 1)
    }

    /// The ticket after the last one that ended: where readers stop.
    pub fn end_of_ended(&self) -> u64 {
        self.tickets.iter().rev().find(|(_, end)| **end != End::Held).map_or(0, |(&t, _)| t + 1)
    }

    /// The records that a ring of `slots` slots still contains: published, within the last lap, and their slot not
    /// claimed again.
    pub fn readable(&self, slots: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = self.end_of_ring();
        self.tickets().filter_map(move |(t, how)| match how {
            End::Published(value) if t + slots >= end => Some((t, value)),
            _ => None,
        })
    }
}
