//! Rings that wake their readers, rings that keep their oldest records, and the words about loaders and drops.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use libbpf_rs::Object;
use libbpf_rs::skel::Skel;
use mapring::loader::initialize;
use mapring::time::Clock;
use mapring::{ReadStats, Reader as Library, Record, Ring, Start};
use mapring_kernel_tests::skel::{ConformanceSkelBuilder, KeepSkelBuilder, WakeableSkelBuilder};
use mapring_kernel_tests::{Runner, everywhere, fitted, load_only, map, on_one_cpu, require_bpf};

use super::nobody::in_every_way;
use super::quiet::{Odd, place, read_counts};
use super::reader::Reader;

/// `struct rec` of both objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

/// The library's records: shard, ticket and bytes.
fn found(reader: &mut Library<Rec>) -> Vec<(u64, u64, Vec<u8>)> {
    let event = |event: mapring::Event<Rec>| {
        (event.shard as u64, event.ticket, bytemuck::bytes_of(&event.record).to_vec())
    };
    (0..4).flat_map(|_| reader.drain().map(event).collect::<Vec<_>>()).collect()
}

/// Reads the ring in each way, and compares with the library's reader.
fn check(object: &Object, name: &str) -> ReadStats {
    let mut library = Ring::<Rec>::open(&map(object, name)).unwrap().reader().with_patience(Duration::ZERO);
    let right = found(&mut library);
    let stats = library.stats();
    for said in in_every_way("ring", object, name) {
        assert_eq!(said.records, right);
        assert_eq!((said.stats, said.dropped), (read_counts(stats), stats.dropped()), "{stats}");
        assert_eq!(said.loader, format!("{} alive", std::process::id()));
    }
    stats
}

#[test]
fn a_wakeable_ring_is_read_as_any_other() {
    require_bpf!();
    on_one_cpu();
    let mut storage = MaybeUninit::uninit();
    let skel = load_only::<WakeableSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let publish = Runner::new(object, "publish");
    publish.run(&mut [0, 20]);
    let (_, by_types) = Reader::once(&["ring", &place(object, "events")]);
    assert_eq!((by_types.records.len(), by_types.loader.as_str()), (20, "unknown"));
    initialize(&skel).unwrap();
    publish.run(&mut [20, 5 | 1 << 32]);
    publish.run(&mut [25, 64]);
    let stats = check(object, "events");
    assert!(stats.delivered > 0 && stats.lost() == 0);
    everywhere();
}

#[test]
fn a_wakeable_ring_with_tails_is_read_as_one_with_tails() {
    require_bpf!();
    on_one_cpu();
    let mut storage = MaybeUninit::uninit();
    let skel = load_only::<WakeableSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    Runner::new(object, "publish_tailed").run(&mut [0, 20]);
    let once = || Reader::once(&["--first", "ring", &place(object, "tailed")]).1;
    let by_types = once();
    initialize(&skel).unwrap();
    for said in [by_types, once()] {
        let records: Vec<_> = said.records.iter().map(|(_, _, record)| record.clone()).collect();
        let right = |n: u64| bytemuck::bytes_of(&Rec { n, twice: 2 * n }).to_vec();
        assert_eq!(records, (0..20).map(right).collect::<Vec<_>>());
        assert_eq!(said.tails, (0..20_u64).map(|n| n.to_ne_bytes().to_vec()).collect::<Vec<_>>());
    }
    everywhere();
}

#[test]
fn a_ring_that_keeps_its_oldest_records() {
    require_bpf!();
    on_one_cpu();
    let mut storage = MaybeUninit::uninit();
    let skel = load_only::<KeepSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let publish = Runner::new(object, "publish");
    publish.run(&mut [0, 20]);
    assert_eq!(Reader::once(&["ring", &place(object, "events")]).1.records.len(), 20);
    initialize(&skel).unwrap();
    let ring = Ring::<Rec>::open(&map(object, "events")).unwrap();
    let (mut asleep, mut reader) = (ring.reader(), ring.reader_from(Start::Now));
    let lease = Duration::from_secs(3600);
    reader.require(lease).unwrap();
    publish.run(&mut [100, 100]);
    let stats = check(object, "events");
    assert_eq!((stats.full, stats.no_slot), (36, 0), "{stats}");

    // The places of the readers.
    while asleep.arm().is_none() {
        assert!(asleep.poll().is_some());
    }
    while reader.for_each(usize::MAX, |_| ()) > 0 {}
    let (_, said) = Reader::once(&["readers", &place(object, "events__readers")]);
    let next = (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).collect();
    let lease = u64::try_from(lease.as_nanos()).unwrap();
    let us = u64::from(std::process::id());
    assert_eq!(said.readers, [(us, Some((lease, next))), (us, None)]);
    everywhere();
}

#[test]
fn when_programs_dropped_records() {
    require_bpf!();
    on_one_cpu();
    let mut storage = MaybeUninit::uninit();
    let skel = load_only::<ConformanceSkelBuilder>(&mut storage, fitted);
    initialize(&skel).unwrap();
    let object = skel.object();
    let (place, push) = (place(object, "odds"), Runner::new(object, "push_odd"));
    let abandon = |times| {
        (0..times).map(|n| {
            let mut ctx = [2, n, 0, 0];
            push.run(&mut ctx);
            ctx[3]
        })
    };
    assert_eq!(abandon(8).sum::<u64>(), 0);
    assert!(Reader::once(&["ring", &place]).1.drops.is_empty());
    let begin = Clock::Monotonic.now();
    assert_eq!(abandon(3).sum::<u64>(), 3);
    let end = Clock::Monotonic.now();
    for way in [&["ring", &*place][..], &["--lookup", "ring", &place]] {
        let (_, said) = Reader::once(way);
        let drops: Vec<_> = said.drops.values().collect();
        let &[&(since, until)] = &drops[..] else { panic!("{drops:?}") };
        assert!(begin <= since && since < until && until <= end, "{begin} {since} {until} {end}");
        assert_eq!(said.dropped, 3);
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
