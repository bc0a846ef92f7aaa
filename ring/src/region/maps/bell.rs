//! What a reader of a BPF map sleeps on, and what programs ring: a BPF ringbuf.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use mapring_sys::bpf;

use crate::bpf::MapOfMaps;
use crate::error::{Cause, Error, Result};
use crate::region::Mapping;

/// A BPF ringbuf that is in the map of bells until it is dropped.
pub(crate) struct Ringbuf {
    ringbuf: OwnedFd,
    /// The page with the position up to which the reader has read. The kernel finds the ringbuf readable while the other
    /// position is further on.
    consumer: Mapping,
    producer: Mapping,
    /// Its entry in the map of bells.
    entry: MapOfMaps,
}

impl Ringbuf {
    /// A ringbuf for this entry. Makes system calls. Needs CAP_BPF.
    pub(crate) fn for_entry(entry: MapOfMaps) -> Result<Self> {
        let ringbuf = bpf::create_ringbuf(rustix::param::page_size()).map_err(|error| {
            let hint = "; a bell of its own needs CAP_BPF";
            Error::from(Cause::System { call: "bpf(BPF_MAP_CREATE)", error, hint })
        })?;
        let page = |page, write| {
            Mapping::page(ringbuf.as_fd(), page, write).map_err(|e| Error::system("mmap of a ringbuf", e))
        };
        let (consumer, producer) = (page(0, true)?, page(1, false)?);
        Ok(Self { ringbuf, consumer, producer, entry })
    }

    /// Puts it into its entry. From the return of this call on, programs find it. Waits for an RCU grace period:
    /// milliseconds.
    pub(crate) fn put(&self) -> Result<()> {
        self.entry.put(self.ringbuf.as_fd())
    }

    /// Takes it out of its entry. If this fails, programs find a bell that nobody hears, until the next reader takes the seat.
    pub(crate) fn remove(&self) {
        let _ = self.entry.remove();
    }

    /// Makes it unreadable until it rings. Makes no system call.
    pub(crate) fn silence(&self) {
        if let Some(consumer) = self.consumer.words_mut() {
            consumer.store(0, self.producer.words().load(0, Ordering::Acquire), Ordering::Release);
        }
    }

    /// Whether it has rung since it was silenced. Makes no system call.
    pub(crate) fn has_rung(&self) -> bool {
        let at = |page: &Mapping| page.words().load(0, Ordering::Acquire);
        at(&self.producer) != at(&self.consumer)
    }
}

/// Readable while the bell has rung.
impl AsFd for Ringbuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ringbuf.as_fd()
    }
}
