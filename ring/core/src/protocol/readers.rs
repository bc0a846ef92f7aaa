//! The readers' side of what programs know of them: that a reader sleeps, or is required.
//!
//! Both are store buffering ("Dekker"). A reader sets its bit, then loads slots; a program ends or claims a ticket, then
//! loads the bits. A full barrier between the two on both sides ensures that at least one of them sees the other.
//!
//! - *Asleep*: either the reader finds the record, or the program wakes the reader (`readers.bpf.h`).
//! - *Required*: either the reader finds that a ticket was claimed, or the program finds the reader, and claims no ticket
//!   that would overwrite an unread one (`keep.bpf.h`).
//!
//! For *asleep*, programs issue the barrier only at the tickets that [`LOOK`] names, which readers agree on. A reader that
//! sleeps until many records are unread makes programs look at few tickets, and sleeps until one of these. Where no reader
//! has slept for long, programs stop looking: the readers may be dead.
//!
//! If programs look more often than a living reader wants, that reader frees the seats of dead ones: at its next sleep
//! after ten seconds, and at each 4096th sleep. A sleep takes at most 1 s. So programs look for a dead reader for about
//! eleven seconds at most.

use super::WordsMut;
use crate::abi::readers::{
    ASLEEP, IDLE_SINCE, LOOK, NEVER, REQUIRED, SEATS, counts_as_alive, held, lease, owner, position, until,
    wake_at, wants,
};
use crate::sync::{At, Ordering, fence, order};

/// The entry of one reader in the list of the readers that programs know.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'m> {
    words: WordsMut<'m>,
    at: usize,
}

impl<'m> Seat<'m> {
    /// Takes a free seat for the owner `me` (not 0), after [`free_dead`](Self::free_dead). `None` if there is none.
    /// `words` has the words of [`abi::readers`](crate::abi::readers).
    pub fn take(words: WordsMut<'m>, me: u64, alive: impl Fn(u64, &Self) -> bool) -> Option<Self> {
        Self::free_dead(words, me, alive);
        // SYNC leave: what this reader says in its seat comes after what the last one cleared.
        Self::all(words)
            .find(|seat| seat.owner() == 0 && words.swap_if(owner(seat.at), 0, me, order!(At::SeatTake)))
    }

    /// Frees the seats of owners that are no longer `alive`, in the name of the owner `me`.
    pub fn free_dead(words: WordsMut<'m>, me: u64, alive: impl Fn(u64, &Self) -> bool) {
        for seat in Self::all(words) {
            let found = seat.owner();
            let is_dead = found != 0 && !alive(found, &seat);
            if is_dead && words.swap_if(owner(seat.at), found, me, Ordering::Relaxed) {
                seat.leave(me);
            }
        }
    }

    fn all(words: WordsMut<'m>) -> impl Iterator<Item = Self> {
        (0..SEATS).map(move |at| Self { words, at })
    }

    /// The seat with this number, which this process has taken.
    pub fn at(words: WordsMut<'m>, at: usize) -> Self {
        Self { words, at }
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.at
    }

    /// Its owner, or 0.
    pub fn owner(&self) -> u64 {
        self.words.load(owner(self.at), Ordering::Relaxed)
    }

    /// Whether its owner counts as alive for a process of another PID namespace.
    pub fn counts_as_alive(&self, now: u64) -> bool {
        counts_as_alive(self.is_required(), self.words.load(lease(self.at), Ordering::Relaxed), now)
    }

    /// Says when the reader was last about to sleep, for processes that can't see its process. If it is required, its lease
    /// says enough.
    pub fn shows_life(&self, now: u64) {
        if !self.is_required() {
            self.words.store(lease(self.at), now, Ordering::Relaxed);
        }
    }

    /// Frees the seat.
    pub fn leave(self, me: u64) {
        self.never_sleeps();
        self.words.clear(REQUIRED, 1 << self.at);
        self.words.store(lease(self.at), 0, Ordering::Relaxed);
        self.words.swap_if(owner(self.at), me, 0, order!(At::SeatLeave)); // SYNC leave: pairs with `take`
    }

    /// Says that the reader is going to sleep, and at which tickets programs must look for it: where all bits of `look`
    /// are set. Programs do so after an RCU grace period, which the caller waits for before the reader sleeps.
    pub fn will_sleep(&self, look: u64) {
        self.words.store(IDLE_SINCE, 0, Ordering::Relaxed);
        self.wants(look + 1);
        self.words.clear(LOOK, NEVER & !look);
    }

    /// Says that the reader does not sleep any more. Programs look for the others as often as these want.
    pub fn never_sleeps(&self) {
        self.awake();
        self.wants(0);
        // It fails only if other readers change the word. After so many failures, someone forges it.
        for _ in 0..2 * SEATS {
            let found = self.words.load(LOOK, order!(At::WantsGather)); // SYNC agree: pairs with the addition in `wants`
            let wanted = (0..SEATS).map(|at| self.words.load(wants(at), Ordering::Relaxed));
            let look = wanted.filter(|&wants| wants != 0).fold(NEVER, |look, wants| look & (wants - 1));
            if self.words.swap_if(LOOK, found, found & !NEVER | look, Ordering::Relaxed) {
                return;
            }
        }
    }

    fn wants(&self, value: u64) {
        self.words.store(wants(self.at), value, Ordering::Relaxed);
        // SYNC agree: a reader that gathers what all want sees this count, and then the value; or its change of the word
        // fails, because the count is another; or it comes before, and then nothing that it gathered remains.
        self.words.fetch_add(LOOK, 1 << 32, order!(At::WantsCount));
    }

    /// Says until when the reader sleeps: the ticket of a shard, or any.
    pub fn sleeps_until(&self, shard: usize, ticket: Option<u64>) {
        self.words.store(wake_at(shard, self.at), until(ticket), Ordering::Relaxed);
    }

    /// Says that the reader sleeps. Afterwards it must check whether programs [look](Self::look) for it, and once
    /// more whether there are records: programs that end a ticket from now on wake it, and it finds all tickets that ended
    /// before.
    pub fn asleep(&self) {
        self.words.store(IDLE_SINCE, 0, Ordering::Relaxed);
        self.words.set(ASLEEP, 1 << self.at);
        // SYNC asleep: pairs with the program's barrier between the end of a ticket and the bits. A program whose
        // barrier comes later sees the bit, and the tickets of `sleeps_until`.
        fence(order!(At::Asleep));
    }

    /// The bits of a ticket that are all set where programs look, after [`asleep`](Self::asleep): if it has some that the
    /// reader does not [want](Self::will_sleep), they have stopped looking, because no reader had slept for long.
    pub fn look(&self) -> u64 {
        // SYNC idle: comes after the fence in `asleep`, which pairs with the swap by which a program stops looking.
        self.words.load(LOOK, Ordering::Relaxed) & NEVER
    }

    /// Whether no writer has woken it since [`asleep`](Self::asleep).
    pub fn is_asleep(&self) -> bool {
        self.words.load(ASLEEP, Ordering::Relaxed) & 1 << self.at != 0
    }

    /// Says that the reader no longer sleeps, so that programs do not wake it.
    pub fn awake(&self) {
        self.words.clear(ASLEEP, 1 << self.at);
    }

    /// Says that the reader has read all tickets of a shard before `next`: programs may overwrite them.
    pub fn has_read(&self, shard: usize, next: u64) {
        // SYNC read: the reader's loads come before this; a program that sees it may overwrite what they loaded.
        self.words.store(position(shard, self.at), next, order!(At::HasRead));
    }

    /// Forgets since when a reader in this seat has held programs back: the lease of the next one begins when it does so.
    /// Programs that still judge the earlier one have ended after an RCU grace period, which the caller waits for before
    /// [`require`](Self::require).
    pub fn holds_nothing(&self, shard: usize) {
        self.words.store(held(shard, self.at), 0, Ordering::Relaxed);
    }

    /// Says that the reader is required, after [`has_read`](Self::has_read) for every shard. Programs do not overwrite
    /// any ticket from there on that was not claimed before this returns, until it is read. They stop to do so if the
    /// reader holds them back for more than `nanoseconds`.
    pub fn require(&self, nanoseconds: u64) {
        self.words.store(lease(self.at), nanoseconds, Ordering::Relaxed);
        self.words.set(REQUIRED, 1 << self.at);
        // SYNC keep: pairs with the program's barrier between its claims and the bits. A program whose barrier comes later
        // sees the bit, the positions and the lease; for any other it does not matter what it sees.
        fence(order!(At::Required));
    }

    /// Whether the reader is still required: programs did not find that its lease has ended.
    pub fn is_required(&self) -> bool {
        self.words.load(REQUIRED, Ordering::Relaxed) & 1 << self.at != 0
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::*;
    use crate::abi::readers::{SILENT, words};
    use crate::sync::AtomicU64;

    /// Readers of another PID namespace: nobody knows whether they live.
    #[test]
    fn seats_of_processes_that_can_not_be_seen() {
        let memory: Vec<_> = (0..words(1)).map(|_| AtomicU64::new(0)).collect();
        let words = WordsMut::new(&memory);
        let take = |me, now| Seat::take(words, me, |_, seat| seat.counts_as_alive(now)).unwrap().number();
        let owner = || Seat::at(words, 0).owner();
        assert_eq!((take(1, 5), take(2, SILENT + 5)), (0, 1), "it has just come");
        Seat::at(words, 0).shows_life(10);
        assert_eq!((take(3, SILENT + 9), owner()), (2, 1), "it has slept not long ago");
        Seat::at(words, 0).require(7);
        Seat::at(words, 0).shows_life(8);
        assert_eq!((take(4, u64::MAX), owner()), (3, 1), "it is required");
        assert_eq!(words.load(lease(0), Ordering::Relaxed), 7, "and keeps its lease");
        words.clear(REQUIRED, 1); // a program, after the lease
        assert_eq!((take(5, SILENT + 7), owner()), (0, 5));
        assert_eq!(words.load(lease(0), Ordering::Relaxed), 0, "the next one has shown nothing yet");
        Seat::at(words, 0).leave(5);
        assert_eq!((take(6, u64::MAX), owner()), (0, 6));
    }

    #[test]
    fn a_seat_says_what_its_reader_wants() {
        let memory: Vec<_> = (0..words(2)).map(|_| AtomicU64::new(0)).collect();
        let words = WordsMut::new(&memory);
        let word = |at| words.load(at, Ordering::Relaxed);
        let looks = || (word(LOOK) >> 32, word(LOOK) & NEVER);
        words.store(LOOK, NEVER, Ordering::Relaxed);
        let [a, b] = [1, 2].map(|me| Seat::take(words, me, |_, _| true).unwrap());
        assert_eq!([(a.number(), a.owner()), (b.number(), b.owner())], [(0, 1), (1, 2)]);

        words.store(IDLE_SINCE, 9, Ordering::Relaxed);
        a.will_sleep(7);
        assert_eq!((looks(), a.look(), word(wants(0)), word(IDLE_SINCE)), ((1, 7), 7, 8, 0));
        b.will_sleep(1);
        assert_eq!((looks(), a.look()), ((2, 1), 1));
        b.never_sleeps();
        assert_eq!((looks(), word(wants(1))), ((3, 7), 0), "a still wants it");
        a.never_sleeps();
        assert_eq!(looks(), (4, NEVER));

        b.sleeps_until(1, Some(7));
        b.sleeps_until(0, None);
        assert_eq!([word(wake_at(1, 1)), word(wake_at(0, 1)), word(wake_at(1, 0))], [8, 0, 0]);
        words.store(IDLE_SINCE, 9, Ordering::Relaxed);
        b.asleep();
        assert_eq!((word(ASLEEP), a.is_asleep(), b.is_asleep(), word(IDLE_SINCE)), (2, false, true, 0));
        a.asleep();
        b.awake();
        assert_eq!((word(ASLEEP), a.is_asleep(), b.is_asleep()), (1, true, false));

        words.store(held(1, 1), 4, Ordering::Relaxed);
        b.has_read(1, 5);
        b.holds_nothing(1);
        b.require(7);
        assert_eq!([word(position(1, 1)), word(held(1, 1)), word(lease(1)), word(REQUIRED)], [5, 0, 7, 2]);
        assert!(b.is_required() && !a.is_required() && b.counts_as_alive(u64::MAX));
        b.will_sleep(0);
        b.asleep();
        b.leave(9);
        assert_eq!(b.owner(), 2, "it is not the seat of 9");
        b.leave(2);
        assert_eq!(
            [word(REQUIRED), word(lease(1)), word(wants(1)), word(ASLEEP), b.owner()],
            [0, 0, 0, 1, 0]
        );
        a.shows_life(77);
        assert_eq!(word(lease(0)), 77);
    }

    #[test]
    fn there_are_64_seats_and_dead_owners_leave_theirs() {
        let memory: Vec<_> = (0..words(1)).map(|_| AtomicU64::new(0)).collect();
        let words = WordsMut::new(&memory);
        let take = |me: u64, dead: u64| Seat::take(words, me, |owner, _| owner != dead).map(|it| it.number());
        assert!((0..64).all(|at| take(at + 1, 0) == Some(usize::try_from(at).unwrap())));
        assert_eq!((take(65, 0), take(65, 64), take(66, 3)), (None, Some(63), Some(2)));
        Seat::free_dead(words, 7, |owner, seat| owner != 66 && seat.number() != 5);
        assert_eq!([2, 5, 6].map(|at| Seat::at(words, at).owner()), [0, 0, 7]);
    }
}
