//! Histograms that programs count: every value in its bucket, on every CPU, mapped and by system call; no value is lost
//! when programs interrupt each other.

use mapring::abi::histogram::{BUCKETS, values};
use mapring::{Histogram, Histograms};
use mapring_kernel_tests::prelude::*;

/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// `struct did`, on one CPU.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Did {
    inside: u64,
    tasks: u64,
    ticks: u64,
    interrupted: u64,
}

/// The first and last value of each bucket, and values of every length.
fn samples() -> impl Iterator<Item = u64> {
    let ends = (0..BUCKETS).map(values).flat_map(|range| [*range.start(), *range.end()]);
    ends.chain((0..1000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 64)))
}

#[test]
fn every_value_is_in_its_bucket() {
    require_bpf!();
    check(&bpf::HISTOGRAM.load(fitted));
    check(&bpf::HISTOGRAM_PORTABLE.load(fitted));
}

fn check(object: &Object) {
    let all = map(object, "histograms");
    let mapped = Histograms::open(&all).unwrap();
    let by_call = Histograms::open(read_only(&all)).unwrap();
    assert_eq!(mapped.access(), Access::Mapped);
    assert!(matches!(by_call.access(), Access::Syscall(_)));
    assert_eq!(
        (mapped.len(), mapped.shards()),
        (3, mapring::cpus::possible_cpus().unwrap().last().unwrap() + 1)
    );

    let (add, many) = (Runner::new(object, "add"), Runner::new(object, "add_many"));
    let mut expected = [Histogram::new(), Histogram::new()];
    for &cpu in cpus() {
        on_cpu(cpu);
        let mut here = Histogram::new();
        for value in samples() {
            add.run(&mut [1, value]);
            here.add(value);
        }
        for handle in [&mapped, &by_call] {
            assert_eq!(handle.snapshot_of(cpu, 1).unwrap(), here, "CPU {cpu}");
        }
        expected[0].merge(&here);
        // `MANY` values for each call.
        (0..4).for_each(|call| many.run(&mut [2, (1 << 20) + 256 * call]));
        (0..1024).for_each(|n| expected[1].add((1 << 20) + n));
    }
    for handle in [&mapped, &by_call] {
        let found = [0, 1, 2].map(|index| handle.snapshot(index).unwrap());
        assert_eq!(
            found,
            [Histogram::new(), expected[0].clone(), expected[1].clone()],
            "{}",
            handle.access()
        );
        let wrong = |e: &ReadError, what| matches!(e, ReadError::Index { thing, .. } if *thing == what);
        assert!(wrong(&handle.snapshot(3).unwrap_err(), "histogram"));
        assert!(wrong(&handle.snapshot_of(mapped.shards(), 0).unwrap_err(), "shard"));
    }

    // No such histogram: counted, and nothing else changes.
    for index in [3, u64::from(u32::MAX)] {
        add.run(&mut [index, 1]);
    }
    assert_eq!(mapped.region().dropped().unwrap(), 2);
    assert_eq!(mapped.snapshot(0).unwrap().count(), 0);
    assert_eq!(mapped.snapshot(1).unwrap(), expected[0]);

    // Userspace writes the same buckets.
    let writable = Histograms::open_with(&all, OpenOptions::new().write(true)).unwrap();
    let writer = writable.writer(0).unwrap();
    for value in samples() {
        writer.add(0, value).unwrap();
    }
    assert_eq!(mapped.snapshot(0).unwrap().buckets().count(), BUCKETS);
    assert_eq!(writer.add(3, 0).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(mapped.writer(0).unwrap_err().kind(), ErrorKind::NotWritable);
    assert_eq!(Counters::open(&all).unwrap_err().kind(), ErrorKind::WrongType);
    println!(
        "explored {} values; {} instructions verified",
        2 * samples().count(),
        many.verified().unwrap_or(0)
    );
}

#[test]
fn a_map_that_was_not_prepared_is_refused() {
    require_bpf!();
    if cpus().last() == Some(&0) {
        return;
    }
    let object = &bpf::HISTOGRAM.load(unfitted);
    let error = Histograms::open(&map(object, "histograms")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFitted);
}

#[test]
fn programs_that_interrupt_each_other_lose_nothing() {
    require_bpf!();
    const VALUE: u64 = 1000;
    let object = &bpf::HISTOGRAM.load(fitted);
    let (cpu, task) = (on_one_cpu(), Runner::new(object, "task"));
    let fd = sample_clock(cpu, 50_000).into_raw_fd();
    let clock = program(object, "tick").attach_perf_event(fd).unwrap();
    let histograms = Histograms::open(&map(object, "together")).unwrap();

    let start = Instant::now();
    let mut before = histograms.snapshot(0).unwrap();
    let mut differences = before.clone();
    while did::<Did>(object, cpu).interrupted < 100 && start.elapsed() < PATIENCE {
        task.run(&mut [0, VALUE]);
        let now = histograms.snapshot(0).unwrap();
        differences.merge(&now.since(&before).expect("counts only grow"));
        before = now;
    }
    drop(clock);
    let last = histograms.snapshot(0).unwrap();
    differences.merge(&last.since(&before).unwrap());
    let did = did::<Did>(object, cpu);
    assert!(did.interrupted >= 100, "programs never met: {did:?}");
    assert_eq!(last.count(), did.tasks + did.ticks, "{did:?}");
    assert_eq!(last.buckets().map(|(values, _)| values.contains(&VALUE)).collect::<Vec<_>>(), [true]);
    assert_eq!(differences, last, "each value is in exactly one difference");
    println!("explored {} values, {} loops interrupted", last.count(), did.interrupted);
}
