//! A ring of one shard that programs write, and a production reader of it that checks the guarantees at each step.

use mapring_core::abi::readers::{FIRST, OF_SHARD, SEATS};
use mapring_core::abi::seq::{DISCARDED, PENDING, state};
use mapring_core::abi::{Geometry, Kind, Preamble, Tails};
use mapring_core::protocol::Words;
use mapring_core::protocol::ring::{Cursor, ReadStats, Shard, ShardPlace, SlotSource as _, Step};

use crate::history::{End, History};
use crate::machine::{Machine, NOW};
use crate::map::{Bells, Change, Inner, Map};
use crate::object::Program;
use crate::order::Order;
use crate::sync::{AtomicU64, Ordering};

/// The kind of a word of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// The hint of the ring's end.
    Head,
    /// The shard's count of dropped records, or the preamble's.
    Dropped,
    /// The sequence of this slot.
    Seq(usize),
    /// A word of a record.
    Record,
    /// A word of the readers.
    Readers,
}

impl Word {
    /// The same kind, with any slot.
    #[must_use]
    pub fn any_slot(self) -> Self {
        if let Self::Seq(_) = self { Self::Seq(0) } else { self }
    }
}

/// A ring, all zeros at first.
pub struct Ring {
    /// Its memory.
    pub map: Map,
    geometry: Geometry,
    place: ShardPlace,
}

impl Map {
    /// A map of zeros.
    pub fn new(name: &'static str, geometry: &Geometry) -> Self {
        let words = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        Self { name, words, stride: geometry.element_words(), inner: None }
    }

    /// Adds readers for this many shards, and bells.
    pub(crate) fn add_readers(&mut self, shards: usize) {
        let first = self.words.len();
        let count = first + (FIRST + OF_SHARD * shards) * SEATS;
        self.words = (0..count).map(|_| AtomicU64::new(0)).collect();
        self.inner = Some(Inner::Readers(first, Bells::default()));
    }
}

impl Ring {
    /// The ring with the programs' name `name`: `narrow` or `wide` (records of one word or two), or `placed` (of one
    /// word, with one map per CPU, here only one), `waking` (of one word, with a second shard), `tailed` (the same with
    /// tails) or `keeping` (of one word, keeps its oldest records), and the number of slots.
    pub fn new(name: &'static str) -> Self {
        let (kind, slots) = name.split_at(name.find(|c: char| c.is_ascii_digit()).unwrap());
        let (wakes, tailed) = (["waking", "tailed"].contains(&kind), kind == "tailed");
        let record = if tailed { 24 } else { 8 << u64::from(kind == "wide") };
        let shards = if wakes { 2 } else { 1 };
        let mut geometry = Geometry::new(Kind::Ring, record, slots.parse().unwrap(), shards).unwrap();
        if tailed {
            geometry = geometry.with_tails(Tails::new(64, 128).unwrap()).unwrap();
        }
        let mut map = Map::new(name, &geometry);
        match kind {
            "placed" => map.inner = Some(Inner::All(1)),
            "waking" | "tailed" | "keeping" => map.add_readers(geometry.shards()),
            _ => {}
        }
        Self { map, geometry, place: ShardPlace::new(&geometry, 0) }
    }

    /// The shard, as production readers see it.
    pub fn shard(&self) -> Shard<'_> {
        Shard::new(Words::new(&self.map.words), &self.place)
    }

    /// The number of slots.
    pub fn slots(&self) -> u64 {
        self.place.slots().count()
    }

    /// How many of the last tickets a reader finds after it was lapped: it keeps a distance from the writer.
    fn within_reach(&self) -> u64 {
        self.slots() - self.slots() / 8
    }

    /// The layout of its shape.
    pub fn place(&self) -> &ShardPlace {
        &self.place
    }

    /// The kind of the word with this index in the map.
    pub fn word(&self, word: usize) -> Word {
        let (slots, stride) = (self.first_slot(), self.slot_words());
        let area = slots + self.geometry.capacity() * stride;
        match word {
            _ if matches!(self.map.inner, Some(Inner::Readers(first, _)) if word >= first) => Word::Readers,
            _ if word == self.head_word() => Word::Head,
            _ if word < slots => Word::Dropped,
            _ if self.geometry.tails().is_some() && word >= area => Word::Record,
            _ if (word - slots).is_multiple_of(stride) => Word::Seq((word - slots) / stride),
            _ => Word::Record,
        }
    }

    /// The hint of the ring's end.
    pub fn head(&self) -> u64 {
        self.map.words[self.head_word()].load(Ordering::Relaxed)
    }

    /// Sets the hint to another ticket.
    pub fn set_head(&self, head: u64) {
        self.map.words[self.head_word()].store(head, Ordering::Relaxed);
    }

    /// The first word of the header.
    pub(crate) fn head_word(&self) -> usize {
        match self.geometry.tails() {
            Some(_) => Preamble::WORDS,
            None => self.geometry.shard(0) * self.geometry.element_words(),
        }
    }

    /// The first word of slot 0.
    fn first_slot(&self) -> usize {
        match self.geometry.tails() {
            Some(_) => self.head_word() + 3 * 8 + Tails::WRITERS,
            None => self.geometry.slots(0) * self.geometry.element_words(),
        }
    }

    /// The words from one slot to the next.
    fn slot_words(&self) -> usize {
        1 + self.geometry.record() / 8
    }

    /// Sets the memory to the state that producers leave after `history`.
    pub fn restore(&self, history: &History) {
        self.set_head(history.taken());
        for (t, end) in history.tickets() {
            let seq = self.seq(t);
            self.map.words[seq].store(self.ended(t, end), Ordering::Relaxed);
            if let End::Published(value) = end {
                let words = seq + 1..seq + self.slot_words();
                words.for_each(|word| self.map.words[word].store(value, Ordering::Relaxed));
            }
        }
    }

    /// The index of the sequence word of ticket `t`.
    fn seq(&self, t: u64) -> usize {
        self.first_slot() + self.place.slots().of(t) * self.slot_words()
    }

    /// The sequence of a ticket with this end.
    fn ended(&self, t: u64, end: End) -> u64 {
        let slots = self.place.slots();
        match end {
            End::Held => slots.writing(t),
            End::Published(_) => slots.published(t),
            End::Discarded => slots.published(t) | DISCARDED,
        }
    }

    /// `program`, ready to push, or discard, a record of `value`.
    pub fn machine<'a>(&'a self, program: &'a Program, order: Order, value: u64) -> Machine<'a> {
        Machine::new(program, &self.map, order, 0, [value, 0])
    }

    /// Runs `program`, which pushes a record of each of `values`.
    pub fn push_all(
        &self,
        program: &Program,
        order: Order,
        values: impl IntoIterator<Item = u64>,
    ) -> History {
        let mut history = History::default();
        for value in values {
            let mut machine = self.machine(program, order, value);
            let returned = machine.run();
            self.account(&mut history, machine.changes(), Some(returned), End::Published(value));
        }
        history
    }

    /// Adds a program's actions, by its `changes`, to `history`. It `returned` that, or was abandoned; its ticket, if
    /// it got and ended one, ended as `end`.
    pub fn account(&self, history: &mut History, changes: &[Change], returned: Option<u64>, end: End) {
        let (mut claimed, mut ended) = (None, None);
        for change in changes {
            let Word::Seq(slot) = self.word(change.word) else { continue };
            let ticket = self.place.slots().taken(state(change.value), slot as u64);
            if change.value & 1 != 0 {
                assert_eq!(claimed.replace(ticket), None, "a program claims one ticket");
            } else {
                assert_eq!(claimed, Some(ticket), "a program ends what it claimed");
                assert_eq!(change.value & DISCARDED != 0, end == End::Discarded);
                assert_eq!(ended.replace(end), None, "a program ends its ticket once");
            }
        }
        match returned.map(|value| value & 0xffff_ffff) {
            Some(0) => assert!(ended.is_some(), "a program that goes on to its end ends its ticket"),
            Some(0xffff_ffff) => {
                assert_eq!(claimed, None, "a program that drops its record claims nothing");
                history.note_dropped();
            }
            Some(other) => panic!("returned {other:#x}"),
            None => {}
        }
        if let Some(t) = claimed {
            history.note(t, ended.unwrap_or(End::Held));
        }
    }

    /// After all programs have ended: memory matches the producers' actions, and a new reader finds every record that
    /// was not overwritten.
    pub fn check(&self, history: &History) {
        let dropped = self.shard().dropped() + self.shard().full();
        assert_eq!(dropped, history.dropped(), "every dropped record is counted");
        let when = if dropped == 0 { 0 } else { NOW };
        assert_eq!(self.shard().spell(), [when; 2], "with its time");
        assert_eq!(self.shard().head() & PENDING, 0, "nobody is in the midst of a claim");
        let slots = self.place.slots();
        for slot in 0..self.slots() {
            let last = history.tickets().rfind(|&(t, _)| slots.of(t) as u64 == slot);
            let expected = last.map_or(0, |(t, end)| self.ended(t, end));
            let found = self.map.words[self.seq(slot)].load(Ordering::Relaxed);
            assert_eq!(found, expected, "slot {slot} of {history:?}");
        }
        let reader = Reader::at(0, 1).finish(self, history);
        // A record published more than a lap late may be found, or counted.
        let within_a_lap = |t: u64| t + self.within_reach() >= history.taken();
        let found: Vec<_> = reader.log.iter().copied().filter(|&(t, _)| within_a_lap(t)).collect();
        let there = history.tickets().filter_map(|(t, end)| match end {
            End::Published(value) if within_a_lap(t) => Some((t, value)),
            _ => None,
        });
        assert_eq!(found, there.collect::<Vec<_>>(), "{reader:?} {history:?}");
    }

    /// After all programs have ended: every slot can be claimed again, from the state that they left.
    pub fn check_again(&self, program: &Program, order: Order, history: History) {
        let next = self.push_all(program, order, 50..52 + self.slots());
        assert_eq!(next.dropped(), 0, "nobody is in the midst of anything: {history:?} {next:?}");
        self.check(&history.with(next));
    }
}

/// A production reader, and the records that it got.
#[derive(Debug)]
pub struct Reader {
    cursor: Cursor,
    first: u64,
    log: Vec<(u64, u64)>,
}

impl Reader {
    /// A reader that starts at `ticket`.
    pub fn at(ticket: u64, patience: u64) -> Self {
        Self { cursor: Cursor::at(ticket, patience), first: ticket, log: Vec::new() }
    }

    /// Takes this many steps.
    #[must_use]
    pub fn steps(mut self, ring: &Ring, count: usize) -> Self {
        (0..count).for_each(|_| _ = self.step(ring));
        self
    }

    /// One step, whose outcome must match the cursor and its stats.
    pub fn step(&mut self, ring: &Ring) -> Step {
        let before = self.cursor.next();
        let (mut out, mut with_tail) = ([0_u64; 2], [0_u64; 3]);
        let wide = ring.geometry.record() == 16;
        let step = match ring.geometry.record() {
            24 => self.cursor.step(&mut ring.shard(), &mut with_tail),
            16 => self.cursor.step(&mut ring.shard(), &mut out),
            _ => self.cursor.step(&mut ring.shard(), &mut out[0]),
        };
        out[0] |= with_tail[2];
        if let Step::Record(t) = step {
            assert_eq!((t, t + 1), (before, self.cursor.next()), "in order, and never twice");
            assert!(!wide || out[0] == out[1], "ticket {t} is torn: {out:?}");
            self.log.push((t, out[0]));
        }
        let stats = self.stats();
        assert_eq!(stats.delivered, self.log.len() as u64);
        assert_eq!(stats.passed(), self.cursor.next() - self.first, "{self:?}");
        step
    }

    /// The counts of the tickets passed.
    pub fn stats(&self) -> ReadStats {
        self.cursor.stats()
    }

    /// The records that it got.
    pub fn log(&self) -> &[(u64, u64)] {
        &self.log
    }

    /// After all programs have ended: reads the rest, and checks that every delivered record was published with this
    /// value, and that every other ticket is counted by its cause.
    #[must_use]
    pub fn finish(mut self, ring: &Ring, history: &History) -> Self {
        let rest = history.ended().max(self.first);
        let mut steps = 0;
        while self.step(ring) != Step::Empty || self.cursor.next() != rest {
            steps += 1;
            assert!(steps < 500, "does not come to rest at {rest}: {self:?} {history:?}");
        }
        let end = self.cursor.next();
        let account = || format!("{self:?} {history:?}");
        for &(t, value) in &self.log {
            assert_eq!(history.get(t), Some(End::Published(value)), "ticket {t}: {}", account());
        }
        let missed = (self.first..end).filter(|t| self.log.iter().all(|(got, _)| got != t));
        // More than a lap behind: overwritten tickets, and the holes between them.
        let (gone, there): (Vec<_>, Vec<_>) =
            missed.partition(|&t| t + ring.within_reach() < history.taken());
        let discarded = there.iter().filter(|&&t| history.get(t) == Some(End::Discarded)).count() as u64;
        let stats = self.stats();
        assert!(stats.lapped <= gone.len() as u64, "lapped, but not overwritten: {}", account());
        assert!(stats.discarded >= discarded, "{}", account());
        assert!(
            stats.skipped + stats.stepped_over >= there.len() as u64 - discarded,
            "neither delivered nor counted: {}",
            account()
        );
        self
    }
}
