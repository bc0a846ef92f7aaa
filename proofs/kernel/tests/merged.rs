//! Merged reading of programs on all CPUs that interrupt each other between reserve and stamp: the order is exact, and
//! every ticket is passed once.

use std::collections::HashSet;

use mapring::reading::ByTime;
use mapring::time::Clock;
use mapring_kernel_tests::prelude::*;

/// `struct stamped`
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Stamped {
    ns: u64,
    boot_ns: u64,
    writer: u64,
}

impl Stamped {
    fn stamp(&self, clock: Clock) -> u64 {
        if clock == Clock::Boottime { self.boot_ns } else { self.ns }
    }
}

/// The longest time to wait for programs that interrupt each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records to read, at least.
const RECORDS: usize = 200_000;

#[test]
fn programs_on_all_cpus() {
    require_bpf!();
    the_order_is_exact(Clock::Monotonic);
}

#[test]
fn programs_that_stamp_with_another_clock() {
    require_bpf!();
    the_order_is_exact(Clock::Boottime);
}

fn the_order_is_exact(clock: Clock) {
    everywhere();
    let object = &bpf::MERGED.load(fitted);
    let ring = Ring::<Stamped>::open(&map(object, "stamped")).unwrap();
    assert_eq!(ring.access(), Access::Mapped);
    let by_stamp = |reader: Reader<Stamped>| {
        reader.merged(move |record: &Stamped| record.stamp(clock)).with_clock(clock)
    };
    let mut merged = by_stamp(ring.reader().with_patience(Duration::MAX)).with_delay(Duration::MAX);

    let stop = AtomicBool::new(false);
    let mut seen = Seen::of(clock);
    std::thread::scope(|scope| {
        let at_end = Stop(&stop);
        let links = ticks(object, "on_tick", 50_000);
        for &cpu in cpus() {
            let (stop, packets) = (&stop, Runner::new(object, "on_packet"));
            scope.spawn(move || {
                on_cpu(cpu);
                while !stop.load(Ordering::Relaxed) {
                    packets.packets(5);
                    std::thread::yield_now();
                }
            });
        }
        let start = Instant::now();
        while (seen.records.len() < RECORDS || seen.back == 0) && start.elapsed() < PATIENCE {
            merged.for_each(4096, |event| seen.note(event.shard, event.ticket, *event.record));
        }
        drop(links);
        drop(at_end);
    });
    // All programs have ended.
    let tickets = |merged: &Reader<Stamped, ByTime<Stamped, _>>| {
        (0..ring.shards()).map(|shard| merged.position(shard).unwrap()).sum::<u64>()
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let before = tickets(&merged);
        std::thread::sleep(mapring::Reader::<()>::SETTLE);
        let found = merged.for_each(usize::MAX, |event| seen.note(event.shard, event.ticket, *event.record));
        if found == 0 && merged.stats().held == 0 && before == tickets(&merged) {
            break;
        }
        assert!(Instant::now() < end, "{}", merged.stats());
    }
    let stats = merged.stats();
    println!(
        "{stats}; {} by nested programs before those that they interrupted, {} met",
        seen.back, seen.met
    );
    assert_eq!((seen.unordered, stats.late, stats.ahead), (0, 0, 0), "{stats}");
    assert_eq!(stats.delivered, seen.records.len() as u64);
    let passed = stats.passed();
    assert_eq!(passed, tickets(&merged), "{stats}");
    assert!(seen.back > 0, "no program interrupted another between reserve and stamp");
    assert!(seen.met > 0 || cpus().len() == 1, "the CPUs did not write at the same time");

    // By system call the order is the same.
    let [mut mapped, mut looked_up] = [
        Ring::<Stamped>::open(&map(object, "stamped")).unwrap(),
        Ring::open(read_only(&map(object, "stamped"))).unwrap(),
    ]
    .map(|ring| by_stamp(ring.reader().with_patience(Duration::ZERO)));
    assert_ne!(looked_up.region().access(), Access::Mapped);
    let by_call: Vec<_> = looked_up.drain().map(|event| (event.shard, event.ticket, event.record)).collect();
    let by_map: Vec<_> = mapped.drain().map(|event| (event.shard, event.ticket, event.record)).collect();
    assert!(!by_map.is_empty());
    assert_eq!(by_call, by_map);
    if let Some(error) = looked_up.take_error() {
        panic!("{error}");
    }
}

/// What a reader got.
#[derive(Default)]
struct Seen {
    clock: Clock,
    records: HashSet<(usize, u64)>,
    last: Option<(usize, u64, Stamped)>,
    /// Records whose stamp is earlier than the one before.
    unordered: usize,
    /// Records with an earlier ticket than the one before, of the same shard.
    back: usize,
    /// Changes from one shard to another.
    met: usize,
}

impl Seen {
    fn of(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    fn note(&mut self, shard: usize, ticket: u64, record: Stamped) {
        assert!(self.records.insert((shard, ticket)), "ticket {ticket} of shard {shard} twice");
        if let Some((last_shard, last_ticket, last)) = self.last {
            self.unordered += usize::from(record.stamp(self.clock) < last.stamp(self.clock));
            self.back += usize::from(shard == last_shard && ticket < last_ticket);
            self.met += usize::from(shard != last_shard);
        }
        self.last = Some((shard, ticket, record));
    }
}

/// The reader continues in the next ring, in order.
#[test]
fn a_ring_that_is_replaced() {
    let object = &require_bpf!(RESIZABLE);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let mut merged = ring.reader().merged(|record| record.number).with_delay(Duration::MAX);
    let program = Runner::new(object, "push_run");
    let mut next = 1;
    for (round, slots) in [128, 32, 64].into_iter().enumerate() {
        let first = next;
        for cpu in cpus().iter().cycle().take(4) {
            on_cpu(*cpu);
            assert_eq!(push(&program, 2, next, 5), 0);
            next += 5;
        }
        ring.resize(slots).unwrap();
        on_cpu(cpus()[round % cpus().len()]);
        assert_eq!(push(&program, 2, next, 1), 0);
        next += 1;
        let numbers: Vec<_> = std::iter::from_fn(|| merged.poll().map(|event| event.record.number)).collect();
        assert_eq!(numbers, (first..next).collect::<Vec<_>>());
    }
    let stats = merged.stats();
    assert_eq!((stats.late, stats.held, stats.lost()), (0, 0, 0), "{stats}");
    assert_eq!((stats.delivered, merged.rings()), (next - 1, 4));
    everywhere();
}
