//! The maps that programs access.

use std::sync::Mutex;

use crate::sync::AtomicU64;

/// The map of a program, or the global variable: one element.
pub struct Map {
    /// The program's name for it.
    pub name: &'static str,
    /// Its elements, one after the other.
    pub words: Box<[AtomicU64]>,
    /// Words of an element.
    pub stride: usize,
    /// For a map of maps, or a per-CPU map: its parts, one after the other in `words`. For a wakeable ring: the maps
    /// beside it.
    pub inner: Option<Inner>,
}

/// The parts of a map.
pub enum Inner {
    /// This many; programs find only the one with this number, under key 0.
    InUse(usize, AtomicU64),
    /// This many, each under its number.
    All(usize),
    /// Not a map of maps, but a copy for each of this many CPUs.
    Copies(usize),
    /// Not a map of maps, but its readers are the words from this one on, and it has bells.
    Readers(usize, Bells),
}

/// `-EAGAIN`
const REFUSED: u64 = (-11_i64).cast_unsigned();

/// The bells of a ring's readers. To ring one is not an access to memory, but an event: the kernel wakes the reader.
#[derive(Default)]
pub struct Bells {
    /// How often the kernel will refuse to ring one.
    refusals: Mutex<u64>,
    /// Which ones were rung, in order.
    rung: Mutex<Vec<usize>>,
}

impl Bells {
    /// The kernel refuses to ring the next bell.
    pub fn refuse(&self) {
        *self.refusals.lock().unwrap() += 1;
    }

    /// How often the bell of this place was rung.
    pub fn rung(&self, place: usize) -> usize {
        self.rung.lock().unwrap().iter().filter(|&&rung| rung == place).count()
    }

    /// 0, or an error.
    pub(crate) fn ring(&self, place: usize) -> u64 {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return REFUSED;
        }
        self.rung.lock().unwrap().push(place);
        0
    }
}

/// A word of the map that a program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The index of the word in the map.
    pub word: usize,
    /// The written value.
    pub value: u64,
}
