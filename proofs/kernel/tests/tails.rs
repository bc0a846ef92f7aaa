//! Tails that helpers write in place: by programs that interrupt and preempt each other, that sleep in a tail, that
//! leave one for good, and whose tails are overwritten before they are read. Each byte is checked.

use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::tails::{
    ABANDON, ALL, AREA, CUT, Counts, DISCARD, FAILED, Item, LONGEST, ONE, PATTERN, RINGS, SLEEPER, STRING,
    TOO_LONG, TRACE, both, expected, load, pattern, run, write_one, written_by_all,
};

/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(object: &Object, ring: usize) -> Ring<Item> {
    let ring = Ring::open(&map(object, RINGS[ring])).unwrap();
    assert_eq!(ring.access(), Access::Mapped);
    ring
}

#[test]
fn tails_of_every_length() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&ONE, |object| {
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
                let event = live.poll().expect("it was published");
                assert_eq!((event.ticket, event.record.n, event.record.len), (count, count, len));
                assert!(event.tail == expected(&pattern, &event.record), "{} of {len} bytes", RINGS[ring]);
                count += 1;
            }
            assert_eq!((live.stats().delivered, live.lost()), (count, 0));
            let mut whole = 0;
            let calls = late.for_each(usize::MAX, |event| {
                assert!(event.tail == expected(&pattern, event.record), "{event:?}");
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

#[test]
fn helpers_write_in_place_and_the_commit_takes_their_length() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&["write_how", "write_dynptr"], |object| {
        let open = open(object, 2);
        let mut reader = open.reader();
        let mut next = || reader.poll().map(|event| (event.record.len, event.tail.to_vec()));

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
fn a_packet_is_a_tail_byte_for_byte() {
    require_bpf!();
    on_one_cpu();
    if kernel() < (5, 18) {
        return skipped(
            "a_packet_is_a_tail_byte_for_byte",
            "bpf_xdp_load_bytes is not there before Linux 5.18",
        );
    }
    let pattern = pattern();
    both(&["write_packet"], |object| {
        let mut reader = open(object, 3).reader();
        let program = object.progs_mut().find(|p| p.name() == "write_packet").unwrap();
        // In one piece, and in fragments of a page.
        let lens = (14..300).chain([1000, 1500, 3000, 4095, 4096, 4097, 9000, 12345, 20000, 60000]);
        let mut count = 0;
        for len in lens {
            // No two packets start with the same bytes.
            let packet = &pattern[len % 4096..][..len];
            assert_eq!(send(program.as_fd(), packet, 1), 1, "{len} bytes");
            let event = reader.poll().expect("it was published");
            assert_eq!((event.ticket, event.record.len), (count, len as u64));
            assert!(event.tail == packet, "{len} bytes: {} arrived", event.tail.len());
            count += 1;
        }
        assert_eq!((reader.stats().delivered, reader.lost(), reader.stats().dropped()), (count, 0, 0));
    });
}

#[test]
fn a_program_that_never_commits_costs_its_bytes() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    both(&["write_one", "write_how"], |object| {
        let (ring, write) = (open(object, 0), Runner::new(object, "write_one"));
        let mut reader = ring.reader();
        assert_eq!(run(object, "write_how", ABANDON), 1);
        // The area has 128 bytes, and the abandoned tail keeps 64.
        for number in 0..200 {
            assert!(write_one(&write, 0, 16), "{number}");
            while reader.for_each(1, |event| assert_eq!(event.tail, expected(&pattern, event.record))) == 0 {
                std::thread::sleep(Duration::from_millis(1)); // it has patience with the record that is not ended
            }
        }
        let stats = reader.stats();
        assert_eq!(
            (stats.delivered, stats.skipped, stats.lost(), stats.dropped()),
            (200, 1, 1, 0),
            "{stats}"
        );
        // The next one takes what is left.
        assert_eq!(run(object, "write_how", ABANDON), 1);
        assert!((0..8).all(|_| !write_one(&write, 0, 16)));
        assert_eq!(reader.stats().no_tail, 8);
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
    both(&["write_one", "write_sleeping"], |object| {
        let (ring, write) = (open(object, 1), Runner::new(object, "write_one"));
        let mut reader = ring.reader().with_patience(PATIENCE);
        let written = sleeping(object, 200, || {
            // More bytes than the area has.
            assert!((0..40).all(|_| write_one(&write, 1, 250)));
            assert!(reader.poll().is_none(), "the first record has not ended");
        });
        assert!(written);
        let event = reader.poll().unwrap();
        assert_eq!((event.record.writer, event.record.len), (SLEEPER, 200));
        assert_eq!(event.tail, [0x5a; 200]);
        // Those that were written meanwhile did not touch it, nor it them.
        while let Some(event) = reader.poll() {
            assert_eq!((event.record.writer, event.tail), (0, expected(&pattern, &event.record)));
        }
        let stats = reader.stats();
        assert!(stats.delivered >= 6, "{stats}");
        assert_eq!((stats.delivered + stats.tail_lost, stats.no_tail), (41, 0), "{stats}");
    });
}

#[test]
fn sleepers_can_be_many() {
    require_bpf!();
    on_one_cpu();
    let pattern = pattern();
    let object = &load(&bpf::TAILS, &["write_one", "write_sleeping"]);
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
    while let Some(event) = reader.poll() {
        if event.record.writer == SLEEPER {
            assert_eq!(event.tail, [0x5a; 100]);
            sleepers += 1;
        } else {
            assert_eq!(event.tail, expected(&pattern, &event.record));
        }
    }
    assert_eq!((sleepers, reader.stats().delivered, reader.lost()), (8, 12, 0));
}

/// The largest position that a program claimed while it interrupted another claim, on any CPU.
fn beside(object: &Object, ring: usize) -> u64 {
    const BESIDE: usize = 192 + 5 * 8;
    let (ring, mut most) = (map(object, RINGS[ring]), 0);
    for shard in 0..ring.max_entries() {
        let element = ring.lookup(&shard.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
        most = most.max(u64::from_ne_bytes(element[BESIDE..][..8].try_into().unwrap()));
    }
    most
}

#[test]
fn programs_that_interrupt_each_other_in_their_tails() {
    require_bpf!();
    everywhere();
    // Interrupts are tasks on PREEMPT_RT: none comes in the guard.
    let guards = std::cell::Cell::new(cfg!(target_arch = "x86_64") && has_guard() && !real_time());
    both(&ALL, |object| {
        let guarded = guards.replace(false);
        let stop = AtomicBool::new(false);
        let pattern = pattern();
        let readers: Vec<Reader<_>> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..RINGS.len())
                .map(|ring| {
                    let (mut reader, stop, pattern) = (open(object, ring).reader(), &stop, &pattern);
                    scope.spawn(move || {
                        loop {
                            let ends = stop.load(Ordering::Relaxed);
                            let check = |event: mapring::Event<&Item, &[u8]>| {
                                assert!(
                                    event.tail == expected(pattern, event.record),
                                    "{}: {event:?}",
                                    RINGS[ring]
                                );
                            };
                            let count = reader.for_each(usize::MAX, check);
                            if ends && count == 0 && !reader.stopped_early() {
                                return reader;
                            }
                        }
                    })
                })
                .collect();
            let start = Instant::now();
            let met = || {
                let nested = |ring| Counts::of(object).nested(ring);
                (0..3).all(|ring| nested(ring) > 100)
                    && (3..RINGS.len()).all(|ring| nested(ring) > 0)
                    && (!guarded || (0..3).any(|ring| beside(object, ring) > 0))
            };
            written_by_all(object, || {
                while start.elapsed() < Duration::from_secs(3) || !met() && start.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            stop.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        let counts = Counts::of(object);
        let besides = (0..RINGS.len()).any(|ring| beside(object, ring) > 0);
        assert!(besides || !guarded, "no claim was interrupted while it moved the next position");
        for (ring, mut reader) in readers.into_iter().enumerate() {
            // The last programs may have ended after the reader.
            reader.for_each(usize::MAX, |event| assert_eq!(event.tail, expected(&pattern, event.record)));
            let stats = reader.stats();
            println!("{}: {stats}; {} nested", RINGS[ring], counts.nested(ring));
            assert_eq!(counts.published(ring) + counts.dropped(ring), counts.begun(ring), "{}", RINGS[ring]);
            assert_eq!(stats.dropped(), counts.dropped(ring), "{}: {stats}", RINGS[ring]);
            // Tickets that nobody claimed, because a program stepped over their slots, may count as overwritten.
            let tickets = stats.delivered + stats.lost();
            let more = tickets.checked_sub(counts.published(ring)).expect("each record is counted");
            let stepped_over = stats.skipped + stats.lapped.min(counts.nested(ring));
            assert!(more <= stepped_over, "{}: {stats}, {counts:?}", RINGS[ring]);
            // Few programs write the longest tails: on a slow machine, none may meet another.
            if counts.nested(ring) == 0 && RINGS[ring] == "long_" {
                println!("NOT SHOWN: programs that interrupt each other in the longest tails");
            } else {
                assert!(counts.nested(ring) > 0, "{}: {stats}, {counts:?}", RINGS[ring]);
            }
            assert!(stats.delivered > 0, "{}: {stats}, {counts:?}", RINGS[ring]);
            assert_eq!(stats.full, 0, "no reader is required: {}: {stats}", RINGS[ring]);
        }
    });
}
