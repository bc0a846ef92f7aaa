//! The producers' actions, derived from their stores: readers are checked against this.

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

/// The tickets of a shard.
#[derive(Clone, Debug, Default)]
pub struct History {
    tickets: BTreeMap<u64, End>,
    dropped: u64,
    /// For the values of programs that interrupt each other: the ticket after the last one claimed by programs that had
    /// ended when this one began.
    begun: BTreeMap<u64, u64>,
}

impl History {
    /// Adds a ticket.
    pub fn note(&mut self, t: u64, end: End) {
        assert_eq!(self.tickets.insert(t, end), None, "ticket {t} was given out twice");
    }

    /// Adds a record that found no slot.
    pub fn note_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Notes that a program begins, which will write this value.
    pub fn note_begun(&mut self, value: u64) {
        self.begun.insert(value, self.taken());
    }

    /// Checks that each program got a later ticket than those that had ended when it began.
    pub fn check_order(&self) {
        for (t, end) in self.tickets() {
            let End::Published(value) = end else { continue };
            let first = self.begun.get(&value).copied().unwrap_or_default();
            assert!(t >= first, "the program of {value} began after ticket {first}, and got {t}: {self:?}");
        }
    }

    /// Merges both.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        other.tickets.into_iter().for_each(|(t, end)| self.note(t, end));
        self.dropped += other.dropped;
        self
    }

    /// The end of `t`, if it was claimed.
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

    /// The ticket after the last claimed one.
    pub fn taken(&self) -> u64 {
        self.tickets().next_back().map_or(0, |(t, _)| t + 1)
    }

    /// The ticket after the last one that ended: where readers stop.
    pub fn ended(&self) -> u64 {
        self.tickets().rfind(|&(_, end)| end != End::Held).map_or(0, |(t, _)| t + 1)
    }
}
