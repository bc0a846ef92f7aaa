//! Tails: bytes of any length beside a ring's records, in an area of the shard that its writers share.
//!
//! Positions in the area count bytes and wrap at nothing: position `p` is at byte `p mod capacity`. A writer claims as
//! many bytes as the longest tail has, by an addition to `NEXT`, and gives back what it did not use. Writers may
//! interrupt and preempt each other anywhere, sleep between claim and end, and run in parallel:
//!
//! - **No writer's bytes are overwritten before its end.** A writer enters its position in `ACTIVE`, and then checks
//!   that `HIGH` is no more than the capacity ahead of it. The writer that moves `GRANTED` to a position first moves
//!   `HIGH` there, and then checks that no position in `ACTIVE` is more than the capacity behind it. One of the two
//!   sees the other, and gives up. No writer writes at or beyond `GRANTED`.
//! - **A reader never returns bytes that were overwritten.** `HIGH` never decreases, and is moved before a byte is
//!   written. A reader copies the bytes, and then checks that `HIGH` is no more than the capacity ahead of them. A reader
//!   that sees a new byte sees `HIGH` moved: the writer loads `GRANTED` as an acquire (it is moved as a release), and then
//!   claims a slot, which ends with a release fence.
//! - **Claims get on.** A writer that was overtaken gives nothing back. Otherwise the next writer would claim the same bytes,
//!   be overtaken as well, and so on.
//! - **A writer that has not ended costs its own bytes only.** In each later round, claims leave out the positions at which
//!   its bytes come again. `GRANTED` stops before them. The writer whose claim overlaps them steps over: it moves `STEPPED`
//!   behind them, then `HIGH` and `GRANTED`, and claims again. Any other writer that claimed a position before `STEPPED`,
//!   and finds it within `GRANTED`, loads `STEPPED` after that, and claims again.
//!
//! `HIGH` and `GRANTED` are moved in steps of an eighth of the area, so most claims only load them.

mod slot;

pub(super) use self::slot::SlotTail;
use crate::abi::seq::after;
use crate::abi::{Geometry, Tails, WORD};
use crate::protocol::{Words, WordsMut};
use crate::sync::{At, Ordering, fence, order};

const NEXT: usize = Tails::NEXT;
const HIGH: usize = Tails::HIGH;
const GRANTED: usize = Tails::GRANTED;
const STEPPED: usize = Tails::STEPPED;
const ACTIVE: usize = Tails::ACTIVE;
/// Bytes of two words. Tails begin at multiples of it.
const PAIR: usize = 2 * WORD;
const _: () = assert!(PAIR as u64 == Tails::ALIGN);
/// Words of a slot before its record: the tail's position and its length.
pub(super) const PREFIX: usize = 2;
/// How often a claim tries to move a word that others move.
const TRIES: usize = 4;

/// The place of a shard's tails in its region.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// The first word of the shard's header for tails.
    header: usize,
    first: usize,
    capacity: u64,
    longest: u64,
}

/// Between the copy of a tail and the look at HIGH.
#[inline]
fn end_copy() {
    fence(order!(At::TailCheck)); // SYNC overwrite: pairs with the fence in `ShardMut::claim`
}

impl Area {
    /// The tails of shard `shard` in a ring of the shape `geometry`, if it has tails.
    ///
    /// # Panics
    /// If the ring has no such shard.
    pub fn new(geometry: &Geometry, shard: usize) -> Option<Self> {
        let tails = geometry.tails()?;
        assert!(shard < geometry.shards());
        let element = shard * geometry.element_words();
        Some(Self {
            header: element + Tails::SLOTS - Tails::HEADER,
            first: element + geometry.area(),
            capacity: tails.bytes() as u64,
            longest: tails.longest() as u64,
        })
    }

    /// A word of the header: [`Tails::NO_SPACE`] or [`Tails::TOO_LONG`].
    pub fn count(&self, words: Words<'_>, word: usize) -> u64 {
        words.load(self.header + word, Ordering::Relaxed)
    }

    /// The bytes that a copy of the longest tail needs.
    pub fn room(&self) -> usize {
        // Less than 2^28.
        #[allow(clippy::cast_possible_truncation)]
        let room = self.space() as usize;
        room
    }

    /// Copies the tail at position `at` to the start of `out`, which has [`room`](Self::room) for it. Returns the bytes, or
    /// `None` if they were overwritten meanwhile, or if no tail can be there. All positions and lengths are safe.
    #[inline(always)] // into the reader's one function for tails
    pub fn copy<'o>(&self, words: Words<'_>, at: u64, len: u64, out: &'o mut [u8]) -> Option<&'o [u8]> {
        let len = usize::try_from(len).ok().filter(|_| len <= self.longest)?;
        // Whole pairs of words: each tail takes a multiple of them.
        let (pairs, _) = out.get_mut(..len.next_multiple_of(PAIR))?.as_chunks_mut::<PAIR>();
        words.copy_pairs(self.first + self.word(at), pairs);
        end_copy();
        let high = words.load(self.header + HIGH, Ordering::Relaxed);
        (high.wrapping_sub(at) <= self.capacity).then_some(out.get(..len)?)
    }

    /// Copies all tails, and then the header, to the same words of `to`. A reader of the copy takes no tail whose bytes were
    /// overwritten before they were copied.
    pub(super) fn copy_to(&self, words: Words<'_>, to: &mut [u64]) {
        let mut copy = |first: usize, count: usize| {
            (first..first + count).for_each(|at| to[at] = words.load(at, Ordering::Relaxed));
        };
        copy(self.first, self.words());
        end_copy();
        copy(self.header, Tails::HEADER);
    }

    /// The words of the area, with those of the longest tail after it.
    fn words(&self) -> usize {
        // Less than 2^29.
        #[allow(clippy::cast_possible_truncation)]
        let words = (self.capacity + self.space()) as usize / WORD;
        words
    }

    /// The word of the area with the byte at position `at`. It and the longest tail after it are in the area.
    #[inline]
    fn word(&self, at: u64) -> usize {
        // Less than 2^28.
        #[allow(clippy::cast_possible_truncation)]
        let byte = (at & (self.capacity - Tails::ALIGN)) as usize;
        byte / WORD
    }

    /// The bytes that a claim takes.
    fn space(&self) -> u64 {
        self.longest.next_multiple_of(Tails::ALIGN)
    }

    /// The step in which `HIGH` and `GRANTED` are moved.
    fn step(&self) -> u64 {
        self.capacity / 8
    }
}

/// The Rust writers' view of a shard's tails.
#[derive(Clone, Copy, Debug)]
pub struct TailsMut<'a> {
    header: WordsMut<'a>,
    bytes: WordsMut<'a>,
    area: Area,
}

/// Bytes that a writer has claimed for a tail.
#[derive(Debug)]
#[must_use = "a claim that is not ended keeps its bytes for good"]
pub struct Claim {
    at: u64,
    entry: usize,
}

/// How a claim went.
enum Tried {
    Claimed(Claim),
    /// Its bytes are a writer's that has not ended. The next try gets others.
    Stepped,
    /// Writers are in the way.
    Full,
}

/// The bytes of writers that have not ended, around a claim.
struct Way {
    /// The position behind those of writers that claimed a round ago or more, if there are such.
    clear: Option<u64>,
    /// The next multiple of the step from the end of the claim on.
    to: u64,
    /// Where the bytes of another writer come next: nothing is granted beyond.
    limit: u64,
}

/// The earlier position.
fn first(a: u64, b: u64) -> u64 {
    if after(a, b) { b } else { a }
}

impl<'a> TailsMut<'a> {
    /// The tails at `area` of the region `words`.
    ///
    /// # Panics
    /// If the region ends before they do.
    pub fn new(words: WordsMut<'a>, area: &Area) -> Self {
        Self {
            header: words.slice(area.header, Tails::HEADER),
            bytes: words.slice(area.first, area.words()),
            area: *area,
        }
    }

    /// Claims bytes for the longest tail, in a bounded number of steps. `None` if the writers that have not ended leave no
    /// room, or [`Tails::WRITERS`] are inside a tail; the record is then counted as dropped, after `on_drop`.
    #[inline]
    pub fn claim(&self, on_drop: impl FnOnce()) -> Option<Claim> {
        for _ in 0..TRIES {
            match self.try_claim() {
                Tried::Claimed(claim) => return Some(claim),
                Tried::Stepped => {}
                Tried::Full => break,
            }
        }
        on_drop();
        self.header.add(Tails::NO_SPACE, 1);
        None
    }

    #[inline]
    fn try_claim(&self) -> Tried {
        let (space, capacity) = (self.area.space(), self.area.capacity);
        // SYNC give back: the bytes may be what another writer gave back.
        let at = self.header.fetch_add(NEXT, space, order!(At::TailClaim));
        let Some(entry) = self.enter(at) else {
            self.give_back(at, 0);
            return Tried::Full;
        };
        let claim = Claim { at, entry };
        fence(order!(At::TailEntered)); // SYNC grant: pairs with the fence in `grant`
        let overtaken = after(self.header.load(HIGH, Ordering::Relaxed), at.wrapping_add(capacity));
        // Acquire. SYNC grant: its other writers have seen that no writer is in the way.
        let granted = self.header.load(GRANTED, order!(At::TailIsGranted));
        let tried = if overtaken {
            Tried::Full
        } else if after(at.wrapping_add(space), granted)
            && let Err(tried) = self.grant(at)
        {
            tried
        } else if after(self.header.load(STEPPED, Ordering::Relaxed), at) {
            Tried::Stepped
        } else {
            return Tried::Claimed(claim);
        };
        // If it is overtaken or void, it keeps its bytes. Otherwise the next claim would get them, and be void, too.
        let keeps = overtaken || matches!(tried, Tried::Stepped);
        self.end(&claim, if keeps { space } else { 0 });
        tried
    }

    /// Enters a writer at position `at`, and returns its entry.
    #[inline]
    fn enter(&self, at: u64) -> Option<usize> {
        (0..Tails::WRITERS).find(|entry| {
            let word = ACTIVE + entry;
            self.header.load(word, Ordering::Relaxed) == 0
                && self.header.swap_if(word, 0, at.wrapping_add(1), Ordering::Relaxed)
        })
    }

    /// Moves `GRANTED` behind the claim at `at`, or steps over the bytes of writers that have not ended since a round.
    #[cold]
    fn grant(&self, at: u64) -> Result<(), Tried> {
        // First without moving `HIGH`: otherwise readers would take a writer's tail for overwritten.
        let way = self.way(at);
        let step = way.clear.filter(|&clear| after(clear, at));
        let to = first(step.unwrap_or(way.to), way.limit);
        let raised = |word, order| self.raise(self.header, word, to, order);
        let steps_over = |behind| self.raise(self.header, STEPPED, behind, Ordering::Relaxed);
        if !raised(HIGH, Ordering::Relaxed) {
            return Err(Tried::Full);
        }
        fence(order!(At::TailRaised)); // SYNC grant: pairs with the fence in `claim`
        let now = self.way(at);
        // Before `GRANTED`: a claim loads `STEPPED` after that.
        if after(to, now.limit)
            || !step.map(|_| to).or(now.clear).is_none_or(steps_over)
            || !raised(GRANTED, order!(At::TailGrant))
        {
            return Err(Tried::Full);
        }
        if step.is_none() {
            return Ok(());
        }
        self.raise(self.header, NEXT, to, Ordering::Relaxed);
        Err(Tried::Stepped)
    }

    /// Looks for the bytes of the other writers, in this round and in the next one.
    fn way(&self, at: u64) -> Way {
        let Area { capacity, .. } = self.area;
        let (end, step) = (at.wrapping_add(self.area.space()), self.area.step());
        let to = end.wrapping_add(step - 1) & !(step - 1);
        let mut way = Way { clear: None, to, limit: end.wrapping_add(self.area.space() + step) };
        for entry in 0..Tails::WRITERS {
            // Acquire. SYNC give back: the writer whose bytes these were has ended.
            let active = self.header.load(ACTIVE + entry, order!(At::TailInTheWay));
            let position = active.wrapping_sub(1);
            if active == 0 || !after(way.limit, position.wrapping_add(capacity)) {
                continue;
            }
            // Where its bytes come for the last time before the end of this claim.
            let rounds = end.wrapping_sub(position).wrapping_sub(1) & !(capacity - 1);
            let last = position.wrapping_add(rounds);
            let behind = last.wrapping_add(self.area.space());
            if rounds != 0 && way.clear.is_none_or(|clear| after(behind, clear)) {
                way.clear = Some(behind);
            }
            way.limit = first(way.limit, last.wrapping_add(capacity));
        }
        way
    }

    /// The last position before `HIGH` of the bytes at `at`: others may have stepped over them. (If one does so before the
    /// record ends, readers count the record as lost.)
    fn last_position(&self, at: u64) -> u64 {
        let ahead = self.header.load(HIGH, Ordering::Relaxed).wrapping_sub(at);
        let rounds = if after(ahead, self.area.capacity) { ahead.wrapping_sub(1) } else { 0 };
        at.wrapping_add(rounds & !(self.area.capacity - 1))
    }

    /// Moves a word to `to`, unless it is there or beyond.
    fn raise(&self, words: WordsMut<'_>, word: usize, to: u64, success: Ordering) -> bool {
        (0..TRIES).any(|_| {
            let seen = words.load(word, order!(At::TailRaise));
            !after(to, seen) || words.swap_if(word, seen, to, success)
        })
    }

    /// Writes the tail, at most the longest.
    ///
    /// # Panics
    /// If it is longer than the area.
    #[inline]
    pub fn write(&self, claim: &Claim, bytes: &[u8]) {
        self.bytes.write_bytes(self.area.word(claim.at), bytes);
    }

    /// Ends a claim whose tail has `len` bytes, and gives the rest back. From now on the tail may be overwritten.
    #[inline]
    pub fn end(&self, claim: &Claim, len: u64) {
        // First this: `NEXT` should not go back to a position that others have overtaken since the writer left its entry.
        self.give_back(claim.at, len);
        self.header.store(ACTIVE + claim.entry, 0, order!(At::TailEnd)); // SYNC give back: pairs with the load in `in_the_way`
    }

    /// Gives back what a tail of `len` bytes does not need, unless others have claimed since.
    #[inline]
    fn give_back(&self, at: u64, len: u64) {
        let (all, used) = (self.area.space(), len.next_multiple_of(Tails::ALIGN));
        // SYNC give back: the next writer of these bytes comes after this one.
        self.header.swap_if(NEXT, at.wrapping_add(all), at.wrapping_add(used), order!(At::TailRest));
    }

    /// Removes the writers that died. No writer of this shard may be alive.
    pub fn recover(&self) {
        for entry in 0..Tails::WRITERS {
            self.header.store(ACTIVE + entry, 0, order!(At::TailRecover)); // SYNC give back
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_types)]
mod tests {
    use super::super::{Cursor, Dropped, ReadStats, Shard, ShardMut, ShardPlace, Slot, Step};
    use super::*;
    use crate::abi::Kind;
    use crate::sync::AtomicU64;

    const LONGEST: u64 = 40;
    const CAPACITY: u64 = 256;

    /// A record, and its tail, unless that is overwritten.
    type Found = (u64, Option<Vec<u8>>);

    /// The second of two shards with 32 slots and a quarter of a kilobyte for tails.
    struct Region {
        memory: Vec<AtomicU64>,
        place: ShardPlace,
        area: Area,
    }

    impl Region {
        fn new() -> Self {
            let plain = Geometry::new(Kind::Ring, 24, 32, 2).unwrap();
            assert!(Area::new(&plain, 1).is_none());
            let geometry = plain.with_tails(Tails::new(LONGEST, CAPACITY).unwrap()).unwrap();
            let area = Area::new(&geometry, 1).unwrap();
            assert_eq!(area.header, geometry.element_words() + 24);
            assert_eq!((area.first, area.room()), (geometry.element_words() + geometry.area(), 48));
            assert_eq!(area.words(), (256 + 48) / 8);
            let memory = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
            Self { memory, place: ShardPlace::new(&geometry, 1), area }
        }

        fn words(&self) -> WordsMut<'_> {
            WordsMut::new(&self.memory)
        }

        fn shard(&self) -> ShardMut<'_> {
            ShardMut::new(self.words(), &self.place)
        }

        fn tails(&self) -> TailsMut<'_> {
            TailsMut::new(self.words(), &self.area)
        }

        fn word(&self, word: usize) -> u64 {
            self.area.count(*self.words(), word)
        }

        fn reserve(&self) -> Result<Slot<'_, u64>, Dropped> {
            self.shard().reserve_with_tail(&self.tails())
        }

        fn push(&self, n: u64, tail: &[u8]) -> Option<u64> {
            self.shard().push_with_tail(&self.tails(), &n, tail)
        }

        /// The records and tails that a reader finds from the start.
        fn read(&self) -> (Vec<Found>, ReadStats) {
            let mut source = Shard::new(*self.words(), &self.place);
            let (mut cursor, mut found) = (Cursor::at(0, 0), vec![]);
            let mut out = vec![0; self.area.room()];
            let mut value = [0_u64; 3];
            for _ in 0..1000 {
                if let Step::Record(_) = cursor.step(&mut source, &mut value) {
                    let tail = self.area.copy(*self.words(), value[0], value[1], &mut out);
                    found.push((value[2], tail.map(<[u8]>::to_vec)));
                }
            }
            (found, cursor.stats())
        }
    }

    fn bytes(n: u64, len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from((n + at as u64 * 7) % 251).unwrap()).collect()
    }

    #[test]
    fn with_nobody_in_the_way_it_is_as_long_as_two_claims_and_a_step() {
        let region = Region::new();
        let (tails, space, step) = (region.tails(), region.area.space(), region.area.step());
        for at in [0, 16, 48, 240] {
            let (way, end) = (tails.way(at), at + space);
            let expected = (None, end.next_multiple_of(step), end + space + step);
            assert_eq!((way.clear, way.to, way.limit), expected);
        }
    }

    #[test]
    fn tails_follow_each_other_and_are_overwritten_after_a_round() {
        let region = Region::new();
        let lengths = [0, 1, 16, 17, 40, 8];
        for (n, len) in (0..).zip(lengths) {
            assert_eq!(region.push(n, &bytes(n, len)), Some(n));
        }
        assert_eq!(
            (region.word(NEXT), region.word(ACTIVE)),
            (16 + 16 + 32 + 48 + 16, 0),
            "the rest is given back"
        );
        let (found, stats) = region.read();
        let expected: Vec<_> = (0..).zip(lengths).map(|(n, len)| (n, Some(bytes(n, len)))).collect();
        assert_eq!((found, stats.delivered), (expected, 6));
        assert!(region.word(HIGH) >= region.word(NEXT) && region.word(HIGH) == region.word(GRANTED));
        assert_eq!(region.word(HIGH) % (CAPACITY / 8), 0);
        (6..32).for_each(|n| assert_eq!(region.push(n, &bytes(n, 40)), Some(n)));
        let (found, _) = region.read();
        let whole = found.iter().filter(|(_, tail)| tail.is_some()).count();
        assert!(found.len() == 32 && (2..=5).contains(&whole), "{whole}");
        for (n, tail) in found {
            assert!(tail.is_none_or(|tail| tail == bytes(n, 40)), "{n}");
        }
        assert_eq!([Tails::NO_SPACE, Tails::TOO_LONG, STEPPED].map(|word| region.word(word)), [0; 3]);
    }

    #[test]
    fn claims_are_allowed_in_eighths_of_the_area() {
        let region = Region::new();
        for (n, high) in [(0, 64), (1, 96), (2, 160)] {
            assert_eq!(region.push(n, &bytes(n, 40)), Some(n)); // 48 bytes each
            assert_eq!((region.word(NEXT), region.word(HIGH)), (48 * (n + 1), high));
        }
    }

    #[test]
    fn a_tail_is_gone_once_its_bytes_may_be_written_again() {
        let region = Region::new();
        assert_eq!((region.push(0, &bytes(0, 16)), region.push(1, &bytes(1, 16))), (Some(0), Some(1)));
        let mut out = [0; 48];
        for (high, is_there) in [(16 + CAPACITY, true), (17 + CAPACITY, false), (32 + CAPACITY, false)] {
            region.words().store(region.area.header + HIGH, high, Ordering::Relaxed);
            assert_eq!(
                region.area.copy(*region.words(), 16, 16, &mut out).is_some(),
                is_there,
                "up to {high}"
            );
        }
    }

    #[test]
    fn a_copy_of_the_area_has_its_bytes_and_its_header() {
        let region = Region::new();
        (0..4).for_each(|n| assert_eq!(region.push(n, &bytes(n, 40)), Some(n)));
        let mut copy = vec![u64::MAX; region.memory.len()];
        region.area.copy_to(*region.words(), &mut copy);
        let Area { header, first, .. } = region.area;
        for (at, found) in copy.iter().enumerate() {
            let is_copied =
                (header..header + 32).contains(&at) || (first..first + region.area.words()).contains(&at);
            let expected = if is_copied { region.memory[at].load(Ordering::Relaxed) } else { u64::MAX };
            assert_eq!(*found, expected, "word {at}");
        }
    }

    #[test]
    fn a_record_that_does_not_fit_beside_its_tail_claims_nothing() {
        let region = Region::new();
        let larger = || region.shard().reserve_with_tail::<[u64; 2]>(&region.tails()).is_ok();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(larger)).is_err());
        assert!(region.memory.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn no_position_and_no_length_is_read_outside_of_the_area() {
        let region = Region::new();
        let mut out = [0; 48];
        let mut copy = |at, len| region.area.copy(*region.words(), at, len, &mut out).map(<[u8]>::len);
        assert_eq!(
            [copy(0, 0), copy(0, 40), copy(0, 41), copy(0, u64::MAX)],
            [Some(0), Some(40), None, None]
        );
        assert_eq!([copy(u64::MAX - 255, 40), copy(u64::MAX, 40), copy(1, 40)], [Some(40), Some(40), None]);
        assert_eq!(region.area.copy(*region.words(), 0, 40, &mut [0; 40]), None, "no room for pairs");
    }

    #[test]
    fn a_tail_that_is_too_long_is_counted_and_writes_nothing() {
        let region = Region::new();
        assert_eq!((region.push(7, &[1; 41]), region.word(Tails::TOO_LONG)), (None, 1));
        let mut slot = region.reserve().unwrap();
        assert!(slot.write_tail(&[3; 20]) && !slot.write_tail(&[1; 41]));
        slot.write(&9);
        assert_eq!(slot.commit(), Some(0));
        region.reserve().unwrap().discard();
        assert_eq!((region.word(NEXT), region.read().0), (32, vec![(9, Some(vec![3; 20]))]));
    }

    #[test]
    fn writers_that_have_not_ended_keep_their_bytes_and_cost_no_others() {
        let region = Region::new();
        let mut open = region.reserve().unwrap();
        open.write(&5);
        assert!(open.write_tail(&[9; 40]));
        (0..20).for_each(|n| assert_eq!(region.push(n, &[u8::try_from(n).unwrap(); 40]), Some(n + 1)));
        assert!(region.word(STEPPED) > CAPACITY && region.word(Tails::NO_SPACE) == 0);
        assert_eq!(open.commit(), Some(0));
        let (found, _) = region.read();
        assert_eq!(found[0], (5, Some(vec![9; 40])));
        assert_eq!(found[20], (19, Some(vec![19; 40])));
    }

    #[test]
    fn so_many_writers_are_inside_at_once_and_the_dead_can_be_removed() {
        let region = Region::new();
        let most = usize::try_from(CAPACITY).unwrap() / 48;
        let open: Vec<_> = (0..most).map(|_| region.reserve().unwrap()).collect();
        assert!(matches!(region.reserve(), Err(Dropped::NoSpace)));
        let spell = Shard::new(*region.words(), &region.place).spell();
        assert!(region.word(Tails::NO_SPACE) == 1 && spell[0] > 0);
        open.into_iter().for_each(core::mem::forget);
        let active = || (0..Tails::WRITERS).filter(|entry| region.word(ACTIVE + entry) != 0).count();
        assert_eq!(active(), most);
        region.tails().recover();
        assert_eq!((active(), region.shard().recover()), (0, most));
        assert!(region.push(1, &[1; 40]).is_some());
        // Entries without bytes of their own.
        let tails = region.tails();
        (0..16).for_each(|_| assert!(tails.enter(0).is_some()));
        assert!(tails.enter(0).is_none() && matches!(region.reserve(), Err(Dropped::NoSpace)));
    }
}
