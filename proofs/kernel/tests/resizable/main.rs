//! Rings that are replaced by larger and smaller ones while programs write: a follower gets each written record once,
//! and missing ones are counted.

mod died;
mod leaks;
mod refused;
mod sleeping;

use mapring::abi::PreambleError;
use mapring_kernel_tests::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Small {
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Middle {
    number: u64,
    copy: u64,
}

fn open(object: &Object) -> Ring<Numbered> {
    Ring::open(&map(object, "numbers")).unwrap()
}

/// All available records; fails unless each is whole.
fn all(follower: &mut Reader<Numbered>) -> Vec<(u64, u64)> {
    let found = whole(follower);
    if let Some(e) = follower.take_error() {
        panic!("{e}");
    }
    found
}

fn whole(follower: &mut Reader<Numbered>) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    while let Some(event) = follower.poll() {
        assert!(event.record.is_whole(), "{event:?}");
        found.push((event.record.writer, event.record.number));
    }
    found
}

#[test]
fn what_is_written_before_and_after_is_read_in_order() {
    require_bpf!();
    in_order(&bpf::RESIZABLE.load_only(fitted));
    in_order(&bpf::RESIZABLE_PORTABLE.load_only(fitted));
}

fn in_order(object: &Object) {
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "push_run");
    assert_eq!(push(&program, 2, 0, 5), 5, "no ring is open yet");
    initialize_object(object).unwrap();
    let ring = open(object);
    assert_eq!(ring.region().dropped().unwrap(), 5);
    assert_eq!((ring.slots(), ring.access()), (64, Access::Mapped));
    let mut follower = ring.reader();

    let mut next = 5;
    for slots in [128, 16, 1024, 32, 64, 4096] {
        assert_eq!(push(&program, 2, next, 10), 0);
        ring.resize(slots).unwrap();
        assert_eq!(ring.slots(), slots);
        assert_eq!(push(&program, 2, next + 10, 1), 0);
        let expected: Vec<_> = (next..next + 11).map(|number| (2, number)).collect();
        assert_eq!(all(&mut follower), expected);
        next += 11;
    }
    assert_eq!((follower.rings(), follower.lost(), follower.stats().dropped()), (7, 0, 5));
    assert_eq!(follower.stats().delivered, next - 5);

    // As large as its preamble states.
    for run in 0..4096 / 16 {
        assert_eq!(push(&program, 2, next + run * 16, 16), 0);
    }
    assert_eq!(all(&mut follower).len(), 4096);
    assert_eq!(follower.lost(), 0);
    everywhere();
}

#[test]
fn headers_of_several_elements() {
    require_bpf!();
    small(&bpf::RESIZABLE.load_only(fitted));
    small(&bpf::RESIZABLE_PORTABLE.load_only(fitted));
}

/// Records of one word and of two.
fn small(object: &Object) {
    on_cpu(cpus()[0]);
    let program = Runner::new(object, "push_small");
    assert_eq!(push(&program, 0, 0, 1), 2, "no ring is open yet");
    initialize_object(object).unwrap();
    let smalls = Ring::<Small>::open(&map(object, "smalls")).unwrap();
    let middles = Ring::<Middle>::open(&map(object, "middles")).unwrap();
    let elements = [smalls.region(), middles.region()].map(|region| region.geometry().element());
    assert_eq!(elements, [16, 24]);
    let (mut of_smalls, mut of_middles) = (smalls.reader(), middles.reader());
    for number in 1..=60 {
        if number % 5 == 3 {
            smalls.resize(8 << (number % 3)).unwrap();
            middles.resize(16 >> (number % 2)).unwrap();
        }
        assert_eq!(push(&program, 0, number, 1), 0);
        if number % 5 == 0 {
            for n in number - 4..=number {
                assert_eq!(of_smalls.poll().map(|event| event.record), Some(Small { number: n }));
                assert_eq!(of_middles.poll().map(|event| event.record), Some(Middle { number: n, copy: !n }));
            }
        }
    }
    assert_eq!((of_smalls.lost(), of_smalls.stats().dropped(), of_smalls.rings()), (0, 1, 13));
    assert_eq!((of_middles.lost(), of_middles.stats().dropped(), of_middles.rings()), (0, 1, 13));
    everywhere();
}

#[test]
fn a_follower_that_was_away_counts_the_rings_that_it_missed() {
    let object = &require_bpf!(RESIZABLE);
    let ring = open(object);
    let mut follower = ring.reader();
    let program = Runner::new(object, "push_run");
    for round in 0..4 {
        assert_eq!(push(&program, 2, round * 10, 10), 0);
        ring.resize(32).unwrap();
    }
    assert_eq!(push(&program, 2, 40, 10), 0);
    // The follower holds the first ring, the last one is in use, and those between are freed.
    let expected: Vec<_> = (0..10).chain(40..50).map(|number| (2, number)).collect();
    assert_eq!(all(&mut follower), expected);
    let stats = follower.stats();
    assert_eq!((stats.delivered, stats.lapped, stats.skipped), (20, 30, 0));
    assert_eq!(follower.rings(), 2);
}

#[test]
fn a_record_that_is_being_written_meanwhile_is_waited_for() {
    let object = &require_bpf!(RESIZABLE);
    let ring = open(object);
    let mut follower = ring.reader();
    let (quick, slow) = (Runner::new(object, "push_run"), Runner::new(object, "push_slowly"));
    let (pages, done) = (SlowPages::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut args = [2, 7, pages.address(0), 0];
            slow.run(&mut args);
            assert_eq!(args[3], 0);
            done.store(true, Ordering::Release);
        });
        // It has claimed its slot, and sleeps.
        while tickets(&ring) == 0 {
            std::thread::yield_now();
        }
        ring.resize(256).unwrap();
        assert_eq!(push(&quick, 3, 0, 3), 0);
        assert_eq!(all(&mut follower), [], "what comes first is not ready");
        pages.serve(|| (!done.load(Ordering::Acquire)).then_some(Duration::ZERO));
    });
    assert_eq!(all(&mut follower), [(2, 7), (3, 0), (3, 1), (3, 2)]);
    assert_eq!((follower.rings(), follower.lost()), (2, 0));
}

/// The number of claimed tickets, as a new reader finds it.
fn tickets(ring: &Ring<Numbered>) -> u64 {
    let reader = ring.reader_from(Start::Now);
    (0..ring.shards()).map(|shard| reader.position(shard).unwrap()).sum()
}

#[test]
fn a_record_that_is_never_ended_is_skipped_at_the_end() {
    require_bpf!();
    for &cpu in cpus() {
        never_ended(cpu);
    }
}

/// On any CPU, whatever other CPUs contain.
fn never_ended(cpu: usize) {
    let object = &bpf::RESIZABLE.load(fitted);
    let ring = open(object);
    let mut follower = ring.reader().with_patience(Duration::MAX);
    let [program, abandon] = ["push_run", "abandon"].map(|name| Runner::new(object, name));
    on_cpu(cpu);
    assert_eq!(push(&program, 2, 0, 1), 0);
    assert_eq!(push(&abandon, 0, 0, 0), 0);
    ring.resize(64).unwrap();
    assert_eq!(push(&program, 2, 1, 1), 0);
    assert_eq!(all(&mut follower), [(2, 0)]);
    for poll in 1..100 {
        assert_eq!((all(&mut follower), follower.rings()), (vec![], 1), "after {poll} polls");
    }
    let mut follower = follower.with_patience(Duration::ZERO);
    let found: Vec<_> = (0..20).flat_map(|_| all(&mut follower)).collect();
    assert_eq!(found, [(2, 1)]);
    assert_eq!((follower.stats().skipped, follower.lost(), follower.rings()), (1, 1, 2));
    everywhere();
}

#[test]
fn forged_gates_cost_records_and_nothing_else() {
    let object = &require_bpf!(RESIZABLE);
    let ring = open(object);
    let program = Runner::new(object, "push_run");
    let (first, geometry) = (map(object, "numbers__first"), *ring.region().geometry());
    assert_eq!(geometry.element_words(), 7, "words 14 and 15 start the third element");
    on_cpu(cpus()[0]);

    // The gate claims that the ring is retired, but it is not: the follower searches for another ring and finds none.
    let mut follower = ring.reader();
    for gate in [3, 3 | 63 << 8, u64::MAX, 0, 1] {
        for before in [0, 7, u64::MAX] {
            update(&first, 2, &[gate, before, 0, 0, 0, 0, 0]);
            assert_eq!(push(&program, 2, 0, 5), 0);
            assert_eq!(all(&mut follower).len(), 5, "gate {gate:#x}");
            // A new reader reports the gate as unknown.
            let newcomer = Ring::<Numbered>::open(first.as_fd().try_clone_to_owned().unwrap());
            let unknown = newcomer
                .as_ref()
                .is_err_and(|e| e.preamble_error() == Some(&PreambleError::Gate { found: gate }));
            assert_eq!(unknown, ![1, 3].contains(&(gate & 0xff)), "{newcomer:?}");
        }
    }
    // The gates that programs read: they drop records, or find slots elsewhere, and stay in the map.
    let header = u32::try_from(geometry.shard(cpus()[0])).unwrap();
    for gate in [0, 2, 3, u64::MAX, 1, 1 | 31 << 8, 1 | 63 << 8, 1 | 6 << 8 | 0xffff_ffff << 32, 1 | 6 << 8] {
        let head = word_at(&first, header, 0);
        update(&first, header, &[head, 0, 0, gate, 0, 0, 0]);
        assert!(push(&program, 2, 0, 16) <= 16);
        let _ = all_found(&mut follower);
    }
    assert_eq!(follower.rings(), 1);
    everywhere();
}

/// Counts the available records, up to the maximum possible, without checking them.
fn all_found(follower: &mut Reader<Numbered>) -> usize {
    let found = (0..10_000).take_while(|_| follower.poll().is_some()).count();
    assert!(found < 10_000, "does not come to an end");
    found
}

/// The number of replacements.
const RESIZES: usize = 24;
/// The sizes of the rings, in turn.
const SIZES: [usize; 4] = [64, 8192, 16384, 1024];

#[test]
fn nothing_is_lost_or_doubled_while_rings_are_replaced() {
    require_bpf!();
    paced(&bpf::RESIZABLE.load(fitted));
    paced(&bpf::RESIZABLE_PORTABLE.load(fitted));
}

/// A task on each CPU writes, at most a few records ahead of the reader: it gets every one, in order.
fn paced(object: &Object) {
    let ring = open(object);
    let mut follower = ring.reader();
    let (program, stop) = (Runner::new(object, "push_run"), AtomicBool::new(false));
    let read: Vec<_> = cpus().iter().map(|_| AtomicU64::new(0)).collect();
    let written = std::thread::scope(|scope| {
        let _at_end = Stop(&stop);
        let writers: Vec<_> = std::iter::zip(cpus(), &read)
            .enumerate()
            .map(|(task, (&cpu, read))| {
                let (program, stop) = (&program, &stop);
                scope.spawn(move || {
                    on_cpu(cpu);
                    let mut next = 0;
                    while !stop.load(Ordering::Relaxed) {
                        if next - read.load(Ordering::Relaxed) <= 32 {
                            assert_eq!(push(program, task as u64, next, 16), 0);
                            next += 16;
                        } else {
                            std::thread::yield_now();
                        }
                    }
                    next
                })
            })
            .collect();
        let follow = |found: Vec<(u64, u64)>| {
            for (writer, number) in found {
                let next = &read[usize::try_from(writer).unwrap()];
                assert_eq!(next.fetch_add(1, Ordering::Relaxed), number, "writer {writer}");
            }
        };
        for slots in SIZES.into_iter().cycle().take(RESIZES) {
            let before: u64 = read.iter().map(|read| read.load(Ordering::Relaxed)).sum();
            while read.iter().map(|read| read.load(Ordering::Relaxed)).sum::<u64>() < before + 200 {
                follow(all(&mut follower));
            }
            // Readers are in the middle of the old ring.
            std::thread::scope(|scope| {
                let resizer = scope.spawn(|| ring.resize(slots).unwrap());
                while !resizer.is_finished() {
                    follow(whole(&mut follower));
                    // On a busy machine it takes longer than readers wait before they report it.
                    let error = follower.take_error();
                    let is_late = |e: &Error| e.kind() == ErrorKind::ResizeUnfinished;
                    assert!(error.as_ref().is_none_or(is_late), "{error:?}");
                }
            });
        }
        stop.store(true, Ordering::Relaxed);
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        follow(all(&mut follower));
        written
    });
    let read: Vec<_> = read.into_iter().map(AtomicU64::into_inner).collect();
    assert_eq!(read, written);
    assert_eq!((follower.lost(), follower.stats().dropped(), follower.rings()), (0, 0, 1 + RESIZES as u64));
    assert_eq!(follower.stats().delivered, written.iter().sum());
}
