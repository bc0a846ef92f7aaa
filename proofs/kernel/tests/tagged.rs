//! Tagged records: variants in every kind of ring, one of them unknown to the reader and larger than it expects. Each is compared
//! with C's. Programs that interrupt each other are in `options/load.rs`: a tag is a word of the record.

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
const RINGS: [&str; 6] = ["plain", "wakeable", "keeping", "resizable", "numa", "tailed"];

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

/// The first word of any variant, as its stamp.
fn stamp(record: &Events) -> u64 {
    match record.variant() {
        Ok(Event::Entered(entered)) => entered.n,
        Ok(Event::ClockTick(tick)) => tick.n,
        Err(unknown) => u64::from_ne_bytes(unknown.bytes[..8].try_into().unwrap()),
    }
}

#[test]
fn every_kind_of_ring_has_variants() {
    require_bpf!();
    on_one_cpu();
    both(|object| {
        for name in RINGS {
            let ring = Ring::<Events>::open(&map(object, name)).unwrap();
            assert_eq!((ring.layout_check(), ring.access()), (LayoutCheck::Fields, Access::Mapped), "{name}");
            let (mut reader, mut merged) = (ring.reader(), ring.reader().merged(stamp));
            let has_tails = ring.options().has_tails();
            let check = |shard: usize, record: &Events, tail: &[u8]| {
                let (variant, n) = checked(shard, record.variant());
                assert_eq!(tail.len() as u64, if has_tails { n % 64 } else { 0 }, "{name}");
                assert!(tail.iter().all(|&byte| byte == 0x5a), "{name}: {tail:?}");
                (variant, n)
            };
            // More than once around the small rings, so that slots still hold other tags.
            for round in 0..400 {
                write_each(object, name, round);
                let mut seen = [const { Vec::new() }; 2];
                reader.for_each(usize::MAX, |of| seen[0].push(check(of.shard, of.record, of.tail)));
                merged.for_each(usize::MAX, |of| seen[1].push(check(of.shard, of.record, of.tail)));
                assert_eq!(seen, [[(0, round), (1, round + 1), (2, round + 2)]; 2], "{name}");
            }
            for stats in [reader.stats(), merged.stats()] {
                assert_eq!((stats.delivered, stats.lost()), (1200, 0), "{name}: {stats}");
            }
        }
        // The same without a mapping.
        let ring = Ring::<Events>::open(read_only(&map(object, "plain"))).unwrap();
        assert_ne!(ring.access(), Access::Mapped);
        let mut reader = ring.reader();
        let mut seen = Vec::new();
        reader.for_each(usize::MAX, |event| seen.push(checked(event.shard, event.record.variant())));
        assert_eq!(seen, (0..400).flat_map(|n| [(0, n), (1, n + 1), (2, n + 2)]).collect::<Vec<_>>());
        assert_eq!(reader.lost(), 0);
    });
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
    for (output, parts) in [
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
        assert!(parts.iter().all(|part| output.contains(part)), "{output}");
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
