//! What a program's memory accesses order: the machine that the models run it on.

use crate::sync::Ordering;

/// What each kind of access is in Rust's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// A plain load.
    pub load: Ordering,
    /// A plain store.
    pub store: Ordering,
    /// An atomic operation that returns a value.
    pub fetch: Fetch,
    /// One that does not.
    pub count: Fetch,
}

/// What an atomic operation orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Everything before and after: a fence, the operation, a fence. That is what the kernel
    /// promises of those that return a value. A compare-and-swap that fails has no fence behind
    /// it: made of load-exclusive and store-exclusive, it jumps over it.
    Full,
    /// What Rust calls acquire and release: less than the kernel promises.
    AcqRel,
    /// Nothing.
    Relaxed,
}

impl Order {
    /// Any machine that Linux runs on.
    pub const WEAK: Self =
        Self { load: Ordering::Relaxed, store: Ordering::Relaxed, fetch: Fetch::Full, count: Fetch::Relaxed };

    /// x86: stores are seen in order, loads done in order, and a locked instruction is a full
    /// barrier. This allows all that x86 does and a little more: readers may disagree on the
    /// order of stores by different CPUs.
    pub const TSO: Self =
        Self { load: Ordering::Acquire, store: Ordering::Release, fetch: Fetch::Full, count: Fetch::Full };
}
