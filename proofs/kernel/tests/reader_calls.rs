//! The cost of one call between two records, for readers whose ring is not mapped, and readers of several maps.

use mapring::abi::seq::DISCARDED;
use mapring_kernel_tests::prelude::*;

/// A ring of one shard with `slots` slots: the first `discarded` tickets were discarded, then follow `records`.
fn ring(slots: u64, flags: u32, discarded: u64, records: u64) -> OwnedFd {
    let geometry = Geometry::new(Kind::Ring, 8, slots, 1).unwrap().of_cpu().unwrap();
    let map = raw::region(geometry, "u64", flags);
    let element = |index: usize, words: [u64; 2]| {
        raw::update(&map, u32::try_from(index).unwrap(), &words).unwrap();
    };
    element(geometry.shard(0), [discarded + records, 0]);
    for t in 0..discarded + records {
        let seq = if t < discarded { DISCARDED | 2 } else { 2 };
        element(geometry.slots(0) + usize::try_from(t).unwrap(), [seq, t]);
    }
    map
}

fn passed(stats: ReadStats) -> u64 {
    stats.passed()
}

/// Calls a reader until it returns a record. Returns the number of calls, each of which takes at most `steps` steps
/// between two records.
fn calls(reader: &mut Reader<u64>, steps: u32, call: fn(&mut Reader<u64>) -> bool) -> u64 {
    for calls in 1..100 {
        let before = passed(reader.stats());
        let found = call(reader);
        let spent = passed(reader.stats()) - before;
        // Before the record, and after it.
        let parts = 1 + u64::from(found);
        assert!(spent <= parts * (u64::from(steps) + 1), "{spent} tickets in a call");
        assert_eq!(reader.stopped_early(), !found, "there is more, and a call that finds nothing says so");
        if found {
            return calls;
        }
    }
    panic!("it does not come to the record");
}

#[test]
fn readers_by_system_call_spend_less_a_call() {
    require_bpf!();
    let ways: [fn(&mut Reader<u64>) -> bool; 4] = [
        |reader| reader.poll().is_some(),
        |reader| reader.drain().next().is_some(),
        |reader| reader.for_each(1, |_| ()) > 0,
        |reader| reader.for_each(usize::MAX, |_| ()) > 0,
    ];
    let slots = 1 << 13;
    let ring = Ring::<u64>::open(ring(slots, 0, slots - 1, 1)).unwrap();
    assert!(matches!(ring.access(), Access::Syscall(_)));
    for way in ways {
        let (mut reader, steps) = (ring.reader(), Reader::<u64>::STEPS_BY_CALL);
        let calls = calls(&mut reader, steps, way);
        assert!((0..=1).contains(&(calls - slots / u64::from(steps))), "{calls} calls");
        assert!(reader.poll().is_none() && !reader.stopped_early() && reader.take_error().is_none());
    }
}

#[test]
fn readers_of_several_maps_spend_as_much_as_readers_of_one() {
    require_bpf!();
    let ways: [fn(&mut Reader<u64>) -> bool; 4] = [
        |reader| reader.poll().is_some(),
        |reader| reader.drain().next().is_some(),
        |reader| reader.for_each(1, |_| ()) > 0,
        |reader| reader.for_each(usize::MAX, |_| ()) > 0,
    ];
    // No shard alone has enough discarded tickets to end a call; three together have.
    let steps = Reader::<u64>::STEPS;
    let of = |discarded, records| ring(1 << 14, BPF_F_MMAPABLE, discarded, records);
    let discarded = u64::from(steps / 4 * 3);
    let rings = [of(discarded, 0), of(discarded, 0), of(discarded, 0), of(0, 1)];
    let rings = (0..).zip(rings).map(|(cpu, map)| (cpu, Region::open(map).unwrap()));
    let rings = Ring::<u64>::from_regions(rings).unwrap();
    assert_eq!(rings.access(), Access::Mapped);
    for way in ways {
        let mut reader = rings.reader();
        let calls = calls(&mut reader, steps, way);
        assert!((2..=4).contains(&calls), "{calls} calls");
        let rest = (0..4).find(|_| reader.poll().is_none() && !reader.stopped_early());
        assert!(rest.is_some());
        assert_eq!((reader.stats().delivered, reader.stats().discarded), (1, 3 * discarded));
    }
}
