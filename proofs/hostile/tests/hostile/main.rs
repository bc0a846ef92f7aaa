//! Hostile memory: whatever bytes are there, and whoever changes them, readers come to an end
//! without a panic, within their bounds, and count what they passed.
#![allow(missing_docs)]

mod calls;
mod images;
#[cfg(feature = "bpf")]
mod live_maps;
#[cfg(feature = "bpf")]
mod maps;
mod names;
mod scribbled;
mod sparse;
mod underneath;
