//! The ring with a stale or overwritten `head`: it must mislead neither readers nor producers. On weakly ordered
//! machines, a thread that relies on `head` must also see the writes that `head` implies.

use std::sync::Arc;

use mapring_core::abi::seq::PENDING;
use mapring_core::protocol::ring::Start;
use mapring_loom_tests::history::{End, History};
use mapring_loom_tests::ring::{PATIENT, Producer, Reader, Ring};
use mapring_loom_tests::sync::{Ordering, thread};
use mapring_loom_tests::{Seen, check};

use super::{pushes, reads};

pub(super) fn two_writers_and_a_stale_head(producer: impl Producer) {
    for head in [0, 1, 3, 5] {
        check(None, move || {
            let ring = <Ring>::new(4);
            let history = producer.push_all(&ring, 0..6);
            ring.set_head(head);
            let other = pushes(&ring, producer, &[101]);
            let history = history.with(producer.push_all(&ring, [111])).with(other.join().unwrap());
            assert_eq!((history.end_of_ring(), history.dropped()), (8, 0));
            ring.check(&history);
        });
    }
}

/// Nothing was overwritten and every ticket has ended, so no record may be lost. The reader's next step looks past its
/// ticket.
pub(super) fn a_reader_that_looks_past_a_ticket_skips_none_that_has_ended(producer: impl Producer) {
    check(Some(3), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(0, PATIENT).steps(&ring, 15), 2);
        let other = pushes(&ring, producer, &[11]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        assert_eq!(reader.stats().skipped, 0, "{reader:?}");
        let reader = reader.finish(&ring, &history);
        assert_eq!(reader.stats().delivered, 2);
        ring.check(&history);
    });
}

/// A program is interrupted in the middle of a guarded claim of ticket 0, after it advanced `head`, by another program
/// whose ticket ends: slot 0 seems free, behind a ticket that has ended. The first program still ends ticket 0.
pub(super) fn a_guarded_claim_that_was_interrupted_is_waited_for() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(3), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(0, PATIENT).steps(&ring, 15), 2);
        let mut history = History::default();
        let push = |t: u64, head: u64| {
            ring.slot(t)[0].store(1, Ordering::Release);
            ring.header()[0].store(head, Ordering::Release);
            ring.slot(t)[1].store(t, Ordering::Relaxed);
            ring.slot(t)[0].store(2, Ordering::Release);
        };
        ring.header()[0].store(1 | PENDING, Ordering::Release);
        push(1, 2 | PENDING);
        push(0, 1);
        (0..2).for_each(|t| history.note(Some(t), End::Published(t)));
        let reader = reader.join().unwrap();
        assert_eq!(reader.stats().skipped, 0, "{reader:?}");
        noted.note("waited", reader.log().is_empty());
        let reader = reader.finish(&ring, &history);
        assert_eq!(reader.stats().delivered, 2);
    });
    seen.expect(&["waited"]);
}

/// As [`a_reader_that_looks_past_a_ticket_skips_none_that_has_ended`], if a producer learns from `head` of a ticket that
/// it never read itself.
pub(super) fn no_ticket_is_skipped_by_who_believed_head(producer: impl Producer) {
    check(Some(1), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(1, PATIENT).steps(&ring, 15), 1);
        let other = pushes(&ring, producer, &[11, 12]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        assert_eq!(reader.stats().skipped, 0, "{reader:?}");
        reader.finish(&ring, &history);
        ring.check(&history);
    });
}

/// The same, if a producer finds the end by bisection, past a ticket that it never reads.
pub(super) fn no_ticket_is_skipped_by_who_bisected(producer: impl Producer) {
    check(Some(0), move || {
        let ring = <Ring>::new(4);
        let history = producer.push_all(&ring, 0..8);
        // From slot 3, the bisection reads ticket 9 and not 8.
        ring.set_head(3);
        two_claims_a_record_and_a_reader(&ring, producer, history);
    });
}

/// The same, if a failed claim stored that `head`.
pub(super) fn no_ticket_is_skipped_by_who_goes_on_from_a_failed_claim(producer: impl Producer) {
    check(Some(0), move || {
        let ring = <Ring>::new(8);
        let mut history = producer.push_all(&ring, 0..4);
        history.note(producer.claim_for_good(&ring), End::Held);
        let history = history.with(producer.push_all(&ring, 5..14));
        // From slot 0, the bisection first reads slot 4, which is stuck: ticket 12 is a hole. One claim reaches the
        // first free ticket, and the next one fails behind it.
        ring.set_head(0);
        two_claims_a_record_and_a_reader(&ring, producer, history);
    });
}

/// Two producers claim a ticket each and stop, a third one publishes a record, and a reader looks past the first of
/// these tickets. Without preemptions they run one after the other, and only the values that each of them may load are
/// left to explore.
fn two_claims_a_record_and_a_reader(ring: &Arc<Ring>, producer: impl Producer, mut history: History) {
    let reader = Reader::at(history.end_of_ring(), PATIENT).steps(ring, 15);
    let claims = [0; 2].map(|_| {
        let ring = Arc::clone(ring);
        thread::spawn(move || {
            let mut history = History::default();
            history.note(producer.claim_for_good(&ring), End::Held);
            history
        })
    });
    let record = pushes(ring, producer, &[101]);
    let reader = reads(ring, reader, 1);
    for producer in claims.into_iter().chain([record]) {
        history = history.with(producer.join().unwrap());
    }
    let reader = reader.join().unwrap();
    assert_eq!(reader.stats().skipped, 0, "{reader:?}");
    reader.finish(ring, &history);
    ring.check(&history);
}

/// A producer was interrupted for laps, after its claim and before it stored `head`.
pub(super) fn a_late_reader_is_not_misled_by_head(producer: impl Producer) {
    for slots in [2, 4, 16] {
        for interrupted in 0..slots {
            check(None, move || {
                let ring = <Ring>::new(slots);
                let mut history = producer.push_all(&ring, 1..=interrupted);
                let held = producer.claim_for_good(&ring);
                history.note(held, End::Held);
                let history = history.with(producer.push_all(&ring, 100..100 + 3 * slots));
                ring.set_head(interrupted + 1);
                let now = Reader::new(&ring, Start::Now, PATIENT).finish(&ring, &history);
                assert_eq!((now.first(), now.log()), (history.end_of_ring(), &[][..]), "{slots} {now:?}");
                let oldest = Reader::new(&ring, Start::Oldest, PATIENT);
                assert_eq!(oldest.first(), history.end_of_ring() - slots, "{oldest:?}");
                let early = Reader::at(0, PATIENT).steps(&ring, 200);
                let safe = history.end_of_ring() - (slots - slots / 8);
                let expected = history.readable(slots).filter(|&(t, _)| t >= safe);
                assert!(early.log().iter().copied().eq(expected), "{early:?} {history:?}");
                early.finish(&ring, &history);
                ring.check(&history);
            });
        }
    }
}

/// A writer died, so one slot is lost permanently. Then another was interrupted for more than a lap before it stored
/// `head`. For any resulting `head`, producers find a free slot.
pub(super) fn a_dead_writer_and_a_stale_head_stop_nobody(producer: impl Producer) {
    let slots = 16;
    for head in 0..31 {
        check(None, move || {
            let ring = <Ring>::new(slots);
            let mut history = producer.push_all(&ring, 0..8);
            history.note(producer.claim_for_good(&ring), End::Held);
            let history = history.with(producer.push_all(&ring, 9..30));
            assert_eq!((history.end_of_ring(), history.dropped()), (31, 0));
            for scribbled in [1000, 1 << 63, u64::MAX, head] {
                ring.set_head(scribbled);
                ring.check(&history);
                Reader::at(0, PATIENT).finish(&ring, &history);
            }
            let history = history.with(producer.push_all(&ring, 100..110));
            assert!(history.dropped() <= 1, "head {head}: {history:?}");
            ring.check(&history);
        });
    }
}

/// Writers died one after the other. On each lap, that costs one record, and not the whole shard.
pub(super) fn a_row_of_dead_writers_stops_nobody(producer: impl Producer) {
    for dead in 1..12 {
        check(None, move || {
            let ring = <Ring>::new(16);
            let mut history = producer.push_all(&ring, 0..2);
            (0..dead).for_each(|_| history.note(producer.claim_for_good(&ring), End::Held));
            let history = history.with(producer.push_all(&ring, 100..200));
            let rounds = 100 / (16 - dead) + 1;
            assert!(history.dropped() <= rounds * (dead / 6), "{dead} dead: {history:?}");
            // The last claim stores a `head` that lets readers find the records behind a long row of stuck tickets.
            let history = history.with(producer.push_all(&ring, 200..203));
            assert!(history.tickets().any(|(_, end)| end == End::Published(202)));
            Reader::at(0, PATIENT).finish(&ring, &history);
            ring.check(&history);
        });
    }
}
