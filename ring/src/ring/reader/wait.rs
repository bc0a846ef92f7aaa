//! Waits for records: the reader sleeps until a program rings its bell, or naps between two checks.

use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::Unread;

use super::super::bell::Bell;
use super::super::order::Order;
use super::Reader;
use crate::abi::readers::{FOR_GOOD, look, watermark};
use crate::error::{Error, Result};

/// How a reader waits.
pub(super) struct Waiting {
    /// None until the reader first waits; then its bell, or why it has none.
    bell: Option<Result<Bell>>,
    /// The unread records of a shard that end a sleep…
    records: u64,
    /// …which in any case takes no longer than this.
    age: Duration,
    /// The next nap of a reader without a bell.
    nap: Duration,
    /// Whether programs may think that the reader sleeps.
    asleep: bool,
    /// The number of rings that it had read when it last looked for its bell.
    rings: u64,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { bell: None, records: 1, age: Self::LIMIT, nap: Self::SHORT, asleep: false, rings: 1 }
    }
}

impl Waiting {
    /// The shards that a reader without a bell checks before its first nap: each of them at least once, so often that few
    /// shards are checked for some microseconds.
    const SPINS: usize = 200;
    /// Its first nap; each is twice as long as the one before.
    const SHORT: Duration = Duration::from_micros(50);
    /// Its longest nap.
    pub(super) const LONG: Duration = Duration::from_millis(1);
    /// A reader with a bell checks for records this often, in case the kernel could not ring it.
    const LIMIT: Duration = Duration::from_secs(1);

    /// The bell, if it has one.
    pub(super) fn bell(&self) -> Option<&Bell> {
        self.bell.as_ref()?.as_ref().ok()
    }

    /// How long the reader may sleep after a check that had this result; `None` if it shall read now.
    fn limit(&mut self, found: Unread, patience: Duration) -> Option<Duration> {
        match found {
            Unread::Many => {
                self.nap = Self::SHORT;
                None
            }
            Unread::Held => Some(patience.clamp(Self::SHORT, self.age)),
            Unread::Some | Unread::Nothing => Some(self.age),
        }
    }
}

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
    /// Makes [`wait`](Self::wait) return only when one shard has this number of unread records, or up to a quarter
    /// more, or after `age` (1 s at most) if there are any: fewer wakeups, for readers that may be late. Programs that
    /// publish fewer records within this time never wake the reader. They check for sleepers about four times within
    /// `records`, which counts up to half of the slots of a shard.
    /// A reader without a bell ignores both. A reader with a bell gives it back, and takes another one when it next
    /// needs it.
    #[must_use]
    pub fn with_watermark(mut self, records: u64, age: Duration) -> Self {
        let most = self.region().geometry().capacity() as u64 / 2;
        self.waiting.records = records.clamp(1, most.max(1));
        // The next bell tells programs how often to look.
        self.waiting.bell = None;
        self.waiting.age = age.clamp(Waiting::SHORT, Waiting::LIMIT);
        self
    }

    /// Waits until there are records to read, at most for `timeout`. Returns whether there may be some: a call of
    /// [`drain`](Self::drain) can still find that programs discarded them.
    ///
    /// - A reader of a ring that was declared as wakeable sleeps until a program rings its
    ///   [`bell`](Self::bell). Each wait costs a program one ring of the bell, whatever the number of records. A sleep
    ///   takes one system call.
    /// - Any other reader checks for records, and naps between two checks: for 50 µs at first, and then longer, up to
    ///   [`NAP`](Reader::NAP). It is late by this at most. A check takes a few loads for each shard.
    ///
    /// While a record is being written, and later ones exist, it sleeps no longer than the reader's
    /// [patience](Self::with_patience). A resized ring counts as one with records.
    ///
    /// A [merged](Self::merged) reader waits until there are records to deliver. It takes naps while it holds records whose turn
    /// has not come: from [`SETTLE`](Reader::SETTLE) up to [`NAP`](Reader::NAP), so it is late by this at most.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) if the machine can't sleep on the bell.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        let mut nap = Reader::<T>::SETTLE;
        loop {
            match self.order.is_ready(&mut self.rings) {
                None => return self.wait_for_unread(timeout),
                Some(true) => return Ok(true),
                Some(false) => {}
            }
            let rest = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(false);
            }
            if self.order.held() > 0 || self.wait_for_unread(rest)? {
                // Their turn has not come. Or this ring is being replaced, and the next one is not there yet.
                thread::sleep(nap.min(rest));
                nap = (2 * nap).min(Reader::<T>::NAP);
            }
        }
    }

    /// The same for records of any shard, whether their turn has come or not.
    fn wait_for_unread(&mut self, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        let rest = || end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if self.take_bell().is_err() {
            for _ in 0..(Waiting::SPINS / self.rings.sweep.count()).max(1) {
                if self.check(self.waiting.records) == Unread::Many {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
        }
        loop {
            let Some(limit) = self.arm_bell(true) else { return Ok(true) };
            let rest = rest();
            if rest.is_zero() {
                self.disarm();
                return Ok(false);
            }
            let woken = match self.waiting.bell() {
                Some(bell) => bell.sleep(limit.min(rest)),
                None => {
                    thread::sleep(limit.min(rest));
                    Ok(())
                }
            };
            self.disarm();
            woken?;
            if self.waiting.records > 1 && self.check(1) == Unread::Many {
                return Ok(true);
            }
        }
    }

    /// The descriptor that is readable (`EPOLLIN`) once a program has rung for this reader: for `poll`, `epoll` and
    /// event loops. Call [`arm`](Self::arm) before each sleep. The first call makes system calls and waits for an RCU
    /// grace period; needs CAP_BPF, and write access to the maps of the ring's readers and bells.
    ///
    /// # Errors
    /// [`ErrorKind::NotWakeable`](crate::ErrorKind::NotWakeable) for a ring that was not declared wakeable, and for one in a
    /// memfd, whose writers wake a reader only in [`wait`](Self::wait);
    /// [`ErrorKind::NoSeat`](crate::ErrorKind::NoSeat) if 64 readers have a seat already; else why this process has no
    /// access. [`wait`](Self::wait) then naps between two checks instead.
    ///
    /// ```no_run
    /// # use std::os::fd::OwnedFd;
    /// fn watched(reader: &mut mapring::Reader<u64>) -> Result<OwnedFd, Box<dyn std::error::Error + Send + Sync>> {
    ///     Ok(reader.bell()?.try_clone_to_owned()?)
    /// }
    /// ```
    pub fn bell(&mut self) -> Result<BorrowedFd<'_>> {
        self.take_bell().and_then(Bell::descriptor).map_err(Clone::clone)
    }

    /// The bell, or why it has none. The first call makes system calls.
    fn take_bell(&mut self) -> Result<&Bell, &Error> {
        if self.waiting.bell().is_some_and(|bell| !bell.is_mine()) {
            (self.waiting.bell, self.waiting.asleep) = (None, false);
        }
        // A ring that was replaced may have no bell for it, but the next one.
        if std::mem::replace(&mut self.waiting.rings, self.rings.count()) != self.rings.count()
            && matches!(self.waiting.bell, Some(Err(_)))
        {
            self.waiting.bell = None;
        }
        if self.waiting.bell.is_none() {
            let look = look(self.waiting.records);
            self.waiting.bell = Some(self.seat().and_then(|seat| Bell::at(seat, look)));
        }
        self.waiting.bell.as_ref().expect("it was just stored").as_ref()
    }

    /// Asks programs to ring the [`bell`](Self::bell), and then checks for records. `None` if there are some: read them
    /// now. Otherwise, the caller may sleep for this time at most, and must then read or arm again.
    ///
    /// If the ring is mapped, it makes system calls only:
    ///
    /// - on the first call, as [`bell`](Self::bell) does;
    /// - on the first call after ten seconds in which no reader slept, to make programs check for sleepers again. It also
    ///   waits for an RCU grace period;
    /// - on one call in ten seconds, and at least one in 4096, while programs check more often than this reader needs, to find
    ///   readers that have died.
    ///
    /// While a [merged](Self::merged) reader holds records whose turn has not come, nobody rings: it returns
    /// [`SETTLE`](Reader::SETTLE).
    #[must_use = "with `None` there are records to read, and maybe nobody rings"]
    pub fn arm(&mut self) -> Option<Duration> {
        match self.order.is_ready(&mut self.rings) {
            Some(true) => None,
            Some(false) if self.order.held() > 0 => Some(Reader::<T>::SETTLE),
            _ => self.arm_bell(false),
        }
    }

    /// The same; `in_wait` says that the caller sleeps where the writers of a memfd wake it.
    pub(in crate::ring) fn arm_bell(&mut self, in_wait: bool) -> Option<Duration> {
        let rings = self.take_bell().is_ok_and(|bell| in_wait || bell.descriptor().is_ok());
        let records = self.watermark(rings);
        let patience = Duration::from_nanos(self.rings.sweep.patience());
        let found = self.check(records);
        let limit = self.waiting.limit(found, patience)?;
        let Some(Ok(bell)) = self.waiting.bell.as_mut().filter(|_| rings) else {
            let nap = self.waiting.nap;
            self.waiting.nap = (2 * nap).min(Waiting::LONG);
            return Some(nap.min(limit));
        };
        let epoch = self.rings.sweep.epoch();
        for (shard, next) in self.rings.sweep.positions() {
            let until = (records > 1).then(|| watermark(next, records));
            bell.sleeps_until(shard, until.map(|until| epoch.map_or(until, |epoch| epoch.ticket(until))));
        }
        if self.rings.sweep.count() < bell.shards() {
            // Programs on other NUMA nodes need not wake it.
            let mut read = self.rings.sweep.numbers().peekable();
            let others = (0..bell.shards()).filter(|shard| read.next_if_eq(shard).is_none());
            others.for_each(|shard| bell.sleeps_until(shard, Some(FOR_GOOD)));
        }
        let rings = bell.asleep();
        self.waiting.asleep = true;
        let found = self.check(records);
        let limit = self
            .waiting
            .limit(found, patience)
            .map(|limit| if rings { limit } else { limit.min(Waiting::LONG) });
        if limit.is_none() {
            self.disarm();
        }
        limit
    }

    /// The unread records of a shard that end a sleep: no more than half of the slots, of which the next ring may have
    /// fewer.
    fn watermark(&self, rings: bool) -> u64 {
        let most = self.region().geometry().capacity() as u64 / 2;
        if rings { self.waiting.records.min(most.max(1)) } else { 1 }
    }

    /// The bell, if programs may ring it now.
    pub(in crate::ring) fn armed_bell(&self) -> Option<&Bell> {
        self.waiting.bell().filter(|_| self.waiting.asleep)
    }

    /// After a sleep: programs need not ring any more.
    pub(in crate::ring) fn disarm(&mut self) {
        if std::mem::take(&mut self.waiting.asleep)
            && let Some(bell) = self.waiting.bell()
            && bell.is_mine()
        {
            bell.awake();
        }
    }

    /// What there is to read; a ring that was replaced counts as one with records.
    fn check(&mut self, records: u64) -> Unread {
        let found = self.rings.sweep.unread(records);
        // The records of a ring that was replaced are all that it gets.
        if matches!(found, Unread::Nothing | Unread::Some) && !self.rings.in_use() {
            return Unread::Many;
        }
        found
    }
}
