//! Cells, counters and histograms.

use core::marker::PhantomData;

use crate::layout::values::{mapring_cell__, mapring_counters__, mapring_histograms__};
use crate::layout::{Array, Declare, HISTOGRAM_WORDS, Map, Place, count_out_of_range, first};
use crate::words::{MapPtr, Word, bytes_of, cpu, lookup, same, sign};

/// `COUNT` cells, which all CPUs share. Each holds the latest value, and is never read torn. All writers drop an update of a cell
/// that another one is writing, and count it. They never wait.
///
/// ```ignore
/// #[map]
/// static LOADS: Cells<Load, 128> = Cells::new();
///
/// LOADS.set(cpu, Load { ns, tasks });
/// if let Some(mut load) = LOADS.begin(cpu) {
///     unsafe { (*load.as_mut_ptr()).tasks += 1 };
/// }
/// ```
pub struct Cells<T, const COUNT: usize>(PhantomData<T>);

/// A bank of `COUNT` counters for each CPU. Each call is one locked, relaxed addition. It is exact even if a program interrupts or
/// preempts this one on the same CPU, and orders nothing.
///
/// ```ignore
/// #[map]
/// static CALLS: Counters<512> = Counters::new();
///
/// CALLS.add(index, bytes);
/// ```
pub enum Counters<const COUNT: usize> {}

/// `COUNT` histograms for each CPU. Values below 16 have a counter each; from there on, each power of two has 8. Each call is one
/// locked, relaxed addition, as of [`Counters`].
///
/// ```ignore
/// #[map]
/// static LATENCIES: Histograms<16> = Histograms::new();
///
/// LATENCIES.add(index, ns);
/// ```
pub enum Histograms<const COUNT: usize> {}

impl<T, const COUNT: usize> Declare for Cells<T, COUNT> {
    type Value = mapring_cell__<T, COUNT>;
    type Described<P: Place> = Array<Self, P>;
    const ENTRIES: usize = {
        assert!(COUNT > 0 && COUNT <= 1 << 29, "mapring: a table has 1 to 2^29 cells");
        assert!(align_of::<T>() <= 8, "mapring: values are aligned to 8 at most");
        assert!(size_of::<T>() > 0, "mapring: values have at least 1 byte: give the struct a field");
        first(Self::SIZE) + COUNT
    };
}

impl<const COUNT: usize> Declare for Counters<COUNT> {
    type Value = mapring_counters__<COUNT>;
    type Described<P: Place> = Array<Self, P>;
    const ENTRIES: usize = {
        assert!(COUNT > 0, "mapring: a bank needs a counter");
        first(Self::SIZE) + 1
    };
}

impl<const COUNT: usize> Declare for Histograms<COUNT> {
    type Value = mapring_histograms__<COUNT>;
    type Described<P: Place> = Array<Self, P>;
    const ENTRIES: usize = {
        assert!(COUNT > 0, "mapring: at least one histogram");
        first(Self::SIZE) + 1
    };
}

impl<T, const COUNT: usize, P: Place> Map<Cells<T, COUNT>, P> {
    /// Begins an update of a cell, which holds its latest value. `None` if another program is writing it or the index is out of
    /// range: the preamble counts both. A drop of the result publishes the whole value.
    #[inline(always)]
    pub fn begin(&'static self, index: u32) -> Option<Update<T>> {
        let size = size_of::<mapring_cell__<T, COUNT>>();
        let first = first(size) as u32;
        // A sum that wraps must not select an element of the preamble.
        let element = index.wrapping_add(first);
        let seq = if element < first { None } else { lookup(P::map(), element) };
        if let Some(seq) = seq {
            let seen = seq.load();
            // SYNC claim: a compare-and-swap is a full barrier.
            if seen & 1 == 0 && seq.compare_exchange(seen, seen + 1) == seen {
                return Some(Update { seq, of: PhantomData });
            }
        }
        count_out_of_range(P::map(), size);
        None
    }

    /// Writes the whole value of a cell. Returns false if it was not written, as for [`begin`](Self::begin).
    #[inline(always)]
    pub fn set(&'static self, index: u32, value: T) -> bool {
        let Some(mut update) = self.begin(index) else { return false };
        update.write(value);
        true
    }
}

/// An update of a cell. A drop publishes the whole value: from then on readers see it. Until then they see none.
pub struct Update<T> {
    seq: Word,
    of: PhantomData<T>,
}

impl<T> Update<T> {
    /// The value. It is aligned, and valid for reads and writes until this is dropped. Before the first update it is all zeros.
    #[inline(always)]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.seq.plus(1).as_ptr()
    }

    /// Writes the whole value.
    #[inline(always)]
    pub fn write(&mut self, value: T) {
        let at = self.as_mut_ptr();
        // SAFETY: this program owns the cell until the end of the update, and the value is aligned to 8.
        unsafe { at.write(value) }
    }
}

impl<T> Drop for Update<T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.seq.publish(self.seq.load().wrapping_add(1));
    }
}

impl<const COUNT: usize, P: Place> Map<Counters<COUNT>, P> {
    /// Adds to a counter of this CPU. The preamble counts an index out of range.
    #[inline(always)]
    pub fn add(&'static self, index: u32, by: u64) {
        add(P::map(), size_of::<mapring_counters__<COUNT>>(), cpu(), COUNT as u64, index.into(), by);
    }

    /// Adds 1.
    #[inline(always)]
    pub fn inc(&'static self, index: u32) {
        self.add(index, 1);
    }
}

impl<const COUNT: usize, P: Place> Map<Histograms<COUNT>, P> {
    /// Adds a value to a histogram of this CPU. The preamble counts an index out of range.
    #[inline(always)]
    pub fn add(&'static self, index: u32, value: u64) {
        let bank = cpu();
        // The bucket after the call: in its middle, the call would cost saved registers.
        let word = u64::from(index) * HISTOGRAM_WORDS as u64 + bucket(same(value));
        // In range only if the index is: a histogram has fewer buckets than words.
        add(
            P::map(),
            size_of::<mapring_histograms__<COUNT>>(),
            bank,
            (COUNT * HISTOGRAM_WORDS) as u64,
            word,
            1,
        );
    }
}

/// Adds to word `index` of a bank.
#[inline(always)]
fn add(map: MapPtr, size: usize, bank: u32, count: u64, index: u64, by: u64) {
    // The check and the use must be of one register: otherwise the verifier loses the bound.
    let byte = bytes_of(index);
    if byte < 8 * count
        && let Some(words) = lookup(map, (first(size) as u32).wrapping_add(bank))
    {
        words.at_byte(byte).count(by);
        return;
    }
    count_out_of_range(map, size);
}

/// 1 if `bits` has more than `count` bits, else 0. Without a branch.
#[inline(always)]
fn has_more(bits: u64, count: u32) -> u64 {
    sign(((1 << count) - 1_u64).wrapping_sub(bits)) // `bits` has less than 63
}

/// The number of the bucket that counts `value`. A bucket has 2^shift values, and shift is the number of bits of value >> 4. BPF has
/// no instruction that finds the highest bit. So this takes 16 bits at a time, then 4, and looks up the rest in a constant.
#[inline(always)]
fn bucket(value: u64) -> u64 {
    const BITS_OF: u64 = 0x4444_4444_3333_2210; // of 0 to 15
    let (mut bits, mut shift) = (value >> 4, 0);
    for unit in [16, 4] {
        let more = has_more(bits, unit) + has_more(bits, 2 * unit) + has_more(bits, 3 * unit);
        let more = more * u64::from(unit);
        bits >>= more;
        shift += more;
    }
    shift += (BITS_OF >> (4 * bits)) & 7;
    shift * 8 + (value >> shift)
}
