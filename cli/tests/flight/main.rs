//! Records the real kernel with the real command, and compares the records with what the test did.
#![cfg(all(feature = "bpf", feature = "commands"))]

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod fuse;
mod group;
mod limits;
#[path = "../nobody/mod.rs"]
mod nobody;
mod others;
mod privilege;
mod recorder;
mod records;
mod report;
mod save;
#[path = "../skip/mod.rs"]
mod skip;
mod stacks;
mod triggers;
mod unusual;
