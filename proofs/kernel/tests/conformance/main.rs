//! A reader in plain C that was written from docs/abi.md and docs/abi-reading.md (`conformance/`), against the
//! library's writers: what it delivers and what it counts is what was written, and what the library's own
//! readers say.
#![allow(missing_docs)]

mod load;
mod memfd;
mod nobody;
mod quiet;
mod reader;
mod sizes;
