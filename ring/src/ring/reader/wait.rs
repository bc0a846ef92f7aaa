//! Waits for records: asleep until a program rings the reader's bell, or by looking from time to time.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;

use super::Reader;
use crate::abi::Gate;
use crate::bpf::Bell;
use crate::error::{Error, Result};
use crate::protocol::ring::Unread;

/// How a reader waits.
pub(super) struct Waiting {
    /// None until the reader first waits; then its bell, or why it has none.
    bell: Option<Result<Bell>>,
    /// Return only with this number of records in a shard…
    records: u64,
    /// …or once the first of them has waited for so long.
    age: Duration,
    /// When a check first found a record.
    found: Option<Instant>,
    /// The next nap of a reader without a bell.
    nap: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { bell: None, records: 1, age: Duration::ZERO, found: None, nap: Self::SHORT }
    }
}

impl Waiting {
    /// The checks of a reader without a bell before its first nap.
    const SPINS: u32 = 100;
    /// Its first nap; each is twice as long as the one before.
    const SHORT: Duration = Duration::from_micros(50);
    /// Its longest nap.
    const LONG: Duration = Duration::from_millis(1);
    /// A reader with a bell checks for records this often, in case the kernel could not ring it.
    const LIMIT: Duration = Duration::from_secs(1);

    fn bell(&self) -> Option<&Bell> {
        self.bell.as_ref()?.as_ref().ok()
    }

    /// How long the reader may sleep after a check that had this result; `None` if it shall read now.
    fn limit(&mut self, found: Unread, patience: Duration) -> Option<Duration> {
        let limit = match found {
            Unread::Many => None,
            Unread::Nothing => {
                self.found = None;
                Some(Self::LIMIT)
            }
            Unread::Held => Some(patience.clamp(Self::SHORT, Self::LIMIT)),
            Unread::Some => {
                let since = *self.found.get_or_insert_with(Instant::now);
                self.age.checked_sub(since.elapsed()).filter(|rest| !rest.is_zero())
            }
        };
        if limit.is_none() {
            (self.found, self.nap) = (None, Self::SHORT);
        }
        limit
    }
}

impl<T: AnyBitPattern> Reader<T> {
    /// The longest nap of a reader without a bell: how much later than a record [`wait`](Self::wait) returns at most,
    /// apart from the machine's scheduler.
    pub const NAP: Duration = Waiting::LONG;

    /// Makes [`wait`](Self::wait) return only when one shard has this number of unread records, or when the first of
    /// them has waited for `age`: fewer wakeups for readers that may be late. `records` counts up to half of the slots
    /// of a shard.
    #[must_use]
    pub fn with_watermark(mut self, records: u64, age: Duration) -> Self {
        let most = self.region().geometry().capacity() as u64 / 2;
        (self.waiting.records, self.waiting.age) = (records.clamp(1, most.max(1)), age);
        self
    }

    /// Waits until there are records to read, at most for `timeout`. Returns whether there may be some: a call of
    /// [`drain`](Self::drain) can still find that programs discarded them.
    ///
    /// - A reader of a ring that was declared with `MAPRING_WAKEABLE_RING` sleeps until a program rings its
    ///   [`bell`](Self::bell). Each wait costs a program one ring of the bell, whatever the number of records. To sleep
    ///   takes one system call.
    /// - Any other reader looks from time to time. It naps for longer and longer between two looks, from 50 µs up to
    ///   [`NAP`](Self::NAP): so it is late by this at most, and takes about one look, a few loads for each shard, in a
    ///   millisecond.
    ///
    /// While a record is being written, and later ones exist, it sleeps no longer than the reader's
    /// [patience](Self::with_patience). A resized ring counts as one with records.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) if the machine can't sleep on the bell.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        let rest = || end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if self.bell().is_err() {
            for _ in 0..Waiting::SPINS {
                if self.check(1) == Unread::Many && self.waiting.records == 1 {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
        }
        loop {
            let Some(limit) = self.arm() else { return Ok(true) };
            let rest = rest();
            if rest.is_zero() {
                self.disarm();
                return Ok(false);
            }
            let woken = match self.waiting.bell() {
                Some(bell) => sleep_on(bell.as_fd(), limit.min(rest)),
                None => {
                    thread::sleep(limit.min(rest));
                    Ok(())
                }
            };
            self.disarm();
            woken?;
        }
    }

    /// The descriptor that is readable (`EPOLLIN`) once a program has rung for this reader: for `poll`, `epoll` and
    /// event loops. Call [`arm`](Self::arm) before each sleep. The first call makes system calls and waits for an RCU
    /// grace period; needs CAP_BPF, and write access to the maps of the ring's waiters and bells.
    ///
    /// # Errors
    /// [`ErrorKind::NotWakeable`](crate::ErrorKind::NotWakeable) for a ring that was not declared wakeable, and if 64
    /// readers have a bell already; else why this process has no access. [`wait`](Self::wait) then looks from time to
    /// time instead.
    pub fn bell(&mut self) -> Result<BorrowedFd<'_>, &Error> {
        let region = self.region().clone();
        let bell = self.waiting.bell.get_or_insert_with(|| Bell::of(&region));
        bell.as_ref().map(AsFd::as_fd)
    }

    /// Asks programs to ring the [`bell`](Self::bell), and then checks for records. `None` if there are some: read them
    /// now. Otherwise, the caller may sleep for this time at most, and must then read or arm again. Makes no system
    /// call if the ring is mapped, apart from the first call, which is one of [`bell`](Self::bell).
    #[must_use = "with `None` there are records to read, and maybe nobody rings"]
    pub fn arm(&mut self) -> Option<Duration> {
        let _ = self.bell();
        let records = self.waiting.records;
        let mut found = self.check(records);
        let patience = Duration::from_nanos(self.sweep.patience());
        if self.waiting.bell().is_none() {
            let limit = self.waiting.limit(found, patience)?;
            let nap = self.waiting.nap;
            self.waiting.nap = (2 * nap).min(Waiting::LONG);
            return Some(nap.min(limit));
        }
        // Beyond this first check nothing is lost: it is repeated after `asleep`.
        let mut limit = self.waiting.limit(found, patience)?;
        loop {
            // Without a record to count from, the first one wakes.
            let until = (found == Unread::Some).then_some(records);
            let positions: Vec<_> = self.sweep.positions().collect();
            let bell = self.waiting.bell()?;
            for (shard, next) in positions {
                bell.sleeps_until(shard, until.map(|records| next.wrapping_add(records - 1)));
            }
            bell.asleep();
            let now = self.check(records);
            let Some(again) = self.waiting.limit(now, patience) else {
                self.disarm();
                return None;
            };
            if now <= found {
                return Some(limit.min(again));
            }
            (found, limit) = (now, again);
        }
    }

    /// After a sleep: programs need not ring any more.
    fn disarm(&mut self) {
        if let Some(bell) = self.waiting.bell() {
            bell.awake();
        }
    }

    /// What there is to read; a ring that was replaced counts as one with records.
    fn check(&mut self, records: u64) -> Unread {
        let found = self.sweep.unread(records);
        if found == Unread::Nothing && self.resizable && self.sweep.gate() != Gate::Open {
            return Unread::Many;
        }
        found
    }
}

/// Sleeps until `bell` is readable, at most for `limit`.
fn sleep_on(bell: BorrowedFd<'_>, limit: Duration) -> Result<()> {
    let limit = Timespec::try_from(limit).ok();
    match poll(&mut [PollFd::new(&bell, PollFlags::IN)], limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(Error::system("poll", e)),
    }
}
