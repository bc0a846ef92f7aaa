//! The numbers of the layout. Written by ring/core/tests/numbers: do not edit.

// Words of the preamble.
/// Counts writes that went nowhere.
pub(crate) const DROPPED: usize = 12;

// Words of the header of a shard.
/// Programs claim tickets before this one without checking the readers.
pub(crate) const LIMIT: usize = 4;
/// Counts records that were dropped because of a required reader.
pub(crate) const FULL: usize = 5;
/// When the latest spell of drops began.
pub(crate) const DROPS_SINCE: usize = 6;
/// When the last record was dropped.
pub(crate) const DROPS_UNTIL: usize = 7;

// Words of the header for tails.
/// The next position to claim, in bytes.
pub(crate) const TAIL_NEXT: usize = 0;
/// No byte at or beyond this position was ever written.
pub(crate) const TAIL_HIGH: usize = 1;
/// No writer may write at or beyond this position yet.
pub(crate) const TAIL_GRANTED: usize = 2;
/// Counts records without space for a tail.
pub(crate) const TAIL_NO_SPACE: usize = 3;
/// Counts tails that were longer than the longest.
pub(crate) const TAIL_TOO_LONG: usize = 4;
/// Positions before this one were claimed beside NEXT or stepped over.
pub(crate) const TAIL_BESIDE: usize = 5;
/// Required readers have read all records with tails before this position.
pub(crate) const TAIL_READ: usize = 6;
/// A position, and a ticket that records with tails before it precede.
pub(crate) const TAIL_MARK: usize = 7;
/// 1 + the newest ticket that has ended.
pub(crate) const TAIL_ENDED: usize = 8;
/// What was claimed before this position and not granted then is void.
pub(crate) const TAIL_STEPPED: usize = 9;
/// The first word with the position of a writer, plus 1.
pub(crate) const TAIL_ACTIVE: usize = 16;

// Words of the map of readers.
/// A bit for each reader that sleeps.
pub(crate) const ASLEEP: usize = 16;
/// A bit for each reader that is required.
pub(crate) const REQUIRED: usize = 17;
/// The bits of a ticket at which programs look for readers that sleep.
pub(crate) const LOOK: usize = 18;
/// Since when no reader has said that it sleeps.
pub(crate) const IDLE_SINCE: usize = 19;

// Elements of the map of readers.
/// Each reader's lease.
pub(crate) const LEASES: usize = 2;
/// Of shard 0: 1 + the ticket until which each reader sleeps.
pub(crate) const WAKE_AT: usize = 4;
/// Of shard 0: the next ticket of each required reader.
pub(crate) const POSITIONS: usize = 5;
/// Of shard 0: since when each reader has held programs back.
pub(crate) const HELD: usize = 6;
/// The number for each shard.
pub(crate) const OF_SHARD: usize = 3;

// Readers.
/// Readers that can have a seat, and words of an element.
pub(crate) const SEATS: usize = 64;

// Sizes.
/// Bytes of a cache line: the preamble and each shard start on one.
pub(crate) const LINE: usize = 64;
/// Bytes of the preamble.
pub(crate) const PREAMBLE: usize = 128;
/// Words from one histogram to the next.
pub(crate) const HISTOGRAM_WORDS: usize = 512;
/// Writers of a shard between claim and end of a tail.
pub(crate) const TAIL_WRITERS: usize = 16;
