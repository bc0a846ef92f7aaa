//! Top keys, histograms and gauges: exactly what the library finds, mapped and by system call, also without privilege.

use mapring::abi::histogram::{BUCKETS, values};
use mapring::{Gauges, Histograms, TopKeys};
use mapring_kernel_tests::prelude::*;

use super::memfd::read_until;
use super::nobody::in_every_way;
use super::reader::{Reader, Report};
use super::written_before::locator;

/// Log2 of the nanoseconds of a gauge's window.
const WINDOW: u32 = 20;

/// The library's bounds of all keys, and of every other one.
fn bounds(top: &TopKeys) -> (BTreeMap<u64, (u64, u64)>, u64) {
    let ranking = top.largest(usize::MAX).unwrap();
    let keys = ranking.keys.iter().map(|top| (top.key, (top.count - top.error, top.count)));
    (keys.collect(), ranking.unlisted)
}

/// Nothing in a bucket is ever removed. Returns the sum of what all buckets have in the end.
fn check_buckets(report: &Report) -> u64 {
    let mut last = BTreeMap::new();
    for (shard, bucket, version, bytes) in &report.values {
        let words: Vec<_> =
            bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
        let (other, counts) = (words[0], words[11..21].iter().sum::<u64>());
        let now = (*version, other, counts);
        let before = last.insert((*shard, *bucket), now).unwrap_or_default();
        assert!(before.0 <= now.0 && before.1 <= now.1 && before.2 <= now.2, "{before:?}, then {now:?}");
        assert!(before.0 < now.0 || before.2 == now.2, "a count changed in version {version}");
    }
    last.values().map(|(_, other, counts)| other + counts).sum()
}

/// Each key is within its bounds.
fn check_exact(report: &Report, exact: impl IntoIterator<Item = (u64, u64)>) {
    let mut sum = 0;
    for (key, count) in exact {
        match report.keys.get(&key) {
            Some((least, most)) => assert!((*least..=*most).contains(&count), "{key}: {count}"),
            None => assert!(count <= report.unlisted, "{key}: {count} of at most {}", report.unlisted),
        }
        sum += count;
    }
    assert_eq!(check_buckets(report), sum, "nothing is lost");
}

#[test]
fn top_keys_are_read_as_the_library_reads_them() {
    require_bpf!();
    let object = &bpf::TOP.load_only(fitted);
    let (add, mut exact) = (Runner::new(object, "add"), BTreeMap::new());
    for &cpu in cpus() {
        on_cpu(cpu);
        for n in 0..3000_u64 {
            let (key, amount) = (n.wrapping_mul(n) << (n % 50), 1 + 5000 / (n + 1));
            add.run(&mut [key, amount]);
            *exact.entry(key).or_insert(0) += amount;
        }
    }
    everywhere();
    // No preamble is written yet: the first reader relies on the types.
    let mut all = vec![Reader::once(&["top", &locator(object, "table")]).1];
    initialize_object(object).unwrap();
    all.extend(in_every_way("top", object, "table"));
    let right = bounds(&TopKeys::open(&map(object, "table")).unwrap());
    assert!(right.0.len() >= 160 && right.1 > 0, "{right:?}");
    for report in all {
        check_exact(&report, exact.clone());
        assert_eq!((report.keys, report.unlisted), right);
    }
}

#[test]
fn top_keys_of_programs_that_interrupt_each_other() {
    require_bpf!();
    let object = &bpf::TOP.load(fitted);
    let cpu = on_one_cpu();
    let (task, stop) = (Runner::new(object, "task"), AtomicBool::new(false));
    let tick = object.progs_mut().find(|program| program.name() == "tick").unwrap();
    let top = TopKeys::open(&map(object, "together")).unwrap();
    let ways = [&["top"][..], &["--lookup", "top"]];
    everywhere(); // the readers inherit this
    let readers = ways.map(|way| Reader::start(&[way, &[&locator(object, "together")]].concat()));
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let clock = tick.attach_perf_event(sample_clock(cpu, 50_000).into_raw_fd()).unwrap();
        scope.spawn(|| {
            on_cpu(cpu);
            let mut seed = 0;
            while !stop.load(Ordering::Relaxed) {
                task.run(&mut [seed, 0]);
                seed += 64;
            }
        });
        // With one CPU, no reader runs while a program does.
        readers[0].wait_until(|now| now.lines >= 1000 && (now.busy || cpus().len() == 1));
        drop((clock, stopping));
    });
    let counts = map(object, "exact");
    let exact: Vec<_> = (0..1024).map(|key| (u64::from(key), word_at(&counts, key, 0))).collect();
    let right = bounds(&top);
    for reader in readers {
        let report = reader.stop();
        check_exact(&report, exact.clone());
        assert_eq!((report.keys, report.unlisted), right);
    }
}

#[test]
fn top_keys_of_threads() {
    let top = TopKeys::create_memfd(2, 2).unwrap();
    let added = [const { AtomicU64::new(0) }; 64];
    let number = AtomicU64::new(0);
    let write = |_| {
        let n = number.fetch_add(1, Ordering::Relaxed);
        let key = n * n % 64;
        top.writer(usize::try_from(n % 2).unwrap()).unwrap().add(key, n % 7);
        added[usize::try_from(key).unwrap()].fetch_add(n % 7, Ordering::Relaxed);
    };
    let report = read_until("top", top.region(), write, |now| now.lines >= 1000 && now.busy);
    assert!(report.busy > 0);
    check_exact(&report, (0..).zip(added.map(AtomicU64::into_inner)));
    assert_eq!((report.keys, report.unlisted), bounds(&top));
}

/// The library's counts of each histogram, in buckets that are not empty.
fn counts(all: &Histograms) -> BTreeMap<(u64, u64, u64), u64> {
    let mut counts = BTreeMap::new();
    for shard in 0..all.shards() {
        for index in 0..all.len() {
            for (values, count) in all.snapshot_of(shard, index).unwrap().buckets() {
                counts.insert((shard as u64, index as u64, *values.start()), count);
            }
        }
    }
    counts
}

#[test]
fn histograms() {
    require_bpf!();
    let object = &bpf::HISTOGRAM.load_only(fitted);
    let add = Runner::new(object, "add");
    let ends = || (0..BUCKETS).map(values).flat_map(|range| [*range.start(), *range.end()]);
    for &cpu in cpus() {
        on_cpu(cpu);
        ends().for_each(|value| add.run(&mut [1, value]));
        (0..300).for_each(|n| add.run(&mut [2, n * n * n]));
    }
    everywhere();
    // No preamble is written yet: the first reader relies on the types.
    let mut all = vec![Reader::once(&["histograms", &locator(object, "histograms")]).1];
    initialize_object(object).unwrap();
    all.extend(in_every_way("histograms", object, "histograms"));
    let right = counts(&Histograms::open(&map(object, "histograms")).unwrap());
    assert!(right.len() > cpus().len() * BUCKETS);
    all.into_iter().for_each(|report| assert_eq!(report.buckets, right));

    // While threads add.
    let histograms = Histograms::create_memfd(2, 2).unwrap();
    let writers = [0, 1].map(|shard| histograms.writer(shard).unwrap());
    let number = AtomicU64::new(0);
    let write = |thread: usize| {
        let n = number.fetch_add(1, Ordering::Relaxed);
        writers[thread].add(usize::try_from(n % 2).unwrap(), n * n).unwrap();
    };
    let report = read_until("histograms", histograms.region(), write, |now| now.lines >= 1000);
    assert_eq!(report.buckets, counts(&histograms));
}

#[test]
fn gauges() {
    require_bpf!();
    let object = &bpf::GAUGE.load_only(fitted);
    let set = Runner::new(object, "set_at");
    // New windows take the places of old ones; values beyond the largest one are stored as that.
    for begin in [3000, 5000] {
        for &cpu in cpus() {
            on_cpu(cpu);
            for n in 0..1500_u64 {
                set.run(&mut [n % 3, n.pow(5) + cpu as u64, (begin + n * n % 1500) << WINDOW]);
            }
        }
    }
    everywhere();
    // No preamble is written yet: the first reader relies on the types.
    let mut all = vec![Reader::once(&["gauges", &locator(object, "gauges")]).1];
    initialize_object(object).unwrap();
    all.extend(in_every_way("gauges", object, "gauges"));
    let gauges = Gauges::open(&map(object, "gauges")).unwrap();
    for index in 0..3 {
        let windows = gauges.windows(usize::try_from(index).unwrap()).unwrap();
        let right: BTreeMap<_, _> =
            windows.iter().map(|window| (window.ns >> WINDOW, (window.min, window.max))).collect();
        assert!(!right.is_empty());
        for report in &all {
            let mut merged = BTreeMap::new();
            for (&(_, _, window), &(min, max)) in report.windows.iter().filter(|(at, _)| at.1 == index) {
                let of = merged.entry(window).or_insert((min, max));
                *of = (of.0.min(min), of.1.max(max));
            }
            assert_eq!(merged, right);
            assert_eq!(report.dropped, gauges.region().dropped().unwrap());
        }
    }
}
