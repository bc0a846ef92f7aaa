//! Hostile memory: for any content and any concurrent change, readers finish without a panic, within their limits, and
//! count the tickets that they passed.
#![allow(missing_docs)]

#[cfg(feature = "bpf")]
mod c;
mod calls;
mod images;
#[cfg(feature = "bpf")]
mod live_maps;
#[cfg(feature = "bpf")]
mod live_tables;
#[cfg(feature = "bpf")]
mod live_tails;
#[cfg(feature = "bpf")]
mod maps;
mod names;
#[cfg(feature = "bpf")]
mod reader_maps;
#[cfg(feature = "bpf")]
mod ringbuf;
mod scribbled;
mod sparse;
mod tagged;
mod tails;
mod threads;
mod underneath;
mod writers;
