//! Rings: reserving records and ending them.

use core::marker::PhantomData;
use core::mem::{self, offset_of};

use crate::claim::{self, DISCARDED, Shard};
use crate::layout::values::{mapring_ring__, mapring_ring__tails};
use crate::layout::{
    Array, Declare, Describe, Map, PREAMBLE, PerCpu, Place, TAIL_SLOTS, count_out_of_range, first, shard,
};
use crate::readers;
use crate::tails::{self, Tails as Area};
use crate::words::{MapPtr, Word, cpu, lookup};

/// A ring of records of type `T`, with `SLOTS` slots for each CPU, a power of two. New records overwrite the oldest ones; each
/// reader counts what it lost.
///
/// The options are [`Wakeable`] or [`KeepOldest`], [`Tails`], and [`PerCpuMaps`]: one of them, or several in this order,
/// `(Wakeable, Tails<…>)` for example. An option that is not there costs nothing.
///
/// ```ignore
/// #[map]
/// static SWITCHES: Ring<SwitchEvent, 4096> = Ring::new();
///
/// if let Some(mut event) = SWITCHES.reserve() {
///     event.write(SwitchEvent { ns, pid });
///     event.commit();
/// }
/// ```
///
/// A program that reserves and then neither commits nor drops its record ([`mem::forget`]) loses the slot until the map is
/// recreated.
pub struct Ring<T, const SLOTS: usize, O = ()>(PhantomData<(T, O)>);

/// Programs wake readers that sleep, once for each sleep. This also declares the maps `NAME__readers` and `NAME__bells`. Programs look
/// for sleeping readers as often as the readers' watermarks request.
pub enum Wakeable {}

/// While a reader is required, programs drop new records, and count them, rather than overwrite records that this reader has not read.
/// If it holds programs back for longer than its lease, because it died or is slow, it is no longer required. Includes [`Wakeable`].
pub enum KeepOldest {}

/// Each record has a tail, bytes of any length up to `LONGEST`, which helpers write in place. `BYTES` is the space for tails on each
/// CPU, a power of two.
pub enum Tails<const LONGEST: usize, const BYTES: usize> {}

/// Each shard is a map of its own, on the NUMA node of its CPU, and only CPUs that are online need one. Records of a CPU without a map
/// are dropped, and counted. `mapring::loader::initialize_object` puts the map `NAME__first` into element 0 of the map `NAME`, and
/// makes the others. With aya, put it there, and then call `mapring::loader::initialize_map`.
pub enum PerCpuMaps {}

/// The options of a ring.
pub trait Options: 'static {
    #[doc(hidden)]
    type Value<T, const SLOTS: usize>;
    #[doc(hidden)]
    const WAKES: bool = false;
    #[doc(hidden)]
    const KEEPS: bool = false;
    #[doc(hidden)]
    const TAILS: Option<Layout> = None;
    #[doc(hidden)]
    const PER_CPU_MAPS: bool = false;
    #[doc(hidden)]
    type Described<D: Declare, P: Place>: Describe;
}

/// Where the tails of a shard are.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Layout {
    longest: usize,
    bytes: usize,
}

impl Layout {
    const fn new(longest: usize, bytes: usize) -> Option<Self> {
        assert!(
            bytes >= 128 && bytes.is_power_of_two(),
            "mapring: the bytes of tails must be a power of two, at least 128"
        );
        assert!(
            longest > 0 && longest <= bytes / 2,
            "mapring: the longest tail must fit twice into the bytes of tails"
        );
        Some(Self { longest, bytes })
    }
}

/// An array of 0 arrays of this many bytes: a number in BTF.
type Number<const N: usize> = [[u8; N]; 0];

/// What options without their place say.
macro_rules! says {
    ($bits:literal $map:ident) => {
        const WAKES: bool = $bits & 1 != 0;
        const KEEPS: bool = $bits & 2 != 0;
        const PER_CPU_MAPS: bool = $bits & 8 != 0;
        type Described<D: Declare, P: Place> = $map<D, P>;
    };
}

/// Options without tails, their bits in BTF, and their map.
macro_rules! without_tails {
    ($($options:ty, $bits:literal, $map:ident;)*) => {$(
        impl Options for $options {
            type Value<T, const SLOTS: usize> = mapring_ring__<T, SLOTS, Number<$bits>>;
            says!($bits $map);
        }
    )*};
}

without_tails! {
    (), 0, Array;
    Wakeable, 1, Array;
    KeepOldest, 3, Array;
    PerCpuMaps, 8, PerCpu;
    (Wakeable, PerCpuMaps), 9, PerCpu;
    (KeepOldest, PerCpuMaps), 11, PerCpu;
}

impl<T, const SLOTS: usize, O: Options> Declare for Ring<T, SLOTS, O> {
    type Value = O::Value<T, SLOTS>;
    type Described<P: Place> = O::Described<Self, P>;
    const ENTRIES: usize = {
        assert!(
            SLOTS.is_power_of_two() && SLOTS <= 1 << 29,
            "mapring: the slots of a ring are a power of two, 2^29 at most"
        );
        assert!(align_of::<T>() <= 8, "mapring: records are aligned to 8 at most");
        assert!(size_of::<T>() > 0, "mapring: records have at least 1 byte: give the struct a field");
        if O::TAILS.is_some() { 1 } else { first(Self::SIZE) + shard(Self::SIZE, SLOTS) }
    };
}

impl<T, const SLOTS: usize, O: Options> Ring<T, SLOTS, O> {
    /// The words of a slot before the record.
    const BEFORE: usize = if O::TAILS.is_some() { 3 } else { 1 };
    const WORDS: usize = Self::BEFORE + size_of::<T>().div_ceil(8);

    /// A number from which functions of their own find this CPU's shard: the element of its header, or the CPU.
    #[inline(always)]
    fn at() -> u32 {
        let size = size_of::<O::Value<T, SLOTS>>();
        if O::TAILS.is_some() || O::PER_CPU_MAPS {
            cpu()
        } else {
            (first(size) as u32).wrapping_add(cpu().wrapping_mul(shard(size, SLOTS) as u32))
        }
    }

    /// The shard there, if it exists.
    #[inline(always)]
    fn shard<P: Place>(at: u32) -> Option<Shard> {
        let (mut map, is_element, mut at) = (P::map(), O::TAILS.is_some(), at);
        if O::PER_CPU_MAPS {
            map = MapPtr::of_element(lookup(map, at)?);
            at = if is_element { 0 } else { first(size_of::<O::Value<T, SLOTS>>()) as u32 };
        }
        let element = lookup(map, at)?;
        let (header, base) = if is_element { (element.plus_checked::<PREAMBLE>(), 0) } else { (element, at) };
        let readers = if O::KEEPS { Some(P::readers()) } else { None };
        Some(Shard { map, header, base, words: Self::WORDS, shift: SLOTS.ilog2(), is_element, readers })
    }

    /// Counts a record of a CPU without a shard.
    #[inline(always)]
    fn no_shard<P: Place>() {
        let map = if O::PER_CPU_MAPS { lookup(P::map(), 0).map(MapPtr::of_element) } else { Some(P::map()) };
        if let Some(map) = map {
            count_out_of_range(map, size_of::<O::Value<T, SLOTS>>());
        }
    }

    /// The tails of a shard.
    #[inline(always)]
    fn tails(shard: &Shard) -> Area {
        let Some(Layout { longest, bytes }) = O::TAILS else { unreachable!() };
        Area { shard: *shard, space: longest.next_multiple_of(16) as u64, capacity: bytes as u64 }
    }
}

#[doc(hidden)]
#[allow(missing_docs)]
impl<T, const SLOTS: usize, O: Options> Ring<T, SLOTS, O> {
    // The functions that the verifier checks apart: `#[map]` makes one of each for each ring that needs it.

    #[inline(always)]
    pub fn claim<P: Place>(at: u32) -> i64 {
        let Some(shard) = Self::shard::<P>(at) else {
            Self::no_shard::<P>();
            return -1;
        };
        claim::search(shard)
    }

    #[inline(always)]
    pub fn wake<P: Place>(bells: MapPtr, at: u32, number: u32) -> i32 {
        if let Some(shard) = Self::shard::<P>(at) {
            readers::wake(P::readers(), bells, &shard, number);
        }
        0
    }

    #[inline(always)]
    pub fn tail<P: Place>(at: u32) -> u64 {
        Self::shard::<P>(at).map_or(tails::NONE, |shard| tails::search::<P>(Self::tails(&shard)))
    }

    #[inline(always)]
    pub fn way<P: Place>(at: u64) -> u64 {
        Self::shard::<P>(Self::at()).map_or(0, |shard| tails::way(Self::tails(&shard), at))
    }

    #[inline(always)]
    pub fn unread<P: Place>(to: u64) -> i32 {
        let shard = Self::shard::<P>(Self::at());
        i32::from(shard.is_none_or(|shard| tails::unread(Self::tails(&shard), P::readers(), to)))
    }
}

impl<T, const SLOTS: usize, O: Options, P: Place> Map<Ring<T, SLOTS, O>, P> {
    /// The next record of this CPU; `None` if no slot is free, which is counted as dropped. It takes a few loads, a
    /// compare-and-swap and a store, and never waits. It is correct when programs on the same CPU interrupt or preempt each other
    /// between any two instructions, NMI included.
    #[inline(always)]
    pub fn reserve(&'static self) -> Option<Reserved<T, SLOTS, O, P>> {
        const {
            assert!(
                P::WAKES == O::WAKES && P::HAS_TAILS == O::TAILS.is_some(),
                "mapring: write out the options after #[map]"
            )
        };
        let at = Ring::<T, SLOTS, O>::at();
        let Some(shard) = Ring::<T, SLOTS, O>::shard::<P>(at) else {
            Ring::<T, SLOTS, O>::no_shard::<P>();
            return None;
        };
        let mut claim = tails::NONE;
        if O::TAILS.is_some() {
            claim = P::tail(at);
            if claim == tails::NONE {
                return None;
            }
        }
        // SYNC overwrite: the claim is also a barrier between moving `high` and the tail.
        let (ticket, seq) = match claim::fast(&shard) {
            Some(claimed) => claimed,
            None => {
                let claimed = P::claim(at);
                let seq = if claimed < 0 { None } else { shard.slot(claimed as u64) };
                let Some(seq) = seq else {
                    if O::TAILS.is_some() {
                        Ring::<T, SLOTS, O>::tails(&shard).end(claim, 0);
                    }
                    return None;
                };
                (claimed as u64, seq)
            }
        };
        let record = if O::TAILS.is_some() { seq.plus_checked::<24>() } else { seq.plus_checked::<8>() };
        if O::TAILS.is_some() {
            record.minus(1).store(claim); // until the commit, as programs in C
        }
        Some(Reserved { record, number: shard.number(ticket), at, claim, shard, of: PhantomData })
    }

    /// Reserves a record, and publishes this value without a tail. Returns whether there was a slot.
    #[inline(always)]
    pub fn output(&'static self, value: T) -> bool {
        let Some(mut record) = self.reserve() else { return false };
        record.write(value);
        record.commit();
        true
    }
}

/// A reserved record, still with its slot's old contents: write all of it. [`commit`](Self::commit) publishes it. A drop, on a `return`
/// or `?` for example, discards it: readers pass its ticket.
#[must_use = "a record that is dropped is discarded"]
pub struct Reserved<T, const SLOTS: usize, O: Options, P: Place> {
    record: Word,
    number: u32,
    at: u32,
    claim: u64,
    shard: Shard,
    of: PhantomData<(T, O, P)>,
}

impl<T, const SLOTS: usize, O: Options, P: Place> Reserved<T, SLOTS, O, P> {
    /// The record, to fill it in place: `(&raw mut (*event.as_mut_ptr()).ns).write(ns)`. It is aligned, and valid for writes until
    /// the record is committed or dropped.
    #[inline(always)]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.record.as_ptr()
    }

    /// Writes the whole record.
    #[inline(always)]
    pub fn write(&mut self, value: T) {
        let record = self.as_mut_ptr();
        // SAFETY: this program owns the slot until it ends its ticket, and the record is aligned to 8.
        unsafe { record.write(value) }
    }

    /// Publishes the record, in a ring with tails with an empty one. From now on readers see all of it.
    #[inline(always)]
    pub fn commit(self) {
        self.ends(0, 0);
        mem::forget(self);
    }

    /// Ends the record without publishing it, as a drop does.
    #[inline(always)]
    pub fn discard(self) {}

    /// Ends the ticket. In a ring with tails, with these bytes.
    #[inline(always)]
    fn ends(&self, len: u64, discarded: u64) {
        let seq = self.record.minus(Ring::<T, SLOTS, O>::BEFORE);
        let ended = || seq.publish(seq.load().wrapping_add(1) | discarded);
        if O::TAILS.is_some() {
            let tails = Ring::<T, SLOTS, O>::tails(&self.shard);
            seq.plus(1).store(tails.ends_at(self.claim));
            seq.plus(2).store(len);
            let lap = seq.load() >> 1;
            ended();
            if O::KEEPS {
                tails.ended((lap << self.shard.shift) | u64::from(self.number));
            }
            tails.end(self.claim, len);
        } else {
            ended();
        }
        if O::WAKES && readers::sleeps(P::readers(), self.shard.shift, self.number) {
            P::wake(self.at, self.number);
        }
    }
}

impl<T, const SLOTS: usize, O: Options, P: Place> Drop for Reserved<T, SLOTS, O, P> {
    #[inline(always)]
    fn drop(&mut self) {
        self.ends(0, DISCARDED);
    }
}

/// The same with tails.
macro_rules! with_tails {
    ($($options:ty, $bits:literal, $map:ident;)*) => {$(
        impl<const LONGEST: usize, const BYTES: usize> Options for $options {
            type Value<T, const SLOTS: usize> = mapring_ring__tails<T, SLOTS, LONGEST, BYTES, Number<$bits>>;
            says!($bits $map);
            const TAILS: Option<Layout> = Layout::new(LONGEST, BYTES);
        }

        impl<T, const SLOTS: usize, const LONGEST: usize, const BYTES: usize, P: Place> Reserved<T, SLOTS, $options, P> {
            /// The bytes for the tail, as many as the longest tail, for a helper that writes them. They still have old contents.
            #[inline(always)]
            pub fn tail(&mut self) -> *mut u8 {
                let area = offset_of!(mapring_ring__tails<T, SLOTS, LONGEST, BYTES, Number<4>>, area) - PREAMBLE;
                let bytes: *mut u8 = self.shard.header.as_ptr();
                bytes.wrapping_add(area + tails::place(self.claim, BYTES as u64) as usize)
            }

            /// Publishes the record with the first `len` bytes of the tail. A negative length, a helper's error, is an empty tail. A
            /// length above `LONGEST` is refused: the record is discarded and counted, and this returns false.
            #[inline(always)]
            pub fn commit_tail(self, len: i64) -> bool {
                let is_long = len > LONGEST as i64;
                if is_long {
                    Ring::<T, SLOTS, $options>::tails(&self.shard).refuse();
                }
                let len = if is_long { 0 } else { len.max(0) };
                self.ends(len as u64, if is_long { DISCARDED } else { 0 });
                mem::forget(self);
                !is_long
            }
        }
    )*};
}

with_tails! {
    Tails<LONGEST, BYTES>, 4, Array;
    (Wakeable, Tails<LONGEST, BYTES>), 5, Array;
    (KeepOldest, Tails<LONGEST, BYTES>), 7, Array;
    (Tails<LONGEST, BYTES>, PerCpuMaps), 12, PerCpu;
    (Wakeable, Tails<LONGEST, BYTES>, PerCpuMaps), 13, PerCpu;
    (KeepOldest, Tails<LONGEST, BYTES>, PerCpuMaps), 15, PerCpu;
}

const _: () = assert!(TAIL_SLOTS == 40);
