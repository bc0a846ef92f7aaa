//! Tails that helpers write in place: by programs that interrupt and preempt each other, that sleep in a tail, that
//! leave one for good, and whose tails are overwritten before they are read. Each byte is checked.
#![allow(missing_docs)]

use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libbpf_rs::skel::{Skel, SkelBuilder};
use libbpf_rs::{Link, Map, MapCore, MapFlags, Object, OpenObject, ProgramInput, ProgramMut};
use mapring::record::LayoutCheck;
use mapring::{Access, ErrorKind, Reader, Record, Ring, Tailed};
use mapring_kernel_tests::skel::{TailsPortableSkelBuilder, TailsSkelBuilder};
use mapring_kernel_tests::{
    Loaded, PinDir, Runner, SlowPages, cpus, everywhere, fitted, kernel, load, map, on_cpu, on_one_cpu,
    read_only, require_bpf, sample_clock,
};

/// `struct item`
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Item {
    writer: u64,
    n: u64,
    len: u64,
}

const PATTERN: usize = 65536 + 4096;
const RINGS: [&str; 4] = ["tiny", "small", "deep", "long_"];
/// The longest tail of each ring.
const LONGEST: [u64; 4] = [64, 256, 4000, 65536];
/// The bytes of each ring's area.
const AREA: [u64; 4] = [128, 4096, 1 << 20, 1 << 19];
const WRITERS: usize = 5;
const SLEEPER: u64 = 4;
/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes that the programs copy: none is zero.
fn pattern() -> Vec<u8> {
    let byte = |i: usize| u8::try_from((i * 89 + i / 251 * 31 + i / 7919) % 255 + 1).unwrap();
    (0..PATTERN).map(byte).chain([0]).collect()
}

/// The tail of a writer's record with this number.
fn expected<'p>(pattern: &'p [u8], item: &Item) -> &'p [u8] {
    let from = usize::try_from((item.n * 7 + item.writer * 1031) % 4096).unwrap();
    &pattern[from..][..usize::try_from(item.len).unwrap()]
}

fn without_old_helpers(open: &mut OpenObject) {
    if kernel() < (5, 19) {
        open.progs_mut().find(|p| p.name() == "write_dynptr").unwrap().set_autoload(false);
    }
    fitted(open);
}

/// A map of global data, whose name starts with the object's.
fn section<'o>(object: &'o Object, name: &str) -> Map<'o> {
    object.maps().find(|map| map.name().to_string_lossy().ends_with(name)).unwrap()
}

fn loaded<'o, B: SkelBuilder<'o> + Default>(storage: &'o mut MaybeUninit<OpenObject>) -> Loaded<'o, B>
where
    Loaded<'o, B>: Skel<'o>,
{
    let skel = load::<B>(storage, without_old_helpers);
    let map = section(skel.object(), ".data.pattern");
    map.update(&0_u32.to_ne_bytes(), &pattern(), MapFlags::ANY).unwrap();
    skel
}

/// Tests the object compiled for this machine, and for any machine.
fn both(test: impl Fn(&Object)) {
    let (mut storage, mut portable) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    test(loaded::<TailsSkelBuilder>(&mut storage).object());
    test(loaded::<TailsPortableSkelBuilder>(&mut portable).object());
}

/// What the writers did, on all CPUs: published, dropped, begun, each by ring and writer; nested, by ring.
#[derive(Debug)]
struct Counts(Vec<u64>);

impl Counts {
    fn of(object: &Object) -> Self {
        let map = section(object, ".data.counts");
        let bytes = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
        Self(bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect())
    }

    fn sum(&self, part: usize, ring: usize) -> u64 {
        let all = RINGS.len() * WRITERS;
        self.0[part * all + ring * WRITERS..][..WRITERS].iter().sum()
    }

    fn published(&self, ring: usize) -> u64 {
        self.sum(0, ring)
    }

    fn dropped(&self, ring: usize) -> u64 {
        self.sum(1, ring)
    }

    fn begun(&self, ring: usize) -> u64 {
        self.sum(2, ring)
    }

    fn nested(&self, ring: usize) -> u64 {
        self.0[3 * RINGS.len() * WRITERS + ring]
    }
}

fn open(object: &Object, ring: usize) -> Ring<Tailed<Item>> {
    let ring = Ring::open(&map(object, RINGS[ring])).unwrap();
    assert_eq!(ring.access(), Access::Mapped);
    ring
}

/// Writes a record with `len` bytes to a ring. Returns whether it was published.
fn write_one(write: &Runner, ring: usize, len: u64) -> bool {
    let mut args = [ring as u64, len, 0];
    write.run(&mut args);
    args[2] == 1
}

#[test]
fn tails_of_every_length() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(|object| {
        let write = Runner::new(object, "write_one");
        for (ring, longest) in LONGEST.into_iter().enumerate() {
            let open = open(object, ring);
            assert_eq!(open.layout_check(), LayoutCheck::Fields);
            let tails = *open.region().geometry().tails().unwrap();
            assert_eq!((tails.longest() as u64, tails.bytes() as u64), (longest, AREA[ring]));
            let (mut live, mut late) = (open.reader(), open.reader());
            let lens = (0..=longest.min(300)).chain([longest - 1, longest]);
            let mut count = 0;
            for len in lens {
                assert!(write_one(&write, ring, len));
                let (event, tail) = live.poll_with_tail().expect("it was published");
                assert_eq!((event.ticket, event.record.n, event.record.len), (count, count, len));
                assert!(tail == expected(&pattern, &event.record), "{} of {len} bytes", RINGS[ring]);
                count += 1;
            }
            assert_eq!((live.stats().delivered, live.lost()), (count, 0));
            let mut whole = 0;
            let calls = late.for_each_with_tail(usize::MAX, |event, tail| {
                assert!(tail == expected(&pattern, event.record), "{event:?}");
                whole += 1;
            });
            let stats = late.stats();
            assert_eq!((calls as u64, stats.delivered), (whole, whole));
            assert_eq!(stats.delivered + stats.lost(), count, "{stats}");
            // The area is smaller than the ring's records, unless these are short.
            assert!(ring == 2 || stats.tail_lost > 0 || stats.lapped > 0, "{stats}");
        }
    });
}

/// Runs the program of `raw_tp` with this argument.
fn run(object: &Object, program: &str, how: u64) -> i32 {
    let program = object.progs_mut().find(|p| p.name() == program).unwrap();
    let mut how = how.to_ne_bytes();
    let input = ProgramInput { context_in: Some(&mut how), ..ProgramInput::default() };
    program.test_run(input).unwrap().return_value.cast_signed()
}

/// `enum how`
const STRING: u64 = 0;
const TRACE: u64 = 1;
const TOO_LONG: u64 = 2;
const CUT: u64 = 3;
const DISCARD: u64 = 4;
const FAILED: u64 = 5;
const ABANDON: u64 = 6;

#[test]
fn helpers_write_in_place_and_the_commit_takes_their_length() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(|object| {
        let open = open(object, 2);
        let mut reader = open.reader();
        let mut next = || reader.poll_with_tail().map(|(event, tail)| (event.record.len, tail.to_vec()));

        assert_eq!(run(object, "write_how", STRING), 0);
        let (len, tail) = next().unwrap();
        assert_eq!((len, &tail[..]), (101, &pattern[PATTERN - 100..]), "with the zero at its end");
        assert_eq!(run(object, "write_how", TRACE), 0);
        let (len, tail) = next().unwrap();
        assert!(len >= 16 && tail.len() as u64 == len, "a stack of {len} bytes");
        let addresses = tail.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        assert!(addresses.into_iter().all(|at| at >> 47 != 0), "addresses of the kernel");
        if kernel() >= (5, 19) {
            assert_eq!(run(object, "write_dynptr", 0), 0);
            assert_eq!(next().unwrap(), (999, pattern[1..1000].to_vec()));
        }
        assert_eq!(run(object, "write_how", TOO_LONG), -1);
        assert_eq!(next(), None);
        assert_eq!(run(object, "write_how", CUT), 0);
        assert_eq!(next().unwrap().1, pattern[..4000]);
        assert_eq!(run(object, "write_how", DISCARD), 0);
        assert_eq!(next(), None);
        assert_eq!(run(object, "write_how", FAILED), 0);
        let (len, tail) = next().unwrap();
        assert!(len.cast_signed() < 0 && tail.is_empty(), "a helper that failed leaves an empty tail");
        let stats = reader.stats();
        assert_eq!((stats.lost(), stats.discarded, stats.too_long, stats.dropped()), (0, 2, 1, 1), "{stats}");
    });
}

#[test]
fn a_program_that_never_commits_keeps_its_place() {
    require_bpf!();
    on_one_cpu();
    both(|object| {
        let (ring, write) = (open(object, 0), Runner::new(object, "write_one"));
        let mut reader = ring.reader();
        assert_eq!(run(object, "write_how", ABANDON), 1);
        // The area has 128 bytes, and the abandoned tail keeps 64.
        let published = (0..8).filter(|_| write_one(&write, 0, 16)).count() as u64;
        assert!((1..=4).contains(&published), "{published}");
        let mut whole = 0;
        while reader.poll_with_tail().is_some() || whole < 8 && reader.stats().skipped == 0 {
            whole += 1;
            std::thread::sleep(Duration::from_millis(3)); // longer than the patience in all
        }
        let stats = reader.stats();
        assert_eq!(stats.no_tail, 8 - published, "{stats}");
        assert!(stats.delivered + stats.lost() <= published + 1, "{stats}");
    });
}

/// Sleeps in the middle of a tail, until `then` has returned.
fn sleeping(object: &Object, len: u64, then: impl FnOnce()) -> bool {
    let pages = SlowPages::new(1);
    let write = Runner::new(object, "write_sleeping");
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let mut args = [pages.address(0), len, 0];
            write.run(&mut args);
            args[2] == 1
        });
        let start = Instant::now();
        while !pages.is_touched() {
            assert!(start.elapsed() < PATIENCE && !sleeper.is_finished());
            std::thread::sleep(Duration::from_millis(1));
        }
        then();
        assert_eq!(pages.asleep(), [0]);
        assert!(pages.give(0));
        sleeper.join().unwrap()
    })
}

#[test]
fn nobody_overwrites_the_tail_of_a_program_that_sleeps() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(|object| {
        let (ring, write) = (open(object, 1), Runner::new(object, "write_one"));
        let mut reader = ring.reader().with_patience(PATIENCE);
        let mut rounds = 0;
        let written = sleeping(object, 200, || {
            // More bytes than the area has: first published, then dropped.
            let published: Vec<_> = (0..40).map(|_| write_one(&write, 1, 250)).collect();
            let end = published.iter().position(|published| !published).expect("some are dropped");
            assert!(end >= 8 && published[end..].iter().all(|published| !published), "{published:?}");
            rounds = end as u64;
            assert!(reader.poll_with_tail().is_none(), "the first record has not ended");
        });
        assert!(written);
        let (event, tail) = reader.poll_with_tail().unwrap();
        assert_eq!((event.record.writer, event.record.len), (SLEEPER, 200));
        assert_eq!(tail, [0x5a; 200]);
        // Those that were written meanwhile did not touch it, nor it them.
        for _ in 0..rounds {
            let (event, tail) = reader.poll_with_tail().unwrap();
            assert_eq!((event.record.writer, tail), (0, expected(&pattern, &event.record)));
        }
        assert!(write_one(&write, 1, 250), "the next round begins");
        let (event, tail) = reader.poll_with_tail().unwrap();
        assert_eq!(tail, expected(&pattern, &event.record));
        let stats = reader.stats();
        assert_eq!((stats.lost(), stats.no_tail), (0, 40 - rounds), "{stats}");
    });
}

#[test]
fn sleepers_can_be_many() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    let mut storage = MaybeUninit::uninit();
    let skel = loaded::<TailsSkelBuilder>(&mut storage);
    let object = skel.object();
    let (ring, write) = (open(object, 1), Runner::new(object, "write_one"));
    let mut reader = ring.reader().with_patience(PATIENCE);
    // One inside of the other, until the area has no more space.
    fn all(object: &Object, left: usize, then: &mut dyn FnMut()) -> usize {
        if left == 0 {
            then();
            return 0;
        }
        let mut inner = 0;
        let written = sleeping(object, 100, || inner = all(object, left - 1, then));
        inner + usize::from(written)
    }
    let mut more = 0;
    let written = all(object, 8, &mut || more = (0..4).filter(|_| write_one(&write, 1, 20)).count());
    assert_eq!((written, more), (8, 4));
    let mut sleepers = 0;
    while let Some((event, tail)) = reader.poll_with_tail() {
        if event.record.writer == SLEEPER {
            assert_eq!(tail, [0x5a; 100]);
            sleepers += 1;
        } else {
            assert_eq!(tail, expected(&pattern, &event.record));
        }
    }
    assert_eq!((sleepers, reader.stats().delivered, reader.lost()), (8, 12, 0));
}

#[test]
fn programs_that_interrupt_each_other_in_their_tails() {
    require_bpf!();
    everywhere();
    both(|object| {
        let stop = AtomicBool::new(false);
        let pattern = pattern();
        let readers: Vec<Reader<_>> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..RINGS.len())
                .map(|ring| {
                    let (mut reader, stop, pattern) = (open(object, ring).reader(), &stop, &pattern);
                    scope.spawn(move || {
                        loop {
                            let ends = stop.load(Ordering::Relaxed);
                            let check = |event: mapring::Event<&Item>, tail: &[u8]| {
                                assert!(
                                    tail == expected(pattern, event.record),
                                    "{}: {event:?}",
                                    RINGS[ring]
                                );
                            };
                            let count = reader.for_each_with_tail(usize::MAX, check);
                            if ends && count == 0 && !reader.stopped_early() {
                                return reader;
                            }
                        }
                    })
                })
                .collect();
            let links = attach(object);
            let writers: Vec<_> = cpus()
                .iter()
                .map(|&cpu| {
                    let (stop, packets) = (&stop, Runner::new(object, "on_packet"));
                    scope.spawn(move || {
                        on_cpu(cpu);
                        while !stop.load(Ordering::Relaxed) {
                            packets.packets(50);
                        }
                    })
                })
                .collect();
            let start = Instant::now();
            let met = || (0..3).all(|ring| Counts::of(object).nested(ring) > 100);
            while start.elapsed() < Duration::from_secs(3) || !met() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
            }
            drop(links);
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        let counts = Counts::of(object);
        for (ring, mut reader) in readers.into_iter().enumerate() {
            // The last programs may have ended after the reader.
            reader.for_each_with_tail(usize::MAX, |event, tail| {
                assert_eq!(tail, expected(&pattern, event.record))
            });
            let stats = reader.stats();
            println!("{}: {stats}; {} nested", RINGS[ring], counts.nested(ring));
            assert_eq!(counts.published(ring) + counts.dropped(ring), counts.begun(ring), "{}", RINGS[ring]);
            assert_eq!(stats.dropped(), counts.dropped(ring), "{}: {stats}", RINGS[ring]);
            // Tickets that nobody claimed are skipped.
            let tickets = stats.delivered + stats.lost();
            let more = tickets.checked_sub(counts.published(ring)).expect("each record is counted");
            assert!(more <= stats.skipped, "{}: {stats}, {counts:?}", RINGS[ring]);
            assert!(stats.delivered > 0 && counts.nested(ring) > 0, "{}: {stats}, {counts:?}", RINGS[ring]);
        }
    });
}

fn attach(object: &Object) -> Vec<Link> {
    let program = |name: &str| -> ProgramMut<'_> { object.progs_mut().find(|p| p.name() == name).unwrap() };
    let clock = |&cpu: &usize| sample_clock(cpu, 50_000).into_raw_fd();
    let clocks = cpus().iter().map(clock).map(|fd| program("on_tick").attach_perf_event(fd).unwrap());
    clocks.chain([program("on_enter").attach_raw_tracepoint("sys_enter").unwrap()]).collect()
}

#[test]
fn a_ring_with_tails_is_pinned_sealed_and_never_read_by_system_call() {
    require_bpf!();
    on_one_cpu();
    let mut storage = MaybeUninit::uninit();
    let skel = loaded::<TailsSkelBuilder>(&mut storage);
    let (ring, write) = (open(skel.object(), 2), Runner::new(skel.object(), "write_one"));
    let pattern = pattern();
    let pins = PinDir::new();
    ring.freeze_and_pin(pins.path("deep"), 0o600).unwrap();
    let pinned = Ring::<Tailed<Item>>::open(pins.path("deep")).unwrap();
    assert!(write_one(&write, 2, 777));
    let mut reader = pinned.reader();
    let (event, tail) = reader.poll_with_tail().unwrap();
    assert_eq!((tail.len(), tail), (777, expected(&pattern, &event.record)));

    let refused = Ring::<Tailed<Item>>::open(read_only(&map(skel.object(), "deep"))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotReadable, "{refused}");
    assert!(refused.to_string().contains("has tails"), "{refused}");
    assert_eq!(ring.writer_with_tails(0).unwrap_err().kind(), ErrorKind::NotWritable);
    // A record of another type is told by the fields.
    let wrong = Ring::<Tailed<[u64; 3]>>::open(&map(skel.object(), "deep")).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Layout, "{wrong}");
}
