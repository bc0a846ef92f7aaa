//! Models of the ring: the production reader against the production writer in Rust, and against the BPF writer on
//! weakly ordered machines. The first argument of `check` is the preemption bound.

mod head;
mod recover;

use std::sync::Arc;

use mapring_core::protocol::ring::Start;
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::history::{End, History};
use mapring_loom_tests::ring::{Claimed, PATIENT, Producer, Reader, Ring, Rust};
use mapring_loom_tests::sync::thread::{self, JoinHandle};
use mapring_loom_tests::{Seen, check};

use head::*;
use recover::*;

fn pushes<const W: usize>(
    ring: &Arc<Ring<W>>,
    producer: impl Producer,
    values: &'static [u64],
) -> JoinHandle<History> {
    let ring = Arc::clone(ring);
    thread::spawn(move || producer.push_all(&ring, values.iter().copied()))
}

fn reads<const W: usize>(ring: &Arc<Ring<W>>, reader: Reader<W>, steps: usize) -> JoinHandle<Reader<W>> {
    let ring = Arc::clone(ring);
    thread::spawn(move || reader.steps(&ring, steps))
}

/// Each model once for each producer.
macro_rules! models {
    ($($(#[$of:meta])* $model:ident)*) => {
        mod rust { $($(#[$of])* #[test] fn $model() { super::$model(super::Rust); })* }
        mod bpf_xchg { $($(#[$of])* #[test] fn $model() { super::$model(super::Bpf::Xchg); })* }
        mod bpf_release { $($(#[$of])* #[test] fn $model() { super::$model(super::Bpf::StoreRelease); })* }
    };
}

models! {
    one_writer_laps_the_reader
    a_run_of_records
    a_wide_record_is_never_torn
    two_writers_of_one_slot
    two_writers_of_two_slots
    two_writers_and_a_reader
    a_nested_writer
    two_writers_and_a_stale_head
    a_stuck_writer_is_stepped_over
    what_was_stepped_over_is_not_lost
    #[cfg_attr(not(loom), ignore = "waits by the clock of models")]
    a_reader_waits_as_long_as_it_was_told
    #[cfg_attr(not(loom), ignore = "waits by the clock of models")]
    stuck_tickets_are_waited_for_together
    a_discarded_ticket
    a_discarded_ticket_after_a_loss
    a_discarded_record_does_not_come_back
    two_readers
    a_reader_that_joins_late
    a_late_reader_is_not_misled_by_head
    a_row_of_dead_writers_stops_nobody
    a_dead_writer_and_a_stale_head_stop_nobody
    no_ticket_is_skipped_by_who_bisected
    no_ticket_is_skipped_by_who_believed_head
    no_ticket_is_skipped_by_who_goes_on_from_a_failed_claim
    a_reader_that_looks_past_a_ticket_skips_none_that_has_ended
    readers_pass_what_was_recovered
    what_was_skipped_is_not_discarded_again
    no_word_of_the_dead_comes_back
    two_that_recover_at_once
    recovery_ends_what_was_abandoned_and_nothing_else
}

#[test]
fn a_guarded_claim_that_was_interrupted() {
    a_guarded_claim_that_was_interrupted_is_waited_for();
}

fn one_writer_laps_the_reader(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at(0, PATIENT), 3);
        let history = producer.push_all(&ring, 1..=3);
        let reader = reader.join().unwrap();
        noted.note("torn", reader.stats().torn > 0);
        noted.note("delivered meanwhile", !reader.log().is_empty());
        let reader = reader.finish(&ring, &history);
        noted.note("lapped", reader.stats().lapped > 0);
        assert_eq!(reader.stats().skipped, 0);
        ring.check(&history);
    });
    seen.expect(&["torn", "lapped", "delivered meanwhile"]);
}

fn a_run_of_records(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let there = Arc::clone(&ring);
        // Two tickets to the end of the first lap, and one of the next.
        let reader = thread::spawn(move || Reader::at(0, PATIENT).run(&there, 3).run(&there, 1));
        let history = producer.push_all(&ring, 1..=4);
        let reader = reader.join().unwrap();
        noted.note("one and torn", reader.log().len() == 1 && reader.stats().torn > 0);
        noted.note("all of them", reader.log().len() == 3);
        let reader = reader.finish(&ring, &history);
        assert_eq!(reader.stats().skipped, 0);
        ring.check(&history);
    });
    seen.expect(&["one and torn", "all of them"]);
}

fn a_wide_record_is_never_torn(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::<3>::new(1);
        let reader = reads(&ring, Reader::at(0, PATIENT), 2);
        let history = producer.push_all(&ring, 1..=3);
        let reader = reader.join().unwrap();
        noted.note("torn", reader.stats().torn > 0);
        noted.note("delivered meanwhile", !reader.log().is_empty());
        reader.finish(&ring, &history);
        ring.check(&history);
    });
    seen.expect(&["torn", "delivered meanwhile"]);
}

fn two_writers_of_one_slot(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let ring = <Ring>::new(1);
        let reader = reads(&ring, Reader::at(0, PATIENT), 2);
        let other = pushes(&ring, producer, &[11]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        noted.note("dropped", history.dropped() > 0);
        let reader = reader.join().unwrap().finish(&ring, &history);
        noted.note("both delivered", reader.stats().delivered == 2);
        noted.note("lapped", reader.stats().lapped == 1);
        ring.check(&history);
    });
    seen.expect(&["dropped", "both delivered", "lapped"]);
}

/// Only producers: no reader runs before they have ended.
fn two_writers_of_two_slots(producer: impl Producer) {
    check(Some(3), move || {
        let ring = <Ring>::new(2);
        let other = pushes(&ring, producer, &[11, 12]);
        let history = producer.push_all(&ring, [1, 2]).with(other.join().unwrap());
        Reader::at(0, PATIENT).finish(&ring, &history);
        ring.check(&history);
    });
}

fn two_writers_and_a_reader(producer: impl Producer) {
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at(0, PATIENT), 2);
        let other = pushes(&ring, producer, &[11, 12]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        reader.join().unwrap().finish(&ring, &history);
        ring.check(&history);
    });
}

/// A program that interrupts another between its claim and its commit, and commits first.
fn a_nested_writer(producer: impl Producer) {
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at(0, 0), 3);
        let mut outer = producer.claim(&ring).unwrap();
        let mut history = producer.push_all(&ring, 11..=12);
        let ticket = outer.ticket();
        outer.fill(1);
        outer.publish();
        history.note(Some(ticket), End::Published(1));
        assert_eq!(history.dropped(), 0);
        reader.join().unwrap().finish(&ring, &history);
        ring.check(&history);
    });
}

/// One ticket stays claimed while others pass it, and may end long after readers skipped it.
fn a_stuck_writer_is_stepped_over(producer: impl Producer) {
    for ends in [false, true] {
        let seen = Seen::default();
        let noted = seen.clone();
        check(Some(2), move || {
            let ring = <Ring>::new(2);
            let mut history = History::default();
            let mut stuck = producer.claim(&ring).unwrap();
            history.note(Some(stuck.ticket()), End::Held);
            let reader = reads(&ring, Reader::at(0, 0), 3);
            let other = pushes(&ring, producer, &[11, 12]);
            if ends {
                stuck.fill(1);
                stuck.publish();
                history.end(0, End::Published(1));
            } else {
                stuck.abandon();
            }
            let history = history.with(other.join().unwrap());
            assert_eq!(history.dropped(), 0);
            let reader = reader.join().unwrap().finish(&ring, &history);
            noted.note("skipped", reader.stats().skipped > 0);
            noted.note("delivered", reader.log().first() == Some(&(0, 1)));
            ring.check(&history);
        });
        seen.expect(if ends { &["skipped", "delivered"] } else { &["skipped"] });
    }
}

/// A record that never ends is lost once. The later tickets of its slot are nobody's, and are not lost.
fn what_was_stepped_over_is_not_lost(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let mut history = History::default();
        history.note(producer.claim_for_good(&ring), End::Held);
        let history = history.with(producer.push_all(&ring, [1]));
        let mut reader = Reader::at(0, 0);
        reader.drain(&ring);
        let reader = reads(&ring, reader, 2);
        let history = history.with(producer.push_all(&ring, [2]));
        let reader = reader.join().unwrap();
        noted.note("meanwhile", reader.stats().stepped_over > 0);
        let stats = reader.finish(&ring, &history).stats();
        assert_eq!((stats.delivered, stats.lost(), stats.skipped, stats.stepped_over), (2, 1, 1, 1));
        ring.check(&history);
    });
    seen.expect(&["meanwhile"]);
}

/// Slots are free behind the stuck ticket, so only patience counts. Reads of the slot are 16 steps apart, and each
/// advances the models' clock by one. An earlier idle period does not count.
fn a_reader_waits_as_long_as_it_was_told(producer: impl Producer) {
    for (patience, steps) in [(0, 1), (1, 32), (3, 64)] {
        check(None, move || {
            let ring = <Ring>::new(4);
            let reader = Reader::at(0, patience).steps(&ring, 64);
            let mut history = History::default();
            history.note(producer.claim_for_good(&ring), End::Held);
            let history = history.with(producer.push_all(&ring, [1]));
            let reader = reader.steps(&ring, steps - 1);
            assert_eq!(reader.stats().skipped, 0, "after {steps} steps but one");
            let reader = reader.steps(&ring, 2);
            assert_eq!((reader.stats().skipped, reader.log()), (1, &[(1, 1)][..]));
            ring.check(&history);
        });
    }
}

/// Tickets that were claimed when the wait began are skipped together at its end; later ones get their own wait.
fn stuck_tickets_are_waited_for_together(producer: impl Producer) {
    check(None, move || {
        let ring = <Ring>::new(16);
        let mut history = History::default();
        let stuck = |history: &mut History| history.note(producer.claim_for_good(&ring), End::Held);
        (0..3).for_each(|_| stuck(&mut history));
        let mut history = history.with(producer.push_all(&ring, [3]));
        let reader = Reader::at(0, 2).steps(&ring, 32);
        stuck(&mut history);
        let history = history.with(producer.push_all(&ring, [5]));
        // The third read of the slot, two more tickets, and the record.
        let reader = reader.steps(&ring, 16 + 2 + 1);
        assert_eq!((reader.stats().skipped, reader.log()), (3, &[(3, 3)][..]));
        let reader = reader.steps(&ring, 47);
        assert_eq!((reader.stats().skipped, reader.next()), (3, 4));
        let reader = reader.steps(&ring, 2);
        assert_eq!((reader.stats().skipped, reader.log()), (4, &[(3, 3), (5, 5)][..]));
        ring.check(&history);
    });
}

fn a_discarded_ticket(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at(0, PATIENT), 2);
        let mut history = producer.push_all(&ring, [1]);
        let mut unwanted = producer.claim(&ring).unwrap();
        history.note(Some(unwanted.ticket()), End::Discarded);
        unwanted.fill(2);
        unwanted.discard();
        let history = history.with(producer.push_all(&ring, [3]));
        assert_eq!((history.end_of_ring(), history.dropped()), (3, 0));
        let reader = reader.join().unwrap();
        noted.note("discarded", reader.stats().discarded > 0);
        let reader = reader.finish(&ring, &history);
        assert_eq!((reader.stats().skipped, reader.log().last()), (0, Some(&(2, 3))));
        ring.check(&history);
    });
    seen.expect(&["discarded"]);
}

/// Each cause is counted separately, whatever was lost before.
fn a_discarded_ticket_after_a_loss(producer: impl Producer) {
    check(None, move || {
        let ring = <Ring>::new(4);
        let mut history = producer.push_all(&ring, 0..6);
        let unwanted = producer.claim(&ring).unwrap();
        history.note(Some(unwanted.ticket()), End::Discarded);
        unwanted.discard();
        let history = history.with(producer.push_all(&ring, [7]));
        let reader = Reader::at(0, PATIENT).steps(&ring, 40);
        assert_eq!(reader.log(), [(4, 4), (5, 5), (7, 7)]);
        reader.finish(&ring, &history);
    });
}

/// The discarding producer has written to the slot, and the next producer of the slot writes after that.
fn a_discarded_record_does_not_come_back(producer: impl Producer) {
    check(Some(3), move || {
        let ring = <Ring>::new(1);
        let other = pushes(&ring, producer, &[11]);
        let mut history = History::default();
        let unwanted = producer.claim(&ring);
        history.note(unwanted.as_ref().map(Claimed::ticket), End::Discarded);
        if let Some(mut slot) = unwanted {
            slot.fill(2);
            slot.discard();
        }
        // Read by this thread before the join: its own discarded record must not appear.
        let reader = Reader::at(0, PATIENT).steps(&ring, 2);
        let history = history.with(other.join().unwrap());
        let dropped = history.dropped();
        let history = history.with(producer.push_all(&ring, [3]));
        assert_eq!(history.dropped(), dropped, "the slot is free again");
        reader.finish(&ring, &history);
        ring.check(&history);
    });
}

fn two_readers(producer: impl Producer) {
    check(Some(2), move || {
        let ring = <Ring>::new(1);
        let readers = [1, 1].map(|steps| reads(&ring, Reader::at(0, PATIENT), steps));
        let history = producer.push_all(&ring, 1..=2);
        for reader in readers {
            reader.join().unwrap().finish(&ring, &history);
        }
        ring.check(&history);
    });
}

fn a_reader_that_joins_late(producer: impl Producer) {
    for start in [Start::Oldest, Start::First, Start::Now] {
        let seen = Seen::default();
        let noted = seen.clone();
        check(Some(2), move || {
            let ring = <Ring>::new(2);
            let before = producer.push_all(&ring, [1]);
            let there = Arc::clone(&ring);
            let reader = thread::spawn(move || Reader::new(&there, start, PATIENT).steps(&there, 2));
            let history = before.with(producer.push_all(&ring, 2..=3));
            let reader = reader.join().unwrap().finish(&ring, &history);
            assert_eq!(reader.stats().skipped, 0, "{reader:?}");
            match start {
                Start::First => {
                    assert_eq!(reader.first(), 0);
                    noted.note("all", reader.stats().delivered == 3);
                }
                Start::Oldest => noted.note("all", reader.stats().delivered == 3),
                Start::Now => {
                    assert!(reader.first() > 0, "{reader:?}");
                    noted.note("all", reader.stats().delivered == 2);
                }
            }
            noted.note("none", reader.first() == 3 && start == Start::Now);
            ring.check(&history);
        });
        seen.expect(if start == Start::Now { &["all", "none"] } else { &["all"] });
    }
}
