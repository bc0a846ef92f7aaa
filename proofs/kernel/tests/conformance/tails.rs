//! Rings with tails: each byte of each tail, and each lost one.

use mapring::Reader as Library;
use mapring::abi::Tails;
use mapring::writers::MemfdOptions;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::tails::{
    self, ABANDON, ALL, CUT, Counts, DISCARD, Item, LONGEST, RINGS, STRING, TOO_LONG, expected, pattern, run,
    write_one, written_by_all,
};

use super::memfd::read_until;
use super::reader::{Progress, Reader, Report};
use super::written_before::{locator, read_counts};

/// A record, and its tail.
type Found = (u64, u64, Vec<u8>, Vec<u8>);

fn found_by_c(report: &Report) -> Vec<Found> {
    assert_eq!(report.records.len(), report.tails.len());
    let records = report.records.iter().zip(&report.tails);
    records.map(|((shard, ticket, record), tail)| (*shard, *ticket, record.clone(), tail.clone())).collect()
}

fn found_by_library(reader: &mut Library<Item>) -> Vec<Found> {
    let mut found = Vec::new();
    for _ in 0..32 {
        reader.for_each(usize::MAX, |event| {
            let record = bytemuck::bytes_of(event.record).to_vec();
            found.push((event.shard as u64, event.ticket, record, event.tail.to_vec()));
        });
    }
    found
}

/// What tasks write to a ring: tails of many lengths, and those that end in other ways.
fn write(object: &Object, ring: usize) {
    let (program, longest) = (Runner::new(object, "write_one"), LONGEST[ring]);
    for len in (0..=longest.min(100)).chain([longest - 1, longest, 1]) {
        assert!(write_one(&program, ring, len));
    }
    if RINGS[ring] == "deep" {
        [STRING, TOO_LONG, CUT, DISCARD, STRING].iter().for_each(|&how| _ = run(object, "write_how", how));
    }
    if RINGS[ring] == "tiny" {
        // Two abandoned tails fill the area.
        for fits in [true, false] {
            assert_eq!(run(object, "write_how", ABANDON), 1);
            assert!((0..3).all(|_| write_one(&program, ring, 60) == fits));
        }
    }
}

#[test]
fn tails_are_read_as_the_library_reads_them() {
    require_bpf!();
    on_one_cpu();
    let mut sum = ReadStats::default();
    for (ring, name) in RINGS.into_iter().enumerate() {
        for start in [Start::First, Start::Oldest] {
            let object = &tails::load_only(&bpf::TAILS, &["write_one", "write_how"]);
            write(object, ring);
            let locator = locator(object, name);
            let args = ["--first", "--patience", "8", "ring", &locator];
            let args = if start == Start::First { &args[..] } else { &args[1..] };
            // No preamble is written yet: at first the reader relies on the types.
            let (_, by_types) = Reader::once(args);
            initialize_object(object).unwrap();
            let (access, by_preamble) = Reader::once(args);
            assert_eq!(access, "mapped");
            let ours = Ring::<Item>::open(&map(object, name)).unwrap();
            let mut reader = ours.reader_from(start).with_patience(Duration::ZERO);
            let found = found_by_library(&mut reader);
            assert_eq!((found_by_c(&by_types), found_by_c(&by_preamble)), (found.clone(), found));
            let stats = reader.stats();
            assert_eq!([by_types.stats, by_preamble.stats], [read_counts(stats); 2], "{}", name);
            assert_eq!([by_types.dropped, by_preamble.dropped], [stats.dropped(); 2], "{}: {stats}", name);
            sum.lapped += stats.lapped;
            sum.tail_lost += stats.tail_lost;
            sum.skipped += stats.skipped;
            sum.discarded += stats.discarded;
            sum.no_tail += stats.no_tail;
            sum.too_long += stats.too_long;
        }
    }
    let losses = [sum.lapped, sum.tail_lost, sum.skipped, sum.discarded, sum.no_tail, sum.too_long];
    assert!(losses.iter().all(|&count| count > 0), "{sum}");
    everywhere();
}

/// Each tail has its bytes, and each ticket is a record or counted.
fn check(report: &Report, library: &mut Library<Item>, published: u64) {
    let pattern = pattern();
    for (.., record, tail) in found_by_c(report) {
        let item: Item = bytemuck::pod_read_unaligned(&record);
        assert_eq!(tail, expected(&pattern, &item), "{item:?}");
    }
    (0..EMPTY).for_each(|_| while library.for_each(usize::MAX, |_| ()) > 0 {});
    let (stats, mine) = (report.stats, library.stats());
    assert!(stats.delivered > 0 && stats.delivered == report.records.len() as u64);
    let missing = published.checked_sub(stats.delivered).expect("no record comes twice");
    // A ticket that was stepped over can be claimed later: docs/guarantees.md.
    assert!(missing <= stats.lost() + stats.stepped_over, "{missing} are missing: {stats:?}");
    let passed = |stats: ReadStats| stats.passed();
    assert_eq!((passed(stats), report.dropped), (passed(mine), mine.dropped()), "{stats:?}, {mine:?}");
}

fn has_lost(now: Progress) -> bool {
    now.lines >= 1000 && now.stats.lapped > 0 && now.stats.tail_lost > 0
}

#[test]
fn tails_of_programs_that_interrupt_each_other() {
    require_bpf!();
    everywhere();
    for (ring, name) in RINGS.into_iter().enumerate().take(2) {
        let object = &tails::load(&bpf::TAILS, &ALL);
        let ours = Ring::<Item>::open(&map(object, name)).unwrap();
        let mut library = ours.reader_from(Start::First);
        let reader = Reader::start(&["ring", &locator(object, name)]);
        written_by_all(object, || reader.wait_until(has_lost));
        check(&reader.stop(), &mut library, Counts::of(object).published(ring));
    }
}

#[test]
fn tails_of_threads() {
    const LONGEST: usize = 100;
    let tails = Tails::new(LONGEST as u64, 1024).unwrap();
    let ring = Ring::<Item>::create_memfd_with(16, 2, MemfdOptions::default().tails(tails)).unwrap();
    let mut library = ring.reader_from(Start::First);
    let (pattern, published) = (pattern(), [const { AtomicU64::new(0) }; 2]);
    let next = [const { AtomicU64::new(0) }; 2];
    let write = |thread: usize| {
        let n = next[thread].fetch_add(1, Ordering::Relaxed);
        let item = Item { writer: thread as u64, n, len: n % 101 };
        let writer = ring.writer(usize::try_from(n % 2).unwrap()).unwrap();
        let done = writer.push_with_tail(&item, expected(&pattern, &item)).is_some();
        published[thread].fetch_add(u64::from(done), Ordering::Relaxed);
    };
    let report = read_until("ring", &ring.region(), write, has_lost);
    check(&report, &mut library, published.map(AtomicU64::into_inner).iter().sum());
}
