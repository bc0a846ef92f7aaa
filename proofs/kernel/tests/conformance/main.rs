//! The reader in C that ships (`bindings/c`), written from docs/abi.md, against the library's writers: its records and counts
//! match the written ones, and the library's own readers.
#![allow(missing_docs)]

mod load;
mod memfd;
mod nobody;
mod reader;
mod sizes;
mod tables;
mod tails;
mod tells;
mod wakeable;
mod written_before;
