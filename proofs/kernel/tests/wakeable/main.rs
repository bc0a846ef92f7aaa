//! Rings that wake their readers: once for each sleep, never too late, and nobody who does not sleep.

use std::os::fd::BorrowedFd;

use mapring::abi::readers::{IDLE_SINCE, LOOK, NEVER};
use mapring_kernel_tests::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

mod replaced;
mod stress;

const FOREVER: Duration = Duration::from_secs(60);

/// A wakeable ring of `bpf/wakeable.bpf.c`, and the program that writes it.
#[derive(Clone, Copy)]
struct Named {
    ring: &'static str,
    publish: &'static str,
}

const EVENTS: Named = Named { ring: "events", publish: "publish" };
/// Each record has its number as a tail.
const TAILED: Named = Named { ring: "tailed", publish: "publish_tailed" };

impl Named {
    fn open(self, object: &Object) -> Ring<Rec> {
        Ring::open(&map(object, self.ring)).unwrap()
    }

    /// A word that the readers share.
    fn shared(self, object: &Object, word: usize) -> u64 {
        word_at(&map(object, &format!("{}__readers", self.ring)), 0, word)
    }

    /// The bits of a ticket that are all set where programs look for sleepers.
    fn look(self, object: &Object) -> u64 {
        self.shared(object, LOOK) & NEVER
    }
}

/// The numbers of all unread records. Checks the rest of each.
fn numbers(reader: &mut Reader<Rec>) -> Vec<u64> {
    let (mut numbers, has_tails) = (Vec::new(), reader.region().geometry().tails().is_some());
    reader.for_each(usize::MAX, |event| {
        let Rec { n, twice } = *event.record;
        let tail = n.to_ne_bytes();
        assert_eq!((twice, event.tail), (2 * n, &tail[..if has_tails { 8 } else { 0 }]));
        numbers.push(n);
    });
    numbers
}

fn open(object: &Object) -> Ring<Rec> {
    EVENTS.open(object)
}

fn look(object: &Object) -> u64 {
    EVENTS.look(object)
}

/// Publishes `count` records, numbered from `n`.
fn run(program: &Runner, n: u64, count: u64) {
    program.run(&mut [n, count]);
}

fn has_rung(bell: BorrowedFd<'_>, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&within)).unwrap() == 1
}

/// Whether the bell has rung by now.
fn rung(reader: &mut Reader<Rec>) -> bool {
    has_rung(reader.bell().unwrap(), Duration::ZERO)
}

#[test]
fn readers_without_a_bell_look_from_time_to_time() {
    require_bpf!();
    let object = &bpf::WAKEABLE.load_only(fitted);
    mapring::loader::initialize_map(&map(object, "events")).unwrap();
    let publish = Runner::new(object, "publish");
    let mut reader = open(object).reader();
    let no_bell = reader.bell().unwrap_err();
    assert_eq!(no_bell.kind(), ErrorKind::NotWakeable);
    assert!(no_bell.to_string().contains("mapring_loader::initialize"), "{no_bell}");
    assert!(!reader.wait(Duration::from_millis(2)).unwrap());
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            assert!(reader.wait(FOREVER).unwrap());
            reader.drain().map(|event| event.record.n).collect::<Vec<_>>()
        });
        run(&publish, 7, 1);
        assert_eq!(reader.join().unwrap(), [7]);
    });
}

#[test]
fn programs_look_as_often_as_readers_want() {
    let object = &require_bpf!(WAKEABLE);
    on_cpu(cpus()[0]);
    let ring = open(object);
    assert_eq!(look(object), NEVER, "there are no readers");
    let mut many = ring.reader().with_watermark(32, FOREVER);
    assert_eq!(look(object), NEVER, "it has no bell");
    many.bell().unwrap();
    assert_eq!(look(object), 7, "at four tickets in 32");
    let mut some = ring.reader().with_watermark(16, FOREVER);
    some.bell().unwrap();
    assert_eq!(look(object), 3);
    let mut first = ring.reader();
    first.bell().unwrap();
    assert_eq!(look(object), 0, "at each");

    // To change the watermark is to take another bell.
    let mut first = first.with_watermark(8, FOREVER);
    assert_eq!(look(object), 3);
    first.bell().unwrap();
    assert_eq!(look(object), 1);
    drop(first);
    assert_eq!(look(object), 3);

    // One that was killed is forgotten once another reader takes a seat, or has slept often.
    let readers = map(object, "events__readers");
    let mut owners = readers.lookup(&1_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    assert_eq!(owners[8..16], owners[..8], "both are of this process");
    // A process of this PID namespace with this pid, which started at another time.
    let (dead, _) = owners[8..].split_first_chunk_mut::<8>().unwrap();
    *dead = (u64::from_ne_bytes(*dead) ^ 1 << 40).to_ne_bytes();
    std::mem::forget(some);
    readers.update(&1_u32.to_ne_bytes(), &owners, MapFlags::ANY).unwrap();
    assert_eq!(look(object), 3);
    (0..4096).for_each(|_| assert!(many.arm().is_some()));
    assert_eq!(look(object), 7);
    let mut next = ring.reader().with_watermark(32, FOREVER);
    next.bell().unwrap();
    let mut last = ring.reader().with_watermark(32, FOREVER);
    last.bell().unwrap();
    assert_eq!(look(object), 7);

    // Linked again, as by a loader that finds it pinned: the readers are still there.
    initialize_object(object).unwrap();
    assert_eq!(look(object), 7);
    assert!(many.arm().is_some());
    run(&Runner::new(object, "publish"), 0, 32);
    assert!(rung(&mut many));
    drop((many, next, last));
    assert_eq!(look(object), NEVER, "nobody is left");
}

/// Programs look for a reader that was killed in its sleep, or never sleeps, for ten seconds.
#[test]
fn programs_stop_looking_where_no_reader_sleeps() {
    let object = &require_bpf!(WAKEABLE);
    on_cpu(cpus()[0]);
    let publish = Runner::new(object, "publish");
    let idle_since = || EVENTS.shared(object, IDLE_SINCE);
    let mut reader = open(object).reader();
    assert!(reader.arm().is_some());
    run(&publish, 0, 63);
    assert_eq!(idle_since(), 0);
    run(&publish, 63, 1);
    let since = idle_since();
    assert_ne!(since, 0, "noted at the end of each lap");
    run(&publish, 0, 64);
    assert_eq!((idle_since(), look(object)), (since, 0));

    Runner::new(object, "nobody_slept_in_events").run(&mut [0, 0]);
    run(&publish, 0, 63);
    assert_eq!(look(object), 0);
    run(&publish, 63, 1);
    assert_eq!(look(object), NEVER);

    // It is still there, and sleeps again.
    while reader.arm().is_none() {
        numbers(&mut reader);
    }
    assert_eq!((idle_since(), look(object)), (0, 0));
    run(&publish, 0, 1);
    assert!(rung(&mut reader));
}

/// The loader has not linked the maps of a wakeable ring: the message does not say that its macro is the wrong one, and has a
/// remedy for loaders without libbpf.
#[test]
fn wakeable_rings_that_are_not_linked() {
    require_bpf!();
    let wakeable = &bpf::WAKEABLE.load_only(fitted);
    let keeping = &bpf::KEEP.load_only(fitted);
    for object in [wakeable, keeping] {
        let mut reader = open(object).reader();
        let message = reader.bell().unwrap_err().to_string();
        assert!(
            message.contains("its loader has not linked it to its maps __readers and __bells"),
            "{message}"
        );
        assert!(message.contains("mapring::loader::initialize_wakeable"), "{message}");
        assert!(
            !message.contains("neither WAKEABLE nor KEEP_OLDEST"),
            "the ring says how it was declared: {message}"
        );
    }
}
