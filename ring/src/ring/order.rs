//! In which order a reader delivers records: those of each shard in turn, or those of all shards by time.

use std::fmt;

use bytemuck::AnyBitPattern;
use mapring_core::protocol::ring::{NoRecord, ReadStats};

#[cfg(doc)]
use super::Reader;
use super::event::Event;
use super::in_slot::InSlot;
use super::rings::Rings;
use super::sweep::Pass;

/// The order in which a [`Reader`] delivers records: [`ByShard`], or [`ByTime`](super::ByTime) after
/// [`Reader::merged`]. No other type can implement it.
#[allow(private_interfaces)] // so that no other crate can call its functions
pub trait Order<T: AnyBitPattern>: Sized {
    /// What remains of a [`drain`](Reader::drain).
    #[doc(hidden)]
    type Pass: fmt::Debug;

    /// See [`Reader::poll`]. The slots contain an `R`. The event gets this tail: to build another one from it
    /// would copy the record twice.
    #[doc(hidden)]
    fn poll<R: InSlot<T>, B>(&mut self, rings: &mut Rings<T>, tail: B) -> Option<Event<R, B>>;

    /// See [`Reader::for_each`].
    #[doc(hidden)]
    fn for_each<R: InSlot<T>>(
        &mut self,
        rings: &mut Rings<T>,
        limit: usize,
        f: impl FnMut(Event<&R>),
    ) -> usize;

    /// Begins a pass over all records.
    #[doc(hidden)]
    fn begin_pass(&mut self, rings: &mut Rings<T>) -> Self::Pass;

    /// The next record of a pass.
    #[doc(hidden)]
    fn next<R: InSlot<T>>(&mut self, rings: &mut Rings<T>, pass: &mut Self::Pass) -> Option<Event<R>>;

    /// Whether there is a record to deliver. `None` if it delivers each record that is there, and so does not know.
    #[doc(hidden)]
    fn is_ready(&mut self, _rings: &mut Rings<T>) -> Option<bool> {
        None
    }

    /// The records that it holds until their turn comes.
    #[doc(hidden)]
    fn held(&self) -> u64 {
        0
    }

    /// Takes what it holds from these counts, and adds its own.
    #[doc(hidden)]
    fn count(&self, _stats: &mut ReadStats) {}
}

/// The records of each shard in turn, in the order of their tickets.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByShard;

#[allow(private_interfaces)]
impl<T: AnyBitPattern> Order<T> for ByShard {
    type Pass = Pass;

    #[inline(always)] // so that the record need not go through memory
    fn poll<R: InSlot<T>, B>(&mut self, rings: &mut Rings<T>, tail: B) -> Option<Event<R, B>> {
        loop {
            match rings.sweep.take() {
                Ok(Event { shard, ticket, record, .. }) => {
                    return Some(Event { shard, ticket, record, tail });
                }
                Err(no) if find(rings, no) => {}
                Err(_) => return None,
            }
        }
    }

    #[inline(always)] // as if it were in its callers
    fn for_each<R: InSlot<T>>(
        &mut self,
        rings: &mut Rings<T>,
        limit: usize,
        mut f: impl FnMut(Event<&R>),
    ) -> usize {
        // A loop, not another call in the next ring: with that, all that `f` captures would be in memory.
        for _ in 0..=Rings::<T>::MOST {
            let count = rings.sweep.for_each(limit, &mut f);
            if count != 0 || limit == 0 || !rings.follow() {
                return count;
            }
        }
        0
    }

    fn begin_pass(&mut self, rings: &mut Rings<T>) -> Pass {
        Pass::of_laps(&mut rings.sweep)
    }

    #[inline(always)] // as in `poll`
    fn next<R: InSlot<T>>(&mut self, rings: &mut Rings<T>, pass: &mut Pass) -> Option<Event<R>> {
        loop {
            match rings.sweep.take() {
                Ok(event) => return Some(event),
                Err(no) if search(rings, no, pass) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Whether there may be a record for `poll`, in this ring or in one that replaced it.
#[inline(always)]
fn find<T: AnyBitPattern>(rings: &mut Rings<T>, no: NoRecord) -> bool {
    // Most calls of a reader that only polls end here.
    !(rings.is_the_last() && rings.sweep.has_only_idle_shards()) && search_few(rings, no)
}

#[inline(never)] // as little code as possible where records are read
fn search_few<T: AnyBitPattern>(rings: &mut Rings<T>, no: NoRecord) -> bool {
    let mut pass = rings.sweep.few;
    let found = search(rings, no, &mut pass);
    // A call that finds nothing ends the pass; so does a record.
    rings.sweep.few = if found { pass } else { Pass::of_few(&rings.sweep) };
    found
}

/// The same for a pass.
#[inline]
fn search<T: AnyBitPattern>(rings: &mut Rings<T>, no: NoRecord, pass: &mut Pass) -> bool {
    rings.sweep.find(pass, no) || rings.follow() && pass.go_on(&rings.sweep)
}
