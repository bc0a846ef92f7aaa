//! Records with the places of their tails, as they are in slots.

use bytemuck::AnyBitPattern;

/// A record with the place of its tail, as it is in the slots of a ring with the option `TAILS`.
#[derive(Clone, Copy, Debug, AnyBitPattern)]
#[repr(C)]
pub struct Tailed<T> {
    pub(crate) tail_at: u64,
    pub(crate) tail_len: u64,
    pub(crate) record: T,
}
