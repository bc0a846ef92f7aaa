//! Retiring a ring that another one takes the place of, without losing a record of either.
//!
//! The new ring is put in place first, then the old one's gate is closed. Whoever claims a slot looks
//! at the gate afterwards, with a full barrier between (`resizable.bpf.h`); who closes it looks at the
//! slots afterwards, with one between, too. So of a claim and the closing at least one is seen by the
//! other (store buffering, which the barriers forbid): each claim is either given back, or
//! counted here and seen by every reader that has seen the ring retired.

use super::consume::last_taken;
use super::{END, GATE, Place, Shard};
use crate::layout::{Gate, Geometry};
use crate::protocol::{Words, WordsMut};
use crate::sync::{Ordering, fence};

/// Opens the gates of a new ring: from here on programs that find it claim slots of it.
pub fn open(words: WordsMut<'_>, geometry: &Geometry) {
    gates(words, geometry, Gate::Open);
}

/// Closes the gates of the ring that `words` are: from here on programs claim slots of the ring that
/// took its place, which must be there for them to find. Returns how many tickets were given out in it.
pub fn close(words: WordsMut<'_>, geometry: &Geometry) -> u64 {
    gates(words, geometry, Gate::Closing);
    fence(Ordering::SeqCst); // SYNC retire: pairs with the claim, a full barrier, in `resizable.bpf.h`
    let end = |shard| {
        let place = Place::new(geometry, shard);
        let last = last_taken(&mut Shard::new(*words, &place), 0);
        let end = last.map_or(0, |last| last.wrapping_add(1));
        words.store(place.header + END, end, Ordering::Relaxed);
        end
    };
    (0..geometry.shards()).map(end).fold(0, u64::wrapping_add)
}

fn gates(words: WordsMut<'_>, geometry: &Geometry, state: Gate) {
    for shard in 0..geometry.shards() {
        let (place, gate) = (Place::new(geometry, shard), state.encode_shard(geometry, shard));
        // SYNC replaced: who finds it closed (a barrier in `resizable.bpf.h`) finds the other ring.
        words.store(place.header + GATE, gate, Ordering::Release);
    }
}

/// Lets readers move on from a ring that was closed.
pub fn retire(words: WordsMut<'_>, geometry: &Geometry) {
    let retired = Gate::Retired.encode(geometry.capacity());
    words.store(Gate::WORD, retired, Ordering::Release); // SYNC retired: pairs with the load in `gate`
}

/// What the gate of a region says. Who finds it retired sees every claim of it that was not given back.
#[inline]
pub fn gate(words: Words<'_>) -> Gate {
    Gate::decode(words.load(Gate::WORD, Ordering::Acquire)) // SYNC retired: pairs with the store in `retire`
}
