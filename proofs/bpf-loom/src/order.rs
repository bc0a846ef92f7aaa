//! The ordering of a program's memory accesses: the machine of a model.

use crate::sync::Ordering;

/// Each kind of access as a Rust ordering.
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

/// The ordering of an atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Everything before and after: a fence, the operation, a fence. The kernel guarantees this for operations that
    /// return a value. A failed compare-and-swap has no fence after it: an implementation by load-exclusive and
    /// store-exclusive jumps over it.
    Full,
    /// Rust's acquire and release: weaker than the kernel's guarantee.
    AcqRel,
    /// Nothing.
    Relaxed,
}

impl Order {
    /// Any machine that Linux runs on.
    pub const WEAK: Self =
        Self { load: Ordering::Relaxed, store: Ordering::Relaxed, fetch: Fetch::Full, count: Fetch::Relaxed };

    /// x86: stores become visible in order, loads execute in order, and a locked instruction is a full barrier. This
    /// model allows everything that x86 allows and a little more: readers may disagree on the order of stores by
    /// different CPUs.
    pub const TSO: Self =
        Self { load: Ordering::Acquire, store: Ordering::Release, fetch: Fetch::Full, count: Fetch::Full };
}
