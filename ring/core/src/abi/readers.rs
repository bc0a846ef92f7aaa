//! Where the words of a ring's readers are: which of them sleep, until when, and how often programs look for them; which
//! are required, and how far they have read.

use super::{Geometry, LINE, WORD};

/// The word with the id of another ring's map, if the ring can be replaced: one that is about to take its place, or that was
/// there before it. It is in the preamble, and the [link](super::Preamble::LINK) there names the ring itself.
pub const OTHER_RING: usize = 15;
/// The readers that can have a seat at once.
pub const SEATS: usize = 64;
/// The word with a bit for each reader that sleeps. It follows the preamble.
pub const ASLEEP: usize = 16;
/// The word with a bit for each reader that is required.
pub const REQUIRED: usize = 17;
/// The word whose low half has the bits of a ticket that are all set where programs look for readers that sleep. The high
/// half counts how often a reader has changed what it wants.
pub const LOOK: usize = 18;
/// The word with the time since when no reader has said that it sleeps, or 0. After ten seconds, programs stop looking.
pub const IDLE_SINCE: usize = 19;
/// After so many nanoseconds in which no reader said that it sleeps, writers stop looking.
pub const IDLE: u64 = 10_000_000_000;
/// The bits of [`LOOK`] while no reader sleeps now and then: programs never look.
pub const NEVER: u64 = u32::MAX as u64;
/// The first element with words for a shard. The elements before it have the owner of each seat, its lease, and how
/// often it wants programs to look.
pub const FIRST: usize = 4;
/// Elements for each shard.
pub const OF_SHARD: usize = 3;

/// The words for readers of a ring with so many shards.
pub fn words(shards: usize) -> usize {
    (FIRST + OF_SHARD * shards) * SEATS
}

/// The words for the readers of a ring in a memfd, if its writers know readers: the first of them, on the line behind the
/// ring, and how many.
pub fn in_memfd(ring: &Geometry) -> Option<(usize, usize)> {
    let first = ring.bytes().next_multiple_of(LINE) / WORD;
    ring.options().wakes_readers().then(|| (first, words(ring.shards())))
}

/// The word with the [`Owner`] of a seat: the process that reads, or 0.
pub const fn owner(seat: usize) -> usize {
    SEATS + seat
}

/// A ticket that no shard reaches: what a reader says of a shard that it does not read.
pub const FOR_GOOD: u64 = 1 << 62;

/// The owner of a seat, as a word names it: a process of one PID namespace. Pids mean nothing in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its pid in that namespace, less than 2^22.
    pub pid: u32,
    /// When it started: the lowest 22 bits of field 22 of `/proc/PID/stat`, without the offset of its time namespace.
    pub start: u32,
    /// The lowest 20 bits of the inode of `/proc/PID/ns/pid`.
    pub namespace: u32,
}

impl Owner {
    /// The bits of the pid, and of the start above it.
    const BITS: u32 = 22;
    const LOWEST: u64 = (1 << Self::BITS) - 1;

    /// The process with this pid and start in a namespace with this inode.
    #[allow(clippy::cast_possible_truncation)] // the lowest bits
    pub fn new(pid: u32, start: u64, namespace: u64) -> Self {
        Self { pid, start: (start & Self::LOWEST) as u32, namespace: (namespace & Self::LOWEST >> 2) as u32 }
    }

    /// The word that names it; never 0 for a process, whose pid is at least 1.
    pub fn encode(self) -> u64 {
        u64::from(self.namespace) << (2 * Self::BITS)
            | u64::from(self.start) << Self::BITS
            | u64::from(self.pid)
    }

    /// The owner that a word names, if it names one.
    #[allow(clippy::cast_possible_truncation)] // at most 22 bits remain
    pub fn decode(word: u64) -> Option<Self> {
        let pid = (word & Self::LOWEST) as u32;
        (pid != 0).then_some(Self::new(pid, word >> Self::BITS, word >> (2 * Self::BITS)))
    }
}

/// After so many nanoseconds without a sleep, a reader of another PID namespace that is not required has lost its seat: ten
/// minutes. A reader with a bell sleeps for a second at most, so it is dead, or has records all the time.
pub const SILENT: u64 = 600_000_000_000;

/// Whether a reader that this process can't see counts as alive: it is required, which programs end with its lease, or its
/// last sleep is not long ago. `sign` is the word [`lease`].
pub fn counts_as_alive(is_required: bool, sign: u64, now: u64) -> bool {
    is_required || sign == 0 || now.saturating_sub(sign) < SILENT
}

/// The word with the lease of a required reader: how long it may hold programs back, in nanoseconds. Of a reader that is not
/// required, the time of its last sleep in nanoseconds of CLOCK_MONOTONIC, or 0.
pub const fn lease(seat: usize) -> usize {
    2 * SEATS + seat
}

/// The word of a seat with 1 + the bits of [`LOOK`] that its reader wants, or 0 if it does not sleep.
pub const fn wants(seat: usize) -> usize {
    3 * SEATS + seat
}

/// The bits of [`LOOK`] for a reader that sleeps until `records` are unread: programs look for it four times in as many
/// tickets, or at each.
pub fn look(records: u64) -> u64 {
    ((1 << (records / 4).max(1).ilog2()) - 1) & NEVER
}

/// The ticket that wakes a reader at `next` which waits for `records` unread ones. The reader has at least as many then, and
/// programs look for it there.
pub fn watermark(next: u64, records: u64) -> u64 {
    next.wrapping_add(records - 1) | look(records)
}

/// The word of a shard for a seat: 1 + the ticket until which its reader sleeps, or 0 for any.
pub fn wake_at(shard: usize, seat: usize) -> usize {
    (FIRST + OF_SHARD * shard) * SEATS + seat
}

/// The word of a shard for a seat: the next ticket that its reader reads, if it is required.
pub fn position(shard: usize, seat: usize) -> usize {
    wake_at(shard, seat) + SEATS
}

/// The word of a shard for a seat: since when its reader has held programs back, in nanoseconds of CLOCK_MONOTONIC, or
/// 0. Programs write it, and readers store 0 before they become required.
pub fn held(shard: usize, seat: usize) -> usize {
    wake_at(shard, seat) + 2 * SEATS
}

/// The value of the word [`wake_at`]: wake when the ticket `until` has ended, or any.
pub fn until(ticket: Option<u64>) -> u64 {
    ticket.map_or(0, |ticket| ticket.wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Kind;

    #[test]
    fn an_owner_is_what_it_was() {
        for owner in [Owner::new(1, 0, 0), Owner::new((1 << 22) - 1, u64::MAX, 0xf000_0000 + 77)] {
            assert_eq!(Owner::decode(owner.encode()), Some(owner));
        }
        assert_eq!(Owner::new(7, 1 << 22 | 5, 0xefff_fffc), Owner { pid: 7, start: 5, namespace: 0xf_fffc });
        assert_eq!([0, 1 << 22, u64::MAX << 22].map(Owner::decode), [None; 3]);
    }

    #[test]
    fn readers_that_can_not_be_seen_count_as_dead_after_a_long_silence() {
        let now = 2 * SILENT;
        assert!(counts_as_alive(true, 1, now) && counts_as_alive(false, 0, now), "required, or just come");
        assert!(counts_as_alive(false, now - SILENT + 1, now) && counts_as_alive(false, now + 1, now));
        assert!(!counts_as_alive(false, now - SILENT, now));
    }

    #[test]
    fn the_words_are_where_programs_have_them() {
        assert_eq!((words(0), words(5)), (4 * 64, 19 * 64));
        assert_eq!([owner(3), lease(3), wants(3)], [64 + 3, 128 + 3, 192 + 3]);
        assert_eq!([wake_at(0, 3), position(0, 3), held(0, 3)], [256 + 3, 320 + 3, 384 + 3]);
        assert_eq!([wake_at(2, 3), position(2, 3), held(2, 3)], [640 + 3, 704 + 3, 768 + 3]);
        assert_eq!(FOR_GOOD, 1 << 62);
        assert_eq!((until(None), until(Some(7)), until(Some(u64::MAX))), (0, 8, 0));
        let owner = Owner { pid: 7, start: 5, namespace: 3 };
        assert_eq!(owner.encode(), 3 << 44 | 5 << 22 | 7);

        let ring = Geometry::new(Kind::Ring, 20, 4, 3).unwrap();
        assert_eq!(in_memfd(&ring), None);
        assert_eq!(in_memfd(&ring.wakeable().unwrap()), Some((ring.bytes() / WORD, words(3))));
    }

    #[test]
    fn a_reader_is_looked_for_four_times_before_its_ticket() {
        let looks = [0, 1, 7, 8, 15, 16, 1 << 20].map(look);
        assert_eq!(looks, [0, 0, 0, 1, 1, 3, (1 << 18) - 1]);
        assert_eq!((look(1 << 40), look(u64::MAX)), (NEVER, NEVER));
        assert_eq!([watermark(8, 1), watermark(8, 7), watermark(8, 8), watermark(9, 8)], [8, 14, 15, 17]);
        for (next, records) in [(0, 1), (5, 16), (100, 1000), (u64::MAX, 9)] {
            let ticket = watermark(next, records);
            assert_eq!(ticket & look(records), look(records), "programs look there");
            assert!(ticket.wrapping_sub(next) >= records - 1 && ticket.wrapping_sub(next) < 2 * records);
        }
    }
}
