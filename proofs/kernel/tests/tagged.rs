//! Tagged records: variants of several programs in every kind of ring, one of them unknown to the reader and larger
//! than it expects. Each is compared with C's, and each record is counted.

use std::fmt::Debug;

use mapring::Tagged;
use mapring::tagged::{Unknown, Variants};
use mapring_kernel_tests::prelude::*;

/// `struct entered`
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Entered {
    n: u64,
    cpu: u32,
    check: u32,
}

/// `struct clock_tick`
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct ClockTick {
    n: u64,
    check: [u64; 3],
}

/// `struct event` of an older program.
#[derive(Debug, PartialEq, Tagged)]
enum Event<'r> {
    #[tag(1)]
    Entered(&'r Entered),
    #[tag(2)]
    ClockTick(&'r ClockTick),
}

type Events = Tagged<Event<'static>>;

/// The tag of `struct newer`.
const NEWER: u64 = 0x8000_0001;
/// The rings without tails.
const RINGS: [&str; 5] = ["plain", "wakeable", "keeping", "resizable", "numa"];
/// The longest time to wait for programs that interrupt each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records of each variant to read, at least.
const RECORDS: u64 = 2_000;

/// The number of the variant and of its record, whose contents are checked.
fn checked(shard: usize, record: Result<Event<'_>, Unknown<'_>>) -> (usize, u64) {
    match record {
        Ok(Event::Entered(&Entered { n, cpu, check })) => {
            assert_eq!((cpu as usize, check), (shard, u32::try_from(n * 3).unwrap()));
            (0, n)
        }
        Ok(Event::ClockTick(&ClockTick { n, check })) => {
            assert_eq!(check, [n, n + 1, n + 2]);
            (1, n)
        }
        Err(Unknown { tag, bytes }) => {
            assert_eq!(
                (tag, bytes.len()),
                (NEWER, size_of::<ClockTick>()),
                "as many as the largest variant has"
            );
            let words: Vec<u64> =
                bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
            let n = words[0];
            assert_eq!(words, [n, n ^ 1, n ^ 2, n ^ 3]);
            (2, n)
        }
    }
}

/// Tests the object compiled for this machine, and for any machine.
fn both(test: impl Fn(&Object)) {
    test(&bpf::TAGGED.load(fitted));
    test(&bpf::TAGGED_PORTABLE.load(fitted));
}

/// Runs the program that writes each variant.
fn write_each(object: &Object, ring: &str, n: u64) {
    let mut args = [n, 0];
    Runner::new(object, &format!("each_{ring}")).run(&mut args);
    assert_eq!(args[1], 3, "{ring}");
}

#[test]
fn every_kind_of_ring_has_variants() {
    require_bpf!();
    on_one_cpu();
    both(|object| {
        for name in RINGS {
            let ring = Ring::<Events>::open(&map(object, name)).unwrap();
            assert_eq!((ring.layout_check(), ring.access()), (LayoutCheck::Fields, Access::Mapped), "{name}");
            let mut reader = ring.reader();
            // More than once around the small rings, so that slots still hold other tags.
            for round in 0..400 {
                write_each(object, name, round);
                let mut seen = Vec::new();
                reader.for_each(usize::MAX, |event| seen.push(checked(event.shard, event.record.variant())));
                assert_eq!(seen, [(0, round), (1, round + 1), (2, round + 2)], "{name}");
            }
            let stats = reader.stats();
            assert_eq!((stats.delivered, stats.lost()), (1200, 0), "{name}: {stats}");
        }
        // The same without a mapping.
        let ring = Ring::<Events>::open(read_only(&map(object, "plain"))).unwrap();
        assert_ne!(ring.access(), Access::Mapped);
        let mut reader = ring.reader();
        let mut seen = Vec::new();
        reader.for_each(usize::MAX, |event| seen.push(checked(event.shard, event.record.variant())));
        assert_eq!(seen, (0..400).flat_map(|n| [(0, n), (1, n + 1), (2, n + 2)]).collect::<Vec<_>>());
        assert_eq!(reader.lost(), 0);

        let ring = Ring::<Events>::open(&map(object, "tailed")).unwrap();
        assert_eq!(ring.layout_check(), LayoutCheck::Fields);
        let mut reader = ring.reader();
        write_each(object, "tailed", 10);
        let mut seen = Vec::new();
        reader.for_each(usize::MAX, |event| {
            seen.push((checked(event.shard, event.record.variant()), event.tail.to_vec()));
        });
        assert_eq!(seen, [((0, 10), vec![0x5a; 10]), ((1, 11), vec![0x5a; 11]), ((2, 12), vec![0x5a; 12])]);
    });
}

/// The first word of any variant, as its stamp.
fn stamp(record: &Events) -> u64 {
    match record.variant() {
        Ok(Event::Entered(entered)) => entered.n,
        Ok(Event::ClockTick(tick)) => tick.n,
        Err(unknown) => u64::from_ne_bytes(unknown.bytes[..8].try_into().unwrap()),
    }
}

#[test]
fn merged_readers_return_variants_in_order() {
    require_bpf!();
    both(|object| {
        let mut merged: Vec<_> =
            RINGS.map(|name| Ring::<Events>::open(&map(object, name)).unwrap().reader().merged(stamp)).into();
        let tailed = Ring::<Events>::open(&map(object, "tailed")).unwrap();
        let mut tailed = tailed.reader().merged(stamp);
        // Each round on another CPU.
        for round in 0..400 {
            on_cpu(cpus()[round % cpus().len()]);
            let n = 3 * round as u64;
            let expected = [(0, n), (1, n + 1), (2, n + 2)];
            for (name, merged) in RINGS.into_iter().zip(&mut merged) {
                write_each(object, name, n);
                if round % 3 < 2 {
                    continue;
                }
                let mut seen = Vec::new();
                merged.for_each(usize::MAX, |event| seen.push(checked(event.shard, event.record.variant())));
                assert!(seen.ends_with(&expected) && seen.is_sorted_by_key(|(_, n)| *n), "{name}: {seen:?}");
                assert_eq!(seen.len(), 9, "{name}");
            }
            write_each(object, "tailed", n);
            let mut seen = Vec::new();
            tailed.for_each(usize::MAX, |event| {
                let (variant, n) = checked(event.shard, event.record.variant());
                assert!(event.tail.len() as u64 == n % 64 && event.tail.iter().all(|&byte| byte == 0x5a));
                seen.push((variant, n));
            });
            assert_eq!(seen, expected);
        }
        for (name, merged) in RINGS.into_iter().zip(&merged) {
            let read = merged.stats();
            assert_eq!((read.delivered, read.lost()), (1197, 0), "{name}: {read}");
        }
        let read = tailed.stats();
        assert_eq!((read.delivered, read.lost()), (1200, 0), "tailed: {read}");
    });
    everywhere();
}

/// What the programs did in the ring `at`: records that were begun and dropped, by variant.
fn counts(object: &Object, at: usize) -> [[u64; 3]; 2] {
    let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".data.counts")).unwrap();
    let bytes = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    let words: Vec<u64> = bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    [0, 1].map(|part| words[part * 6 + at * 3..][..3].try_into().unwrap())
}

/// Reads, by calls of `read`, until no program writes any more.
fn read_until(stop: &AtomicBool, mut read: impl FnMut() -> usize) {
    loop {
        let ends = stop.load(Ordering::Relaxed);
        if read() == 0 && ends {
            return;
        }
    }
}

#[test]
fn programs_that_interrupt_each_other_write_their_own_variants() {
    require_bpf!();
    everywhere();
    both(|object| {
        let stop = AtomicBool::new(false);
        let mut plain = Ring::<Events>::open(&map(object, "plain")).unwrap().reader();
        let mut tailed = Ring::<Events>::open(&map(object, "tailed")).unwrap().reader();
        let [mut in_plain, mut in_tailed] = [[0; 3]; 2];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                read_until(&stop, || {
                    plain.for_each(usize::MAX, |event| {
                        in_plain[checked(event.shard, event.record.variant()).0] += 1;
                    })
                });
            });
            scope.spawn(|| {
                read_until(&stop, || {
                    tailed.for_each(usize::MAX, |event| {
                        let (variant, n) = checked(event.shard, event.record.variant());
                        assert!(
                            event.tail.len() as u64 == n % 64 && event.tail.iter().all(|&byte| byte == 0x5a)
                        );
                        in_tailed[variant] += 1;
                    })
                });
            });
            let enters = program(object, "on_enter").attach_raw_tracepoint("sys_enter").unwrap();
            let links = (ticks(object, "on_tick", 50_000), enters);
            let writers: Vec<_> = cpus()
                .iter()
                .map(|&cpu| {
                    let (stop, packets) = (&stop, Runner::new(object, "on_packet"));
                    scope.spawn(move || {
                        on_cpu(cpu);
                        while !stop.load(Ordering::Relaxed) {
                            packets.packets(50);
                            std::thread::yield_now();
                        }
                    })
                })
                .collect();
            let start = Instant::now();
            let met = || (0..2).all(|at| counts(object, at)[0].iter().all(|&begun| begun >= RECORDS));
            while !met() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
            }
            drop(links);
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        // The last programs may have ended after the readers.
        plain.for_each(usize::MAX, |event| in_plain[checked(event.shard, event.record.variant()).0] += 1);
        tailed.for_each(usize::MAX, |event| {
            in_tailed[checked(event.shard, event.record.variant()).0] += 1;
        });
        agree("plain", in_plain, plain.stats(), counts(object, 0));
        agree("tailed", in_tailed, tailed.stats(), counts(object, 1));
    });
}

/// Checks that each record of each variant was delivered or counted.
fn agree(ring: &str, read: [u64; 3], stats: ReadStats, [begun, dropped]: [[u64; 3]; 2]) {
    println!("{ring}: {read:?} of {begun:?}; {stats}");
    assert!(read.iter().all(|&count| count > 0), "{ring}: {read:?}, {stats}");
    assert_eq!(stats.delivered, read.iter().sum::<u64>(), "{ring}: {stats}");
    assert_eq!(stats.dropped(), dropped.iter().sum::<u64>(), "{ring}: {stats}");
    let published: u64 = begun.iter().sum::<u64>() - stats.dropped();
    // Overwritten tickets may be ones that nobody claimed.
    let more = (stats.delivered + stats.lost()).checked_sub(published).expect("each record is counted");
    assert!(more <= stats.skipped + stats.lapped, "{ring}: {stats}, {begun:?}");
    assert!((0..3).all(|at| read[at] + dropped[at] <= begun[at]), "{ring}: {read:?} of {begun:?}");
}

/// The error of opening a ring of the variants `E`.
fn refused<E: Variants>(object: &Object, ring: &str) -> Error
where
    Tagged<E>: Record + Debug,
{
    let error = Ring::<Tagged<E>>::open(&map(object, ring)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Layout, "{error}");
    println!("{error}");
    error
}

/// Declares an enum in its own scope, whose variants differ from C's, and returns the error.
macro_rules! refused {
    ($object:expr, $ring:expr, $($tag:literal $name:ident: $ty:ty),+) => {{
        #[derive(Debug, Tagged)]
        enum Other<'r> {
            $(#[tag($tag)] #[allow(dead_code)] $name(&'r $ty)),+
        }
        refused::<Other<'static>>($object, $ring).to_string()
    }};
}

#[test]
fn variants_that_differ_from_c_are_refused_with_both_sides() {
    let object = &require_bpf!(TAGGED);
    on_one_cpu();
    for (said, parts) in [
        (
            refused!(object, "plain", 1 Entered: [u64; 2]),
            ["event.entered is struct entered (16 bytes) in C", "2 times an integer of 8 bytes in Rust"],
        ),
        (
            refused!(object, "plain", 1 Entered: Entered, 2 ClockTick: Entered),
            ["event.clock_tick.cpu is no such field in C", "an integer of 4 bytes at byte 8 in Rust"],
        ),
        (
            refused!(object, "plain", 1 Entered: Entered, 3 Later: ClockTick),
            ["event.tag 3 is no such variant in C", "Later in Rust"],
        ),
        (
            refused!(object, "plain", 1 ClockTick: ClockTick),
            ["event.tag 1 is variant entered in C", "ClockTick in Rust"],
        ),
        (
            refused!(object, "untagged", 1 Entered: Entered),
            ["newer.tag is no such field in C", "an integer of 8 bytes at byte 0"],
        ),
        (
            refused!(object, "stamped", 1 Entered: Entered),
            ["stamped.entered is at byte 16 in C", "Entered (tag 1) at byte 8 in Rust"],
        ),
        (
            Ring::<Entered>::open(&map(object, "plain")).unwrap_err().to_string(),
            ["event.n is no such field in C", "an integer of 8 bytes at byte 0 in Rust"],
        ),
    ] {
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    // Any spelling of a name, and a part of the variants.
    #[derive(Debug, Tagged)]
    #[allow(non_camel_case_types, dead_code)]
    enum Part<'r> {
        #[tag(2)]
        clock_tick(&'r ClockTick),
    }
    assert!(Ring::<Tagged<Part<'_>>>::open(&map(object, "plain")).is_ok());
}
