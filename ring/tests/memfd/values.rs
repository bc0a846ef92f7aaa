//! Cells, latches, counters and histograms.

use mapring::table::Snapshot;
use mapring::{Cells, Counters, Histogram, Histograms, Latches, ReadError};

use super::*;

#[test]
fn cells_hold_the_latest_value() {
    let cells = Cells::<Record>::create_memfd(3).unwrap();
    let writer = cells.writer().unwrap();
    assert_eq!(cells.snapshot(1).unwrap().version, 0);
    for n in 0..4 {
        assert!(writer.set(1, &Record::new(n)).unwrap());
    }
    let snapshot = cells.snapshot(1).unwrap();
    assert_eq!((snapshot.version, snapshot.value), (4, Record::new(3)));
    assert_eq!(cells.read(2).unwrap(), Record::zeroed());
    assert!(matches!(cells.read(3), Err(ReadError::Index { thing: "cell", index: 3, count: 3 })));
    assert_eq!(message_of(writer.set(3, &Record::new(0)), ErrorKind::OutOfRange), "no cell 3: there are 3");

    let one = Cells::<Record>::create_memfd(1).unwrap();
    one.writer().unwrap().set(0, &Record::new(9)).unwrap();
    assert_eq!(one.read(0).unwrap(), Record::new(9));
}

#[test]
fn latches_hold_the_last_value_that_was_finished() {
    let latches = Latches::<Record>::create_memfd(2).unwrap();
    let writer = latches.writer().unwrap();
    assert_eq!(latches.snapshot(1).unwrap(), Snapshot { version: 0, value: Record::zeroed() });
    for n in 0..5 {
        writer.set(1, &Record::new(n)).unwrap();
        assert_eq!(latches.snapshot(1).unwrap(), Snapshot { version: n + 1, value: Record::new(n) });
    }
    assert_eq!(latches.read(0).unwrap(), Record::zeroed());
    assert!(matches!(latches.read(2), Err(ReadError::Index { thing: "latch", index: 2, count: 2 })));
    assert_eq!(message_of(writer.set(2, &Record::new(0)), ErrorKind::OutOfRange), "no latch 2: there are 2");
    let wrong_kind = Cells::<Record>::from_region(latches.region().clone()).unwrap_err().to_string();
    assert!(wrong_kind.contains("holds latches, expected cells"), "{wrong_kind}");
}

#[test]
fn counters_are_read_apart_and_summed() {
    let counters = Counters::create_memfd(10, 3).unwrap();
    for cpu in 0..3 {
        counters.writer(cpu).unwrap().add(7, 10 + cpu as u64).unwrap();
    }
    assert_eq!(counters.get(2, 7).unwrap(), 12);
    assert_eq!(counters.sum(7).unwrap(), 33);
    let mut sums = [1; 16];
    counters.sums(&mut sums).unwrap();
    assert_eq!(sums[..10], [0, 0, 0, 0, 0, 0, 0, 33, 0, 0]);
    assert!(matches!(counters.get(3, 0), Err(ReadError::Index { thing: "shard", .. })));
    assert!(matches!(counters.sum(10), Err(ReadError::Index { thing: "counter", .. })));
}

#[test]
fn histograms_are_read_apart_and_summed() {
    let histograms = Histograms::create_memfd(2, 3).unwrap();
    assert_eq!((histograms.len(), histograms.shards(), histograms.access()), (2, 3, Access::Mapped));
    let mut expected = Histogram::new();
    for cpu in 0..3 {
        let value = 1000 << (8 * cpu);
        histograms.writer(cpu).unwrap().add(1, value).unwrap();
        let buckets: Vec<_> = histograms.snapshot_of(cpu, 1).unwrap().buckets().collect();
        assert!(matches!(&buckets[..], [(values, 1)] if values.contains(&value)), "{buckets:?}");
        expected.add(value);
    }
    let mut found = expected.clone();
    histograms.snapshot_into(0, &mut found).unwrap();
    assert_eq!(found, Histogram::new(), "the old content is gone");
    assert_eq!(histograms.snapshot(1).unwrap(), expected);
    assert!(matches!(histograms.snapshot(2), Err(ReadError::Index { thing: "histogram", .. })));
    assert!(matches!(histograms.snapshot_of(3, 0), Err(ReadError::Index { thing: "shard", .. })));
    let writer = histograms.writer(2).unwrap();
    assert_eq!(message_of(writer.add(2, 0), ErrorKind::OutOfRange), "no histogram 2: there are 2");
    assert_eq!(message_of(histograms.writer(3).map(drop), ErrorKind::OutOfRange), "no shard 3: there are 3");
    let reopened = Histograms::open(histograms.region().as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(reopened.snapshot(1).unwrap(), expected);
}
