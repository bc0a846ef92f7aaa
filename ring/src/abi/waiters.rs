//! Where the words of waiters are: the readers of a ring that can sleep, and until when each does.

/// The readers that can sleep at once.
pub const PLACES: usize = 64;
/// The word with a bit for each reader that sleeps. It follows the preamble.
pub const ASLEEP: usize = 16;
/// The first element with words for a shard: for each place, 1 + the ticket until which its reader sleeps, or 0 for
/// any. The element before it has the owner of each place.
pub const FIRST: usize = 2;

/// The word with the owner of a place: the process that reads, or 0.
pub fn owner(place: usize) -> usize {
    (FIRST - 1) * PLACES + place
}

/// The word of a shard for a place.
pub fn wake_at(shard: usize, place: usize) -> usize {
    (FIRST + shard) * PLACES + place
}

/// The value of that word: wake when the ticket `until` has ended, or any.
pub fn until(ticket: Option<u64>) -> u64 {
    ticket.map_or(0, |ticket| ticket.wrapping_add(1))
}
