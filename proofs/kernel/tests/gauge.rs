//! Gauges that programs set: every extreme in its window, on every CPU, mapped and by system call; none is lost when
//! programs interrupt each other.

use mapring::Gauges;
use mapring::abi::gauge::VALUE_MAX;
use mapring::reading::GaugeWindow;
use mapring_kernel_tests::prelude::*;

/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);
const WINDOW: u64 = 1 << 20;

/// `struct did`, on one CPU.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Did {
    inside: u64,
    interrupted: u64,
    number: u64,
}

#[test]
fn every_extreme_is_in_its_window() {
    require_bpf!();
    check(&bpf::GAUGE.load(fitted));
    check(&bpf::GAUGE_PORTABLE.load(fitted));
}

fn check(object: &Object) {
    let all = map(object, "gauges");
    let handles = [Gauges::open(&all).unwrap(), Gauges::open(read_only(&all)).unwrap()];
    assert_eq!(handles[0].access(), Access::Mapped);
    assert!(matches!(handles[1].access(), Access::Syscall(_)));
    let mut readers = handles.each_ref().map(|handle| handle.reader(1).unwrap());
    let set = Runner::new(object, "set_at");

    let mut expected = BTreeMap::<u64, (u64, u64)>::new();
    let (mut random, mut values) = (1_u64, 0);
    // Two seconds later in each round: new windows take the places of the old ones.
    for begin in [3_000, 5_000] {
        expected.clear();
        for &cpu in cpus() {
            on_cpu(cpu);
            for n in 0..3000 {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(cpu as u64 + 1);
                let value = (random >> 16) >> (n % 48);
                let window = begin + n % 1024;
                set.run(&mut [1, value, window * WINDOW + random % WINDOW]);
                let value = value.min(VALUE_MAX);
                let of = expected.entry(window).or_insert((value, value));
                *of = (of.0.min(value), of.1.max(value));
                values += 1;
            }
        }
        let shown: Vec<_> = expected
            .iter()
            .map(|(window, &(min, max))| GaugeWindow { ns: window * WINDOW, min, max })
            .collect();
        for (handle, reader) in handles.iter().zip(&mut readers) {
            assert_eq!(handle.windows(1).unwrap(), shown, "{}", handle.access());
            let since = reader.read().unwrap();
            assert_eq!(since.windows, shown);
            // 4023 to 4999, on each CPU. (What was missed before the first read depends on when that was.)
            assert!(begin == 3_000 || since.missed == 977 * cpus().len() as u64, "{}", since.missed);
            assert_eq!(since.max(), expected.values().map(|of| of.1).max());
            assert_eq!(since.min(), expected.values().map(|of| of.0).min());
            // The window of the last read is still there.
            assert_eq!(reader.read().unwrap().windows, shown[1023..]);
            assert!(handle.windows(0).unwrap().is_empty() && handle.windows(3).is_err());
        }
    }

    // Not recorded, and counted: a value that is too late, a gauge that does not exist.
    let dropped = || handles[0].region().dropped().unwrap();
    assert_eq!(dropped(), 0);
    set.run(&mut [1, 7, 3_000 * WINDOW]);
    set.run(&mut [3, 7, 6_000 * WINDOW]);
    set.run(&mut [u64::from(u32::MAX), 7, 6_000 * WINDOW]);
    assert_eq!(dropped(), 3);

    // The clock of programs is the one of readers.
    let mut args = [2, 77, 0];
    Runner::new(object, "set_now").run(&mut args);
    let windows = handles[0].windows(2).unwrap();
    assert!(
        matches!(windows[..], [GaugeWindow { ns, min: 77, max: 77 }] if ns <= args[2]),
        "{windows:?} {args:?}"
    );

    // Userspace writes in the same way.
    let writable = Gauges::open_with(&all, OpenOptions::new().write(true)).unwrap();
    assert!(writable.writer(0).unwrap().set_at(0, 5, 9 * WINDOW).unwrap());
    assert_eq!(handles[1].windows(0).unwrap(), [GaugeWindow { ns: 9 * WINDOW, min: 5, max: 5 }]);
    println!("explored {values} values");
}

#[test]
fn programs_that_interrupt_each_other_lose_no_extreme() {
    let object = &require_bpf!(GAUGE);
    let (cpu, task) = (on_one_cpu(), Runner::new(object, "task"));
    let gauges = Gauges::open(&map(object, "together")).unwrap();
    let fd = sample_clock(cpu, 50_000).into_raw_fd();
    let clock = program(object, "tick").attach_perf_event(fd).unwrap();
    let start = Instant::now();
    let mut last = 0;
    while did::<Did>(object, cpu).interrupted < 100 && start.elapsed() < PATIENCE {
        task.run(&mut [0; 3]);
        let max = gauges.windows(0).unwrap()[0].max;
        assert!(max > last && max >= (1 << 20) + did::<Did>(object, cpu).number.min(1), "{max} after {last}");
        last = max;
    }
    drop(clock);
    let did = did::<Did>(object, cpu);
    assert!(did.interrupted >= 100, "programs never met: {did:?}");
    let extremes = GaugeWindow { ns: 0, min: (1 << 20) - did.number, max: (1 << 20) + did.number };
    assert_eq!(gauges.windows(0).unwrap(), [extremes], "{did:?}");
    assert_eq!(gauges.region().dropped().unwrap(), 0);
    println!("explored {} values, {} loops interrupted", 2 * did.number, did.interrupted);
}
