//! What every ring owes, whatever its options: each record once, whole and in order within its shard; each loss counted; a
//! wakeup that is due; nothing overwritten that a required reader has not read; pins that open again. What a ring can't do is
//! one error.
#![allow(missing_docs)]

use std::mem::MaybeUninit;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use libbpf_rs::Object;
use libbpf_rs::skel::Skel;
use mapring::abi::RingOptions;
use mapring::{ErrorKind, Reader, Record, Ring, Start, Tailed};
use mapring_kernel_tests::skel::OptionsSkelBuilder;
use mapring_kernel_tests::{PinDir, Runner, cpus, fitted, load, map, on_cpu, require_bpf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

/// The slots of a shard.
const SLOTS: u64 = 64;
const LONGEST: u64 = 64;
const FOREVER: Duration = Duration::from_secs(3600);

/// Each ring of `options.bpf.c`, and the options that its declaration has.
const RINGS: [(&str, &str); 13] = [
    ("plain", ""),
    ("wakes", "WAKEABLE"),
    ("keeps", "KEEP_OLDEST"),
    ("tails", "TAILS"),
    ("wakes_tails", "WAKEABLE, TAILS"),
    ("keeps_tails", "KEEP_OLDEST, TAILS"),
    ("plain_of_cpu", "PER_CPU_MAPS"),
    ("wakes_of_cpu", "WAKEABLE, PER_CPU_MAPS"),
    ("keeps_of_cpu", "KEEP_OLDEST, PER_CPU_MAPS"),
    ("tails_of_cpu", "TAILS, PER_CPU_MAPS"),
    ("wakes_tails_of_cpu", "WAKEABLE, TAILS, PER_CPU_MAPS"),
    ("keeps_tails_of_cpu", "KEEP_OLDEST, TAILS, PER_CPU_MAPS"),
    ("grows", "RESIZABLE"),
];

/// A type of records, with tails or without.
trait Kind: Record + bytemuck::AnyBitPattern + Send + 'static {
    /// All records that are there, as shard and number.
    fn read(reader: &mut Reader<Self>) -> Vec<(usize, u64)>;
}

impl Kind for Rec {
    fn read(reader: &mut Reader<Self>) -> Vec<(usize, u64)> {
        let mut all = Vec::new();
        reader.for_each(usize::MAX, |event| {
            assert_eq!(event.record.twice, 2 * event.record.n);
            all.push((event.shard, event.record.n));
        });
        all
    }
}

impl Kind for Tailed<Rec> {
    fn read(reader: &mut Reader<Self>) -> Vec<(usize, u64)> {
        let mut all = Vec::new();
        reader.for_each_with_tail(usize::MAX, |event, tail| {
            let Rec { n, twice } = *event.record;
            assert_eq!((twice, tail.len() as u64), (2 * n, n % (LONGEST + 1)));
            assert!(tail.iter().all(|&byte| u64::from(byte) == n & 0xff), "{n}: {tail:?}");
            all.push((event.shard, n));
        });
        all
    }
}

/// A ring of the list, with its program.
struct Subject<'o> {
    object: &'o Object,
    name: &'static str,
    program: Runner,
}

impl Subject<'_> {
    fn open<T: Kind>(&self) -> Ring<T> {
        Ring::open(&map(self.object, self.name)).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Publishes or discards `count` records, numbered from `n`, on this CPU. Returns how many were reserved.
    fn write(&self, n: u64, count: u64, discard: bool) -> u64 {
        let one = |n: u64| u64::from(self.program.run_for(&mut [n, u64::from(discard)]));
        (n..n + count).map(one).sum()
    }

    fn push(&self, n: u64, count: u64) -> u64 {
        self.write(n, count, false)
    }
}

/// Runs `test` for each ring of the list.
fn for_each_ring(test: impl Fn(&Subject<'_>, RingOptions)) {
    let mut storage = MaybeUninit::uninit();
    let skel = load::<OptionsSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    for (name, declared) in RINGS {
        let subject = Subject { object, name, program: Runner::new(object, &format!("push_{name}")) };
        let options = match declared.contains("TAILS") {
            true => subject.open::<Tailed<Rec>>().options(),
            false => subject.open::<Rec>().options(),
        };
        assert_eq!(options.to_string(), declared, "{name}");
        test(&subject, options);
        println!("{name}: {declared}");
    }
}

/// Calls a generic function with the type of the ring's records.
macro_rules! with_type {
    ($options:expr, $test:ident($($args:expr),*)) => {
        if $options.has_tails() { $test::<Tailed<Rec>>($($args),*) } else { $test::<Rec>($($args),*) }
    };
}

#[test]
fn every_ring_delivers_each_record_once_and_counts_the_others() {
    require_bpf!();
    for_each_ring(|ring, options| with_type!(options, delivers(ring)));
}

fn delivers<T: Kind>(ring: &Subject<'_>) {
    let handle = ring.open::<T>();
    assert_eq!((handle.shards(), handle.slots() as u64), (cpus().len(), SLOTS), "{}", ring.name);
    let mut reader = handle.reader();
    let (mut pushed, mut discarded) = (0, 0);
    // In the reach of the reader: all of them. Of each length of tail.
    for round in 0..20 {
        for &cpu in cpus() {
            on_cpu(cpu);
            let n = 1000 * round;
            assert_eq!(ring.push(n, 20), 20, "{}", ring.name);
            assert_eq!(ring.write(n + 20, 1, true), 1);
            pushed += 20;
            discarded += 1;
        }
        let mut read = T::read(&mut reader);
        read.sort_unstable();
        let expected =
            cpus().iter().flat_map(|&cpu| (1000 * round..1000 * round + 20).map(move |n| (cpu, n)));
        assert_eq!(read, expected.collect::<Vec<_>>(), "{}", ring.name);
    }
    let stats = reader.stats();
    assert_eq!(
        (stats.delivered, stats.discarded, stats.lost()),
        (pushed, discarded, 0),
        "{}: {stats}",
        ring.name
    );

    // Overrun: what is delivered is in order, and the rest is counted.
    on_cpu(cpus()[0]);
    for lap in 0..30 {
        ring.push(100 * lap, 100);
        let read: Vec<_> = T::read(&mut reader).into_iter().map(|(_, n)| n).collect();
        assert!(read.is_sorted() && read.last() == Some(&(100 * lap + 99)), "{}: {read:?}", ring.name);
    }
    let stats = reader.stats();
    assert_eq!(stats.delivered + stats.lost(), pushed + 3000, "{}: {stats}", ring.name);
    let causes: u64 = reader.take_losses().iter().map(|loss| loss.count).sum();
    assert_eq!((causes, stats.lost() > 0), (stats.lost(), true), "{}", ring.name);
    // In the order of stamps, which here are the numbers.
    let mut merged = handle.reader_from(Start::Now);
    for (at, &cpu) in cpus().iter().enumerate() {
        on_cpu(cpu);
        ring.push(10 * at as u64, 10);
    }
    assert_eq!(T::read(&mut merged).len(), 10 * cpus().len(), "{}", ring.name);
}

#[test]
fn every_ring_with_bells_wakes_a_reader_once_for_each_sleep() {
    require_bpf!();
    for_each_ring(|ring, options| with_type!(options, wakes(ring, options)));
}

fn wakes<T: Kind>(ring: &Subject<'_>, options: RingOptions) {
    let mut reader = ring.open::<T>().reader();
    if !options.wakes_readers() {
        assert_eq!(reader.bell().unwrap_err().kind(), ErrorKind::NotWakeable, "{}", ring.name);
        return;
    }
    for &cpu in cpus() {
        on_cpu(cpu);
        for round in 0..10 {
            assert!(reader.arm().is_some(), "{}: nothing is there", ring.name);
            assert_eq!(ring.push(round, 3), 3);
            assert!(reader.wait(FOREVER).unwrap(), "{}", ring.name);
            assert_eq!(
                T::read(&mut reader),
                [(cpu, round), (cpu, round + 1), (cpu, round + 2)],
                "{}",
                ring.name
            );
        }
        // Asleep, and woken by another thread.
        let written = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                reader.wait(FOREVER).unwrap();
                T::read(&mut reader)
            });
            on_cpu(cpu);
            ring.push(77, 1);
            waiting.join().unwrap()
        });
        assert_eq!(written, [(cpu, 77)], "{}", ring.name);
    }
}

#[test]
fn every_ring_that_keeps_its_oldest_records_is_not_overrun() {
    require_bpf!();
    for_each_ring(|ring, options| with_type!(options, keeps(ring, options)));
}

fn keeps<T: Kind>(ring: &Subject<'_>, options: RingOptions) {
    let handle = ring.open::<T>();
    let mut reader = handle.reader();
    if !options.keeps_oldest() {
        assert_eq!(reader.require(FOREVER).unwrap_err().kind(), ErrorKind::NotKeepOldest, "{}", ring.name);
        return;
    }
    reader.require(FOREVER).unwrap();
    let mut full = 0;
    for &cpu in cpus() {
        on_cpu(cpu);
        let kept = ring.push(0, 200);
        assert!((1..=SLOTS).contains(&kept), "{}: {kept}", ring.name);
        full += 200 - kept;
        let read = T::read(&mut reader);
        assert_eq!(
            read,
            (0..kept).map(|n| (cpu, n)).collect::<Vec<_>>(),
            "{}: the oldest, in order",
            ring.name
        );
        assert_eq!(ring.push(3000, 3), 3, "{}", ring.name);
        assert_eq!(T::read(&mut reader).len(), 3);
    }
    let stats = reader.stats();
    assert_eq!((stats.lost(), stats.full), (0, full), "{}: {stats}", ring.name);
    let readers = handle.readers().unwrap();
    assert_eq!(readers.len(), 1, "{}: {readers:?}", ring.name);
    assert_eq!(readers[0].required.map(|behind| behind.unread), Some(0), "{}", ring.name);
    drop(reader);
    assert_eq!(ring.push(0, 200), 200, "{}: nobody is required", ring.name);
}

#[test]
fn every_ring_is_found_again_by_its_pin() {
    require_bpf!();
    for_each_ring(|ring, options| with_type!(options, is_pinned(ring, options)));
}

fn is_pinned<T: Kind>(ring: &Subject<'_>, options: RingOptions) {
    let (dir, handle) = (PinDir::new(), ring.open::<T>());
    let pins = [("open", false), ("frozen", true)];
    for (name, freeze) in pins {
        let pin = dir.path(name);
        if freeze {
            handle.freeze_and_pin(&pin, 0o600).unwrap()
        } else {
            handle.pin(&pin, 0o600).unwrap()
        }
        let again = Ring::<T>::open(&pin).unwrap_or_else(|e| panic!("{}: {e}", ring.name));
        assert_eq!((again.options(), again.shards()), (options, cpus().len()), "{}", ring.name);
        assert!(again.replaced().unwrap().is_none());
        let mut reader = again.reader_from(Start::Now);
        if options.wakes_readers() {
            assert!(reader.arm().is_some(), "{}", ring.name);
        }
        if options.keeps_oldest() {
            reader.require(FOREVER).unwrap();
        }
        for &cpu in cpus() {
            on_cpu(cpu);
            assert_eq!(ring.push(5, 5), 5, "{}", ring.name);
        }
        assert_eq!(T::read(&mut reader).len(), 5 * cpus().len(), "{}", ring.name);
    }
}
