//! The reader's side of waking: it says that it sleeps, and checks again for records before it does.
//!
//! Store buffering ("Dekker"): a reader sets its bit, then loads slots; a program ends a ticket, then loads the bits. A
//! full barrier between the two on both sides ensures that at least one of them sees the other. So either the reader
//! finds the record, or the program wakes the reader. The program's side is in `wakeable.bpf.h`.

use super::WordsMut;
use crate::abi::waiters::{ASLEEP, PLACES, owner, until, wake_at};
use crate::sync::{Ordering, fence};

/// The place of one reader among the waiters of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Place<'m> {
    words: WordsMut<'m>,
    at: usize,
}

impl<'m> Place<'m> {
    /// Takes a free place, or that of an owner that is no longer `alive`, for `owner` (not 0). `None` if there is
    /// none. `words` has the words of [`abi::waiters`](crate::abi::waiters).
    pub fn take(words: WordsMut<'m>, me: u64, alive: impl Fn(u64) -> bool) -> Option<Self> {
        let at = (0..PLACES).find(|&at| {
            let found = words.load(owner(at), Ordering::Relaxed);
            (found == 0 || !alive(found)) && words.swap_if(owner(at), found, me, Ordering::Relaxed)
        })?;
        let place = Self { words, at };
        place.awake();
        Some(place)
    }

    /// The place with this number, which this process has taken.
    pub fn at(words: WordsMut<'m>, at: usize) -> Self {
        Self { words, at }
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.at
    }

    /// Frees the place.
    pub fn leave(self, me: u64) {
        self.awake();
        self.words.swap_if(owner(self.at), me, 0, Ordering::Relaxed);
    }

    /// Says until when the reader sleeps: the ticket of a shard, or any.
    pub fn sleeps_until(&self, shard: usize, ticket: Option<u64>) {
        self.words.store(wake_at(shard, self.at), until(ticket), Ordering::Relaxed);
    }

    /// Says that the reader sleeps. Afterwards it must check once more whether there are records: programs that end a
    /// ticket from now on wake it, and it finds all tickets that ended before.
    pub fn asleep(&self) {
        self.words.set(ASLEEP, 1 << self.at);
        // SYNC asleep: pairs with the program's barrier between the end of a ticket and the bits. A program whose
        // barrier comes later sees the bit, and the tickets of `sleeps_until`.
        fence(Ordering::SeqCst);
    }

    /// Says that the reader no longer sleeps, so that programs do not wake it.
    pub fn awake(&self) {
        self.words.clear(ASLEEP, 1 << self.at);
    }
}
