//! Histograms, gauges, top keys and commands in BPF maps whose words a neighbour overwrites. Meanwhile programs add to them
//! and carry out commands on every CPU, readers read them, mapped and by system call, and a process pushes commands, for
//! `MAPRING_HOSTILE_SECONDS`.

use std::collections::BTreeMap;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use libbpf_rs::{Link, Object};
use mapring::abi::gauge::{WINDOW_BITS, WINDOWS, window};
use mapring::abi::top::{STRIDE, WAYS};
use mapring::globals::Globals;
use mapring::time::Clock;
use mapring::writers::CommandsWriter;
use mapring::{
    Access, Commands, ErrorKind, Gauges, Histogram, Histograms, OpenOptions, ReadError, Refusal, Region,
    TopKeys,
};
use mapring_hostile_tests::{Neighbour, hostile_word, read_all};
use mapring_kernel_tests::{
    Order, Runner, bpf, cpus, everywhere, fitted, map, on_cpu, read_only, require_bpf, sample_clock,
};
use mapring_loader::section;

use super::live_maps::{fd, open_and_read};
use super::threads;

/// The maps that are overwritten, and the programs that write them: each in an object of its own.
const MAPS: [&str; 4] = ["histograms", "gauges", "table", "orders"];
const PROGRAMS: [&str; 4] = ["add", "set_at", "add", "one_event"];
/// As in `bpf/commands.bpf.c`.
const SLOTS: usize = 64;
const AT_ONCE: u64 = 16;
/// A word of the header of commands, as in docs/abi.md.
const LOCK: usize = 2;

struct Tables<'o> {
    commands_object: &'o Object,
    programs: [Runner; 4],
    maps: [OwnedFd; 4],
    neighbours: [Neighbour; 4],
    histograms: Histograms,
    gauges: Gauges,
    top: TopKeys,
    commands: Commands<Order>,
    writer: CommandsWriter<Order>,
    /// How often each program ran by hand.
    runs: AtomicU64,
}

impl<'o> Tables<'o> {
    fn new(objects: [&'o Object; 4]) -> Self {
        let maps = [0, 1, 2, 3].map(|at| fd(objects[at], MAPS[at]));
        let region = |at: usize| Region::open(maps[at].try_clone().unwrap()).unwrap();
        let write = OpenOptions::new().write(true);
        let commands = Commands::open_with(maps[3].try_clone().unwrap(), write).unwrap();
        Self {
            commands_object: objects[3],
            programs: [0, 1, 2, 3].map(|at| Runner::new(objects[at], PROGRAMS[at])),
            histograms: Histograms::from_region(region(0)).unwrap(),
            gauges: Gauges::from_region(region(1)).unwrap(),
            top: TopKeys::from_region(region(2)).unwrap(),
            writer: commands.writer().unwrap(),
            neighbours: [0, 1, 2, 3].map(|at| Neighbour::of(&region(at))),
            commands,
            maps,
            runs: AtomicU64::new(0),
        }
    }

    fn add(&self, index: u64, value: u64) {
        self.programs[0].run(&mut [index, value]);
    }

    fn set(&self, index: u64, value: u64, ns: u64) {
        self.programs[1].run(&mut [index, value, ns]);
    }

    fn add_key(&self, key: u64, amount: u64) {
        self.programs[2].run(&mut [key, amount]);
    }

    /// Returns the thread and the number of the command whose effect the event saw; `None` if writers were in its way.
    fn event(&self) -> Option<(u64, u64)> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let mut args = [0; 4];
        self.programs[3].run(&mut args);
        (args[3] == 1).then_some((args[1], args[2]))
    }

    /// No event carries out more commands than it may.
    fn events_are_bounded(&self) {
        let variables = Globals::open(section(self.commands_object, ".bss").unwrap()).unwrap();
        let [carried_out, seen, unread] = ["carried_out", "events", "unread"]
            .map(|name| variables.variable::<u64>(name).unwrap().get().unwrap());
        let events = self.runs.load(Ordering::Relaxed) + seen + unread;
        println!("{carried_out} commands in {events} events");
        assert!(carried_out > 0 && carried_out <= AT_ONCE * events);
    }
}

#[test]
fn programs_and_readers_survive_forged_tables_and_commands() {
    require_bpf!();
    survive([
        &bpf::HISTOGRAM.load(fitted),
        &bpf::GAUGE.load(fitted),
        &bpf::TOP.load(fitted),
        &bpf::COMMANDS.load(fitted),
    ]);
    survive([
        &bpf::HISTOGRAM_PORTABLE.load(fitted),
        &bpf::GAUGE_PORTABLE.load(fitted),
        &bpf::TOP_PORTABLE.load(fitted),
        &bpf::COMMANDS_PORTABLE.load(fitted),
    ]);
}

fn survive(objects: [&Object; 4]) {
    everywhere();
    let tables = Tables::new(objects);
    let by_call = [0, 1, 2, 3].map(|at| Region::open(read_only(&map(objects[at], MAPS[at]))).unwrap());
    assert_eq!(by_call.each_ref().map(Region::access), [Access::Syscall(Refusal::ReadOnlyFd); 4]);
    let ticks = attach(objects[3]);
    threads::survive(|threads| play(threads, &tables, &by_call));
    drop(ticks);
    tables.events_are_bounded();

    // The neighbour has left any words behind.
    let mut rng = Rng::with_seed(7);
    for neighbour in &tables.neighbours {
        let words = neighbour.words();
        (0..words.len()).for_each(|at| {
            if rng.bool() {
                words.store(at, hostile_word(&mut rng), Ordering::Relaxed);
            }
        });
    }
    for &cpu in cpus() {
        on_cpu(cpu);
        every_value_is_in_its_bucket(&tables, cpu);
        a_value_is_recorded_or_counted(&tables, cpu);
        every_amount_is_somewhere(&tables, cpu);
    }
    commands_go_on(&tables);

    // After the content is restored, everything works as before.
    tables.neighbours.iter().for_each(Neighbour::restore);
    let now = Clock::Monotonic.now();
    for &cpu in cpus() {
        on_cpu(cpu);
        tables.add(2, 1000);
        tables.set(2, cpu as u64, now);
        tables.add_key(77, 5);
        tables.writer.push(&Order::new(1, cpu as u64)).unwrap();
        assert_eq!(tables.event(), Some((1, cpu as u64)));
    }
    let count = cpus().len() as u64;
    assert_eq!(tables.histograms.snapshot(2).unwrap().count(), count);
    let extremes: Vec<_> = tables.gauges.windows(2).unwrap().iter().map(|of| (of.min, of.max)).collect();
    assert_eq!(extremes, [(cpus()[0] as u64, *cpus().last().unwrap() as u64)]);
    let ranking = tables.top.largest(5).unwrap();
    assert_eq!((ranking.total, ranking.other), (5 * count, 0), "{ranking:?}");
    assert_eq!(ranking.keys.iter().map(|top| (top.key, top.count)).collect::<Vec<_>>(), [(77, 5 * count)]);
    assert_eq!(tables.writer.acknowledged(), count);
}

/// Timer interrupts on each CPU, which also carry out commands.
fn attach(object: &Object) -> Vec<Link> {
    let tick = object.progs_mut().find(|program| program.name() == "on_tick").unwrap();
    let clock = |&cpu: &usize| tick.attach_perf_event(sample_clock(cpu, 250_000).into_raw_fd()).unwrap();
    cpus().iter().map(clock).collect()
}

fn play<'env>(
    threads: &mut threads::Threads<'_, 'env>,
    tables: &'env Tables<'_>,
    by_call: &'env [Region; 4],
) {
    threads.scribble(&tables.neighbours);
    threads.run_on_cpus("programs", |_| {
        // One of four indices is out of range.
        let n = tables.runs.load(Ordering::Relaxed);
        tables.add(n % 4, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 64));
        tables.set(n % 4, n, Clock::Monotonic.now());
        tables.add_key(n % 300, n);
        tables.event();
        [1, 1]
    });
    let mapped = [tables.histograms.region(), tables.gauges.region(), tables.top.region()];
    let names = [
        ["histograms, mapped", "gauges, mapped", "top keys, mapped"],
        ["histograms, by call", "gauges, by call", "top keys, by call"],
    ];
    for (names, regions) in names.into_iter().zip([mapped, by_call.each_ref()[..3].try_into().unwrap()]) {
        for (name, region) in names.into_iter().zip(regions) {
            threads.run(name, || {
                let read = read_all(region, None);
                [read.values, if name.starts_with("top") { read.busy } else { 1 }]
            });
        }
    }
    let mut gauge = tables.gauges.reader(0).unwrap();
    threads.run("gauge since the last read", move || [1, gauge.read().unwrap().windows.len() as u64]);
    let looked_up = Commands::<Order>::from_region(by_call[3].clone()).unwrap();
    threads.run("commands", move || {
        for commands in [&tables.commands, &looked_up] {
            let read = [commands.pushed(), commands.acknowledged(), commands.skipped()];
            assert!(read.iter().all(Result::is_ok) && commands.owner().is_ok(), "{read:?}");
        }
        // Another writer of this process, unless the words name another owner that lives.
        match tables.commands.writer() {
            Ok(writer) => _ = writer.acknowledged(),
            Err(e) => assert_eq!(e.kind(), ErrorKind::OtherWriters, "{e}"),
        }
        [1, 1]
    });
    threads.run("commands pushed, and full", || {
        let pushed = tables.writer.push(&Order::new(0, 1)).is_ok();
        [pushed.into(), (!pushed).into()]
    });
    threads.run("newcomers", || {
        tables.maps.iter().map(open_and_read).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
    });
}

/// Counts wrap: what is added to forged ones is exact.
fn every_value_is_in_its_bucket(tables: &Tables<'_>, cpu: usize) {
    let counts = || -> BTreeMap<u64, u64> {
        let now = tables.histograms.snapshot_of(cpu, 1).unwrap();
        now.buckets().map(|(values, count)| (*values.start(), count)).collect()
    };
    let (before, mut added) = (counts(), Histogram::new());
    for n in 0..2000_u64 {
        let value = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 64);
        tables.add(1, value);
        added.add(value);
    }
    let after = counts();
    let of = |counts: &BTreeMap<u64, u64>, bucket| counts.get(bucket).copied().unwrap_or(0);
    let added: BTreeMap<_, _> = added.buckets().map(|(values, count)| (*values.start(), count)).collect();
    for bucket in before.keys().chain(after.keys()) {
        assert_eq!(of(&after, bucket).wrapping_sub(of(&before, bucket)), of(&added, bucket), "from {bucket}");
    }
}

/// A forged word of a later window keeps its place. A value that is not recorded for this reason is counted.
fn a_value_is_recorded_or_counted(tables: &Tables<'_>, cpu: usize) {
    let dropped = || tables.gauges.region().dropped().unwrap();
    let first = (window(Clock::Monotonic.now()) / WINDOWS as u64 + 2 + cpu as u64) * WINDOWS as u64;
    let mut recorded = Vec::new();
    for at in first..first + WINDOWS as u64 {
        let before = dropped();
        tables.set(1, at, at << WINDOW_BITS);
        match dropped().wrapping_sub(before) {
            0 => recorded.push((at << WINDOW_BITS, at, at)),
            count => assert_eq!(count, 1),
        }
    }
    let shown = tables.gauges.windows(1).unwrap().into_iter().map(|of| (of.ns, of.min, of.max));
    let range = first << WINDOW_BITS..(first + WINDOWS as u64) << WINDOW_BITS;
    assert_eq!(shown.filter(|(ns, ..)| range.contains(ns)).collect::<Vec<_>>(), recorded);
    assert!(!recorded.is_empty() && recorded.len() < WINDOWS, "{} recorded", recorded.len());
}

/// A bucket with a forged odd sequence is never free again; amounts for its keys go to its `other`.
fn every_amount_is_somewhere(tables: &Tables<'_>, cpu: usize) {
    let (words, first) = (tables.neighbours[2].words(), tables.top.region().geometry().shard(cpu) * STRIDE);
    let buckets = || (0..tables.top.buckets()).map(|bucket| first + bucket * STRIDE);
    let sum = || {
        let places = buckets().flat_map(|at| [at + 1].into_iter().chain(at + 2 + WAYS..at + 2 + 2 * WAYS));
        places.map(|at| words.load(at, Ordering::Relaxed)).fold(0, u64::wrapping_add)
    };
    let (before, odd) = (sum(), buckets().filter(|&at| words.load(at, Ordering::Relaxed) % 2 == 1).count());
    assert!(odd > 0 && odd < tables.top.buckets(), "{odd} buckets are taken");
    (0..1000).for_each(|n| tables.add_key(n * n, n));
    assert_eq!(sum().wrapping_sub(before), (0..1000).sum(), "CPU {cpu}");
    assert!(matches!(tables.top.largest(5), Err(ReadError::Busy { .. })));
}

/// A forged lock keeps programs from carrying out commands. Without it they go on at the forged place.
fn commands_go_on(tables: &Tables<'_>) {
    let Tables { commands, writer, neighbours, .. } = tables;
    let geometry = *commands.region().geometry();
    let lock = geometry.first() * geometry.element_words() + LOCK;
    neighbours[3].words().store(lock, 1, Ordering::Relaxed);
    let before = writer.acknowledged();
    _ = (writer.push(&Order::new(0, 1)), tables.event());
    assert_eq!(writer.acknowledged(), before);
    neighbours[3].words().store(lock, 0, Ordering::Relaxed);
    (0..=SLOTS as u64 / AT_ONCE).for_each(|_| _ = tables.event());
    let (mut last, skipped) = (commands.pushed().unwrap(), commands.skipped().unwrap());
    assert_eq!(writer.acknowledged(), last);
    for n in 1..=1000 {
        last = last.wrapping_add(1);
        assert_eq!(writer.push(&Order::new(3, n)), Ok(last));
        assert_eq!((tables.event(), writer.acknowledged()), (Some((3, n)), last));
    }
    assert_eq!(commands.skipped().unwrap(), skipped);
}
