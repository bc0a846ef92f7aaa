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

mod tree;

use bytemuck::AnyBitPattern;

use super::{Cursor, Look, Step};
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

    /// Reads at most `limit` records of shard `at` with [`read`].
    fn read(&mut self, at: usize, limit: usize, f: impl FnMut(u64, &T)) -> Found;
}

/// Reads at most `limit` records of a shard and calls `f` with their tickets. Ends after `steps` tickets in a row that
/// gave no record.
#[inline]
pub fn read<T: AnyBitPattern>(
    cursor: &mut Cursor,
    look: &mut impl Look,
    record: &mut T,
    limit: usize,
    steps: u32,
    mut f: impl FnMut(u64, &T),
) -> Found {
    let (mut count, mut left, mut looked_past) = (0, steps, false);
    loop {
        if cursor.nothing_claimed(look) {
            return Found::End;
        }
        let (run, step) = cursor.run(look, record, limit - count, &mut f);
        count += run;
        if count >= limit {
            return Found::More;
        }
        if step == Step::Empty {
            if cursor.nothing_claimed(look) {
                return Found::End;
            }
            if std::mem::replace(&mut looked_past, true) {
                return Found::Blocked;
            }
            cursor.look_past();
            continue;
        }
        left = if run > 0 { steps } else { left.saturating_sub(cursor.cost()) };
        if left == 0 {
            return Found::Blocked;
        }
    }
}

/// The records of a shard that were read and have no place in the order yet, sorted by stamp.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// The place of the first one, and of the one after the last.
    first: usize,
    end: usize,
    /// No record that was not read yet has an earlier stamp.
    floor: u64,
    /// Whether there is nothing more to read in this round.
    done: bool,
}

impl Run {
    /// Whether more must be read before another record of any shard can be put in order.
    fn must_fill(&self) -> bool {
        !self.done && self.end - self.first <= OPEN + 1
    }

    /// How many records can be put in order before more must be read, as far as this shard is concerned.
    fn ready(&self) -> usize {
        let len = self.end - self.first;
        if self.done { len } else { len.saturating_sub(OPEN + 1) }
    }

    /// All but [`OPEN`] of the records that were read have earlier stamps than those that were not read yet.
    fn raise_floor(&mut self, stamps: &[u64]) {
        if self.end - self.first > OPEN {
            self.floor = self.floor.max(stamps[self.end - OPEN - 1]);
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
    /// How many of these are late: the first ones.
    ordered_late: usize,
    /// The latest stamp in the order so far.
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
    held: usize,
    late: u64,
    ahead: u64,
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
            ordered_late: 0,
            last: 0,
            settle,
            delay,
            now: 0,
            limit: 0,
            in_use: true,
            held: 0,
            late: 0,
            ahead: 0,
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

    /// The records that were read and not delivered yet.
    pub fn held(&self) -> u64 {
        (self.held + self.ordered - self.next) as u64
    }

    /// The records that were delivered after one with a later stamp.
    pub fn late(&self) -> u64 {
        self.late + self.ordered_late.min(self.next) as u64
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
        tree.build(|at| first(&runs[at], stamps));
        self.put_in_order(shards, stamp)
    }

    /// The place of the next record that can be delivered in this round, to be given to [`record`](Self::record) before
    /// the next call.
    #[inline(always)]
    pub fn next(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) -> Option<usize> {
        if self.next == self.ordered && !self.put_in_order(shards, stamp) {
            return None;
        }
        self.next += 1;
        Some(self.order[self.next - 1])
    }

    /// The shard, ticket and record at a place.
    #[inline(always)]
    pub fn record(&self, place: usize) -> (usize, u64, &T) {
        (place >> self.size, self.tickets[place], &self.records[place])
    }

    /// Puts the next records in order, after all earlier ones were delivered. Returns whether there are any.
    #[inline(never)]
    fn put_in_order(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) -> bool {
        self.late = self.late();
        (self.next, self.ordered) = (0, 0);
        if let [_, _] = self.runs[..] {
            self.merge_two(shards, stamp);
        } else {
            self.merge_many(shards, stamp);
        }
        self.held -= self.ordered;
        let order = &self.order[..self.ordered];
        self.ordered_late = order.iter().take_while(|&&place| self.stamps[place] < self.last).count();
        if let Some(&place) = order.last() {
            self.last = self.last.max(self.stamps[place]);
        }
        self.ordered > 0
    }

    /// The same for two shards, without a tree.
    fn merge_two(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) {
        for at in 0..2 {
            if self.runs[at].must_fill() {
                self.fill(shards, at, stamp);
            }
        }
        let Self { runs, stamps, order, limit, .. } = self;
        // Up to the first place whose stamp is too late, or before which more must be read.
        let [(mut a, a_end, a_more), (mut b, b_end, b_more)] = [0, 1].map(|at| {
            let Run { first, done, .. } = runs[at];
            let ready = &stamps[first..first + runs[at].ready()];
            match ready.last() {
                Some(last) if last >= limit => {
                    (first, first + ready.partition_point(|stamp| stamp < limit), false)
                }
                _ => (first, first + ready.len(), !done),
            }
        });
        let mut count = 0;
        while a < a_end && b < b_end {
            // Selected without a branch, which the CPU could not predict.
            let second = usize::from(stamps[b] < stamps[a]);
            order[count] = std::hint::select_unpredictable(second == 1, b, a);
            (a, b, count) = (a + 1 - second, b + second, count + 1);
        }
        let mut rest = |from: &mut usize, end| {
            for place in *from..end {
                order[count] = place;
                count += 1;
            }
            *from = end;
        };
        if a == a_end && !a_more {
            rest(&mut b, b_end);
        } else if b == b_end && !b_more {
            rest(&mut a, a_end);
        }
        (runs[0].first, runs[1].first, self.ordered) = (a, b, count);
    }

    /// The same for any number of shards.
    fn merge_many(&mut self, shards: &mut impl Shards<T>, stamp: &mut impl FnMut(&T) -> u64) {
        let mut count = 0;
        while count < self.order.len() {
            let (stamped, at) = self.tree.winner();
            if stamped >= self.limit {
                break;
            }
            if self.runs[at].must_fill() {
                if count > 0 {
                    break; // filling moves records that are in the order
                }
                // May find an earlier stamp, which is then the earliest of all.
                self.fill(shards, at, stamp);
                self.tree.replace_winner(first(&self.runs[at], &self.stamps));
                continue;
            }
            let run = &mut self.runs[at];
            self.order[count] = run.first;
            (run.first, count) = (run.first + 1, count + 1);
            self.tree.replace_winner(first(run, &self.stamps));
        }
        self.ordered = count;
    }

    /// Reads on in a shard of which few records are held.
    #[inline(never)]
    fn fill(&mut self, shards: &mut impl Shards<T>, at: usize, stamp: &mut impl FnMut(&T) -> u64) {
        let Self { runs, stamps, tickets, records, size, held, .. } = self;
        let (run, base) = (&mut runs[at], at << *size);
        run.raise_floor(stamps);
        stamps.copy_within(run.first..run.end, base);
        tickets.copy_within(run.first..run.end, base);
        records.copy_within(run.first..run.end, base);
        (run.first, run.end) = (base, base + run.end - run.first);
        let before = run.end;
        let found = shards.read(at, (base + (1 << *size)) - run.end, |ticket, record| {
            let stamped = stamp(record).min(NONE - 1);
            let mut place = run.end;
            run.end += 1;
            // Before later stamps, which are rare.
            while place > base && stamps[place - 1] > stamped {
                (stamps[place], tickets[place], records[place]) =
                    (stamps[place - 1], tickets[place - 1], records[place - 1]);
                place -= 1;
            }
            (stamps[place], tickets[place], records[place]) = (stamped, ticket, *record);
        });
        *held += run.end - before;
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
        for stamp in self.stamps[first..end].iter_mut().rev().take_while(|stamp| **stamp > most) {
            *stamp = most;
            self.ahead += 1;
        }
    }
}

/// The earliest stamp of a shard's records.
#[inline(always)]
fn first(run: &Run, stamps: &[u64]) -> u64 {
    if run.first == run.end { NONE } else { stamps[run.first] }
}
