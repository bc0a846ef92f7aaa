//! The seat of a reader of this process among those that the writers of a ring know: in a map beside the ring, or in the
//! ring's memfd.

use mapring_core::clock::now;
use mapring_core::protocol::WordsMut;
use mapring_core::protocol::readers::Seat;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::abi::readers::Owner;
use crate::bpf::MapOfMaps;
use crate::error::{Cause, Error, Result};
use crate::region::maps::places_of;
use crate::region::{Region, SharedMut, owner_is_alive, this_owner, this_pid};
use crate::time::Clock;

/// The seat of a reader of this process. It is free again when this is dropped, but not in a child of `fork`: the seat is
/// that of the process that took it.
pub(super) struct ReaderSeat {
    readers: SharedMut,
    seat: usize,
    me: u64,
    pid: u32,
    /// The map with the bells of the readers, unless the ring is in a memfd.
    bells: Option<MapOfMaps>,
}

impl ReaderSeat {
    /// A seat among the readers of `ring`. Makes system calls; needs write access to the map of the ring's readers, or to the
    /// memfd.
    pub(super) fn of(ring: &Region) -> Result<Self> {
        if ring.is_memfd() {
            return Self::take(ring.readers_in_memfd()?, None);
        }
        let (readers, bells) = places_of(ring)?;
        Self::take(readers, Some(bells))
    }

    fn take(readers: SharedMut, bells: Option<MapOfMaps>) -> Result<Self> {
        let (me, pid) = (this_owner()?.encode(), this_pid());
        let seat = Seat::take(readers.words(), me, is_alive).map(|seat| seat.number());
        let what = || readers.region().what().to_owned();
        let seat = seat.ok_or_else(|| Error::from(Cause::NoSeat { what: what() }))?;
        let taken = Self { readers, seat, me, pid, bells };
        taken.shows_life();
        Ok(taken)
    }

    /// Another seat for a child of `fork`, which inherited this one. Makes system calls.
    pub(super) fn another(&self) -> Result<Self> {
        Self::take(self.readers.clone(), self.bells.clone())
    }

    /// Whether this process inherited it by `fork`: it is another one's. Makes no system call, except once in a child.
    #[inline]
    pub(super) fn is_inherited(&self) -> bool {
        self.pid != this_pid()
    }

    /// Whether it still is the seat of this reader. A reader of another PID namespace can have taken it if this one has not
    /// slept for long. Makes no system call, except once in a child.
    #[inline]
    pub(super) fn is_mine(&self) -> bool {
        !self.is_inherited() && self.get().owner() == self.me
    }

    /// For processes of other PID namespaces. Makes no system call.
    pub(super) fn shows_life(&self) {
        let ahead = Clock::Monotonic.ahead().unwrap_or(0).cast_unsigned();
        self.get().shows_life(now().wrapping_sub(ahead));
    }

    /// Waits until each CPU has issued a full barrier. This is an RCU grace period, so programs that have begun before have
    /// ended, unless they may sleep. Makes a system call.
    ///
    /// # Errors
    /// On machines with `nohz_full`, and where a filter refuses the call.
    pub(super) fn wait_for_writers() -> Result<()> {
        membarrier(MembarrierCommand::Global).map_err(|e| Error::system("membarrier", e))
    }

    /// The shards that have words for readers.
    pub(super) fn shards(&self) -> usize {
        self.readers.region().geometry().shards()
    }

    /// The words of all seats.
    pub(super) fn words(&self) -> WordsMut<'_> {
        self.readers.words()
    }

    /// The words of the seat.
    pub(super) fn get(&self) -> Seat<'_> {
        Seat::at(self.words(), self.seat)
    }

    /// The ring's name in messages, or that of its readers.
    pub(super) fn what(&self) -> &str {
        self.readers.region().what()
    }

    /// Frees the seats of readers that died. Makes system calls.
    pub(super) fn free_dead(&self) {
        Seat::free_dead(self.words(), self.me, is_alive);
    }

    /// The entry of the reader's bell in the map of bells.
    pub(super) fn bell(&self) -> Option<MapOfMaps> {
        let key = u32::try_from(self.seat).expect("there are few seats").to_ne_bytes();
        self.bells.as_ref().map(|bells| bells.at(&key))
    }
}

fn is_alive(owner: u64, seat: &Seat<'_>) -> bool {
    let Some(owner) = Owner::decode(owner) else { return false };
    owner_is_alive(owner).unwrap_or_else(|| seat.counts_as_alive(Clock::Monotonic.now()))
}

impl Drop for ReaderSeat {
    fn drop(&mut self) {
        if self.is_mine() {
            self.get().leave(self.me);
        }
    }
}
