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
    look: &mut impl SlotSource,
    room: &mut [T],
    steps: u32,
    mut f: impl FnMut(u64, &[T]),
) -> Found {
    let (mut count, mut left) = (0, steps);
    loop {
        if cursor.nothing_claimed(look) {
            return Found::End;
        }
        let (room, first) = (&mut room[count..], cursor.next());
        let (run, step) = cursor.run(look, room, room.len(), |_, _| {});
        f(first, &room[..run]);
        count += run;
        if run == room.len() {
            look.prefetch(cursor.next()); // the other shards come first
            return Found::More;
        }
        if step == Step::Empty {
            return if cursor.nothing_claimed(look) { Found::End } else { Found::Blocked };
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
