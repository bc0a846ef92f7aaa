//! Models of a ring that is replaced: the production code that replaces it, and the production follower, which moves to
//! the next ring. The first argument of `check` is the preemption bound.

use std::sync::Arc;

use mapring_core::abi::Gate;
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::ring::{PATIENT, Producer};
use mapring_loom_tests::rings::{Reader, Rings, SHARDS};
use mapring_loom_tests::sync::thread;
use mapring_loom_tests::{Seen, check};

/// A program's push: the shard, the value, the ring that got it.
type Pushed = (usize, u64, usize);

/// After all threads have ended: every pushed record was read once, or counted, and nothing is left.
fn conserved(rings: &Rings, mut follower: Reader, pushed: &[Pushed]) -> Reader {
    let (left, known) = (follower.ring(), follower.log().len());
    follower.finish(rings);
    let late = follower.log()[known..].iter().find(|given| given.ring < left);
    assert_eq!(late, None, "a record came after the end: {follower:?}");
    let mut given: Vec<Pushed> = follower.log().iter().map(|g| (g.shard, g.value, g.ring)).collect();
    let mut there = pushed.to_vec();
    given.sort_unstable();
    there.sort_unstable();
    let missing: Vec<_> = there.iter().filter(|pushed| !given.contains(pushed)).collect();
    let stats = follower.stats();
    assert!(given.iter().all(|given| there.contains(given)), "{given:?} of {there:?}");
    assert_eq!(missing.len() as u64, stats.lost(), "missing {missing:?}: {stats:?}");
    assert_eq!(follower.take_lost(), stats.lost(), "each is in the lists of losses");
    for ring in (0..).take_while(|&ring| rings.gate(ring) == Gate::Retired) {
        assert_eq!(rings.before(ring + 1), rings.before(ring) + rings.ends(ring), "after ring {ring}");
        for g in follower.log().iter().filter(|g| g.ring == ring) {
            assert!(g.ticket < rings.shard(ring, g.shard).shard().end(), "{g:?} was not counted");
        }
    }
    follower
}

/// A program on the CPU of either shard, active at any time while the ring is replaced and followed.
#[test]
fn a_program_while_its_ring_is_replaced() {
    for shard in 0..SHARDS {
        let seen = Seen::default();
        let noted = seen.clone();
        check(Some(2), move || {
            let rings = Rings::new(&[1, 2]);
            let (there, also) = (Arc::clone(&rings), Arc::clone(&rings));
            let resizer = thread::spawn(move || there.resize(0));
            let follower = thread::spawn(move || Reader::new(&also, PATIENT).polls(2));
            let (at, back) = rings.push(shard, 1);
            resizer.join().unwrap();
            let follower = follower.join().unwrap();
            let left = follower.ring() == 1;
            noted.note("left", left);
            noted.note("given back", back);
            noted.note("left what was given back", left && back);
            noted.note("in the old one", at == Some(0));
            noted.note("read, then left", left && !follower.log().is_empty());
            let follower = conserved(&rings, follower, &[(shard, 1, at.expect("there was room"))]);
            assert_eq!((follower.stats().lost(), follower.stats().delivered), (0, 1));
        });
        seen.expect(&["left", "given back", "left what was given back", "in the old one", "read, then left"]);
    }
}

/// Programs on both CPUs.
#[test]
fn two_programs_while_their_ring_is_replaced() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let rings = Rings::new(&[1, 1]);
        let (there, also) = (Arc::clone(&rings), Arc::clone(&rings));
        let resizer = thread::spawn(move || there.resize(0));
        let other = thread::spawn(move || also.push(1, 11));
        let mine = rings.push(0, 1);
        resizer.join().unwrap();
        let other = other.join().unwrap();
        noted.note("one in each", mine.0 != other.0);
        noted.note("both given back", mine.1 && other.1);
        let at = |(at, _): (Option<usize>, bool)| at.expect("there was room");
        let follower = Reader::new(&rings, PATIENT);
        let follower = conserved(&rings, follower, &[(0, 1, at(mine)), (1, 11, at(other))]);
        assert_eq!(follower.stats().lost(), 0);
    });
    seen.expect(&["one in each", "both given back"]);
}

/// A follower meets one or two resizes, and counts the rings that it did not see: it never enters a ring whose previous
/// tickets are not recorded yet.
#[test]
fn a_follower_of_a_ring_that_is_replaced_twice() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let rings = Rings::new(&[1, 2, 1]);
        let mut pushed: Vec<Pushed> = vec![(1, 1, 0)];
        assert_eq!(rings.push(1, 1), (Some(0), false));
        let there = Arc::clone(&rings);
        let follower = thread::spawn(move || {
            let follower = Reader::new(&there, PATIENT).polls(4);
            let waits = follower.unfinished();
            (follower, waits)
        });
        rings.resize(0);
        assert_eq!(rings.push(0, 2), (Some(1), false));
        rings.resize_after(1, || assert_eq!(rings.push(1, 3), (Some(1), false)));
        pushed.extend([(0, 2, 1), (1, 3, 1)]);
        let (follower, waits) = follower.join().unwrap();
        noted.note("waited for the count", waits);
        noted.note("came to the last", follower.ring() == 2);
        let follower = conserved(&rings, follower, &pushed);
        let stats = follower.stats();
        let known = (stats.delivered, stats.lapped, stats.skipped);
        assert!([(3, 0, 0), (1, 2, 0)].contains(&known), "{stats:?}");
        noted.note("missed one", stats.lapped == 2);
        noted.note("missed none", stats.lapped == 0);
    });
    seen.expect(&["waited for the count", "came to the last", "missed one", "missed none"]);
}

/// The follower waits for an unfinished ticket in either shard as long as its patience, in this ring and in the next,
/// and then skips it.
#[test]
#[cfg_attr(not(loom), ignore = "waits by the clock of models")]
fn patience_at_the_end_of_each_ring() {
    for shard in 0..SHARDS {
        for patience in [1, 3, 8] {
            check(None, move || {
                let rings = Rings::new(&[4, 4, 4]);
                let mut follower = Reader::new(&rings, patience);
                for ring in 0..2 {
                    assert!(Bpf::Xchg.claim_for_good(rings.shard(ring, shard)).is_some());
                    rings.resize(ring);
                    for poll in 0..patience {
                        assert!(!follower.poll());
                        assert_eq!(follower.ring(), ring, "after {poll} polls of {patience}");
                    }
                    assert_eq!(follower.stats().skipped, ring as u64);
                    // One poll to skip it, one to move on, and one in the next ring.
                    follower = follower.polls(2);
                    assert_eq!((follower.ring(), follower.patience()), (ring + 1, patience));
                    assert_eq!(follower.stats().skipped, ring as u64 + 1);
                }
            });
        }
    }
}

/// A ring that was retired before the follower first read it gets the same patience as any other.
#[test]
#[cfg_attr(not(loom), ignore = "waits by the clock of models")]
fn patience_in_a_ring_that_is_replaced_at_once() {
    for patience in [1, 3] {
        check(None, move || {
            let mut rings = Rings::new(&[4, 4, 4]);
            Arc::get_mut(&mut rings).expect("nobody else has it").replaced_on_entry = Some(1);
            let mut follower = Reader::new(&rings, patience);
            for ring in 0..2 {
                assert!(Bpf::Xchg.claim_for_good(rings.shard(ring, 0)).is_some());
            }
            rings.resize(0);
            follower = follower.polls(usize::try_from(patience).unwrap() + 2);
            assert_eq!((follower.ring(), follower.stats().skipped), (1, 1));
            follower = follower.polls(usize::try_from(patience).unwrap() + 2);
            assert_eq!((follower.ring(), follower.stats().skipped), (2, 2));
        });
    }
}

/// The ring in the place of a retired ring may be the first of another loader: nothing is counted.
#[test]
fn a_loader_that_started_anew_counts_nothing_twice() {
    check(None, || {
        let rings = Rings::new(&[4, 4, 4]);
        assert_eq!(rings.push(0, 1), (Some(0), false));
        assert_eq!(rings.push(1, 2), (Some(0), false));
        rings.resize(0);
        rings.put(2);
        assert_eq!(rings.push(0, 3), (Some(2), false));
        let mut follower = Reader::new(&rings, PATIENT);
        follower.finish(&rings);
        let values: Vec<_> = follower.log().iter().map(|given| given.value).collect();
        assert_eq!(values, [1, 2, 3]);
        assert_eq!((follower.stats().delivered, follower.stats().lost()), (3, 0));
    });
}

/// The follower comes late to the next ring: it counts the records that were overwritten there.
#[test]
fn what_was_overwritten_in_the_next_ring_is_counted() {
    check(None, || {
        let rings = Rings::new(&[2, 2]);
        assert_eq!(rings.push(1, 1), (Some(0), false));
        rings.resize(0);
        for value in 2..=6 {
            assert_eq!(rings.push(1, value), (Some(1), false));
        }
        let mut follower = Reader::new(&rings, PATIENT);
        follower.finish(&rings);
        let values: Vec<_> = follower.log().iter().map(|given| given.value).collect();
        assert_eq!(values, [1, 5, 6]);
        let stats = follower.stats();
        assert_eq!((stats.delivered, stats.lapped, stats.skipped), (3, 3, 0));
    });
}
