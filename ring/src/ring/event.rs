//! What readers deliver.

#[cfg(doc)]
use super::Reader;

/// A record with its shard, its ticket and its tail.
///
/// The record is a `T` or a `&T`. The tail is a `&[u8]` from [`Reader::for_each`] and [`Reader::poll`], a `Vec<u8>` from a stream,
/// and `()` where only the record is read. In a ring without the option `TAILS` it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<T, B = ()> {
    /// The shard: the CPU, if BPF programs write the ring.
    pub shard: usize,
    /// The record's number in its shard, from 0.
    pub ticket: u64,
    /// The record.
    pub record: T,
    /// The bytes that the program wrote beside the record.
    pub tail: B,
}
