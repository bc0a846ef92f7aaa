//! The bell of a reader: a BPF ringbuf on which it sleeps, and which programs ring. Its place among the readers says
//! whether it sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::{MapOfMaps, ReaderPlace, sys};
use crate::error::{Cause, Error, Result};
use crate::region::Mapping;
use crate::sync::{Ordering, now};

/// A reader's bell, as long as it can be woken.
pub(crate) struct Bell {
    ringbuf: OwnedFd,
    /// The page with the position up to which the reader has read. The kernel finds the ringbuf readable while the other
    /// position is further on.
    consumer: Mapping,
    producer: Mapping,
    /// The entry with this bell in the map of bells.
    entry: MapOfMaps,
    place: Arc<ReaderPlace>,
    /// Programs look whether to ring it at the tickets where all these bits are set.
    look: u64,
    /// How often it slept, since the places of readers that died were last freed, while programs looked for others more
    /// often.
    sleeps: u64,
    /// When that was, by the coarse clock.
    freed: u64,
}

/// After so many sleeps, or so many nanoseconds if these end first, it frees the places of readers that died, for which
/// programs look more often than for this one. A reader that seldom sleeps frees them soon enough by the clock, and one that
/// often sleeps by the count.
const SLEEPS: u64 = 4096;
const NANOSECONDS: u64 = 10_000_000_000;

impl Bell {
    /// A bell for the reader that has this place. Makes system calls, and waits for an RCU grace period: milliseconds. Needs CAP_BPF.
    pub(crate) fn at(place: Arc<ReaderPlace>, look: u64) -> Result<Self> {
        let ringbuf = sys::create_ringbuf(rustix::param::page_size()).map_err(|error| {
            let hint = "; a bell of its own needs CAP_BPF";
            Error::from(Cause::System { call: "bpf(BPF_MAP_CREATE)", error, hint })
        })?;
        let page = |page, write| {
            Mapping::page(ringbuf.as_fd(), page, write).map_err(|e| Error::system("mmap of a ringbuf", e))
        };
        let (consumer, producer) = (page(0, true)?, page(1, false)?);
        let bell =
            Self { ringbuf, consumer, producer, entry: place.bell(), place, look, sleeps: 0, freed: now() };
        bell.make_programs_look()?;
        Ok(bell)
    }

    /// From the return of this call on, programs look whether to ring.
    fn make_programs_look(&self) -> Result<()> {
        self.place.get().will_sleep(self.look);
        // SYNC look: this waits for the grace period (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c).
        self.entry.put(self.ringbuf.as_fd())
    }

    /// The shards that have words for readers.
    pub(crate) fn shards(&self) -> usize {
        self.place.shards()
    }

    /// See [`Place::sleeps_until`](crate::protocol::readers::Place::sleeps_until).
    pub(crate) fn sleeps_until(&self, shard: usize, ticket: Option<u64>) {
        if shard < self.place.shards() {
            self.place.get().sleeps_until(shard, ticket);
        }
    }

    /// Whether it still is this reader's: see [`ReaderPlace::is_mine`].
    pub(crate) fn is_mine(&self) -> bool {
        self.place.is_mine()
    }

    /// Silences the bell, and says that the reader sleeps. It must look for records before it does. Makes system calls if
    /// programs have stopped looking, because no reader slept for long, or if another reader may have died. Returns whether
    /// they look.
    pub(crate) fn asleep(&mut self) -> bool {
        if let Some(consumer) = self.consumer.words_mut() {
            consumer.store(0, self.producer.words().load(0, Ordering::Acquire), Ordering::Release);
        }
        self.place.shows_life();
        self.place.get().asleep();
        let look = self.place.get().look();
        if look != self.look {
            self.free_dead_in_time();
        }
        look & !self.look == 0 || self.make_programs_look().is_ok()
    }

    /// Frees the places of dead readers if the last time is long ago. Otherwise it makes no system call.
    fn free_dead_in_time(&mut self) {
        self.sleeps += 1;
        let now = now();
        if self.sleeps >= SLEEPS || now.saturating_sub(self.freed) >= NANOSECONDS {
            self.place.free_dead();
            (self.sleeps, self.freed) = (0, now);
        }
    }

    /// Whether it has rung since it was silenced. Makes no system call.
    pub(crate) fn has_rung(&self) -> bool {
        let at = |page: &Mapping| page.words().load(0, Ordering::Acquire);
        at(&self.producer) != at(&self.consumer)
    }

    /// See [`Place::awake`](crate::protocol::readers::Place::awake).
    pub(crate) fn awake(&self) {
        self.place.get().awake();
    }
}

/// Readable while the bell has rung.
impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ringbuf.as_fd()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        self.place.get().never_sleeps();
        // If this fails, programs find a bell that nobody hears, until the next reader takes the place.
        let _ = self.entry.remove();
    }
}
