//! Gauges: words that only grow. All accesses are relaxed: each word holds its own time, and no two are ordered.

use super::WordsMut;
use crate::abi::gauge::{VALUE_MAX, WINDOWS, same_window, unpack, words};
use crate::sync::Ordering;

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
        if gauge.swap_if(at, seen, word, Ordering::Relaxed) {
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

/// The window that has this place now, if any has; `load` loads a word of the gauge.
#[inline]
pub fn try_read(load: impl Fn(usize) -> u64, place: usize) -> Option<Extremes> {
    let max = unpack(load(2 * place), place);
    let min = unpack(load(2 * place + 1), place).map(|(window, value)| (window, VALUE_MAX - value));
    // A writer has only changed one of the words yet: its value is both, until it has changed the other.
    let (newer, older) = if max.map(|max| max.0) >= min.map(|min| min.0) { (max?, min) } else { (min?, max) };
    let other = older.filter(|older| older.0 == newer.0).unwrap_or(newer).1;
    Some(Extremes { window: newer.0, min: newer.1.min(other), max: newer.1.max(other) })
}

fn place(window: u64) -> usize {
    usize::try_from(window % WINDOWS as u64).expect("less than WINDOWS")
}
