//! Gauges: words that only grow. Each holds its own time, so nothing is ever reset. A writer raises the maximum of a
//! window before its minimum, and a reader loads them in the other order: it never sees a minimum above the maximum.
//!
//! If a reader read a later window of a CPU before a value's writer returned, its next reads leave that value out.
//! `Gauges::windows` has it.

use super::WordsMut;
use crate::abi::gauge::{VALUE_MAX, WINDOWS, same_window, unpack, words};
use crate::sync::{At, Ordering, fence, order};

/// How often a writer tries to raise a word that others raise at the same time.
pub const TRIES: usize = 4;

/// Notes a value in its window. Returns whether it is recorded: not if a later window has its place already, nor if
/// [`TRIES`] others came in between.
#[inline]
pub fn set(gauge: WordsMut<'_>, window: u64, value: u64) -> bool {
    let at = 2 * place(window);
    let [max, min] = words(window, value);
    let max = raise(gauge, at, max);
    raise(gauge, at + 1, min) && max
}

fn raise(gauge: WordsMut<'_>, at: usize, word: u64) -> bool {
    for _ in 0..TRIES {
        let seen = gauge.load(at, Ordering::Relaxed);
        if seen >= word {
            return same_window(seen, word);
        }
        // SYNC extremes: a reader that sees this minimum sees a maximum that is at least as large
        if gauge.swap_if(at, seen, word, order!(At::GaugeRaise)) {
            return true;
        }
    }
    false
}

/// The smallest and the largest value of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extremes {
    /// The number of the window.
    pub window: u64,
    /// The smallest value.
    pub min: u64,
    /// The largest value.
    pub max: u64,
}

/// The window that has this place now, unless none has, or its first value is just being set; `load` loads a word of the gauge.
#[inline]
pub fn try_read(load: impl Fn(usize) -> u64, place: usize) -> Option<Extremes> {
    let min = unpack(load(2 * place + 1), place);
    fence(order!(At::GaugeRead)); // SYNC extremes: pairs with the swap in `raise`
    let max = unpack(load(2 * place), place);
    // If the windows differ, a writer has changed only one of the words yet.
    let ((window, min), (_, max)) = min.zip(max).filter(|(min, max)| min.0 == max.0)?;
    let min = VALUE_MAX - min;
    // Copies by system call have no order.
    Some(Extremes { window, min: min.min(max), max: max.max(min) })
}

fn place(window: u64) -> usize {
    usize::try_from(window % WINDOWS as u64).expect("less than WINDOWS")
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    #[test]
    fn a_window_has_its_smallest_and_its_largest_value() {
        let memory: Vec<_> = (0..2 * WINDOWS).map(|_| AtomicU64::new(0)).collect();
        let gauge = WordsMut::new(&memory);
        let read = |place| {
            try_read(|at| gauge.load(at, Ordering::Relaxed), place).map(|it| (it.window, it.min, it.max))
        };
        let turn = WINDOWS as u64;
        assert_eq!(read(3), None);
        assert!([5, 9, 7].into_iter().all(|value| set(gauge, 3, value)));
        assert!(set(gauge, 4, 6));
        assert_eq!([read(3), read(4), read(5)], [Some((3, 5, 9)), Some((4, 6, 6)), None]);
        assert!(set(gauge, turn + 3, 1), "the window a turn later has the place");
        assert!(!set(gauge, 3, 2) && set(gauge, turn + 3, 0));
        assert_eq!(read(3), Some((turn + 3, 0, 1)));
        // A writer was interrupted between its two words.
        gauge.store(6, words(2 * turn + 3, 8)[0], Ordering::Relaxed);
        assert_eq!(read(3), None);
        assert!(!set(gauge, turn + 3, 0), "half of it is in a later window");
        // Copies in another order have a minimum above the maximum.
        gauge.store(7, words(2 * turn + 3, 9)[1], Ordering::Relaxed);
        assert_eq!(read(3), Some((2 * turn + 3, 8, 9)));
    }
}
