//! The key and value sizes that this kernel accepts for arrays, checked before it returns EINVAL or E2BIG.

use std::ops::RangeInclusive;

use mapring::Result;
use mapring_sys::bpf::{NewArray, create_array};
use rustix::io::Errno;

use crate::error::Refused;

/// Arrays are indexed by u32.
const KEY: u32 = 4;
/// The largest value in bytes, since Linux 6.0.
const VALUE: u32 = i32::MAX as u32;
/// The largest value before Linux 6.0: one allocation of the kernel.
const OLD_VALUE: u32 = 4 << 20;
/// The largest value of a per-CPU map: the smallest unit of the per-CPU allocator.
const PER_CPU_VALUE: u32 = 32 << 10;

/// Refuses a map that the kernel will refuse. Makes a system call only for values of more than 4 MiB.
pub(crate) fn check(map: &str, per_cpu: bool, key: u32, value: u32) -> Result<()> {
    let within = |part, found: u32, allowed: RangeInclusive<u32>, hint| match allowed.contains(&found) {
        true => Ok(()),
        false => Err(Refused::MapSize { map: map.to_owned(), part, found, allowed, hint }.into()),
    };
    within("key", key, KEY..=KEY, "; arrays are indexed by u32: leave that to the headers' macros")?;
    let (largest, hint) = match value {
        0 => (VALUE, "; a record has at least a byte: leave the size to the headers' macros"),
        _ if per_cpu => (
            PER_CPU_VALUE,
            "; make the record smaller, or of several, or use an array that all CPUs share, with one for each of them",
        ),
        _ if value > OLD_VALUE && !takes_more() => {
            (OLD_VALUE, "; make the record smaller, or of several: larger ones take Linux 6.0")
        }
        _ => (VALUE, "; make the record smaller, or of several"),
    };
    within("value", value, 1..=largest, hint)
}

/// Whether the kernel accepts values of more than 4 MiB. If this process may not create maps, the load fails for that
/// reason anyway.
fn takes_more() -> bool {
    let made = create_array(&NewArray { value_size: OLD_VALUE + 1, max_entries: 1, ..NewArray::default() });
    made.err().and_then(|e| Errno::from_io_error(&e)) != Some(Errno::TOOBIG)
}
