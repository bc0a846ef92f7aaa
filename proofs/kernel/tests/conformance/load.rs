//! Under load: tasks, system calls and a clock's interrupts write while the reader reads.

use std::collections::HashMap;

use mapring_kernel_tests::prelude::*;

use super::reader::{Reader, Report};
use super::written_before::{Odd, bss, locator, maps};

/// Both ways to read.
pub(crate) const WAYS: [(&str, &[&str]); 2] = [("mapped", &[]), ("lookup", &["--lookup"])];
/// The number of runs of each task.
const RUNS: u64 = 300;

/// Starts one reader for each way.
fn readers(args: &[&str]) -> [Reader; 2] {
    WAYS.map(|(access, way)| {
        let reader = Reader::start(&[way, args].concat());
        assert_eq!(reader.access, access);
        reader
    })
}

/// Compares the reader's records with the published ones.
pub(crate) fn check(report: &Report, published: [u64; 4]) {
    let mut seen = Seen::default();
    let mut next = HashMap::new();
    for (shard, ticket, bytes) in &report.records {
        seen.add(&bytemuck::pod_read_unaligned(bytes));
        let at = next.entry(shard).or_insert(0);
        // Tickets restart in each ring that a follower reads.
        assert!(report.rings > 1 || ticket >= at, "{ticket} after {at}");
        *at = ticket + 1;
    }
    seen.check(published, report.stats);
}

#[test]
fn a_ring() {
    require_bpf!();
    let object = &bpf::CONFORMANCE.load(watching_us);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let readers = readers(&["ring", &locator(object, "numbers")]);
    let published = written_by_all(object, || std::thread::sleep(Duration::from_millis(200)));
    readers.into_iter().for_each(|reader| check(&reader.stop(), published));
    assert_eq!(ring.slots(), 4096);
}

#[test]
fn a_ring_for_nodes() {
    require_bpf!();
    let object = &bpf::NUMA.load(watching_us);
    let _ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let readers = readers(&["numa", &maps(object)]);
    let published = written_by_all(object, || std::thread::sleep(Duration::from_millis(200)));
    readers.into_iter().for_each(|reader| check(&reader.stop(), published));
}

#[test]
fn rings_that_are_replaced() {
    require_bpf!();
    let object = &bpf::RESIZABLE.load(watching_us);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let pins = PinDir::new();
    let pin = pins.path("numbers");
    ring.pin(&pin, 0o600).unwrap();
    let locators = [pin.to_str().unwrap().to_owned(), maps(object)];
    let all = locators.map(|locator| readers(&["follow", &locator]));
    let published = written_by_all(object, || {
        for slots in [64, 8192, 16384, 1024].into_iter().cycle().take(12) {
            ring.resize(slots).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    for reader in all.into_iter().flatten() {
        let report = reader.stop();
        assert!(report.rings > 1, "{:?}", report.stats);
        check(&report, published);
    }
}

/// A task on each CPU writes values of every kind while `reader` reads. Returns the reader's output.
pub(crate) fn written_meanwhile(object: &Object, reader: Reader) -> Report {
    let program = Runner::new(object, "write_values");
    std::thread::scope(|scope| {
        for &cpu in cpus() {
            let program = &program;
            scope.spawn(move || {
                on_cpu(cpu);
                for run in 0..RUNS {
                    program.run(&mut [cpu as u64, run * 64, 64, 0]);
                }
            });
        }
    });
    reader.stop()
}

/// Each value is later than the last one, and the final one is the library's.
pub(crate) fn check_values<T: bytemuck::Pod>(
    report: &Report,
    is_whole: impl Fn(&T) -> bool,
    snapshot: impl Fn(usize, usize) -> Result<Snapshot<T>, ReadError>,
) {
    let mut last = HashMap::new();
    for (cpu, index, version, bytes) in &report.values {
        let value: T = bytemuck::pod_read_unaligned(bytes);
        assert!(is_whole(&value), "{bytes:?}");
        let before = last.insert((*cpu, *index), (*version, bytes));
        assert!(before.is_none_or(|(before, _)| before < *version));
    }
    assert!(!last.is_empty());
    for ((cpu, index), (version, bytes)) in last {
        let right = snapshot(usize::try_from(cpu).unwrap(), usize::try_from(index).unwrap()).unwrap();
        assert_eq!((version, &bytes[..]), (right.version, bytemuck::bytes_of(&right.value)));
    }
}

#[test]
fn cells() {
    require_bpf!();
    let object = &bpf::CONFORMANCE.load(fitted);
    let cells = Cells::<Numbered>::open(&map(object, "cells")).unwrap();
    let percpu = PerCpuCells::<Numbered>::open(&map(object, "percpu_cells")).unwrap();
    for (access, way) in WAYS {
        let reader = Reader::start(&[way, &["cells", &locator(object, "cells")]].concat());
        assert_eq!(reader.access, access);
        let report = written_meanwhile(object, reader);
        check_values(&report, Numbered::is_whole, |_, index| cells.snapshot(index));
        assert_eq!(
            (report.dropped, report.values.iter().map(|value| value.1).max()),
            (cells.region().dropped().unwrap(), Some(2))
        );
    }
    let reader = Reader::start(&["cells", &locator(object, "percpu_cells")]);
    assert_eq!(reader.access, "lookup");
    let report = written_meanwhile(object, reader);
    check_values(&report, Numbered::is_whole, |cpu, index| percpu.snapshot(cpu, index));
    assert_eq!(report.dropped, percpu.region().dropped().unwrap());
    assert!(cpus().iter().all(|&cpu| report.values.iter().any(|value| value.0 == cpu as u64)));
}

#[test]
fn global_cells() {
    require_bpf!();
    let object = &bpf::CONFORMANCE.load(fitted);
    let cell = Globals::open(section(object, ".bss").unwrap()).unwrap().cell::<Odd>("global_cell").unwrap();
    for (access, way) in WAYS {
        let locator = locator(object, &bss(object));
        let reader = Reader::start(&[way, &["global", &locator, "global_cell"]].concat());
        assert_eq!(reader.access, access);
        let report = written_meanwhile(object, reader);
        check_values(&report, |odd: &Odd| *odd == Odd::new(odd.number), |_, _| cell.snapshot());
        // Each update was made, or counted.
        assert!(report.dropped + cell.snapshot().unwrap().version >= RUNS * 64 * cpus().len() as u64);
    }
}

#[test]
fn counters() {
    require_bpf!();
    let object = &bpf::CONFORMANCE.load(fitted);
    for (name, ways) in [("counters", &WAYS[..]), ("percpu_counters", &[("lookup", &[])])] {
        let counters = Counters::open(&map(object, name)).unwrap();
        for (access, way) in ways {
            let reader = Reader::start(&[way, &["counters", &locator(object, name)][..]].concat());
            assert_eq!(reader.access, *access);
            let report = written_meanwhile(object, reader);
            for &cpu in cpus() {
                for index in 0..9 {
                    let found = report.counters[&(cpu as u64, index as u64)];
                    assert!(found > 0 && found == counters.get(cpu, index).unwrap());
                }
            }
            assert_eq!(report.counters.len(), 9 * cpus().len());
        }
    }
}
