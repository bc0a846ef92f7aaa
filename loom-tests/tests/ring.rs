//! Models of the ring: the production reader against the production writer in Rust, and against
//! the one in BPF as weak machines run it. The first argument of `check` is the preemption bound.

use std::sync::Arc;

use mapring::protocol::ring::Start;
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::history::{End, History};
use mapring_loom_tests::ring::{PATIENT, Producer, Reader, Ring, Rust};
use mapring_loom_tests::sync::thread::{self, JoinHandle};
use mapring_loom_tests::{Seen, check};

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
    ($($model:ident)*) => {
        mod rust { $(#[test] fn $model() { super::$model(super::Rust); })* }
        mod bpf_xchg { $(#[test] fn $model() { super::$model(super::Bpf::Xchg); })* }
        mod bpf_release { $(#[test] fn $model() { super::$model(super::Bpf::StoreRelease); })* }
    };
}

models! {
    one_writer_laps_the_reader
    a_wide_record_is_never_torn
    two_writers_of_one_slot
    two_writers_of_two_slots
    a_nested_writer
    a_late_reader_is_not_misled_by_head
    a_dead_writer_and_a_stale_head_stop_nobody
    no_ticket_is_skipped_by_who_bisected
    a_reader_that_looks_past_a_ticket_skips_none_that_has_ended
}

fn one_writer_laps_the_reader(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at_0(PATIENT), 3);
        let history = producer.push_all(&ring, 1..=4);
        let reader = reader.join().unwrap();
        noted.note("torn", reader.tally().torn > 0);
        noted.note("delivered meanwhile", !reader.log().is_empty());
        let reader = reader.finish(&ring, &history);
        noted.note("lapped", reader.tally().lapped > 0);
        assert_eq!(reader.tally().skipped, 0);
        ring.check(&history);
    });
    seen.expect(&["torn", "lapped", "delivered meanwhile"]);
}

fn a_wide_record_is_never_torn(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = Ring::<3>::new(1);
        let reader = reads(&ring, Reader::at_0(PATIENT), 2);
        let history = producer.push_all(&ring, 1..=3);
        let reader = reader.join().unwrap();
        noted.note("torn", reader.tally().torn > 0);
        noted.note("delivered meanwhile", !reader.log().is_empty());
        reader.finish(&ring, &history);
        ring.check(&history);
    });
    seen.expect(&["torn", "delivered meanwhile"]);
}

fn two_writers_of_one_slot(producer: impl Producer) {
    let seen = Seen::default();
    let noted = seen.clone();
    check(Some(2), move || {
        let ring = <Ring>::new(1);
        let reader = reads(&ring, Reader::at_0(PATIENT), 2);
        let other = pushes(&ring, producer, &[11, 12]);
        let history = producer.push_all(&ring, 1..=2).with(other.join().unwrap());
        noted.note("dropped", history.dropped() > 0);
        reader.join().unwrap().finish(&ring, &history);
        ring.check(&history);
    });
    seen.expect(&["dropped"]);
}

fn two_writers_of_two_slots(producer: impl Producer) {
    check(Some(2), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at_0(PATIENT), 2);
        let other = pushes(&ring, producer, &[11, 12]);
        let history = producer.push_all(&ring, 1..=2).with(other.join().unwrap());
        reader.join().unwrap().finish(&ring, &history);
        ring.check(&history);
    });
}

fn a_nested_writer(producer: impl Producer) {
    check(Some(3), move || {
        let ring = <Ring>::new(2);
        let reader = reads(&ring, Reader::at_0(3), 4);
        let outer = producer.claim(&ring);
        let mut history = producer.push_all(&ring, 11..=12);
        producer.fill(&ring, outer.unwrap(), 1);
        producer.publish(&ring, outer.unwrap());
        history.note(outer, End::Published(1));
        let history = history.with(producer.push_all(&ring, [2]));
        reader.join().unwrap().finish(&ring, &history);
        ring.check(&history);
    });
}

/// Nothing was overwritten and everyone ended what they began, so there is nothing to lose.
fn a_reader_that_looks_past_a_ticket_skips_none_that_has_ended(producer: impl Producer) {
    check(Some(3), move || {
        let ring = <Ring>::new(4);
        // Its next step looks for later tickets.
        let reader = reads(&ring, Reader::at_0(PATIENT).steps(&ring, 15), 2);
        let other = pushes(&ring, producer, &[11]);
        let history = producer.push_all(&ring, [1]).with(other.join().unwrap());
        let reader = reader.join().unwrap();
        assert_eq!(reader.tally().skipped, 0, "{reader:?}");
        let reader = reader.finish(&ring, &history);
        assert_eq!(reader.tally().delivered, 2);
        ring.check(&history);
    });
}

/// A producer was interrupted after it had claimed and before it stored `head`, for laps.
fn a_late_reader_is_not_misled_by_head(producer: impl Producer) {
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
                let early = Reader::at_0(PATIENT).steps(&ring, 200);
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
fn a_dead_writer_and_a_stale_head_stop_nobody(producer: impl Producer) {
    let slots = 16;
    for head in 0..31 {
        check(None, move || {
            let ring = <Ring>::new(slots);
            let mut history = producer.push_all(&ring, 0..8);
            history.note(producer.claim(&ring), End::Held);
            let history = history.with(producer.push_all(&ring, 9..30));
            assert_eq!((history.end_of_ring(), history.dropped()), (31, 0));
            ring.set_head(head);
            let history = history.with(producer.push_all(&ring, 100..110));
            assert!(history.dropped() <= 1, "head {head}: {history:?}");
            ring.check(&history);
        });
    }
}

/// One of the producers finds the end by bisection, past a ticket that it never looks at.
fn no_ticket_is_skipped_by_who_bisected(producer: impl Producer) {
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
