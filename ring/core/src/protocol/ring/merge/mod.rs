//! Merges the shards of a ring in the order of their records' stamps.
//!
//! A program stamps a record after it has reserved it. So a ticket that is claimed later than the reader read the clock
//! has a later stamp. The reader reads the clock, *then* the end of each shard. All records with an earlier stamp are
//! then known, except for those that are being written.
//!
//! Within a shard, records are in the order of their claims, not of their stamps: a program that interrupts another one
//! between claim and stamp has the later ticket and the earlier stamp. Take a ticket that was not read yet, and
//! [`OPEN`] + 1 tickets before it. Unless more than `OPEN` programs of that CPU were between claim and stamp at the same
//! time, one of these was stamped before that ticket was claimed. So the earliest of these stamps is not later than any
//! stamp that was not read yet. The reader therefore sorts the records that it holds of each shard, and while there are
//! more records to read, it holds more than `OPEN`.
//!
//! A program that claims a slot after the reader saw the end of its shard reads a later clock than the reader did. All
//! CPUs must agree on the clock, as they do on CLOCK_MONOTONIC and CLOCK_BOOTTIME. A compare-and-swap on x86-64 is a
//! full barrier, so the claim is visible before its program reads the clock. The plain store of a guarded claim can
//! still be in the store buffer of its CPU, and on aarch64 the barrier does not order the clock. So the reader delivers
//! only records that are `SETTLE` old.

mod order;
mod tree;

use bytemuck::AnyBitPattern;

use super::{Cursor, SlotSource, Step};
use order::{LATE, Order, Run};
use tree::{NONE, Tree};

/// The most programs of one CPU that can be between claim and stamp at the same time, without late records: tasks,
/// softirqs, interrupts and NMIs interrupt each other, and tasks can also preempt each other.
pub const OPEN: usize = 8;

/// What ended the reading of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There may be more to read.
    More,
    /// The end: later tickets were not claimed when this call began.
    End,
    /// A ticket that is being written, or a call that failed or ended early.
    Blocked,
}

/// What a ring delivers next: of several rings, the one with the least turn is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The stamp of the next record. Or no record with an earlier stamp comes any more, except late ones.
    pub stamp: u64,
    /// Whether there is one that can be delivered in this round.
    pub has_record: bool,
}

/// The shards of a ring, each with a cursor.
pub trait Shards<T> {
    /// How many there are.
    fn count(&self) -> usize;

    /// Whether records are written to this ring only: false once it is being replaced by another.
    fn in_use(&mut self) -> bool;

    /// Reads records of shard `at` into `room`, with [`read`]. `held` is the earliest of its tickets that were read before
    /// and not delivered.
    fn read(&mut self, at: usize, held: Option<u64>, room: &mut [T], f: impl FnMut(u64, &[T])) -> Found;
}

/// Reads records of a shard into `room`. Calls `f` with each run of records, whose tickets follow each other, and the
/// first one's ticket. Ends after `steps` tickets in a row that gave no record.
#[inline]
pub fn read<T: AnyBitPattern>(
    cursor: &mut Cursor,
    source: &mut impl SlotSource,
    room: &mut [T],
    steps: u32,
    mut f: impl FnMut(u64, &[T]),
) -> Found {
    let (mut count, mut left) = (0, steps);
    loop {
        if cursor.nothing_claimed(source) {
            return Found::End;
        }
        let (room, first) = (&mut room[count..], cursor.next());
        let (run, step) = cursor.run(source, room, room.len(), |_, _| {});
        f(first, &room[..run]);
        count += run;
        if run == room.len() {
            source.prefetch(cursor.next()); // the other shards come first
            return Found::More;
        }
        if step == Step::Empty {
            return if cursor.nothing_claimed(source) { Found::End } else { Found::Blocked };
        }
        left = if run > 0 { steps } else { left.saturating_sub(cursor.cost()) };
        if left == 0 {
            return Found::Blocked;
        }
    }
}

/// Records of all shards in the order of their stamps.
#[derive(Debug)]
pub struct Merge<T> {
    runs: Vec<Run>,
    /// The stamps, tickets and records of all shards, [`size`](Self::size) for each.
    stamps: Vec<u64>,
    tickets: Vec<u64>,
    records: Vec<T>,
    tree: Tree,
    /// log2 of the most records that are held of each shard.
    size: u32,
    /// The places of the next records in their order, up to `ordered`. Those before `next` were delivered.
    order: Box<[usize]>,
    ordered: usize,
    next: usize,
    /// The latest stamp that has a place in the order.
    last: u64,
    /// How long a claim may take to become visible after its program read the clock.
    settle: u64,
    delay: u64,
    /// The clock at the beginning of this round.
    now: u64,
    /// Records with earlier stamps can be delivered.
    limit: u64,
    /// Whether no later record can be in another ring.
    in_use: bool,
    late: u64,
    ahead: u64,
    /// Whether the records of a shard stay in the order of their tickets.
    by_ticket: bool,
}

impl<T: AnyBitPattern> Merge<T> {
    /// The most records that are held of each shard: as many as these bytes hold, but not more or fewer than these.
    const BYTES: usize = 1 << 20;
    const MOST: usize = 128;
    const LEAST: usize = 2 * OPEN;

    /// A merge of `shards` shards. A record that is being written holds back later ones until the clock is `delay` after
    /// their stamps. `settle` is how long a claim may take to become visible after its program read the clock. Both have
    /// the unit of the clock.
    pub fn new(shards: usize, delay: u64, settle: u64) -> Self {
        let each = Self::BYTES / (size_of::<T>().max(1) * shards.max(1));
        let mut merge = Self {
            runs: Vec::new(),
            stamps: Vec::new(),
            tickets: Vec::new(),
            records: Vec::new(),
            tree: Tree::new(0),
            size: each.clamp(Self::LEAST, Self::MOST).ilog2(),
            order: vec![0; 2 * Self::MOST].into(),
            ordered: 0,
            next: 0,
            last: 0,
            settle,
            delay,
            now: 0,
            limit: 0,
            in_use: true,
            late: 0,
            ahead: 0,
            by_ticket: false,
        };
        merge.grow(shards);
        merge
    }

    /// Makes room for more shards. Keeps the records that it holds.
    fn grow(&mut self, shards: usize) {
        let old = self.runs.len();
        if shards > old {
            self.runs.extend((old..shards).map(|at| {
                let first = at << self.size;
                Run { first, end: first, ..Run::default() }
            }));
            self.stamps.resize(shards << self.size, 0);
            self.tickets.resize(shards << self.size, 0);
            self.records.resize_with(shards << self.size, T::zeroed);
            self.tree = Tree::new(shards);
        }
    }

    /// Sets how long a record that is being written can hold back later ones.
    pub fn set_delay(&mut self, delay: u64) {
        self.delay = delay;
    }

    /// Keeps the records of each shard in the order of their tickets: none counts as earlier than the one before it.
    pub fn keep_ticket_order(&mut self) {
        self.by_ticket = true;
    }

    /// Whether there is a record that can be delivered in this round, as far as records are in order.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.next < self.ordered
    }

    /// The records that were read and not delivered yet.
    pub fn held(&self) -> u64 {
        let held = self.runs.iter().map(|run| run.end - run.first).sum::<usize>();
        (held + self.ordered - self.next) as u64
    }

    /// The records that were delivered after one with a later stamp.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// The records whose stamp was later than the clock.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }

    /// Begins a round: reads the end of each shard, after the clock was `now`. The caller reads the clock before this
    /// call, with a [`clock_fence`](super::clock_fence) in between, and has taken all records of the earlier round.
    /// `stamp` returns a record's stamp. Returns whether there is a record to deliver.
    pub fn round(
        &mut self,
        shards: &mut impl Shards<T>,
        now: u64,
        stamp: &mut impl FnMut(&T) -> u64,
    ) -> bool {
        self.grow(shards.count());
        self.now = self.now.max(now);
        self.limit = self.now.saturating_sub(self.settle);
        // A new record can go to the next ring as soon as this one is being replaced.
        self.in_use = shards.in_use();
        for at in 0..self.runs.len() {
            self.check_ahead(at);
            self.runs[at].done = at >= shards.count();
            if self.runs[at].must_fill() {
                self.fill(shards, at, stamp);
            }
        }
        let Self { tree, runs, stamps, .. } = self;
        tree.build(|at| runs[at].stamp(stamps));
        self.put_in_order(shards, stamp)
    }

    /// Whether there is a record that can be delivered in this round. Reads on if it must.
    #[inline(always)]
    pub fn has_next(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) -> bool {
        self.is_ready() || self.put_in_order(shards, stamp)
    }

    /// The shard, ticket and record of the next record, if there [is one](Self::has_next).
    #[inline(always)]
    pub fn pop(&mut self) -> Option<(usize, u64, &T)> {
        if !self.is_ready() {
            return None;
        }
        let place = self.order[self.next] & !LATE;
        self.late += u64::from(self.order[self.next] != place);
        self.next += 1;
        Some((place >> self.size, self.tickets[place], &self.records[place]))
    }

    /// Calls `f` with the shard, ticket and record of up to `limit` records that can be delivered in this round. Returns
    /// how many.
    #[inline(always)]
    pub fn for_each(
        &mut self,
        shards: &mut impl Shards<T>,
        stamp: &mut impl FnMut(&T) -> u64,
        limit: usize,
        mut f: impl FnMut(usize, u64, &T),
    ) -> usize {
        let mut left = limit;
        while left > 0 && self.has_next(shards, stamp) {
            let Self { order, next, ordered, late, tickets, records, size, .. } = self;
            let places = &order[*next..*ordered];
            let places = &places[..places.len().min(left)];
            let records = &records[..tickets.len()]; // one check for both
            left -= places.len();
            for place in places {
                *next += 1; // first: nothing is delivered twice if `f` panics
                let at = *place & !LATE;
                if at != *place {
                    *late += 1;
                }
                f(at >> *size, tickets[at], &records[at]);
            }
        }
        limit - left
    }

    /// What this ring delivers next in this round, for a merge of several rings. Reads on if it must.
    pub fn turn(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) -> Turn {
        let has_record = self.has_next(shards, stamp);
        let stamp = if has_record { self.stamps[self.order[self.next] & !LATE] } else { self.limit };
        Turn { stamp, has_record }
    }

    /// As [`for_each`](Self::for_each) with the records that have a stamp before `end`. `last` is the latest stamp of all
    /// rings: earlier ones are late.
    pub fn for_each_before(
        &mut self,
        shards: &mut impl Shards<T>,
        stamp: &mut impl FnMut(&T) -> u64,
        end: u64,
        limit: usize,
        last: &mut u64,
        mut f: impl FnMut(usize, u64, &T),
    ) -> usize {
        for count in 0..limit {
            let next = self.turn(shards, stamp);
            if !next.has_record || next.stamp >= end {
                return count;
            }
            let place = self.order[self.next] & !LATE;
            self.next += 1;
            self.late += u64::from(next.stamp < *last);
            *last = next.stamp.max(*last);
            f(place >> self.size, self.tickets[place], &self.records[place]);
        }
        limit
    }

    /// Puts the next records in order, after all earlier ones were delivered. Returns whether there are any.
    #[inline(never)]
    fn put_in_order(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) -> bool {
        self.fill_all(shards, stamp);
        let Self { runs, stamps, tree, last, order, .. } = self;
        let taken = Order { runs, stamps, tree, limit: self.limit, last }.take(order);
        (self.next, self.ordered) = (0, taken);
        taken > 0
    }

    /// Reads on where this is necessary to take the next record.
    #[inline(always)]
    fn fill_all(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) {
        if self.runs.len() == 2 {
            for at in 0..2 {
                if self.runs[at].must_fill() {
                    self.fill(shards, at, stamp);
                }
            }
            return;
        }
        // A shard whose record comes later is filled when it is its turn, or it holds more than `OPEN` later ones.
        loop {
            let (stamped, at) = self.tree.winner();
            if stamped >= self.limit || !self.runs[at].must_fill() {
                return;
            }
            self.fill(shards, at, stamp);
            // Maybe an earlier stamp, which is then the earliest of all.
            self.tree.replace_winner(self.runs[at].stamp(&self.stamps));
        }
    }

    /// Reads on in a shard of which few records are held.
    #[inline(never)]
    fn fill(&mut self, shards: &mut impl Shards<T>, at: usize, stamp: &mut impl FnMut(&T) -> u64) {
        let Self { runs, stamps, tickets, records, size, .. } = self;
        let (run, base) = (&mut runs[at], at << *size);
        run.raise_floor(stamps);
        stamps.copy_within(run.first..run.end, base);
        tickets.copy_within(run.first..run.end, base);
        records.copy_within(run.first..run.end, base);
        (run.first, run.end) = (base, base + run.end - run.first);
        let (before, room) = (run.end, run.end..base + (1 << *size));
        let held = tickets[base..before].iter().copied().min(); // a few: it must read on
        let found = shards.read(at, held, &mut records[room], |first, records| {
            let here = run.end..run.end + records.len();
            let places = stamps[here.clone()].iter_mut().zip(&mut tickets[here]);
            let mut ticket = first;
            for ((to_stamp, to_ticket), record) in places.zip(records) {
                (*to_stamp, *to_ticket) = (stamp(record).min(NONE - 1), ticket);
                ticket = ticket.wrapping_add(1); // forged sequences can move a cursor to the last ticket
            }
            run.end += records.len();
        });
        if self.by_ticket {
            for stamp in &mut stamps[before..run.end] {
                *stamp = run.latest.max(*stamp);
                run.latest = *stamp;
            }
        }
        if !stamps[before.saturating_sub(1).max(base)..run.end].is_sorted() {
            for place in before.max(base + 1)..run.end {
                let to = base + stamps[base..place].partition_point(|earlier| *earlier <= stamps[place]);
                stamps[to..=place].rotate_right(1);
                tickets[to..=place].rotate_right(1);
                records[to..=place].rotate_right(1);
            }
        }
        if found == Found::End && self.in_use {
            run.floor = run.floor.max(self.now.saturating_sub(self.settle));
            run.done = true;
            return;
        }
        run.raise_floor(stamps);
        if run.must_fill() {
            run.done = true;
            self.limit = self.limit.min(run.floor.max(self.now.saturating_sub(self.delay)));
        }
    }

    /// Delivers records soon whose stamps are later than a clock that was read after the records: their programs use
    /// another clock.
    fn check_ahead(&mut self, at: usize) {
        let Run { first, end, .. } = self.runs[at];
        // The clocks of programs and readers may differ by some nanoseconds.
        let most = self.now.saturating_add(self.settle);
        self.runs[at].latest = self.runs[at].latest.min(most);
        for stamp in self.stamps[first..end].iter_mut().rev().take_while(|stamp| **stamp > most) {
            *stamp = most;
            self.ahead += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::abi::seq::DISCARDED;

    /// Shards of records that are their own stamps, and what ends each.
    struct Lists {
        shards: Vec<(Vec<u64>, Found)>,
        read: Vec<usize>,
        in_use: bool,
    }

    impl Lists {
        fn new(shards: &[(&[u64], Found)]) -> Self {
            let shards: Vec<_> = shards.iter().map(|(list, found)| (list.to_vec(), *found)).collect();
            Self { read: vec![0; shards.len()], shards, in_use: true }
        }
    }

    impl Shards<u64> for Lists {
        fn count(&self) -> usize {
            self.shards.len()
        }

        fn in_use(&mut self) -> bool {
            self.in_use
        }

        fn read(
            &mut self,
            at: usize,
            _: Option<u64>,
            room: &mut [u64],
            mut f: impl FnMut(u64, &[u64]),
        ) -> Found {
            let (list, found) = &self.shards[at];
            let left = &list[self.read[at]..];
            let count = left.len().min(room.len());
            room[..count].copy_from_slice(&left[..count]);
            // In two runs.
            let (first, second) = room[..count].split_at(count / 2);
            f(self.read[at] as u64, first);
            f((self.read[at] + count / 2) as u64, second);
            self.read[at] += count;
            if left.len() > count { Found::More } else { *found }
        }
    }

    const DELAY: u64 = 850;
    const SETTLE: u64 = 10;

    fn merge(shards: usize) -> Merge<u64> {
        Merge::new(shards, DELAY, SETTLE)
    }

    /// What a round delivers: shards, tickets and stamps.
    fn round(merge: &mut Merge<u64>, lists: &mut Lists, now: u64) -> Vec<(usize, u64, u64)> {
        let mut found = vec![];
        merge.round(lists, now, &mut |record| *record);
        // By one, then some, then the rest.
        found.extend(merge.pop().map(|(shard, ticket, record)| (shard, ticket, *record)));
        for limit in [3, usize::MAX] {
            let before = found.len();
            let count = merge.for_each(lists, &mut |record| *record, limit, |shard, ticket, record| {
                found.push((shard, ticket, *record));
            });
            assert!(count == found.len() - before && count <= limit);
        }
        assert!(!merge.has_next(lists, &mut |record| *record) && merge.pop().is_none() && !merge.is_ready());
        found
    }

    fn stamps(found: &[(usize, u64, u64)]) -> Vec<u64> {
        found.iter().map(|(_, _, stamp)| *stamp).collect()
    }

    #[test]
    fn all_records_come_once_in_the_order_of_their_stamps() {
        for shards in [1, 2, 3, 5] {
            let list = |at: u64| (0..1000).map(|n| n * 7 + (n * n + at * 13) % 11).collect::<Vec<_>>();
            let mut lists: Vec<_> = (0..shards).map(list).collect();
            lists.iter_mut().for_each(|list| list.sort_unstable());
            let all: Vec<(&[u64], Found)> = lists.iter().map(|list| (&list[..], Found::End)).collect();
            let (mut merge, mut all) = (merge(1), Lists::new(&all));
            let found = round(&mut merge, &mut all, 1 << 40);
            assert!(found.is_sorted_by_key(|(_, _, stamp)| *stamp));
            for (at, list) in lists.iter().enumerate() {
                let own = found.iter().filter(|(shard, ..)| *shard == at);
                assert!(own.map(|(_, ticket, stamp)| (*ticket, *stamp)).eq((0..).zip(list.iter().copied())));
            }
            assert_eq!((merge.held(), merge.late(), merge.ahead()), (0, 0, 0));
        }
    }

    #[test]
    fn a_record_waits_until_no_earlier_one_can_come() {
        let mut merge = merge(2);
        let mut lists = Lists::new(&[(&[], Found::Blocked), (&[100, 200, 1000], Found::End)]);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 900)), []);
        assert_eq!(merge.held(), 3);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1000)), [100], "its delay is over");
        assert_eq!(stamps(&round(&mut merge, &mut lists, 999)), [], "no clock goes back");
        lists.shards[0].1 = Found::End;
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1010)), [200], "1000 is not settled");
        lists.in_use = false;
        assert_eq!(
            stamps(&round(&mut merge, &mut lists, 1011)),
            [],
            "an earlier one can come in the next ring"
        );
        lists.in_use = true;
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1011)), [1000]);
        merge.set_delay(5);
        (lists.shards[0].1, lists.shards[1].0) = (Found::Blocked, vec![100, 200, 1000, 1012]);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1017)), []);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1023)), [1012]);
    }

    #[test]
    fn records_that_come_late_or_from_another_clock_are_counted() {
        let mut merge = merge(3);
        let mut lists = Lists::new(&[(&[300, 500], Found::End), (&[], Found::End), (&[], Found::End)]);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1000)), [300, 500]);
        lists.shards[1].0 = vec![400, 499, 500, 501];
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1000)), [400, 499, 500, 501]);
        assert_eq!((merge.late(), merge.ahead()), (2, 0));
        lists.shards[2].0 = vec![1010, 1011, 5000];
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1000)), []);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1001)), []);
        assert_eq!(merge.ahead(), 1, "5000 counts as 1011");
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1022)), [1010, 1011, 5000]);
        assert_eq!((merge.late(), merge.held()), (2, 0));
    }

    #[test]
    fn a_record_is_told_by_its_shard_and_what_waits_is_counted() {
        let mut lists = Lists::new(&[(&[], Found::End), (&[30, 70], Found::End), (&[20], Found::End)]);
        let mut merge = merge(3);
        assert!(merge.round(&mut lists, 1000, &mut |record| *record));
        assert_eq!((merge.held(), merge.pop()), (3, Some((2, 0, &20))));
        let mut found = None;
        let see = |shard, ticket, record: &u64| found = Some((shard, ticket, *record));
        assert_eq!((merge.held(), merge.for_each(&mut lists, &mut |record| *record, 1, see)), (2, 1));
        assert_eq!((merge.held(), found), (1, Some((1, 0, 30))));
        let see = |shard, ticket, record: &u64| found = Some((shard, ticket, *record));
        let count = merge.for_each_before(&mut lists, &mut |record| *record, 1000, 9, &mut 0, see);
        assert_eq!((merge.held(), count, found), (0, 1, Some((1, 1, 70))));
    }

    #[test]
    fn a_record_that_is_earlier_than_those_read_before_it_comes_first() {
        let mut merge = merge(1);
        let mut lists = Lists::new(&[(&[500], Found::Blocked)]);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 505)), []);
        lists.shards[0] = (vec![500, 300, 400], Found::End);
        assert_eq!(stamps(&round(&mut merge, &mut lists, 1000)), [300, 400, 500]);
        assert_eq!(merge.late(), 0);
    }

    #[test]
    fn a_shard_is_read_until_there_is_no_room_no_record_or_a_claim() {
        let memory = Memory::with(8, 13);
        let read = |memory: &Memory, from, room: usize, steps| {
            let (mut cursor, mut found) = (Cursor::at(from, u64::MAX), vec![]);
            let mut room = vec![0_u64; room];
            let end = super::read(&mut cursor, &mut memory.source(), &mut room, steps, |first, records| {
                found.extend((first..).zip(records.iter().copied()));
            });
            (found, end, cursor.next())
        };
        let all = |tickets: std::ops::Range<u64>| tickets.map(|t| (t, t)).collect::<Vec<_>>();
        // Through the end of a lap.
        assert_eq!(read(&memory, 6, 9, 5), (all(6..13), Found::End, 13));
        assert_eq!(read(&memory, 6, 4, 5), (all(6..10), Found::More, 10));
        assert_eq!(read(&memory, 13, 4, 5), (vec![], Found::End, 13));
        memory.write(13);
        assert_eq!(read(&memory, 12, 4, 5), (all(12..13), Found::Blocked, 13));
        // Tickets without a record: as many in a row as the steps allow, whatever came before.
        let memory = Memory::new(64);
        let seq = memory.place.slots();
        (0..20).for_each(|t| memory.put(t, seq.published(t) | DISCARDED));
        memory.publish(20);
        (21..30).for_each(|t| memory.put(t, seq.published(t) | DISCARDED));
        memory.set_head(30);
        assert_eq!(read(&memory, 0, 4, 5), (vec![], Found::Blocked, 5));
        assert_eq!(read(&memory, 16, 4, 6), (all(20..21), Found::Blocked, 28));
        assert_eq!(read(&memory, 16, 4, 10), (all(20..21), Found::End, 30));
    }

    #[test]
    fn a_shard_is_sorted_unless_its_tickets_say_the_order() {
        for by_ticket in [false, true] {
            let mut merge = merge(1);
            if by_ticket {
                merge.keep_ticket_order();
            }
            let found = round(&mut merge, &mut Lists::new(&[(&[5, 3, 9, 4, 9, 8], Found::End)]), 1000);
            let tickets: Vec<_> = found.iter().map(|(_, ticket, _)| *ticket).collect();
            assert_eq!(tickets, if by_ticket { [0, 1, 2, 3, 4, 5] } else { [1, 3, 0, 5, 2, 4] });
            assert_eq!(merge.late(), 0);
        }
    }
}

#[cfg(test)]
mod turns {
    use super::*;

    /// Shards whose records are all there.
    struct Lists<'l>(&'l mut [Vec<u64>]);

    impl Shards<u64> for Lists<'_> {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn in_use(&mut self) -> bool {
            true
        }

        fn read(
            &mut self,
            at: usize,
            _: Option<u64>,
            room: &mut [u64],
            mut f: impl FnMut(u64, &[u64]),
        ) -> Found {
            let count = room.len().min(self.0[at].len());
            room.iter_mut().zip(self.0[at].drain(..count)).for_each(|(place, record)| *place = record);
            f(0, &room[..count]);
            if self.0[at].is_empty() { Found::End } else { Found::More }
        }
    }

    const NOW: u64 = 1000;
    const SETTLE: u64 = 10;

    /// Of the stamps of several rings with two shards, in the order in which they are delivered; and how many were late.
    fn merged(mut rings: Vec<[Vec<u64>; 2]>) -> (Vec<(usize, u64)>, u64) {
        let mut merges: Vec<_> = rings.iter().map(|_| Merge::new(2, 0, SETTLE)).collect();
        for (merge, ring) in merges.iter_mut().zip(&mut rings) {
            assert_eq!(merge.turn(&mut Lists(ring), &mut |stamp| *stamp), Turn::default());
            merge.round(&mut Lists(ring), NOW, &mut |stamp| *stamp);
        }
        let (mut seen, mut last) = (Vec::new(), 0);
        loop {
            let each = merges.iter_mut().zip(&mut rings);
            let turns: Vec<_> =
                each.map(|(merge, ring)| merge.turn(&mut Lists(ring), &mut |stamp| *stamp)).collect();
            let (first, turn) = turns.iter().enumerate().min_by_key(|(_, turn)| **turn).unwrap();
            if !turn.has_record {
                assert_eq!(turn.stamp, NOW - SETTLE);
                break;
            }
            let others = turns.iter().enumerate().filter(|(at, _)| *at != first);
            let end = others.map(|(_, turn)| turn.stamp).min().unwrap_or(u64::MAX).max(turn.stamp + 1);
            let (ring, before) = (&mut rings[first], seen.len());
            let see = |_, _, stamp: &u64| seen.push((first, *stamp));
            let count =
                merges[first].for_each_before(&mut Lists(ring), &mut |it| *it, end, 3, &mut last, see);
            assert!((1..=3).contains(&count) && seen.len() == before + count);
        }
        (seen, merges.iter().map(Merge::late).sum())
    }

    #[test]
    fn rings_are_delivered_in_the_order_of_their_turns() {
        let rings = vec![
            [(0..500).step_by(3).collect(), (1..200).step_by(7).collect()],
            [(2..900).step_by(5).collect(), vec![4, 4, 4, 989, 990]],
            [vec![], vec![]],
        ];
        let mut right: Vec<_> = rings
            .iter()
            .enumerate()
            .flat_map(|(at, ring)| ring.iter().flatten().map(move |stamp| (*stamp, at)))
            .filter(|(stamp, _)| *stamp < NOW - SETTLE)
            .collect();
        right.sort_unstable();
        let right: Vec<_> = right.into_iter().map(|(stamp, at)| (at, stamp)).collect();
        assert_eq!(merged(rings), (right, 0));
    }

    #[test]
    fn what_comes_after_a_later_stamp_of_any_ring_is_late() {
        let mut merge = Merge::new(1, 0, SETTLE);
        let mut ring = [vec![5, 7, 7, 20]];
        merge.round(&mut Lists(&mut ring), NOW, &mut |stamp| *stamp);
        let (mut last, mut seen) = (7, Vec::new());
        let mut see = |end, limit| {
            let each = |_, _, stamp: &u64| seen.push(*stamp);
            merge.for_each_before(&mut Lists(&mut ring), &mut |it| *it, end, limit, &mut last, each)
        };
        assert_eq!([see(20, 2), see(20, 9), see(20, 9), see(21, 9)], [2, 1, 0, 1]);
        assert_eq!((seen, last, merge.late()), (vec![5, 7, 7, 20], 20, 1));
    }
}
