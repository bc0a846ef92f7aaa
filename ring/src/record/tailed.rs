//! Records with the places of their tails, as they are in slots.

use bytemuck::AnyBitPattern;

use crate::protocol::ring::Holds;

/// A record with the place of its tail, as it is in the slots of a ring with the option `TAILS`.
#[derive(Clone, Copy, Debug, AnyBitPattern)]
#[repr(C)]
pub struct Tailed<T> {
    pub(crate) tail_at: u64,
    pub(crate) tail_len: u64,
    pub(crate) record: T,
}

impl<T> Holds<T> for Tailed<T> {
    #[inline(always)]
    fn held(&self) -> &T {
        &self.record
    }

    #[inline(always)]
    fn place(&mut self) -> &mut T {
        &mut self.record
    }
}
