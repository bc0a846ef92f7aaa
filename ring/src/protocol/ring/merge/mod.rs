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

/// The records of a shard that were read and not delivered, sorted by stamp.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// The place of the first one; wraps.
    first: usize,
    len: usize,
    /// No record that was not read yet has an earlier stamp.
    floor: u64,
    /// Whether there is nothing more to read in this round.
    done: bool,
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
    /// The most records that are held of each shard: a power of two.
    size: usize,
    /// How long a claim may take to become visible after its program read the clock.
    settle: u64,
    delay: u64,
    /// The clock at the beginning of this round.
    now: u64,
    /// Records with earlier stamps can be delivered.
    limit: u64,
    /// Whether no later record can be in another ring.
    in_use: bool,
    /// The latest stamp that was delivered.
    last: u64,
    held: u64,
    late: u64,
    ahead: u64,
}

impl<T: AnyBitPattern> Merge<T> {
    /// Bytes of records to be held, if that is less than [`MANY`](Self::MANY) for each shard.
    const BYTES: usize = 1 << 20;
    const MANY: usize = 64;
    const FEW: usize = 2 * OPEN;

    /// A merge of `shards` shards. A record that is being written holds back later ones until the clock is `delay` after
    /// their stamps. `settle` is how long a claim may take to become visible after its program read the clock. Both have
    /// the unit of the clock.
    pub fn new(shards: usize, delay: u64, settle: u64) -> Self {
        let each = Self::BYTES / (size_of::<T>().max(1) * shards.max(1));
        let size = (1 << each.max(1).ilog2()).clamp(Self::FEW, Self::MANY);
        let mut merge = Self {
            runs: Vec::new(),
            stamps: Vec::new(),
            tickets: Vec::new(),
            records: Vec::new(),
            tree: Tree::new(0),
            size,
            settle,
            delay,
            now: 0,
            limit: 0,
            in_use: true,
            last: 0,
            held: 0,
            late: 0,
            ahead: 0,
        };
        merge.grow(shards);
        merge
    }

    /// Makes room for more shards. Keeps the records that it holds.
    fn grow(&mut self, shards: usize) {
        if shards > self.runs.len() {
            self.runs.resize(shards, Run::default());
            self.stamps.resize(shards * self.size, 0);
            self.tickets.resize(shards * self.size, 0);
            self.records.resize_with(shards * self.size, T::zeroed);
            self.tree = Tree::new(shards);
        }
    }

    /// Sets how long a record that is being written can hold back later ones.
    pub fn set_delay(&mut self, delay: u64) {
        self.delay = delay;
    }

    /// The records that were read and not delivered yet.
    pub fn held(&self) -> u64 {
        self.held
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
    /// call, with a [`clock_fence`](super::clock_fence) in between. `stamp` returns a record's stamp.
    pub fn round(&mut self, shards: &mut impl Shards<T>, now: u64, stamp: &mut impl FnMut(&T) -> u64) {
        self.grow(shards.count());
        self.now = self.now.max(now);
        self.limit = self.now.saturating_sub(self.settle);
        // A new record can go to the next ring as soon as this one is being replaced.
        self.in_use = shards.in_use();
        for at in 0..self.runs.len() {
            self.check_ahead(at);
            self.runs[at].done = at >= shards.count();
            if !self.runs[at].done {
                self.fill(shards, at, stamp);
            }
        }
        let Self { tree, runs, stamps, size, .. } = self;
        tree.build(|at| first(&runs[at], at, stamps, *size));
    }

    /// Whether there is a record to deliver in this round.
    pub fn is_ready(&self) -> bool {
        self.tree.winner().0 < self.limit
    }

    /// The shard and place of the next record, if it can be delivered in this round: to be given to
    /// [`record`](Self::record) before the next call.
    #[inline(always)]
    pub fn next(
        &mut self,
        shards: &mut impl Shards<T>,
        stamp: &mut impl FnMut(&T) -> u64,
    ) -> Option<(usize, usize)> {
        let (mut stamped, at) = self.tree.winner();
        if stamped >= self.limit {
            return None;
        }
        if self.runs[at].len <= OPEN + 1 && !self.runs[at].done {
            // May find an earlier stamp, which is then the earliest of all.
            self.fill(shards, at, stamp);
            stamped = first(&self.runs[at], at, &self.stamps, self.size);
            self.tree.replace_winner(stamped);
            if stamped >= self.limit {
                return None;
            }
        }
        let run = &mut self.runs[at];
        let place = at * self.size + (run.first & (self.size - 1));
        (run.first, run.len) = (run.first.wrapping_add(1), run.len - 1);
        self.held -= 1;
        let next = first(run, at, &self.stamps, self.size);
        self.tree.replace_winner(next);
        self.late += u64::from(stamped < self.last);
        self.last = self.last.max(stamped);
        Some((at, place))
    }

    /// The ticket and record at a place.
    #[inline(always)]
    pub fn record(&self, place: usize) -> (u64, &T) {
        (self.tickets[place], &self.records[place])
    }

    /// Reads on in a shard of which few records are held.
    #[inline(never)]
    fn fill(&mut self, shards: &mut impl Shards<T>, at: usize, stamp: &mut impl FnMut(&T) -> u64) {
        let Self { runs, stamps, tickets, records, size, held, .. } = self;
        let (run, base, mask) = (&mut runs[at], at * *size, *size - 1);
        if run.len > OPEN + 1 {
            return;
        }
        raise_floor(run, base, mask, stamps);
        let before = run.len;
        let found = shards.read(at, *size - run.len, |ticket, record| {
            let stamped = stamp(record).min(NONE - 1);
            let mut to = run.first.wrapping_add(run.len);
            run.len += 1;
            // Before later stamps, which are rare.
            while to != run.first && stamps[base + (to.wrapping_sub(1) & mask)] > stamped {
                let from = base + (to.wrapping_sub(1) & mask);
                let place = base + (to & mask);
                (stamps[place], tickets[place], records[place]) =
                    (stamps[from], tickets[from], records[from]);
                to = to.wrapping_sub(1);
            }
            let place = base + (to & mask);
            (stamps[place], tickets[place], records[place]) = (stamped, ticket, *record);
        });
        *held += (run.len - before) as u64;
        if found == Found::End && self.in_use {
            run.floor = run.floor.max(self.now.saturating_sub(self.settle));
            run.done = true;
            return;
        }
        raise_floor(run, base, mask, stamps);
        if run.len <= OPEN + 1 {
            run.done = true;
            self.limit = self.limit.min(run.floor.max(self.now.saturating_sub(self.delay)));
        }
    }

    /// Delivers records soon whose stamps are later than a clock that was read after the records: their programs use
    /// another clock.
    fn check_ahead(&mut self, at: usize) {
        let Self { runs, stamps, size, .. } = self;
        let (run, base, mask) = (&runs[at], at * *size, *size - 1);
        // The clocks of programs and readers may differ by some nanoseconds.
        let most = self.now.saturating_add(self.settle);
        for place in (0..run.len).rev().map(|n| base + (run.first.wrapping_add(n) & mask)) {
            if stamps[place] <= most {
                break;
            }
            stamps[place] = most;
            self.ahead += 1;
        }
    }
}

/// The earliest stamp of a shard's records.
#[inline(always)]
fn first(run: &Run, at: usize, stamps: &[u64], size: usize) -> u64 {
    if run.len == 0 { NONE } else { stamps[at * size + (run.first & (size - 1))] }
}

/// All but [`OPEN`] of the records that were read have earlier stamps than those that were not read yet.
fn raise_floor(run: &mut Run, base: usize, mask: usize, stamps: &[u64]) {
    if let Some(n) = run.len.checked_sub(OPEN + 1) {
        run.floor = run.floor.max(stamps[base + (run.first.wrapping_add(n) & mask)]);
    }
}
