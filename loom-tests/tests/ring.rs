//! Models of the ring: the production reader against the production writer in Rust, and against
//! the one in BPF as weak machines run it. The first argument of `check` is the preemption bound.

use std::sync::Arc;

use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::history::{End, History};
use mapring_loom_tests::ring::{PATIENT, Producer, Reader, Ring, Rust};
use mapring_loom_tests::sync::thread::{self, JoinHandle};
use mapring_loom_tests::{Seen, check};

fn pushes<const W: usize>(ring: &Arc<Ring<W>>, producer: impl Producer, values: &'static [u64]) -> JoinHandle<History> {
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
