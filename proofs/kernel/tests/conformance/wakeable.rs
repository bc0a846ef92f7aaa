//! The seats of readers, and the words about loaders and drops.

use std::fs::File;
use std::os::unix::fs::FileExt;

use mapring::time::Clock;
use mapring_kernel_tests::prelude::*;

use super::reader::Reader;
use super::written_before::{Odd, locator};

#[test]
fn the_seats_of_readers() {
    require_bpf!();
    on_one_cpu();
    let object = &bpf::KEEP.load(fitted);
    let ring = Ring::<Rec>::open(&map(object, "events")).unwrap();
    let (mut asleep, mut reader) = (ring.reader(), ring.reader_from(Start::Now));
    let lease = Duration::from_secs(3600);
    reader.require(lease).unwrap();
    Runner::new(object, "publish").run(&mut [100, 100]);
    while asleep.arm().is_none() {
        assert!(asleep.poll().is_some());
    }
    while reader.for_each(usize::MAX, |_| ()) > 0 {}
    let (_, report) = Reader::once(&["readers", &locator(object, "events__readers")]);
    let next = (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).collect();
    let lease = u64::try_from(lease.as_nanos()).unwrap();
    let us = u64::from(std::process::id());
    assert_eq!(report.readers, [(us, Some((lease, next))), (us, None)]);
    everywhere();
}

#[test]
fn when_programs_dropped_records() {
    require_bpf!();
    on_one_cpu();
    let object = &bpf::CONFORMANCE.load_only(fitted);
    initialize_object(object).unwrap();
    let (locator, push) = (locator(object, "odds"), Runner::new(object, "push_odd"));
    let abandon = |times| {
        (0..times).map(|n| {
            let mut ctx = [2, n, 0, 0];
            push.run(&mut ctx);
            ctx[3]
        })
    };
    assert_eq!(abandon(8).sum::<u64>(), 0);
    assert!(Reader::once(&["ring", &locator]).1.drops.is_empty());
    let begin = Clock::Monotonic.now();
    assert_eq!(abandon(3).sum::<u64>(), 3);
    let end = Clock::Monotonic.now();
    for way in [&["ring", &*locator][..], &["--lookup", "ring", &locator]] {
        let (_, report) = Reader::once(way);
        let drops: Vec<_> = report.drops.values().collect();
        let &[&(since, until)] = &drops[..] else { panic!("{drops:?}") };
        assert!(begin <= since && since < until && until <= end, "{begin} {since} {until} {end}");
        assert_eq!(report.dropped, 3);
    }
    let ring = Ring::<Odd>::open(&map(object, "odds")).unwrap();
    assert_eq!(ring.reader().stats().dropped(), 3);
    everywhere();
}

#[test]
fn the_loader_of_a_region() {
    let ring = Ring::<Rec>::create_memfd(8, 1).unwrap();
    let region = ring.region();
    let path = format!("/proc/{}/fd/{}", std::process::id(), region.as_fd().as_raw_fd());
    let file = File::options().write(true).read(true).open(&path).unwrap();
    let loader = || Reader::once(&["ring", &format!("memfd:{path}")]).1.loader;
    let us = std::process::id();
    assert_eq!(loader(), format!("{us} alive"));
    assert!(ring.reader().liveness().loader_lives);
    let mut word = [0; 8];
    file.read_exact_at(&mut word, 88).unwrap();
    // Another process had this pid before.
    let other = u64::from_ne_bytes(word).wrapping_sub(1 << 22);
    file.write_all_at(&other.to_ne_bytes(), 88).unwrap();
    assert_eq!(loader(), format!("{us} gone"));
    assert!(!ring.reader().liveness().loader_lives);
    // The word belongs to a long name.
    file.write_all_at(b"x", 87).unwrap();
    assert_eq!(loader(), "unknown");
    file.write_all_at(&[0], 87).unwrap();
    file.write_all_at(&[0; 8], 88).unwrap();
    assert_eq!(loader(), "unknown");
}
