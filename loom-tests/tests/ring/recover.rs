//! Models of recovery: producers that died, the recovery of their tickets, and later producers. The recovering thread
//! has seen the death (here: it joined the thread); readers have not.

use std::sync::Arc;

use mapring_loom_tests::history::{End, History};
use mapring_loom_tests::ring::{Claimed, PATIENT, Producer, Reader, Ring};
use mapring_loom_tests::sync::{Ordering, thread};
use mapring_loom_tests::{Seen, check};

use super::reads;

/// A producer claims a ticket, fills half of its record, and dies.
fn dies<const W: usize>(ring: &Arc<Ring<W>>, producer: impl Producer) -> u64 {
    let there = Arc::clone(ring);
    let victim = thread::spawn(move || {
        let mut slot = producer.claim(&there).unwrap();
        slot.fill(77);
        slot.abandon()
    });
    victim.join().unwrap()
}

/// A reader, at any point of the recovery, counts recovered tickets as discarded, and loses nothing.
pub(super) fn readers_pass_what_was_recovered(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(0, PATIENT), 3);
        assert_eq!(dies(&ring, producer), 0);
        assert_eq!(ring.shard_mut().recover(), 1);
        let mut history = History::default();
        history.note(Some(0), End::Discarded);
        let history = history.with(producer.push_all(&ring, 1..=2));
        let reader = reader.join().unwrap();
        noted.note("discarded meanwhile", reader.stats().discarded > 0);
        noted.note("delivered meanwhile", !reader.log().is_empty());
        noted.note("waited", reader.stats() == Default::default());
        let reader = reader.finish(&ring, &history);
        assert_eq!((reader.stats().discarded, reader.stats().lost()), (1, 0), "{reader:?}");
        ring.check(&history);
    });
    seen.expect(&["discarded meanwhile", "delivered meanwhile", "waited"]);
}

/// A reader without patience may have skipped the ticket before: it is counted once, in either case.
pub(super) fn what_was_skipped_is_not_discarded_again(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(0, 0), 3);
        assert_eq!(dies(&ring, producer), 0);
        let mut history = producer.push_all(&ring, [1]);
        assert_eq!(ring.shard_mut().recover(), 1);
        history.note(Some(0), End::Discarded);
        let reader = reader.join().unwrap().finish(&ring, &history);
        noted.note("skipped", reader.stats().skipped == 1);
        noted.note("discarded", reader.stats().discarded == 1);
        assert_eq!((reader.stats().skipped + reader.stats().discarded, reader.log()), (1, &[(1, 1)][..]));
        ring.check(&history);
    });
    seen.expect(&["skipped", "discarded"]);
}

/// The next producer of the slot writes after the dead one: no word of the dead one's record appears.
pub(super) fn no_word_of_the_dead_comes_back(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let ring = <Ring>::new(1);
        // This thread has not seen the death, only that a ticket was claimed. It comes too early, or just in time.
        let there = Arc::clone(&ring);
        let other = thread::spawn(move || match there.slot(0)[0].load(Ordering::Relaxed) {
            0 => History::default(),
            _ => producer.push_all(&there, [11]),
        });
        assert_eq!(dies(&ring, producer), 0);
        assert_eq!(ring.shard_mut().recover(), 1);
        // Read before the join: this thread has seen the dead producer's writes.
        let reader = Reader::at(0, PATIENT).steps(&ring, 2);
        let mut history = History::default();
        history.note(Some(0), End::Discarded);
        let history = history.with(other.join().unwrap());
        noted.note("too early", history.dropped() == 1);
        noted.note("just then", reader.log() == [(1, 11)]);
        let dropped = history.dropped();
        let history = history.with(producer.push_all(&ring, [3]));
        assert_eq!(history.dropped(), dropped, "the slot is free again");
        reader.finish(&ring, &history);
        ring.check(&history);
    });
    seen.expect(&["too early", "just then"]);
}

/// Two recoveries at the same time: each ticket is ended, and counted, by exactly one.
pub(super) fn two_that_recover_at_once(producer: impl Producer) {
    check(None, move || {
        let ring = <Ring>::new(2);
        let mut history = History::default();
        for ticket in 0..2 {
            assert_eq!(dies(&ring, producer), ticket);
            history.note(Some(ticket), End::Discarded);
        }
        let there = Arc::clone(&ring);
        let other = thread::spawn(move || there.shard_mut().recover());
        assert_eq!(ring.shard_mut().recover() + other.join().unwrap(), 2);
        let history = history.with(producer.push_all(&ring, 1..=2));
        assert_eq!((history.end_of_ring(), history.dropped()), (4, 0));
        ring.check(&history);
    });
}

/// For any state of the slots: ended tickets stay as they are, including those of later laps.
pub(super) fn recovery_ends_what_was_abandoned_and_nothing_else(producer: impl Producer) {
    for dead in 0..4 {
        check(None, move || {
            let ring = <Ring>::new(4);
            let mut history = producer.push_all(&ring, 0..4 + dead);
            let discarded = producer.claim(&ring).unwrap();
            history.note(Some(discarded.ticket()), End::Discarded);
            discarded.discard();
            history.note(Some(dies(&ring, producer)), End::Discarded);
            let mut history = history.with(producer.push_all(&ring, [100]));
            assert_eq!((ring.shard_mut().recover(), ring.shard_mut().recover()), (1, 0));
            Reader::at(0, PATIENT).finish(&ring, &history);
            ring.check(&history);
            history = history.with(producer.push_all(&ring, 101..109));
            assert_eq!(history.dropped(), 0);
            ring.check(&history);
        });
    }
}
