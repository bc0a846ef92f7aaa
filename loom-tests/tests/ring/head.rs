//! The ring where `head` is stale or scribbled over: nobody may be misled by it, and on weak
//! machines what it does say must be known to whoever believes it.

use mapring::protocol::ring::Start;
use mapring_loom_tests::check;
use mapring_loom_tests::history::End;
use mapring_loom_tests::ring::{PATIENT, Producer, Reader, Ring};

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

/// Nothing was overwritten and everyone ended what they began, so there is nothing to lose. The
/// reader's next step is one that looks past its ticket.
pub(super) fn a_reader_that_looks_past_a_ticket_skips_none_that_has_ended(producer: impl Producer) {
    check(Some(3), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(0, PATIENT).steps(&ring, 15), 2);
        let other = pushes(&ring, producer, &[11]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        assert_eq!(reader.tally().skipped, 0, "{reader:?}");
        let reader = reader.finish(&ring, &history);
        assert_eq!(reader.tally().delivered, 2);
        ring.check(&history);
    });
}

/// The same where a producer learns from `head` of a ticket that it never looked at.
pub(super) fn no_ticket_is_skipped_by_who_believed_head(producer: impl Producer) {
    check(Some(1), move || {
        let ring = <Ring>::new(4);
        let reader = reads(&ring, Reader::at(1, PATIENT).steps(&ring, 15), 1);
        let other = pushes(&ring, producer, &[11, 12]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        assert_eq!(reader.tally().skipped, 0, "{reader:?}");
        reader.finish(&ring, &history);
        ring.check(&history);
    });
}

/// The same where that `head` was left behind by a claim that failed.
pub(super) fn no_ticket_is_skipped_by_who_goes_on_from_a_failed_claim(producer: impl Producer) {
    check(Some(1), move || {
        let ring = <Ring>::new(8);
        let mut history = producer.push_all(&ring, 0..4);
        history.note(producer.claim(&ring), End::Held);
        let history = history.with(producer.push_all(&ring, 5..14));
        // From slot 0, the bisection looks at slot 4 first, which is stuck: ticket 12 is a hole,
        // and one claim comes as far as the first free ticket, the next one fails behind it.
        ring.set_head(0);
        let end = history.end_of_ring();
        let reader = reads(&ring, Reader::at(end, PATIENT).steps(&ring, 15), 1);
        let others = [&[101_u64], &[102]].map(|values| pushes(&ring, producer, values));
        let mut history = history.with(producer.push_all(&ring, [111]));
        for other in others {
            history = history.with(other.join().unwrap());
        }
        let reader = reader.join().unwrap();
        assert_eq!(reader.tally().skipped, 0, "{reader:?}");
        reader.finish(&ring, &history);
        ring.check(&history);
    });
}

/// A producer was interrupted after it had claimed and before it stored `head`, for laps.
pub(super) fn a_late_reader_is_not_misled_by_head(producer: impl Producer) {
    for slots in [2, 4, 16] {
        for interrupted in 0..slots {
            check(None, move || {
                let ring = <Ring>::new(slots);
                let mut history = producer.push_all(&ring, 1..=interrupted);
                let held = producer.claim(&ring);
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

/// A writer died, one slot is lost for good. Then another one was interrupted before it stored
/// `head`, for more than a lap. Wherever that leaves `head`, producers find their way.
pub(super) fn a_dead_writer_and_a_stale_head_stop_nobody(producer: impl Producer) {
    let slots = 16;
    for head in 0..31 {
        check(None, move || {
            let ring = <Ring>::new(slots);
            let mut history = producer.push_all(&ring, 0..8);
            history.note(producer.claim(&ring), End::Held);
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

/// One of the producers finds the end by bisection, past a ticket that it never looks at.
pub(super) fn no_ticket_is_skipped_by_who_bisected(producer: impl Producer) {
    check(Some(1), move || {
        let ring = <Ring>::new(8);
        let history = producer.push_all(&ring, 0..16);
        // Its next step looks for later tickets.
        let reader = reads(&ring, Reader::new(&ring, Start::Now, PATIENT).steps(&ring, 15), 1);
        ring.set_head(5);
        let other = pushes(&ring, producer, &[101, 102]);
        let history = history.with(producer.push_all(&ring, [111])).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        assert_eq!(reader.tally().skipped, 0, "{reader:?}");
        reader.finish(&ring, &history);
        ring.check(&history);
    });
}
