//! Readers of rings, with and without tails, whose writers die.

use std::collections::BTreeMap;
use std::time::Duration;

use mapring::{Reader, Ring};
use mapring_hostile_tests::Record;

/// A reader, and the records that it got.
pub(crate) struct Witness {
    pub(crate) reader: Reader<Record>,
    begin: u64,
    pub(crate) read: BTreeMap<u64, u64>,
}

impl Witness {
    pub(crate) fn new(ring: &Ring<Record>) -> Self {
        let reader = ring.reader().with_patience(Duration::ZERO);
        Self { begin: reader.position(0).unwrap(), reader, read: BTreeMap::new() }
    }

    /// Reads as long as any reader may need. Each record is whole, and so is its tail.
    pub(crate) fn read(&mut self) {
        for _ in 0..16 {
            while let Some(event) = self.reader.poll() {
                assert!(event.record.is_whole(), "{event:?}");
                assert_eq!(event.tail, &event.record.tail(event.tail.len())[..], "{event:?}");
                let last = self.read.last_key_value().map(|(&ticket, _)| ticket);
                assert!(last.is_none_or(|last| last < event.ticket), "{event:?} after {last:?}");
                self.read.insert(event.ticket, event.record.n);
            }
        }
        let stats = self.reader.stats();
        assert_eq!(stats.passed(), self.reader.position(0).unwrap() - self.begin, "{stats:?}");
        assert_eq!(stats.delivered, self.read.len() as u64);
    }

    pub(crate) fn values(&self) -> Vec<u64> {
        self.read.values().copied().collect()
    }
}
