//! Readers that check every word of every record against its ticket.

use std::sync::{Mutex, OnceLock};

use mapring_kernel_tests::prelude::*;

/// `struct item`: words computed from ticket and writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Item {
    ticket: u64,
    writer: u64,
    words: [u64; 5],
}

/// The longest wait for events that should happen soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Set once when the programs have ended: the end of each ring's shards, `ends[ring][cpu]`.
pub(crate) type Ends = OnceLock<Vec<Vec<u64>>>;

/// The content that `writer` writes for `ticket`: `fill` in `bpf/stress.bpf.c`.
pub(crate) fn item(ticket: u64, writer: u64) -> Item {
    let base =
        ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(writer.wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
    Item { ticket, writer, words: std::array::from_fn(|i| base.wrapping_add(i as u64)) }
}

/// Whether all words belong to `ticket`.
fn whole(found: &Item, ticket: u64) -> bool {
    found.writer != 0 && *found == item(ticket, found.writer)
}

/// The reading strategy of a reader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// `poll`, without a break.
    Poll,
    /// The same, but it restarts at the oldest record when nothing is new. So it always copies, while readers that wait
    /// for new records hardly ever copy during the writes of a slow machine.
    Again,
    /// `for_each`, then a sleep.
    Slow,
    /// `drain`, without a break.
    Drain,
}

/// The results of one reader of one ring.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its first ticket, by shard.
    pub(crate) starts: Vec<u64>,
    /// Its counts, by shard.
    pub(crate) tallies: Vec<ReadStats>,
    /// Its counts before it restarted.
    before: ReadStats,
    /// Its final count of records that producers dropped.
    pub(crate) dropped: u64,
}

impl Seen {
    /// The sum over all shards.
    pub(crate) fn stats(&self) -> ReadStats {
        let mut sum = self.before;
        self.tallies.iter().for_each(|shard| sum += *shard);
        sum
    }
}

struct Watch {
    reader: Reader<Item>,
    starts: Vec<u64>,
    next: Vec<u64>,
    delivered: Vec<u64>,
    before: ReadStats,
}

impl Watch {
    fn new(ring: &Ring<Item>, start: Start) -> Self {
        let reader = ring.reader_from(start);
        let starts: Vec<_> = (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).collect();
        let delivered = vec![0; starts.len()];
        Self { reader, next: starts.clone(), delivered, starts, before: ReadStats::default() }
    }

    /// Another reader, from the oldest record on.
    fn anew(&mut self, ring: &Ring<Item>) {
        self.tallies();
        *self = Self { before: self.stats(), ..Self::new(ring, Start::Oldest) };
    }

    /// Its counts, including those before restarts.
    fn stats(&self) -> ReadStats {
        let mut sum = self.before;
        sum += self.reader.stats();
        sum
    }

    /// Its counts by shard, without those before restarts: tickets passed, and records delivered.
    fn tallies(&self) -> Vec<ReadStats> {
        let shards = 0..self.starts.len();
        let tallies: Vec<_> = shards.map(|shard| self.reader.shard_stats(shard).unwrap()).collect();
        for (shard, stats) in tallies.iter().enumerate() {
            let passed = stats.passed();
            assert_eq!(self.reader.position(shard), Some(self.starts[shard] + passed), "{stats:?}");
            assert_eq!(stats.delivered, self.delivered[shard]);
        }
        tallies
    }

    /// Takes some records; each must be whole, have its own ticket, and come after the last one.
    fn take(&mut self, pace: Pace) {
        let (next, delivered) = (&mut self.next, &mut self.delivered);
        let mut check = |cpu: usize, ticket: u64, item: &Item| {
            assert!(whole(item, ticket), "ticket {ticket} of CPU {cpu} holds {item:x?}");
            assert!(ticket >= next[cpu], "ticket {ticket} of CPU {cpu} after {}", next[cpu]);
            next[cpu] = ticket + 1;
            delivered[cpu] += 1;
        };
        match pace {
            Pace::Poll | Pace::Again => {
                for _ in 0..256 {
                    let Some(event) = self.reader.poll() else { break };
                    check(event.shard, event.ticket, &event.record);
                }
            }
            Pace::Slow => {
                self.reader.for_each(usize::MAX, |event| check(event.shard, event.ticket, event.record));
            }
            Pace::Drain => {
                self.reader.drain().for_each(|event| check(event.shard, event.ticket, &event.record))
            }
        }
        if let Some(error) = self.reader.take_error() {
            panic!("{error}");
        }
    }

    /// All writers have ended: reads up to the programs' ends.
    fn finish(mut self, pace: Pace, ends: &[u64]) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        while (0..ends.len()).any(|cpu| self.reader.position(cpu).unwrap() < ends[cpu]) {
            self.take(pace);
            assert!(Instant::now() < deadline, "stuck on the way to {ends:?}: {:?}", self.reader);
        }
        self.take(pace);
        for (cpu, &end) in ends.iter().enumerate() {
            assert_eq!(self.reader.position(cpu), Some(end), "beyond the last ticket of CPU {cpu}");
        }
        let tallies = self.tallies();
        Seen { starts: self.starts, tallies, before: self.before, dropped: self.reader.stats().dropped() }
    }
}

/// Reads all rings in turn until the programs have ended, and then to the end. Publishes its counts as it runs.
pub(crate) fn read_rings(
    rings: &[Ring<Item>],
    start: Start,
    pace: Pace,
    ends: &Ends,
    so_far: &Mutex<Vec<ReadStats>>,
) -> Vec<Seen> {
    let mut watches: Vec<_> = rings.iter().map(|ring| Watch::new(ring, start)).collect();
    while ends.get().is_none() {
        for (watch, ring) in watches.iter_mut().zip(rings) {
            let before = watch.delivered.clone();
            watch.take(pace);
            if matches!(pace, Pace::Again) && watch.delivered == before {
                watch.anew(ring);
            }
        }
        *so_far.lock().unwrap() = watches.iter().map(Watch::stats).collect();
        if matches!(pace, Pace::Slow) {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    let ends = ends.get().unwrap();
    watches.into_iter().zip(ends).map(|(watch, ends)| watch.finish(pace, ends)).collect()
}

/// Everything except rings, for one way to read.
pub(crate) struct Tables {
    pub(crate) cells: Cells<Item>,
    pub(crate) latches: Latches<Item>,
    pub(crate) counters: Counters,
}

/// The results of a reader of two cells, two latches and three counters.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    /// The cells' last versions.
    pub(crate) cells: [u64; 2],
    /// The latches' last versions.
    pub(crate) latches: [u64; 2],
    /// Values read while the programs ran.
    pub(crate) reads: u64,
    /// Reads that found a writer in a cell, and reads of a latch that a whole write overtook.
    pub(crate) busy: [u64; 2],
}

/// Reads all of them until the programs have ended, and once more; publishes [`Latest::busy`] as it runs.
pub(crate) fn read_latest(tables: &Tables, ends: &Ends, so_far: &Mutex<[u64; 2]>) -> Latest {
    let mut seen = Latest::default();
    let mut sums = [0; 3];
    loop {
        let last = ends.get().is_some();
        for index in 0..2 {
            let found = tables.cells.try_snapshot(index).unwrap();
            assert!(!last || found.is_some(), "a writer left cell {index} odd");
            seen.reads += take(found, &mut seen.cells[index], &mut seen.busy[0], "cell");
            let found = tables.latches.try_snapshot(index).unwrap();
            assert!(!last || found.is_some(), "nobody writes, but latch {index} changes");
            seen.reads += take(found, &mut seen.latches[index], &mut seen.busy[1], "latch");
        }
        let mut now = [0; 3];
        tables.counters.sums(&mut now).unwrap();
        assert!(now.iter().zip(sums).all(|(now, before)| *now >= before), "{now:?} after {sums:?}");
        sums = now;
        *so_far.lock().unwrap() = seen.busy;
        if last {
            return seen;
        }
    }
}

/// A value must be whole, match its version, and be no older than the last one. Returns how many.
fn take(found: Option<Snapshot<Item>>, last: &mut u64, busy: &mut u64, what: &str) -> u64 {
    let Some(Snapshot { version, value }) = found else {
        *busy += 1;
        return 0;
    };
    let right = if version == 0 { value == Item::default() } else { whole(&value, version) };
    assert!(right, "version {version} of a {what} holds {value:x?}");
    assert!(version >= *last, "version {version} of a {what} after {last}");
    *last = version;
    1
}
