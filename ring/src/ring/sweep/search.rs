//! What one call of a reader may still do.

use mapring_core::protocol::ring::Follow;

use super::Sweep;
use crate::error::Error;

/// What a call may still do before it ends without a record.
#[derive(Debug)]
pub(in crate::ring) struct Search {
    /// The steps that remain.
    pub(super) left: u32,
    /// Shards in a row without a record.
    pub(super) empty: usize,
    /// How many times the call continued with another ring.
    rings: usize,
}

impl Search {
    /// The search of a call that begins.
    #[inline(always)]
    pub(in crate::ring) fn new<T>(sweep: &Sweep<T>) -> Self {
        Self { left: sweep.steps, empty: 0, rings: 0 }
    }

    /// Begins again in another ring. Returns whether the call may do so.
    pub(in crate::ring) fn go_on<T>(&mut self, sweep: &Sweep<T>) -> bool {
        *self = Self { rings: self.rings + 1, ..Self::new(sweep) };
        self.rings <= Follow::<Error>::RINGS
    }
}
