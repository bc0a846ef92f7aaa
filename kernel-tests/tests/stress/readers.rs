//! Readers that trust nothing: every word of every record is checked against its ticket.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mapring::{Cells, Counters, Reader, Ring, Start, Tally};

/// `struct item`: ticket, writer, and words that follow from both.
pub(crate) type Item = [u64; 7];

/// What a reader waits for when all is over, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Set once when the programs have ended: where each ring's shards end, `ends[ring][cpu]`.
pub(crate) type Ends = OnceLock<Vec<Vec<u64>>>;

/// Whether all words are those of `ticket`: `fill` in `bpf/stress.bpf.c`.
fn whole(item: &Item, ticket: u64) -> bool {
    let base =
        ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(item[1].wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
    item[0] == ticket && item[1] != 0 && (0..5).all(|i| item[2 + i] == base.wrapping_add(i as u64))
}

/// How a reader of rings goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// `poll`, without a break.
    Poll,
    /// `for_each`, then a nap.
    Slow,
    /// `drain`, without a break.
    Drain,
}

/// What one reader saw of one ring.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Where it started, by shard.
    pub(crate) starts: Vec<u64>,
    /// What it counted, by shard.
    pub(crate) tallies: Vec<Tally>,
    /// What it says that producers dropped, in the end.
    pub(crate) dropped: u64,
}

struct Watch {
    reader: Reader<Item>,
    starts: Vec<u64>,
    next: Vec<u64>,
    delivered: Vec<u64>,
}

impl Watch {
    fn new(ring: &Ring<Item>, start: Start) -> Self {
        let reader = ring.reader_from(start);
        let starts: Vec<_> = (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).collect();
        Self { reader, next: starts.clone(), delivered: vec![0; starts.len()], starts }
    }

    /// Takes some records; each must be whole, its own, and later than the last.
    fn take(&mut self, pace: Pace) {
        let (next, delivered) = (&mut self.next, &mut self.delivered);
        let mut check = |cpu: usize, ticket: u64, item: &Item| {
            assert!(whole(item, ticket), "ticket {ticket} of CPU {cpu} holds {item:x?}");
            assert!(ticket >= next[cpu], "ticket {ticket} of CPU {cpu} after {}", next[cpu]);
            next[cpu] = ticket + 1;
            delivered[cpu] += 1;
        };
        match pace {
            Pace::Poll => {
                for event in std::iter::from_fn(|| self.reader.poll()).take(256) {
                    check(event.cpu, event.ticket, &event.record);
                }
            }
            Pace::Slow => {
                self.reader.for_each(usize::MAX, |event| check(event.cpu, event.ticket, event.record));
            }
            Pace::Drain => {
                self.reader.drain().for_each(|event| check(event.cpu, event.ticket, &event.record))
            }
        }
        if let Some(error) = self.reader.take_error() {
            panic!("{error}");
        }
    }

    /// Everything is written: reads on up to where the programs ended.
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
        let tallies: Vec<_> = (0..ends.len()).map(|cpu| self.reader.shard_tally(cpu).unwrap()).collect();
        assert_eq!(tallies.iter().map(|tally| tally.delivered).collect::<Vec<_>>(), self.delivered);
        Seen { starts: self.starts, tallies, dropped: self.reader.dropped() }
    }
}

/// Reads all rings in turn until the programs have ended, and then to the end.
pub(crate) fn read_rings(rings: &[Ring<Item>], start: Start, pace: Pace, ends: &Ends) -> Vec<Seen> {
    let mut watches: Vec<_> = rings.iter().map(|ring| Watch::new(ring, start)).collect();
    while ends.get().is_none() {
        watches.iter_mut().for_each(|watch| watch.take(pace));
        if matches!(pace, Pace::Slow) {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    let ends = ends.get().unwrap();
    watches.into_iter().zip(ends).map(|(watch, ends)| watch.finish(pace, ends)).collect()
}

/// What a reader saw of two cells and three counters.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    /// The cells' last versions.
    pub(crate) versions: [u64; 2],
    /// Values read while the programs ran.
    pub(crate) reads: u64,
    /// Looks that found a writer in the cell.
    pub(crate) busy: u64,
}

/// Reads cells and counters until the programs have ended, and once more.
pub(crate) fn read_latest(cells: &Cells<Item>, counters: &Counters, ends: &Ends) -> Latest {
    let mut seen = Latest::default();
    let mut sums = [0; 3];
    loop {
        let last = ends.get().is_some();
        for index in 0..2 {
            let Some(snapshot) = cells.try_snapshot(index).unwrap() else {
                assert!(!last, "a writer left cell {index} odd");
                seen.busy += 1;
                continue;
            };
            let (version, value) = (snapshot.version, snapshot.value);
            let right = if version == 0 { value == [0; 7] } else { whole(&value, version) };
            assert!(right, "version {version} of cell {index} holds {value:x?}");
            assert!(version >= seen.versions[index], "version {version} after {}", seen.versions[index]);
            seen.versions[index] = version;
            seen.reads += 1;
        }
        let mut now = [0; 3];
        counters.sums(&mut now).unwrap();
        assert!(now.iter().zip(sums).all(|(now, before)| *now >= before), "{now:?} after {sums:?}");
        sums = now;
        if last {
            return seen;
        }
    }
}
