//! Readers of any record type.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{Loss, ReadStats};

use super::super::order::Order;
use super::{Liveness, Reader};
use crate::error::{Error, Result};
use crate::region::Region;
use crate::ring::unended::Unended;

/// A [`Reader`], whatever its records are: what it has read and lost. See the methods of the same names there.
pub trait AnyReader {
    /// See [`Reader::region`].
    fn region(&self) -> &Region;
    /// See [`Reader::position`].
    fn position(&self, shard: usize) -> Option<u64>;
    /// See [`Reader::stats`].
    fn stats(&self) -> ReadStats;
    /// See [`Reader::take_losses`].
    fn take_losses(&mut self) -> Vec<Loss>;
    /// See [`Reader::unended`].
    fn unended(&mut self) -> Vec<Unended>;
    /// See [`Reader::liveness`].
    fn liveness(&self) -> Liveness;
    /// See [`Reader::take_error`].
    fn take_error(&mut self) -> Option<Error>;
    /// See [`Reader::require`].
    ///
    /// # Errors
    /// As there.
    fn require(&mut self, lease: Duration) -> Result<()>;
    /// See [`Reader::bell`].
    ///
    /// # Errors
    /// As there.
    fn bell(&mut self) -> Result<BorrowedFd<'_>>;
}

impl<T: AnyBitPattern, O: Order<T>> AnyReader for Reader<T, O> {
    fn region(&self) -> &Region {
        self.region()
    }

    fn position(&self, shard: usize) -> Option<u64> {
        self.position(shard)
    }

    fn stats(&self) -> ReadStats {
        self.stats()
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.take_losses()
    }

    fn unended(&mut self) -> Vec<Unended> {
        self.unended()
    }

    fn liveness(&self) -> Liveness {
        self.liveness()
    }

    fn take_error(&mut self) -> Option<Error> {
        self.take_error()
    }

    fn require(&mut self, lease: Duration) -> Result<()> {
        self.require(lease)
    }

    fn bell(&mut self) -> Result<BorrowedFd<'_>> {
        self.bell()
    }
}
