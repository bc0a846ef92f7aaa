//! Records with tails of all shards in the order of their stamps. The library's merged reader has no tails.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use mapring::any::AnyRecord;
use mapring::time::Clock;
use mapring::{Loss, Merged, ReadStats, Reader, Tailed};

use super::untyped::{Item, LONG, Records, counted, positions};

/// How long a record waits for earlier ones of other shards.
const DELAY: Duration = Merged::<(), ()>::DELAY;
/// If more records wait, the earliest do not wait any longer.
const MOST: usize = 1 << 14;

/// Holds records until those of other shards with earlier stamps are there.
pub(super) struct InOrder<const N: usize> {
    reader: Reader<Tailed<AnyRecord<N>>>,
    bytes: usize,
    /// The offset of the stamp in a record.
    stamp: usize,
    /// Records and their tails.
    held: BTreeMap<Key, [Box<[u8]>; 2]>,
}

/// Stamp, shard and ticket.
type Key = (u64, usize, u64);

impl<const N: usize> InOrder<N> {
    pub(super) fn new(reader: Reader<Tailed<AnyRecord<N>>>, bytes: usize, stamp: usize) -> Self {
        Self { reader, bytes, stamp, held: BTreeMap::new() }
    }
}

impl<const N: usize> Records for InOrder<N> {
    fn each(&mut self, limit: usize, f: &mut dyn FnMut(Item<'_>)) -> usize {
        let Self { reader, bytes, stamp, held } = self;
        let now = Clock::Monotonic.now();
        reader.for_each_with_tail(MOST, |event, tail| {
            let record = event.record.bytes(*bytes);
            let ns = record.get(*stamp..).and_then(<[u8]>::first_chunk);
            // A stamp of another clock may be later than now, for ever.
            let ns = ns.map_or(0, |ns| u64::from_ne_bytes(*ns)).min(now);
            held.insert((ns, event.shard, event.ticket), [record, tail].map(Into::into));
        });
        let settled = now.saturating_sub(u64::try_from(DELAY.as_nanos()).unwrap_or(u64::MAX));
        for count in 0..limit {
            let crowded = held.len() > MOST;
            match held.first_entry().filter(|first| crowded || first.key().0 <= settled) {
                Some(first) => {
                    let ((_, shard, ticket), [bytes, tail]) = first.remove_entry();
                    f(Item { shard, ticket, bytes: &bytes, tail: Some(&tail) });
                }
                None => return count,
            }
        }
        limit
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        if self.held.is_empty() {
            self.reader.wait(timeout)?;
        } else {
            thread::sleep(LONG.min(timeout));
        }
        Ok(())
    }

    counted!();
}
