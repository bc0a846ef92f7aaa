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

/// `struct alert`
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Alert {
    ns: u64,
    n: u64,
}

/// `struct noise`
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Noise {
    cpu: u64,
    n: u64,
    ns: u64,
}

/// What a reader of both rings has seen.
#[derive(Default)]
struct Both {
    last: u64,
    unordered: usize,
    /// The next alert.
    alert: u64,
    missing: u64,
    noise: u64,
    /// Changes from one ring to the other.
    met: usize,
    was_alert: bool,
}

impl Both {
    fn note(&mut self, ns: u64, is_alert: bool) {
        self.unordered += usize::from(ns < self.last);
        self.last = ns;
        self.met += usize::from(std::mem::replace(&mut self.was_alert, is_alert) != is_alert);
    }

    fn on_alert(&mut self, event: Event<&Alert, &[u8]>) {
        self.note(event.record.ns, true);
        self.missing += u64::from(event.record.n != self.alert);
        self.alert = event.record.n + 1;
    }

    fn on_noise(&mut self, event: Event<&Noise, &[u8]>) {
        self.note(event.record.ns, false);
        self.noise += 1;
    }
}

/// Ten million records a second overwrite each other again and again; of the hundred thousand a second in the ring beside it
/// none is lost, and all come in order.
#[test]
fn a_flood_overwrites_its_own_ring_only() {
    /// Of noise and an alert, in each of so many steps of ten milliseconds.
    const HUNDREDS: usize = 1000;
    const STEPS: u32 = 150;
    require_bpf!();
    let object = &bpf::MERGED.load(fitted);
    let written = || {
        let globals = Globals::open(section(object, ".bss").unwrap()).unwrap();
        ["alerts_written", "noise_written"].map(|name| globals.variable::<u64>(name).unwrap().get().unwrap())
    };
    let alerts = Ring::<Alert>::open(&map(object, "alerts")).unwrap();
    for noise in [
        Ring::<Noise>::open(&map(object, "noise")).unwrap(),
        Ring::<Noise>::open(read_only(&map(object, "noise"))).unwrap(),
    ] {
        let [alerts_before, noise_before] = written();
        let mut both = mapring::Merged::new(Clock::Monotonic)
            .with(in_order(alerts.reader_from(Start::Now), |alert| alert.ns), Both::on_alert)
            .with(in_order(noise.reader_from(Start::Now), |noise| noise.ns), Both::on_noise);
        let mut seen = Both { alert: alerts_before, ..Both::default() };
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                on_cpu(*cpus().last().unwrap());
                let flood = Runner::new(object, "on_flood");
                for step in 1..=STEPS {
                    flood.packets(HUNDREDS.try_into().unwrap());
                    let next = begun + step * Duration::from_millis(10);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
            while !writer.is_finished() {
                both.for_each(&mut seen, usize::MAX);
            }
        });
        let took = begun.elapsed();
        let end = Instant::now() + PATIENCE;
        let [important, flood] = loop {
            std::thread::sleep(Reader::<()>::SETTLE);
            let found = both.for_each(&mut seen, usize::MAX);
            let stats = [0, 1].map(|ring| both.reader(ring).stats());
            if found == 0 && !both.stopped_early() && stats.iter().all(|stats| stats.held == 0) {
                break stats;
            }
            assert!(Instant::now() < end, "{stats:?}");
        };
        let [alerts_written, noise_written] = written();
        let (of_alerts, of_noise) = (alerts_written - alerts_before, noise_written - noise_before);
        println!(
            "{}: {of_noise} and {of_alerts} records in {took:?}: {:.1} M a second; {flood}",
            noise.access(),
            of_noise as f64 / took.as_secs_f64() / 1e6
        );
        assert_eq!((important.lost(), important.delivered, seen.missing), (0, of_alerts, 0), "{important}");
        assert_eq!(of_alerts, u64::from(STEPS) * HUNDREDS as u64);
        // The flood was one: it overwrote its own ring.
        assert!(flood.lapped > 0, "{flood}");
        assert_eq!((flood.passed(), seen.noise), (of_noise, flood.delivered), "{flood}");
        assert_eq!((seen.unordered, important.late, flood.late), (0, 0, 0), "{important}; {flood}");
        assert!(seen.met > 0);
        let losses = both.reader_mut(1).take_losses();
        assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), flood.lost() + flood.dropped());
        assert!(both.reader_mut(0).take_losses().is_empty());
    }
}

/// A reader in order that waits for any program, however long it is interrupted.
fn in_order<T: bytemuck::AnyBitPattern>(
    reader: Reader<T>,
    stamp: fn(&T) -> u64,
) -> Reader<T, ByTime<T, fn(&T) -> u64>> {
    reader.with_patience(Duration::MAX).merged(stamp).with_delay(Duration::MAX)
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

/// The same beside another ring: a memfd.
#[test]
fn a_ring_that_is_replaced_beside_another() {
    let object = &require_bpf!(RESIZABLE);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let other = Ring::<[u64; 2]>::create_memfd(1024, 1).unwrap();
    let mut both = mapring::Merged::<Vec<(usize, u64)>>::new(Clock::Monotonic)
        .with(in_order(ring.reader(), |record| record.number), |seen, event| {
            seen.push((0, event.record.number));
        })
        .with(in_order(other.reader(), |record| record[1]), |seen, event| seen.push((1, event.record[1])));
    let program = Runner::new(object, "push_run");
    let (mut expected, mut seen) = (Vec::new(), Vec::new());
    for slots in [128, 32, 64] {
        for step in 0..10 {
            if step == 5 {
                ring.resize(slots).unwrap();
            }
            let now = Clock::Monotonic.now();
            assert_eq!(push(&program, 2, now, 5), 0);
            expected.extend((now..now + 5).map(|number| (0, number)));
            // As early as the last one: the first ring comes first.
            other.writer(0).unwrap().push(&[0, now + 4]);
            expected.push((1, now + 4));
        }
        let end = Instant::now() + PATIENCE;
        while seen.len() < expected.len() && Instant::now() < end {
            both.for_each(&mut seen, usize::MAX);
        }
        assert_eq!(seen, expected);
    }
    let [replaced, other] = [0, 1].map(|ring| both.reader(ring).stats());
    assert_eq!((replaced.delivered, replaced.lost(), replaced.late), (150, 0, 0), "{replaced}");
    assert_eq!((other.delivered, other.late, other.held), (30, 0, 0), "{other}");
}
