//! The producer of `ring/include/mapring/ring.bpf.h` on a machine with weak memory order, step by step, and the
//! operations of `atomic.bpf.h` that it uses.
//!
//! Value-returning BPF atomics are full barriers on every JIT: a fence, the operation, a fence. (With an
//! acquire-release operation instead, the models fail, correctly: a later store could become visible before it.)
//! Everything else is a plain load or store, relaxed here.

use mapring_core::abi::seq::{DISCARDED, TRIES, WALK, state};

use crate::ring::{Claimed, Producer, Ring};
use crate::sync::{AtomicU64, Ordering, fence};

/// The implementation of `mapring__publish`.
#[derive(Clone, Copy, Debug)]
pub enum Bpf {
    /// `xchg`: if nothing better is available.
    Xchg,
    /// The store-release instruction; also x86, whose plain stores are just as strong.
    StoreRelease,
}

/// `mapring__load`
fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

/// `mapring__lap`
fn lap<const W: usize>(ring: &Ring<W>, t: u64) -> u64 {
    t / ring.slots() * 2
}

/// `mapring__take`: returns 0 if the slot is ours, otherwise the slot's state.
fn take(seq: &AtomicU64, lap: u64) -> u64 {
    let even = load(seq) & !1;
    let mut found = even;
    if state(even) <= lap {
        found = Bpf::cmpxchg(seq, even, lap + 1);
        if found == even {
            return 0;
        }
    }
    state(found)
}

/// `mapring__claim__##name`
fn claim_slow<const W: usize>(ring: &Ring<W>) -> Option<u64> {
    let [head, dropped] = [0, 1].map(|word| &ring.header()[word]);
    let claimed = |t: u64| {
        head.store(t + 1, Ordering::Relaxed);
        Some(t)
    };
    let mut t = load(head);
    for _ in 0..WALK {
        let state = take(&ring.slot(t)[0], lap(ring, t));
        if state == 0 {
            return claimed(t);
        }
        if state > lap(ring, t) + 2 {
            break;
        }
        t += 1;
    }
    let seen = state(load(&ring.slot(t)[0]));
    if seen > lap(ring, t) {
        t = (seen - 1) / 2 * ring.slots() + t % ring.slots();
        let mut bit = ring.slots() / 2;
        while bit > 0 {
            let mid = t + bit;
            if state(load(&ring.slot(mid)[0])) > lap(ring, mid) {
                t = mid;
            }
            bit /= 2;
        }
        t += 1;
    }
    for _ in WALK..TRIES {
        if take(&ring.slot(t)[0], lap(ring, t)) == 0 {
            return claimed(t);
        }
        t += 1;
    }
    if ring.slots() > u64::from(TRIES) {
        head.store(t, Ordering::Relaxed);
    }
    dropped.fetch_add(1, Ordering::Relaxed); // `lock +=`: no fetch, no fences
    None
}

impl Bpf {
    /// `mapring__cmpxchg`: returns the previous value.
    pub fn cmpxchg(word: &AtomicU64, expected: u64, value: u64) -> u64 {
        fence(Ordering::SeqCst);
        let seen = word.compare_exchange(expected, value, Ordering::Relaxed, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        seen.unwrap_or_else(|seen| seen)
    }

    /// `mapring__publish`
    pub fn publish(self, word: &AtomicU64, value: u64) {
        match self {
            Self::Xchg => {
                fence(Ordering::SeqCst);
                word.swap(value, Ordering::Relaxed);
                fence(Ordering::SeqCst);
            }
            Self::StoreRelease => word.store(value, Ordering::Release),
        }
    }
}

/// A slot that a program claimed.
pub struct BpfSlot<'a, const W: usize> {
    bpf: Bpf,
    slot: &'a [AtomicU64],
    ticket: u64,
}

impl Producer for Bpf {
    type Slot<'a, const W: usize> = BpfSlot<'a, W>;

    /// `mapring_reserve`
    fn claim<const W: usize>(self, ring: &Ring<W>) -> Option<BpfSlot<'_, W>> {
        let head = &ring.header()[0];
        let t = load(head);
        let lap = lap(ring, t);
        let ticket = if Self::cmpxchg(&ring.slot(t)[0], lap, lap + 1) == lap {
            head.store(t + 1, Ordering::Relaxed);
            t
        } else {
            claim_slow(ring)?
        };
        Some(BpfSlot { bpf: self, slot: ring.slot(ticket), ticket })
    }
}

impl<const W: usize> Claimed for BpfSlot<'_, W> {
    fn ticket(&self) -> u64 {
        self.ticket
    }

    fn fill(&mut self, value: u64) {
        self.slot[1..].iter().for_each(|word| word.store(value, Ordering::Relaxed));
    }

    /// `mapring_commit`
    fn publish(self) {
        let seq = &self.slot[0];
        self.bpf.publish(seq, load(seq) + 1);
    }

    /// `mapring_discard`
    fn discard(self) {
        let seq = &self.slot[0];
        self.bpf.publish(seq, (load(seq) + 1) | DISCARDED);
    }
}
