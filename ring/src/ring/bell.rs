//! The bell of a reader, on which it sleeps, and which writers ring: a BPF ringbuf, or in a memfd the bit that says that the
//! reader sleeps.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use mapring_core::clock::now;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::seat::ReaderSeat;
use crate::abi::readers::ASLEEP;
use crate::error::{Cause, Error, Result};
use crate::region::maps::Ringbuf;
use crate::region::sleep_while_set;

/// A reader's bell, as long as it can be woken.
pub(super) struct Bell {
    seat: Arc<ReaderSeat>,
    /// What programs ring; or why it has no descriptor: writers of a memfd wake a reader that sleeps in `wait`.
    ringbuf: Result<Ringbuf>,
    /// Programs look whether to ring it at the tickets where all these bits are set.
    look: u64,
    /// How often it slept, since the seats of readers that died were last freed, while programs looked for others more
    /// often.
    sleeps: u64,
    /// When that was, by the coarse clock.
    freed: u64,
}

/// After so many sleeps, or so many nanoseconds if these end first, it frees the seats of readers that died, for which
/// programs look more often than for this one. A reader that seldom sleeps frees them soon enough by the clock, and one that
/// often sleeps by the count.
const SLEEPS: u64 = 4096;
const NANOSECONDS: u64 = 10_000_000_000;

impl Bell {
    /// A bell for the reader that has this seat. Makes system calls, and waits for an RCU grace period: milliseconds. Needs
    /// CAP_BPF, unless the ring is in a memfd.
    pub(super) fn at(seat: Arc<ReaderSeat>, look: u64) -> Result<Self> {
        let ringbuf = match seat.bell() {
            Some(entry) => Ok(Ringbuf::for_entry(entry)?),
            None => Err(Error::from(Cause::NoDescriptor { what: seat.what().to_owned() })),
        };
        let bell = Self { seat, ringbuf, look, sleeps: 0, freed: now() };
        bell.make_programs_look()?;
        Ok(bell)
    }

    /// From the return of this call on, programs look whether to ring.
    fn make_programs_look(&self) -> Result<()> {
        self.seat.get().will_sleep(self.look);
        match &self.ringbuf {
            // SYNC look: this waits for the grace period (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c).
            Ok(ringbuf) => ringbuf.put(),
            Err(_) => ReaderSeat::wait_for_writers(), // SYNC look
        }
    }

    /// What is readable while it has rung, or why there is no such descriptor.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, &Error> {
        self.ringbuf.as_ref().map(AsFd::as_fd)
    }

    /// The shards that have words for readers.
    pub(super) fn shards(&self) -> usize {
        self.seat.shards()
    }

    /// See [`Seat::sleeps_until`](mapring_core::protocol::readers::Seat::sleeps_until).
    pub(super) fn sleeps_until(&self, shard: usize, ticket: Option<u64>) {
        if shard < self.seat.shards() {
            self.seat.get().sleeps_until(shard, ticket);
        }
    }

    /// Whether it still is this reader's: see [`ReaderSeat::is_mine`].
    pub(super) fn is_mine(&self) -> bool {
        self.seat.is_mine()
    }

    /// Silences the bell, and says that the reader sleeps. It must look for records before it does. Makes system calls if
    /// programs have stopped looking, because no reader slept for long, or if another reader may have died. Returns whether
    /// they look.
    pub(super) fn asleep(&mut self) -> bool {
        if let Ok(ringbuf) = &self.ringbuf {
            ringbuf.silence();
        }
        self.seat.shows_life();
        self.seat.get().asleep();
        let look = self.seat.get().look();
        if look != self.look {
            self.free_dead_in_time();
        }
        look & !self.look == 0 || self.make_programs_look().is_ok()
    }

    /// Frees the seats of dead readers if the last time is long ago. Otherwise it makes no system call.
    fn free_dead_in_time(&mut self) {
        self.sleeps += 1;
        let now = now();
        if self.sleeps >= SLEEPS || now.saturating_sub(self.freed) >= NANOSECONDS {
            self.seat.free_dead();
            (self.sleeps, self.freed) = (0, now);
        }
    }

    /// Whether it has rung since it was silenced. Makes no system call.
    pub(super) fn has_rung(&self) -> bool {
        self.ringbuf.as_ref().map_or_else(|_| !self.seat.get().is_asleep(), Ringbuf::has_rung)
    }

    /// Sleeps until it has rung, at most for `limit`, or for a shorter time. Makes a system call, unless it has rung.
    pub(super) fn sleep(&self, limit: Duration) -> Result<()> {
        if self.has_rung() {
            return Ok(());
        }
        let Ok(ringbuf) = &self.ringbuf else {
            return sleep_while_set(self.seat.words(), ASLEEP, self.seat.get().number(), limit);
        };
        sleep_on(&mut [PollFd::new(ringbuf, PollFlags::IN)], limit)
    }

    /// The same for several bells, of which only those with a [descriptor](Self::descriptor) are watched.
    pub(super) fn sleep_on_any<'b>(
        bells: impl Iterator<Item = &'b Self> + Clone,
        limit: Duration,
    ) -> Result<()> {
        if bells.clone().any(Self::has_rung) {
            return Ok(());
        }
        let watched = bells.filter_map(|bell| bell.ringbuf.as_ref().ok());
        sleep_on(&mut watched.map(|ringbuf| PollFd::new(ringbuf, PollFlags::IN)).collect::<Vec<_>>(), limit)
    }

    /// See [`Seat::awake`](mapring_core::protocol::readers::Seat::awake).
    pub(super) fn awake(&self) {
        self.seat.get().awake();
    }
}

/// Sleeps until any of these is ready, at most for `limit`.
fn sleep_on(bells: &mut [PollFd<'_>], limit: Duration) -> Result<()> {
    match poll(bells, Timespec::try_from(limit).ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(Error::system("poll", e)),
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        self.seat.get().never_sleeps();
        if let Ok(ringbuf) = &self.ringbuf {
            ringbuf.remove();
        }
    }
}
