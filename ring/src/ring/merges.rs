//! The merge of a ring's shards, whatever is in its slots.

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{Merge, ReadStats};

use crate::record::Tailed;

/// A merge of records, or of records with the places of their tails.
pub enum Merges<T> {
    Plain(Merge<T>),
    Tailed(Merge<Tailed<T>>),
}

/// Does the same with either merge.
macro_rules! with {
    ($merges:expr, $merge:ident => $do:expr) => {
        match $merges {
            Merges::Plain($merge) => $do,
            Merges::Tailed($merge) => $do,
        }
    };
}

impl<T: AnyBitPattern> Merges<T> {
    /// See [`Merge::new`].
    pub(super) fn new(shards: usize, has_tails: bool, delay: u64, settle: u64) -> Self {
        if has_tails {
            Self::Tailed(Merge::new(shards, delay, settle))
        } else {
            Self::Plain(Merge::new(shards, delay, settle))
        }
    }

    pub(super) fn set_delay(&mut self, delay: u64) {
        with!(self, merge => merge.set_delay(delay));
    }

    pub(super) fn keep_ticket_order(&mut self) {
        with!(self, merge => merge.keep_ticket_order());
    }

    pub(super) fn is_ready(&self) -> bool {
        with!(self, merge => merge.is_ready())
    }

    pub(super) fn held(&self) -> u64 {
        with!(self, merge => merge.held())
    }

    /// Stores its counts.
    pub(super) fn count(&self, stats: &mut ReadStats) {
        (stats.late, stats.ahead, stats.held) =
            with!(self, merge => (merge.late(), merge.ahead(), merge.held()));
    }
}
