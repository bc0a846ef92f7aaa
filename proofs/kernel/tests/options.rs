//! What every ring owes, whatever its options: each record once, whole and in order within its shard; each loss counted with its
//! cause and interval; a wakeup that is due; nothing overwritten that a required reader has not read; pins that open again, for
//! anybody. What a ring can't do is one error. A new set of options is one entry of the list.

#[path = "options/keeps.rs"]
mod keeps;
#[path = "options/languages.rs"]
mod languages;
#[path = "options/load.rs"]
mod load;
#[path = "options/nobody.rs"]
mod nobody;
#[path = "options/of_cpu.rs"]
mod of_cpu;
#[path = "options/reads.rs"]
mod reads;
#[path = "options/subject.rs"]
mod subject;
#[path = "options/wakes.rs"]
mod wakes;

use mapring::abi::RingOptions;
use mapring::reading::LossCause;
use mapring_kernel_tests::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::subject::{Subject, by_hand, for_each_ring, memfds, with_rings};

/// The slots of a shard.
const SLOTS: u64 = 64;
const LONGEST: u64 = 64;
const FOREVER: Duration = Duration::from_secs(3600);
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Each ring of `options.bpf.c`, and the options that its declaration has.
const RINGS: [(&str, &str); 14] = [
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
    ("wakes_grows", "WAKEABLE, RESIZABLE"),
];

/// How a record ends, as in `options.bpf.c`.
const COMMIT: u64 = 0;
const DISCARD: u64 = 1;
const ABANDON: u64 = 2;

/// The shard and number of a record, after the rest of it was checked.
fn whole(event: &Event<&Rec, &[u8]>, has_tails: bool) -> (usize, u64) {
    let Rec { n, twice } = *event.record;
    let len = if has_tails { n % (LONGEST + 1) } else { 0 };
    assert_eq!((twice, event.tail.len() as u64), (2 * n, len));
    assert!(event.tail.iter().all(|&byte| u64::from(byte) == n & 0xff), "{n}: {:?}", event.tail);
    (event.shard, n)
}

/// All records that are there, as shard and number.
fn read(reader: &mut Reader<Rec>) -> Vec<(usize, u64)> {
    let (mut all, has_tails) = (Vec::new(), reader.region().geometry().tails().is_some());
    reader.for_each(usize::MAX, |event| all.push(whole(&event, has_tails)));
    all
}

#[test]
fn every_ring_delivers_each_record_once_and_counts_the_others() {
    require_bpf!();
    for_each_ring(|ring, _| delivers(ring));
}

fn delivers(ring: &Subject<'_>) {
    let handle = ring.open();
    assert_eq!((handle.shards(), handle.slots() as u64), (cpus().len(), SLOTS), "{}", ring.name);
    let mut reader = handle.reader();
    let (mut pushed, mut discarded) = (0, 0);
    // In the reach of the reader: all of them. Of each length of tail.
    for round in 0..20 {
        for &cpu in cpus() {
            on_cpu(cpu);
            let n = 1000 * round;
            assert_eq!(ring.push(n, 20), 20, "{}", ring.name);
            assert_eq!(ring.write(n + 20, 1, DISCARD), 1);
            pushed += 20;
            discarded += 1;
        }
        let mut found = read(&mut reader);
        found.sort_unstable();
        let expected =
            cpus().iter().flat_map(|&cpu| (1000 * round..1000 * round + 20).map(move |n| (cpu, n)));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{}", ring.name);
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
        let found: Vec<_> = read(&mut reader).into_iter().map(|(_, n)| n).collect();
        assert!(found.is_sorted() && found.last() == Some(&(100 * lap + 99)), "{}: {found:?}", ring.name);
    }
    let stats = reader.stats();
    assert_eq!(stats.delivered + stats.lost(), pushed + 3000, "{}: {stats}", ring.name);
    let causes: u64 = reader.take_losses().iter().map(|loss| loss.count).sum();
    assert_eq!((causes, stats.lost() > 0), (stats.lost(), true), "{}", ring.name);
}

#[test]
fn every_ring_with_bells_wakes_a_reader_once_for_each_sleep() {
    require_bpf!();
    for_each_ring(wakes);
}

fn wakes(ring: &Subject<'_>, options: RingOptions) {
    let mut reader = ring.open().reader();
    if !options.wakes_readers() || ring.object().is_none() {
        // The writers of a memfd wake where readers wait: there is no descriptor.
        assert_eq!(reader.bell().unwrap_err().kind(), ErrorKind::NotWakeable, "{}", ring.name);
    }
    if !options.wakes_readers() {
        return;
    }
    for &cpu in cpus() {
        on_cpu(cpu);
        for round in 0..10 {
            assert!(reader.arm().is_some(), "{}: nothing is there", ring.name);
            assert_eq!(ring.push(round, 3), 3);
            assert!(reader.wait(FOREVER).unwrap(), "{}", ring.name);
            assert_eq!(
                read(&mut reader),
                [(cpu, round), (cpu, round + 1), (cpu, round + 2)],
                "{}",
                ring.name
            );
        }
        // Asleep, and woken by another thread.
        let written = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                reader.wait(FOREVER).unwrap();
                read(&mut reader)
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
    for_each_ring(keeps);
}

fn keeps(ring: &Subject<'_>, options: RingOptions) {
    let handle = ring.open();
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
        assert_eq!(
            read(&mut reader),
            (0..kept).map(|n| (cpu, n)).collect::<Vec<_>>(),
            "{}: the oldest, in order",
            ring.name
        );
        assert_eq!(ring.push(3000, 3), 3, "{}", ring.name);
        assert_eq!(read(&mut reader).len(), 3);
    }
    let stats = reader.stats();
    assert_eq!((stats.lost(), stats.full), (0, full), "{}: {stats}", ring.name);
    let losses = reader.take_losses();
    let (of_full, others): (Vec<_>, Vec<_>) = losses.iter().partition(|loss| loss.cause == LossCause::Full);
    assert!(others.is_empty(), "{}: {others:?}", ring.name);
    assert_eq!(of_full.iter().map(|loss| loss.count).sum::<u64>(), full, "{}: {losses:?}", ring.name);
    let readers = handle.readers().unwrap();
    assert_eq!(readers.len(), 1, "{}: {readers:?}", ring.name);
    assert_eq!(readers[0].required.map(|behind| behind.unread), Some(0), "{}", ring.name);
    drop(reader);
    assert_eq!(ring.push(0, 200), 200, "{}: nobody is required", ring.name);
}

#[test]
fn every_ring_is_found_again_by_its_pin() {
    require_bpf!();
    for_each_ring(is_pinned);
}

fn is_pinned(ring: &Subject<'_>, options: RingOptions) {
    let (dir, handle) = (PinDir::new(), ring.open());
    if ring.object().is_none() {
        let refused = handle.pin(dir.path("memfd"), 0o600).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::System, "{}: {refused}", ring.name);
        return;
    }
    let pins = [("open", false), ("frozen", true)];
    for (name, freeze) in pins {
        let pin = dir.path(name);
        if freeze {
            handle.freeze_and_pin(&pin, 0o600).unwrap()
        } else {
            handle.pin(&pin, 0o600).unwrap()
        }
        let again = Ring::<Rec>::open(pin.as_path()).unwrap_or_else(|e| panic!("{}: {e}", ring.name));
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
        assert_eq!(read(&mut reader).len(), 5 * cpus().len(), "{}", ring.name);
        // Another loader pins its ring there.
        let other = bpf::OPTIONS.load_only(fitted_alone);
        initialize_object(&other).unwrap();
        let next = Ring::<Rec>::open(&map(&other, ring.name)).unwrap();
        next.pin(&pin, PinOptions::new(0o600).replace(true)).unwrap_or_else(|e| panic!("{}: {e}", ring.name));
        let found = again.replaced().unwrap().unwrap_or_else(|| panic!("{}: not found", ring.name));
        assert_eq!(found.regions()[0].preamble(), next.regions()[0].preamble(), "{}", ring.name);
        assert!(found.replaced().unwrap().is_none());
    }
}

#[test]
fn what_a_ring_can_not_do_is_one_error() {
    require_bpf!();
    for_each_ring(|ring, options| {
        let resized = ring.open().resize(128).map_err(|error| error.kind());
        assert_eq!(resized.is_ok(), options.is_resizable(), "{}: {resized:?}", ring.name);
        assert!(resized.is_ok() || resized == Err(ErrorKind::NotResizable), "{}", ring.name);
        // Other writers could not detect claims that programs make with preemption disabled.
        let writer = ring.open().writer(0).map_err(|error| error.kind());
        assert_eq!(writer.err(), ring.object().map(|_| ErrorKind::NotWritable), "{}", ring.name);
        let other = ring.try_open::<[u64; 3]>().unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Layout, "{}: {other}", ring.name);
        let nodes = ring.open().reader_of_node(online_nodes().unwrap()[0], Start::Now).map_err(|e| e.kind());
        assert_eq!(nodes.is_ok(), options.has_per_cpu_maps(), "{}: {nodes:?}", ring.name);
        if let Some(object) = ring.object()
            && !options.is_resizable()
            && !options.has_per_cpu_maps()
        {
            // A lookup of a tail would copy a whole shard.
            let by_call = Ring::<Rec>::open(read_only(&map(object, ring.name)));
            let refused = by_call.map_err(|error| error.kind()).err();
            assert_eq!(refused, options.has_tails().then_some(ErrorKind::NotReadable), "{}", ring.name);
        }
    });
}
