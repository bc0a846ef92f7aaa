//! Models of a ring whose place another one takes: programs as `resizable.bpf.h` has them on a weak
//! machine, the production code that retires the ring, and the production reader, which leaves it.
//! Programs may sleep here, so that nobody waits for those that are still at work with the old ring.

use std::sync::Arc;

use mapring::layout::Gate;
use mapring::protocol::ring::{GATE, close, gate, open, retire};
use mapring::protocol::{Words, WordsMut};
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::ring::{Claimed, PATIENT, Producer, Reader, Ring};
use mapring_loom_tests::sync::{AtomicU64, Ordering, fence, thread};
use mapring_loom_tests::{Seen, check};

/// A ring, and the one that takes its place; which one is in use.
struct Rings {
    rings: [Arc<Ring>; 2],
    in_use: AtomicU64,
}

impl Rings {
    fn new(slots: [u64; 2]) -> Arc<Self> {
        let rings = slots.map(|slots| {
            let ring = <Ring>::new(slots);
            open(WordsMut::new(ring.words()), ring.geometry());
            ring
        });
        Arc::new(Self { rings, in_use: AtomicU64::new(0) })
    }

    /// `mapring_reserve`, then `mapring_commit`: which ring has the record, if one does; and whether a
    /// slot was given back.
    fn push(&self, value: u64) -> (Option<usize>, bool) {
        let mut back = false;
        for _ in 0..2 {
            // The kernel has a pointer there: what is read through it comes after it.
            let at = usize::from(self.in_use.load(Ordering::Acquire) != 0);
            let (ring, gate) = (&self.rings[at], &self.rings[at].header()[GATE]);
            let open = gate.load(Ordering::Relaxed);
            if Gate::decode(open) == Gate::Open {
                let Some(mut slot) = Bpf::Xchg.claim(ring) else { return (None, back) };
                if gate.load(Ordering::Relaxed) == open {
                    slot.fill(value);
                    slot.publish();
                    return (Some(at), back);
                }
                slot.discard();
                back = true;
            }
            fence(Ordering::SeqCst); // `mapring__barrier`
        }
        panic!("the gate was closed before there was another ring");
    }

    /// `ResizableRing::resize`
    fn resize(&self) {
        self.in_use.store(1, Ordering::Release); // the kernel: xchg
        let old = &self.rings[0];
        let words = WordsMut::new(old.words());
        close(words, old.geometry());
        retire(words, old.geometry());
    }
}

/// `Follower::poll`, so many times: the reader, and whether it has left the old ring.
fn follow(rings: &Rings, mut reader: Reader, polls: usize) -> (Reader, bool) {
    let old = &rings.rings[0];
    for _ in 0..polls {
        let before = reader.next();
        reader.step(old);
        if reader.next() == before && gate(Words::new(old.words())) == Gate::Retired && reader.at_end(old) {
            return (reader, true);
        }
    }
    (reader, false)
}

/// When all is quiet: everything that was pushed was read, once, and nothing is left behind.
fn conserved(rings: &Rings, mut reader: Reader, left: bool, pushed: &[(u64, usize)]) {
    let old = &rings.rings[0];
    let before = reader.log().len();
    reader.drain(old);
    assert!(!left || reader.log().len() == before, "a record came after the end: {reader:?}");
    let mut next = Reader::at(0, PATIENT);
    next.drain(&rings.rings[1]);
    assert_eq!((reader.tally().lost(), next.tally().lost()), (0, 0), "{reader:?} {next:?}");
    for (ring, log) in [reader.log(), next.log()].into_iter().enumerate() {
        let mut read: Vec<_> = log.iter().map(|&(_, value)| value).collect();
        let mut there: Vec<_> =
            pushed.iter().filter(|&&(_, at)| at == ring).map(|&(value, _)| value).collect();
        read.sort_unstable();
        there.sort_unstable();
        assert_eq!(read, there, "ring {ring}: {reader:?} {next:?}");
    }
    if gate(Words::new(old.words())) == Gate::Retired {
        let end = old.shard().end();
        assert!(reader.log().iter().all(|&(t, _)| t < end) && end <= reader.next(), "{end}: {reader:?}");
    }
}

#[test]
fn a_writer_while_its_ring_is_replaced() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let rings = Rings::new([2, 4]);
        let (there, also) = (Arc::clone(&rings), Arc::clone(&rings));
        let resizer = thread::spawn(move || there.resize());
        let reader = thread::spawn(move || follow(&also, Reader::at(0, PATIENT), 2));
        let (at, back) = rings.push(1);
        resizer.join().unwrap();
        let (reader, left) = reader.join().unwrap();
        noted.note("left", left);
        noted.note("given back", back);
        noted.note("left what was given back", left && back);
        noted.note("in the old one", at == Some(0));
        noted.note("read, then left", left && !reader.log().is_empty());
        conserved(&rings, reader, left, &[(1, at.expect("there was place"))]);
    });
    seen.expect(&["left", "given back", "left what was given back", "in the old one", "read, then left"]);
}

#[test]
fn two_writers_while_their_ring_is_replaced() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let rings = Rings::new([4, 2]);
        let (there, also) = (Arc::clone(&rings), Arc::clone(&rings));
        let resizer = thread::spawn(move || {
            there.resize();
            follow(&there, Reader::at(0, PATIENT), 3)
        });
        let other = thread::spawn(move || also.push(11));
        let mine = rings.push(1);
        let (reader, left) = resizer.join().unwrap();
        let other = other.join().unwrap();
        noted.note("left", left);
        noted.note("one in each", mine.0 != other.0);
        noted.note("both given back", mine.1 && other.1);
        let at = |(at, _): (Option<usize>, bool)| at.expect("there was place");
        conserved(&rings, reader, left, &[(1, at(mine)), (11, at(other))]);
    });
    seen.expect(&["left", "one in each", "both given back"]);
}
