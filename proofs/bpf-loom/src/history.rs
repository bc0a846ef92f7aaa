//! What producers did, by what they wrote: what readers are judged by.

use std::collections::BTreeMap;

/// How a ticket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As a record with this value in each of its words.
    Published(u64),
    /// Without a record.
    Discarded,
    /// Not at all.
    Held,
}

/// The tickets of a shard.
#[derive(Clone, Debug, Default)]
pub struct History {
    tickets: BTreeMap<u64, End>,
    dropped: u64,
}

impl History {
    /// Notes a ticket.
    pub fn note(&mut self, t: u64, end: End) {
        assert_eq!(self.tickets.insert(t, end), None, "ticket {t} was given out twice");
    }

    /// Notes a record that found no slot.
    pub fn note_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Both together.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        other.tickets.into_iter().for_each(|(t, end)| self.note(t, end));
        self.dropped += other.dropped;
        self
    }

    /// How `t` ended, if anyone had it.
    pub fn get(&self, t: u64) -> Option<End> {
        self.tickets.get(&t).copied()
    }

    /// All tickets, in order.
    pub fn tickets(&self) -> impl DoubleEndedIterator<Item = (u64, End)> + '_ {
        self.tickets.iter().map(|(&t, &end)| (t, end))
    }

    /// Records that found no slot.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The ticket after the last one that was taken.
    pub fn taken(&self) -> u64 {
        self.tickets().next_back().map_or(0, |(t, _)| t + 1)
    }

    /// The ticket after the last one that ended: where readers come to rest.
    pub fn ended(&self) -> u64 {
        self.tickets().rfind(|&(_, end)| end != End::Held).map_or(0, |(t, _)| t + 1)
    }
}
