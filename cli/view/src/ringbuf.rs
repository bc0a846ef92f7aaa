//! The kernel's own ring buffers, for `show`, `tail`, `stat` and `top`: observed, so that their consumer gets all records.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use mapring::any::{AnyMap, RingbufObserver};
use mapring::{Loss, ReadStats, Reader, Start};

use crate::untyped::{Item, Records};

/// The shortest time between two reads; each is twice as long as the one before.
const SHORT: Duration = Duration::from_micros(50);
/// The longest.
const LONG: Duration = Reader::<u64>::NAP;

/// A ring buffer, as a ring of one shard whose tickets are positions in bytes.
pub(crate) struct Observed {
    observer: RingbufObserver,
    /// Lost bytes that were reported.
    reported: u64,
    nap: Duration,
}

impl Observed {
    pub(crate) fn new(map: &AnyMap, start: Start) -> mapring::Result<Self> {
        let observer = RingbufObserver::open(map.as_fd(), start)?;
        Ok(Self { observer, reported: 0, nap: SHORT })
    }

    /// The bytes that programs have written.
    pub(crate) fn written(&self) -> u64 {
        self.observer.end()
    }

    /// Calls `f` with the records that are there now, until one that is being written. Returns how many bytes it passed, and
    /// how many were overwritten meanwhile.
    pub(crate) fn present(&mut self, mut f: impl FnMut(u64, &[u8])) -> (u64, u64) {
        let (start, end) = (self.observer.position(), self.observer.end());
        loop {
            let before = self.observer.position();
            self.observer.for_each(usize::MAX, |at, bytes| {
                if at < end {
                    f(at, bytes);
                }
            });
            let at = self.observer.position();
            if at == before || at >= end {
                return (at.min(end).saturating_sub(start), self.observer.stats().lost_bytes);
            }
        }
    }
}

impl Records for Observed {
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize {
        let before = self.observer.position();
        let count = self.observer.for_each(limit, |at, bytes| {
            f(Item { shard: 0, ticket: at, bytes, tail: None });
        });
        if self.observer.position() != before {
            self.nap = SHORT;
        }
        count
    }

    fn newest(&mut self, _: &mut dyn FnMut(Item<'_>)) {}

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        thread::sleep(self.nap.min(timeout));
        self.nap = (2 * self.nap).min(LONG);
        Ok(())
    }

    fn stats(&self) -> ReadStats {
        ReadStats::default()
    }

    fn positions(&self) -> Vec<(usize, u64)> {
        vec![(0, self.observer.position())]
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        Vec::new()
    }

    fn take_lost_bytes(&mut self) -> u64 {
        let lost = self.observer.stats().lost_bytes;
        lost - std::mem::replace(&mut self.reported, lost)
    }

    fn take_error(&mut self) -> Option<mapring::Error> {
        None
    }
}
