//! What is read of rings, and what is missing in them.

use std::cell::Cell;

use super::super::event::What;
use super::*;

thread_local! {
    /// The records whose stamps were read.
    static STAMPS: Cell<u64> = const { Cell::new(0) };
    /// The records that were decoded.
    static DECODED: Cell<u64> = const { Cell::new(0) };
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Counted {
    ns: u64,
    n: u64,
}

impl FlightRecord for Counted {
    fn ns(&self) -> u64 {
        STAMPS.set(STAMPS.get() + 1);
        self.ns
    }

    fn task(&self) -> (u32, u32) {
        (1, 1)
    }

    fn what(&self, _: &[u8]) -> Option<What> {
        DECODED.set(DECODED.get() + 1);
        Some(What::IrqEnter { irq: u32::try_from(self.n).unwrap() })
    }
}

fn group(ring: &Ring<Counted>) -> GroupRings {
    GroupRings::new(&GROUPS[0], Box::new(Typed::new(ring.clone(), None)))
}

/// Reads all events, and returns their numbers.
fn read(events: &mut InOrder) -> Vec<u32> {
    let events = std::iter::from_fn(|| events.next(u64::MAX));
    let number = |event: Event| match event.what {
        What::IrqEnter { irq } => irq,
        _ => unreachable!(),
    };
    events.map(number).collect()
}

/// A dump of the last hundredth reads as much: neither it nor the names look at the events before.
#[test]
fn older_events_are_not_read() {
    const EVENTS: u64 = 1 << 16;
    // All of it has passed on a machine that was started 10 s ago.
    const STEP: u64 = 100_000;
    let ring = Ring::<Counted>::create_memfd(1 << 15, 2).unwrap();
    let writers = [0, 1].map(|shard| ring.writer(shard).unwrap());
    for n in 0..EVENTS {
        writers[usize::from(n % 2 == 1)].push(&Counted { ns: n * STEP, n });
    }
    let last = EVENTS / 100;
    let since = (EVENTS - last) * STEP;
    let expected: Vec<_> = (EVENTS - last..EVENTS).map(|n| u32::try_from(n).unwrap()).collect();
    // The stamps of the bisections; the delay before that time; one older record of each shard.
    let more = 2 * 16 + u64::try_from(DELAY.as_nanos()).unwrap() / STEP + 2;

    let rings = [group(&ring)];
    let mut events = InOrder::since(&rings, since);
    STAMPS.set(0);
    assert_eq!(read(&mut events), expected);
    // The reader, its user, and the order of the shards look at the stamp.
    assert!(STAMPS.get() <= 3 * (last + more), "{}", STAMPS.get());
    assert_eq!(DECODED.replace(0), last);
    assert!(events.stats(0).passed() <= last + more);
    assert!(events.take_last_gaps().is_empty());

    STAMPS.set(0);
    let mut seen = 0;
    rings[0].scan(since..u64::MAX, &mut |_| seen += 1);
    assert_eq!((seen, DECODED.get()), (last, last));
    assert!(STAMPS.get() <= 2 * (last + more), "{}", STAMPS.get());
}

/// One record is not ended: it is lost once, and the later tickets of its slot are not.
#[test]
fn tickets_that_no_program_had_are_not_lost() {
    let ring = Ring::<Counted>::create_memfd(64, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    let rings = [group(&ring)];
    let mut events = InOrder::since(&rings, 0);
    let (mut n, mut read_all) = (0, Vec::new());
    for round in 0..20 {
        for _ in 0..32 {
            n += 1;
            writer.push(&Counted { ns: Clock::Monotonic.now(), n }).unwrap();
        }
        if round == 1 {
            std::mem::forget(writer.reserve().unwrap());
        }
        // Until the reader's patience has ended.
        while read_all.len() < usize::try_from(n).unwrap() {
            events.retry();
            read_all.extend(read(&mut events));
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(read_all.iter().copied().map(u64::from).eq(1..=n));
    let gaps = events.take_last_gaps();
    assert_eq!(gaps.iter().map(|gap| (gap.count, gap.cause.as_str())).collect::<Vec<_>>(), [(1, "skipped")]);
    let not_ended = events.not_ended();
    assert!(not_ended[0].starts_with("sched: shard 0: the record of ticket 64 has been reserved "));
    assert_eq!(not_ended[1..], ["sched: programs stepped over 9 tickets, which had no record"]);
    let held = rings[0].held();
    assert_eq!((held.records, held.unended.stepped_over, held.unended.records.len()), (63, 1, 1));
    assert!(held.lost.is_empty());
    let lines: Vec<_> = held.unended.lines("sched").collect();
    assert!(lines[0].starts_with("sched: shard 0: the record of ticket 64 has been reserved "), "{lines:?}");
    assert_eq!(lines[1], "sched: programs stepped over 1 tickets, which had no record");
}
