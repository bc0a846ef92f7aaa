//! Records the real kernel with the real command, and compares the records with what the test did.
#![cfg(feature = "bpf")]

#[allow(dead_code)]
#[path = "../../flight/src/event.rs"]
mod event;
#[allow(dead_code)]
#[path = "../../flight/src/holes.rs"]
mod holes;
#[allow(dead_code, unreachable_pub)]
#[path = "../../flight/src/pins.rs"]
mod pins;
#[allow(dead_code)]
#[path = "../../flight/src/record.rs"]
mod record;
#[allow(dead_code)]
#[path = "../../flight/src/recording.rs"]
mod recording;
#[allow(dead_code)]
#[path = "../../flight/src/rings/mod.rs"]
mod rings;
#[allow(dead_code)]
#[path = "../../flight/src/stack.rs"]
mod stack;

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
