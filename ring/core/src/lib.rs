//! The memory layout and the algorithms of [mapring](https://docs.rs/mapring): a lock-free channel between BPF programs
//! and userspace, in shared memory.
//!
//! This crate is what has to be right. It reads and writes words of memory, whoever mapped them: it knows no map, no file
//! and no system call. The loom models compile these files unchanged. Programs use the crate `mapring`; this one promises
//! no stability: `mapring` depends on exactly one version of it.
//!
//! # A region
//!
//! A region is shared memory that describes itself. It begins with a [`Preamble`](abi::Preamble): its
//! [`Kind`](abi::Kind), and the sizes from which its [`Geometry`](abi::Geometry) follows. All of it consists of `u64`
//! words, which [`Words`](protocol::Words) and [`WordsMut`](protocol::WordsMut) access atomically. No reference ever points
//! into it.
//!
//! # A ring, from the claim to the loss
//!
//! 1. A ring has a **shard** for each CPU: a header, and a power of two of **slots** ([`Shard`](protocol::ring::Shard)).
//!    Only one CPU writes a shard, but its writers may interrupt each other at any instruction.
//! 2. A writer **claims** the next **ticket**, the number of a record in its shard
//!    ([`ShardMut::reserve`](protocol::ring::ShardMut::reserve)). The slot's sequence word ([`abi::seq`]) says which ticket
//!    it has, and whether the ticket has ended. A claim is one compare-and-swap of this word. It never waits: if an
//!    interrupted writer still has the slot, the next ticket is tried, or the record is counted as dropped.
//! 3. It writes the record and **publishes** it: a store of the sequence word, after the record's words
//!    ([`Slot::commit`](protocol::ring::Slot::commit)).
//! 4. A reader **reads** a slot as a seqlock: the sequence, the record, and the sequence again
//!    ([`Cursor`](protocol::ring::Cursor)). Only a record that was whole is delivered. The number of retries is bounded.
//! 5. A record is **lost** when its slot was claimed for a later lap before the reader came, or its writer never ended it.
//!    The cursor passes each ticket exactly once, and counts it: delivered, discarded, or lost, by
//!    [cause](protocol::ring::LossCause).
//!
//! [`protocol::ring::Merge`] orders the shards of a ring by time; [`protocol::ring::Follow`] follows a ring to its
//! replacement; [`protocol::readers`] has the seats of readers that programs wake, or for which they keep records.
//!
//! # The other kinds
//!
//! [`cell`](protocol::cell) (the latest value), [`latch`](protocol::latch) (two copies, for programs),
//! [`commands`](protocol::commands), [`counters`](protocol::counters), [`histogram`](protocol::histogram),
//! [`gauge`](protocol::gauge), [`top`](protocol::top).
//!
//! # Orderings
//!
//! Each memory ordering has a name, in a `SYNC` comment on both of its sides, here and in the BPF headers;
//! `sync/orderings.rs` has the table. Only `sync` names an atomic type: `--cfg loom` replaces it there.
#![deny(unsafe_code)]

pub mod abi;
pub mod protocol;
mod sync;
pub mod text;

pub use sync::coarse_clock as clock;
