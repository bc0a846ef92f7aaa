//! The library's own hot paths, over memfd regions: needs no privilege, and compares only with other commits
//! (`--save-baseline`, `--baseline`).
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mapring::{Cells, Counters, Reader, Ring};
use mapring_benches::pin;

type Record = [u64; 7];

/// Records per batch.
const RECORDS: u64 = 2048;

fn cell(c: &mut Criterion) {
    let cells = Cells::<Record>::create_memfd(4).expect("a memfd");
    let writer = cells.writer().expect("it was made here");
    writer.set(2, &[7; 7]).expect("the cell is there");
    let mut group = c.benchmark_group("cell");
    group.bench_function("read 56 B", |b| b.iter(|| cells.read(black_box(2)).expect("no writer")));
    group.bench_function("set 56 B", |b| b.iter(|| writer.set(black_box(2), &[7; 7])));
    assert_eq!(cells.read(2).expect("no writer"), [7; 7]);
}

fn counters(c: &mut Criterion) {
    let counters = Counters::create_memfd(1024, 4).expect("a memfd");
    for shard in 0..4 {
        counters.writer(shard).expect("it was made here").add(9, 1).expect("the counter is there");
    }
    let mut sums = vec![0; 1024];
    let mut group = c.benchmark_group("counters");
    group.bench_function("sum one over 4 shards", |b| b.iter(|| counters.sum(black_box(9))));
    group.bench_function("sum 1024 over 4 shards", |b| b.iter(|| counters.sums(black_box(&mut sums))));
    counters.sums(&mut sums).expect("mapped");
    assert_eq!((sums[8], sums[9]), (0, 4));
}

fn ring(c: &mut Criterion) {
    let ring = Ring::<Record>::create_memfd(4096, 2).expect("a memfd");
    let writer = ring.writer(0).expect("it was made here");
    let mut reader = ring.reader();
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(RECORDS));
    let mut consume = |name: &str, read: fn(&mut Reader<Record>) -> u64| {
        // Write the records before the clock starts.
        let fill = || (0..RECORDS).for_each(|n| assert!(writer.push(&[n; 7]).is_some()));
        group.bench_function(name, |b| {
            b.iter_batched(
                fill,
                |()| assert_eq!(read(&mut reader), RECORDS * (RECORDS - 1) / 2),
                BatchSize::PerIteration,
            );
        });
    };
    consume("for_each", |reader| {
        let mut sum = 0;
        reader.for_each(usize::MAX, |event| sum += black_box(event.record)[6]);
        sum
    });
    consume("drain", |reader| reader.drain().map(|event| black_box(&event.record)[6]).sum());
    consume("poll", |reader| {
        std::iter::from_fn(|| reader.poll().map(|event| black_box(&event.record)[6])).sum()
    });
    assert_eq!(reader.lost(), 0);

    group.throughput(Throughput::Elements(1));
    group.bench_function("poll, empty", |b| b.iter(|| reader.poll().is_none()));
    group.bench_function("push 56 B", |b| b.iter(|| writer.push(black_box(&[7; 7]))));
}

fn pinned(c: &mut Criterion) {
    pin().expect("a thread may choose among its CPUs");
    cell(c);
    counters(c);
    ring(c);
}

criterion_group!(benches, pinned);
criterion_main!(benches);
