//! The memory layout (docs/abi.md), and the maps as BTF describes them. The numbers are those of all languages.
//!
//! A loader finds the kind and the shape of a map in BTF. Its value is a struct whose name begins with the kind, for example
//! `mapring_ring__`; rustc adds the parameters. Members without bytes have numbers as inner lengths.

use core::marker::PhantomData;
use core::ptr::null;

pub(crate) use crate::numbers::*;
use crate::words::{MapPtr, Word, lookup};

/// Words of both headers of a shard with tails.
pub(crate) const TAIL_SLOTS: usize = LINE / 8 + TAIL_ACTIVE + TAIL_WRITERS;

/// The number of elements of `size` bytes after which an element starts on a line again.
const fn per_lines(size: usize) -> usize {
    let power = size & size.wrapping_neg();
    if power >= LINE { 1 } else { LINE / power }
}

/// The number of elements that `bytes` bytes take, so that the next structure starts on a line.
const fn elements(size: usize, bytes: usize) -> usize {
    bytes.div_ceil(size).next_multiple_of(per_lines(size))
}

/// Elements of the preamble.
pub(crate) const fn first(size: usize) -> usize {
    elements(size, PREAMBLE)
}

/// Elements of a shard's header.
pub(crate) const fn header(size: usize) -> usize {
    elements(size, LINE)
}

/// Elements of a shard.
pub(crate) const fn shard(size: usize, slots: usize) -> usize {
    header(size) + slots.next_multiple_of(per_lines(size))
}

/// A word of the header that starts with element `base`, at `head`. It may be longer than one element.
#[inline(always)]
pub(crate) fn header_word(map: MapPtr, size: usize, head: Word, base: u32, word: usize) -> Option<Word> {
    let words = size / 8;
    if word < words {
        Some(head.plus(word))
    } else {
        Some(lookup(map, base + (word / words) as u32)?.plus(word % words))
    }
}

/// Counts a write that goes nowhere: a CPU without a shard, an index out of range, a busy cell.
#[inline(always)]
pub(crate) fn count_out_of_range(map: MapPtr, size: usize) {
    if let Some(words) = lookup(map, (DROPPED * 8 / size) as u32) {
        words.plus(DROPPED * 8 % size / 8).count(1);
    }
}

/// What a map holds, as the program declares it.
pub trait Declare {
    /// The value of its elements.
    #[doc(hidden)]
    type Value;
    /// Its elements with one shard.
    #[doc(hidden)]
    const ENTRIES: usize;
    /// How BTF describes the map.
    #[doc(hidden)]
    type Described<P: Place>: Describe;
    /// Bytes of an element.
    #[doc(hidden)]
    const SIZE: usize = size_of::<Self::Value>();
}

/// What `#[map]` makes of a map: its address, and the functions that the verifier checks apart.
///
/// # Safety
/// Only `#[map]` implements it.
#[doc(hidden)]
#[allow(missing_docs)]
pub unsafe trait Place: Sized + 'static {
    /// An array with as many elements as the map has.
    type Entries;
    const WAKES: bool = false;
    const HAS_TAILS: bool = false;
    fn map() -> MapPtr;
    fn claim(_at: u32) -> i64 {
        unreachable!()
    }
    fn readers() -> MapPtr {
        unreachable!()
    }
    fn wake(_at: u32, _number: u32) -> i32 {
        unreachable!()
    }
    fn tail(_at: u32) -> u64 {
        unreachable!()
    }
    fn way(_at: u64) -> u64 {
        unreachable!()
    }
    fn first() {}
    fn unread(_to: u64) -> i32 {
        unreachable!()
    }
}

/// A map that [`#[map]`](crate::map) declared. Its methods are those of what it holds, [`Ring`](crate::Ring) for example.
pub struct Map<D, P>(PhantomData<fn(D, P)>);

impl<D, P> Map<D, P> {
    #[doc(hidden)]
    pub const NEW: Self = Self(PhantomData);
}

/// What libbpf and aya read of a map in the section `.maps`. Nothing is ever stored in it.
#[doc(hidden)]
#[allow(missing_docs)]
pub trait Describe: Sync {
    const NEW: Self;
}

/// A map with all shards or all values. `FLAGS` is `BPF_F_MMAPABLE`, and more for a map in a map of maps.
#[repr(C)]
#[doc(hidden)]
pub struct Array<D: Declare, P: Place, const FLAGS: usize = 1024> {
    r#type: *const [i32; 2],
    map_flags: *const [i32; FLAGS],
    max_entries: *const P::Entries,
    key: *const u32,
    value: *const D::Value,
}

/// A map with a map for each CPU. Maps of maps take only maps with the same flags, on any node: `BPF_F_NUMA_NODE`.
#[repr(C)]
#[doc(hidden)]
pub struct PerCpu<D: Declare, P: Place> {
    r#type: *const [i32; 12],
    max_entries: *const [i32; 1],
    key: *const u32,
    values: [*const OfCpu<D, P>; 0],
}

/// The map of a CPU.
#[doc(hidden)]
pub type OfCpu<D, P> = Array<D, P, { 1024 | 4 }>;

/// A map of maps, for the bells.
#[repr(C)]
#[doc(hidden)]
pub struct Bells {
    r#type: *const [i32; 12],
    max_entries: *const [i32; SEATS],
    key: *const u32,
    values: [*const Bell; 0],
}

#[repr(C)]
struct Bell {
    r#type: *const [i32; 27],
    max_entries: *const [i32; 4096],
}

// SAFETY: it only has null pointers, which nothing uses.
unsafe impl<D: Declare, P: Place, const FLAGS: usize> Sync for Array<D, P, FLAGS> {}

// SAFETY: as above.
unsafe impl<D: Declare, P: Place> Sync for PerCpu<D, P> {}

// SAFETY: as above.
unsafe impl Sync for Bells {}

impl<D: Declare, P: Place, const FLAGS: usize> Describe for Array<D, P, FLAGS> {
    const NEW: Self = {
        assert!(D::SIZE <= 1 << 29, "mapring: this map is too large: 2^29 bytes on each CPU at most");
        Self { r#type: null(), map_flags: null(), max_entries: null(), key: null(), value: null() }
    };
}

impl<D: Declare, P: Place> Describe for PerCpu<D, P> {
    const NEW: Self = Self { r#type: null(), max_entries: null(), key: null(), values: [] };
}

impl Describe for Bells {
    const NEW: Self = Self { r#type: null(), max_entries: null(), key: null(), values: [] };
}

#[allow(non_camel_case_types, dead_code, missing_docs)]
pub(crate) mod values {
    //! The values of maps. The member `mapring_tso` says that programs publish by plain stores, which only x86 keeps in order:
    //! loaders of other machines refuse it. Programs of any machine have `mapring_any`.

    use super::{PREAMBLE, SEATS, TAIL_SLOTS};

    #[repr(C)]
    pub struct mapring_ring__<T, const SLOTS: usize, O> {
        pub seq: u64,
        pub record: T,
        #[cfg(bpf_target_arch = "x86_64")]
        mapring_tso: [[u8; SLOTS]; 0],
        #[cfg(not(bpf_target_arch = "x86_64"))]
        mapring_any: [[u8; SLOTS]; 0],
        mapring_options: O,
    }

    #[repr(C)]
    pub(crate) struct mapring_tailed__<T> {
        tail_at: u64,
        tail_len: u64,
        record: T,
    }

    #[repr(C)]
    pub(crate) struct mapring_slot__<T> {
        seq: u64,
        record: mapring_tailed__<T>,
    }

    /// The area for tails, and as many bytes behind it as the longest tail.
    #[repr(C, align(64))]
    pub(crate) struct Area<const LONGEST: usize, const BYTES: usize> {
        bytes: [u8; BYTES],
        behind: [u8; LONGEST],
    }

    /// A whole shard, because helpers can't write across values.
    #[repr(C)]
    pub struct mapring_ring__tails<T, const SLOTS: usize, const LONGEST: usize, const BYTES: usize, O> {
        preamble: [u64; PREAMBLE / 8],
        header: [u64; TAIL_SLOTS],
        slot: [mapring_slot__<T>; SLOTS],
        pub(crate) area: Area<LONGEST, BYTES>,
        #[cfg(bpf_target_arch = "x86_64")]
        mapring_tso: [[u8; SLOTS]; 0],
        #[cfg(not(bpf_target_arch = "x86_64"))]
        mapring_any: [[u8; SLOTS]; 0],
        mapring_options: O,
        mapring_longest: [[u8; LONGEST]; 0],
        mapring_tails: [[u8; BYTES]; 0],
    }

    #[repr(C)]
    pub struct mapring_readers__ {
        words: [u64; SEATS],
        #[cfg(bpf_target_arch = "x86_64")]
        mapring_tso: [[u8; SEATS]; 0],
        #[cfg(not(bpf_target_arch = "x86_64"))]
        mapring_any: [[u8; SEATS]; 0],
    }

    #[repr(C)]
    pub struct mapring_cell__<T, const COUNT: usize> {
        seq: u64,
        record: T,
        #[cfg(bpf_target_arch = "x86_64")]
        mapring_tso: [[u8; COUNT]; 0],
        #[cfg(not(bpf_target_arch = "x86_64"))]
        mapring_any: [[u8; COUNT]; 0],
    }

    #[repr(C, align(64))]
    pub struct mapring_counters__<const COUNT: usize> {
        words: [u64; COUNT],
        #[cfg(bpf_target_arch = "x86_64")]
        mapring_tso: [[u8; COUNT]; 0],
        #[cfg(not(bpf_target_arch = "x86_64"))]
        mapring_any: [[u8; COUNT]; 0],
    }

    #[repr(C)]
    pub struct mapring_histograms__<const COUNT: usize> {
        words: [[u64; super::HISTOGRAM_WORDS]; COUNT],
        #[cfg(bpf_target_arch = "x86_64")]
        mapring_tso: [[u8; COUNT]; 0],
        #[cfg(not(bpf_target_arch = "x86_64"))]
        mapring_any: [[u8; COUNT]; 0],
    }
}
