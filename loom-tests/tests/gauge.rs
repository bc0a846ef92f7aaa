//! Models of gauges: no extreme value is lost, words never go back, and a window never has the values of another.

use std::sync::Arc;

use mapring_core::abi::gauge::WINDOWS;
use mapring_core::protocol::{WordsMut, gauge};
use mapring_loom_tests::check;
use mapring_loom_tests::sync::{AtomicU64, Ordering, thread, words};

/// The window that has place 0: its number, minimum and maximum.
fn look(gauge: &[AtomicU64]) -> Option<(u64, u64, u64)> {
    let found = gauge::try_read(|at| gauge[at].load(Ordering::Relaxed), 0);
    found.map(|found| (found.window, found.min, found.max))
}

/// Two words: windows 0, 1024, … have this place.
fn place() -> Arc<[AtomicU64]> {
    words(2).into()
}

#[test]
fn no_extreme_value_is_lost() {
    check(Some(3), || {
        let gauge = place();
        let (there, here) = (Arc::clone(&gauge), Arc::clone(&gauge));
        let other = thread::spawn(move || gauge::set(WordsMut::new(&there), 0, 9));
        let reader = thread::spawn(move || [look(&here), look(&here)]);
        assert!([5, 7].map(|value| gauge::set(WordsMut::new(&gauge), 0, value)).iter().all(|set| *set));
        assert!(other.join().unwrap());
        assert_eq!(look(&gauge), Some((0, 5, 9)));
        let reads = reader.join().unwrap();
        for (window, min, max) in reads.into_iter().flatten() {
            assert!(window == 0 && min <= max && [5, 7, 9].contains(&min) && [5, 7, 9].contains(&max));
        }
        if let [Some(first), second] = reads {
            assert!(second.is_some_and(|second| second.2 >= first.2 && second.1 <= first.1), "{reads:?}");
        }
    });
}

#[test]
fn a_new_window_begins_empty() {
    check(None, || {
        let (gauge, later) = (place(), WINDOWS as u64);
        assert!(gauge::set(WordsMut::new(&gauge), 0, 1) && gauge::set(WordsMut::new(&gauge), 0, 1000));
        let (there, here) = (Arc::clone(&gauge), Arc::clone(&gauge));
        let other = thread::spawn(move || gauge::set(WordsMut::new(&there), later, 30));
        let reader = thread::spawn(move || look(&here));
        assert!(gauge::set(WordsMut::new(&gauge), later, 20));
        // A second late: its place is taken, and it says so.
        assert!(!gauge::set(WordsMut::new(&gauge), 0, 2000));
        assert!(other.join().unwrap());
        assert_eq!(look(&gauge), Some((later, 20, 30)));
        let Some(found) = reader.join().unwrap() else { return };
        let new = |value| value == 20 || value == 30;
        let is_new = found.0 == later && new(found.1) && new(found.2) && found.1 <= found.2;
        assert!(found == (0, 1, 1000) || is_new, "{found:?}");
    });
}
