//! Where the words of a ring's readers are: which of them sleep, until when, and how often programs look for them; which
//! are required, and how far they have read.

/// The readers that can have a place at once.
pub const PLACES: usize = 64;
/// The word with a bit for each reader that sleeps. It follows the preamble.
pub const ASLEEP: usize = 16;
/// The word with a bit for each reader that is required.
pub const REQUIRED: usize = 17;
/// The word whose low half has the bits of a ticket that are all set where programs look for readers that sleep. The high
/// half counts how often a reader has changed what it wants.
pub const LOOK: usize = 18;
/// The word with the time since when no reader has said that it sleeps, or 0. After ten seconds, programs stop looking.
pub const IDLE_SINCE: usize = 19;
/// The bits of [`LOOK`] while no reader sleeps now and then: programs never look.
pub const NEVER: u64 = u32::MAX as u64;
/// The first element with words for a shard. The elements before it have the owner of each place, its lease, and how
/// often it wants programs to look.
pub const FIRST: usize = 4;
/// Elements for each shard.
pub const OF_SHARD: usize = 3;

/// The word with the owner of a place: the process that reads, or 0.
pub fn owner(place: usize) -> usize {
    PLACES + place
}

/// The word with the lease of a required reader: how long it may hold programs back, in nanoseconds.
pub fn lease(place: usize) -> usize {
    2 * PLACES + place
}

/// The word of a place with 1 + the bits of [`LOOK`] that its reader wants, or 0 if it does not sleep.
pub fn wants(place: usize) -> usize {
    3 * PLACES + place
}

/// The bits of [`LOOK`] for a reader that sleeps until `records` are unread: programs look for it four times in as many
/// tickets, or at each.
pub fn look(records: u64) -> u64 {
    ((1 << (records / 4).max(1).ilog2()) - 1) & NEVER
}

/// The ticket until which a reader sleeps that asks for so many unread records, and whose next ticket is `next`: it has at
/// least as many, and programs look for the reader there.
pub fn watermark(next: u64, records: u64) -> u64 {
    next.wrapping_add(records - 1) | look(records)
}

/// The word of a shard for a place: 1 + the ticket until which its reader sleeps, or 0 for any.
pub fn wake_at(shard: usize, place: usize) -> usize {
    (FIRST + OF_SHARD * shard) * PLACES + place
}

/// The word of a shard for a place: the next ticket that its reader reads, if it is required.
pub fn position(shard: usize, place: usize) -> usize {
    wake_at(shard, place) + PLACES
}

/// The word of a shard for a place: since when its reader has held programs back, in nanoseconds of CLOCK_MONOTONIC, or
/// 0. Only programs write it.
pub fn held(shard: usize, place: usize) -> usize {
    wake_at(shard, place) + 2 * PLACES
}

/// The value of the word [`wake_at`]: wake when the ticket `until` has ended, or any.
pub fn until(ticket: Option<u64>) -> u64 {
    ticket.map_or(0, |ticket| ticket.wrapping_add(1))
}
