//! Models of the merged reader: programs stamp their records with a clock after the claim, the production reader reads
//! the clock, then the end of each shard. The first argument of `check` is the preemption bound.

use std::convert::Infallible;
use std::sync::Arc;

use mapring_core::abi::seq::PENDING;
use mapring_core::abi::{Geometry, Kind};
use mapring_core::protocol::ring::{Cursor, Follow, Found, Merge, Shards, Start, clock_fence, read};
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::ring::{Claimed, PATIENT, Producer, Ring, Rust};
use mapring_loom_tests::rings::{Current, Rings};
use mapring_loom_tests::sync::{AtomicU64, Ordering, fence, thread};
use mapring_loom_tests::{Seen, check};

/// All readings have an order, and order nothing else: as for a clock of the machine.
struct Clock(AtomicU64);

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1)))
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The time that a program reads after its claim, which is a full barrier in BPF and on x86-64.
    fn stamp(&self) -> u64 {
        fence(Ordering::SeqCst); // SYNC clock: pairs with `clock_fence`
        self.now()
    }
}

/// A ring of two shards, and the clock.
struct Machine {
    shards: [Ring; 2],
    clock: Arc<Clock>,
}

impl Machine {
    fn new(slots: u64) -> Arc<Self> {
        let shards = Ring::shards(Geometry::new(Kind::Ring, 8, slots, 2).unwrap());
        Arc::new(Self { shards, clock: Clock::new() })
    }

    /// A program that stamps its record after the claim.
    fn push(&self, shard: usize, producer: impl Producer) {
        let mut slot = producer.claim(&self.shards[shard]).expect("there is room");
        slot.fill(self.clock.stamp());
        slot.publish();
    }

    /// The same for a program that is interrupted by another one in the middle of a guarded claim of ticket 0: after it
    /// advanced `head`, and before it claims the slot. `meanwhile` runs there, after the other program.
    fn push_interrupted(&self, meanwhile: impl FnOnce()) {
        let ring = &self.shards[0];
        let push = |t: u64, head: u64| {
            ring.slot(t)[0].store(1, Ordering::Release);
            ring.header()[0].store(head, Ordering::Release);
            ring.slot(t)[1].store(self.clock.stamp(), Ordering::Relaxed);
            ring.slot(t)[0].store(2, Ordering::Release);
        };
        ring.header()[0].store(1 | PENDING, Ordering::Release);
        push(1, 2 | PENDING);
        meanwhile();
        push(0, 1);
    }
}

/// The production merge over some shards, and the stamps that it delivered.
struct Reader<S> {
    clock: Arc<Clock>,
    shards: S,
    merge: Merge<u64>,
    stamps: Vec<u64>,
}

impl<S: Shards<u64>> Reader<S> {
    fn of(clock: &Arc<Clock>, shards: S) -> Self {
        let merge = Merge::new(shards.count(), u64::MAX, 0);
        Self { clock: Arc::clone(clock), shards, merge, stamps: Vec::new() }
    }

    /// Delivers all that it can in one round. Returns whether that was anything.
    fn deliver(&mut self) -> bool {
        let now = self.clock.now();
        clock_fence();
        let some = self.merge.round(&mut self.shards, now, &mut |stamp| *stamp);
        if some {
            while self.merge.has_next(&mut self.shards, &mut |stamp| *stamp) {
                self.stamps.extend(self.merge.pop().map(|(_, _, stamp)| *stamp));
            }
        }
        some
    }

    /// All `count` records were delivered in the order of their stamps.
    fn expect(&self, count: usize) {
        assert!(self.stamps.is_sorted(), "{:?}", self.stamps);
        assert_eq!((self.stamps.len(), self.merge.late(), self.merge.held()), (count, 0, 0));
    }
}

/// The machine's shards, with their cursors.
struct Here(Arc<Machine>, [Cursor; 2]);

impl Shards<u64> for Here {
    fn count(&self) -> usize {
        2
    }

    fn in_use(&mut self) -> bool {
        true
    }

    fn read(&mut self, at: usize, _held: Option<u64>, room: &mut [u64], f: impl FnMut(u64, &[u64])) -> Found {
        read(&mut self.1[at], &mut self.0.shards[at].shard(), room, 100, f)
    }
}

impl Reader<Here> {
    fn new(machine: &Arc<Machine>) -> Self {
        let cursors = [0; 2].map(|next| Cursor::at(next, PATIENT));
        Self::of(&machine.clock, Here(Arc::clone(machine), cursors))
    }

    /// One round.
    fn round(mut self) -> Self {
        self.deliver();
        self
    }

    /// After all threads have ended.
    fn check(self, count: usize) {
        self.round().expect(count);
    }
}

macro_rules! models {
    ($($model:ident)*) => {
        mod rust { $(#[test] fn $model() { super::$model(super::Rust); })* }
        mod bpf_xchg { $(#[test] fn $model() { super::$model(super::Bpf::Xchg); })* }
        mod bpf_release { $(#[test] fn $model() { super::$model(super::Bpf::StoreRelease); })* }
    };
}

models! {
    two_shards
    nested_in_a_guarded_claim
}

/// A program on each CPU, while the reader merges.
fn two_shards(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let machine = Machine::new(2);
        let reader = Reader::new(&machine);
        let there = Arc::clone(&machine);
        let program = thread::spawn(move || there.push(0, producer));
        let reading = thread::spawn(move || reader.round().round());
        machine.push(1, producer);
        program.join().unwrap();
        let reader = reading.join().unwrap();
        noted.note("one delivered, one later", reader.stamps.len() == 1);
        noted.note("held back", reader.merge.held() > 0);
        noted.note("both delivered", reader.stamps.len() == 2);
        reader.check(2);
    });
    seen.expect(&["one delivered, one later", "held back", "both delivered"]);
}

/// A program is interrupted in the middle of its claim: its slot seems free, and a later ticket has ended.
fn nested_in_a_guarded_claim(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let machine = Machine::new(4);
        let reader = Reader::new(&machine);
        let there = Arc::clone(&machine);
        let reading = thread::spawn(move || reader.round());
        there.push_interrupted(|| there.push(1, producer)); // on another CPU
        let reader = reading.join().unwrap();
        noted.note("held back", reader.merge.held() > 0);
        noted.note("all delivered", reader.stamps.len() == 3);
        reader.check(3);
    });
    seen.expect(&["held back", "all delivered"]);
}

/// The same over rings that replace each other, as `Merged` goes on with the next one.
struct Follower {
    reader: Reader<Current>,
    follow: Follow<Infallible>,
}

impl Follower {
    /// `Merged::round`, and all that it can deliver.
    fn round(mut self) -> Self {
        for _ in 0..2 {
            if self.reader.deliver() || self.follow.poll_on(&mut self.reader.shards, |_| Some(())).is_none() {
                break;
            }
        }
        self
    }
}

/// A program has claimed its slot, and not yet read the clock, when its ring is replaced. Records of the next ring may have
/// earlier stamps.
#[test]
fn while_the_ring_is_replaced() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let rings = Rings::new(&[1, 1]);
        let clock = Clock::new();
        let first = Current::new(Arc::clone(&rings), 0, Start::First, PATIENT);
        let follower = Follower { reader: Reader::of(&clock, first), follow: Follow::default() };
        let (there, its_clock) = (Arc::clone(&rings), Arc::clone(&clock));
        let resizer = thread::spawn(move || {
            there.resize(0);
            assert_eq!(there.push_with(1, || its_clock.stamp()), (Some(1), false));
        });
        let reading = thread::spawn(move || follower.round());
        let (at, _) = rings.push_with(0, || clock.stamp());
        resizer.join().unwrap();
        let mut follower = reading.join().unwrap();
        noted.note("delivered before the end", follower.reader.stamps.len() == 1);
        noted.note("held back", follower.reader.merge.held() > 0);
        noted.note("both in the next one", at == Some(1));
        for _ in 0..4 {
            follower = follower.round();
        }
        follower.reader.expect(2);
    });
    seen.expect(&["delivered before the end", "held back", "both in the next one"]);
}
