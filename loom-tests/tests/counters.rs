//! Models of counters: no addition is lost, and no reader sees a counter decrease.

use std::sync::Arc;

use mapring_core::protocol::{Words, WordsMut, counters};
use mapring_loom_tests::check;
use mapring_loom_tests::sync::{AtomicU64, thread, words};

#[test]
fn sums_are_exact_and_only_grow() {
    check(Some(3), || {
        let bank: Arc<[AtomicU64]> = words(2).into();
        let add = |bank: &[AtomicU64]| {
            counters::add(WordsMut::new(bank), 0, 1);
            counters::add(WordsMut::new(bank), 1, 10);
            counters::add(WordsMut::new(bank), 0, 2);
        };
        let (there, here) = (Arc::clone(&bank), Arc::clone(&bank));
        let other = thread::spawn(move || add(&there));
        let reader = thread::spawn(move || [0, 0, 1].map(|index| counters::get(Words::new(&here), index)));
        add(&bank);
        other.join().unwrap();
        let [first, second, other] = reader.join().unwrap();
        assert!(first <= second && second <= 6, "{first} then {second}");
        assert!([0, 10, 20].contains(&other), "{other}");
        assert_eq!([0, 1].map(|index| counters::get(Words::new(&bank), index)), [6, 20]);
    });
}
