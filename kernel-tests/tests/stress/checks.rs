//! What must hold when all is over: that it adds up, and that it was worth checking.

use libbpf_rs::Object;
use mapring::{Access, Ring, Tally};

use crate::Results;
use crate::counted::{self, CONTEXTS, Context, SLOTS, State, states};
use crate::readers::{Item, Tables};

/// Slots that one claim looks at, at most: `MAPRING__TRIES`.
const TRIES: u64 = 6;

/// Who must have met whom in the midst of a record, so that this was a test of it: `(then, meanwhile)`.
const MET: &[(Context, Context)] = {
    use Context::{Call, Clock, Probe, Sleeper, Softirq, Switch};
    &[
        (Call, Clock),
        (Call, Softirq),
        (Probe, Clock),
        (Softirq, Clock),
        (Sleeper, Call),
        (Sleeper, Probe),
        (Sleeper, Sleeper),
        (Sleeper, Switch),
        (Sleeper, Softirq),
        (Sleeper, Clock),
    ]
};

/// One ring, each CPU, each reader: what was claimed, what was seen, and that it adds up.
pub(crate) fn check_ring(
    object: &Object,
    ring: usize,
    slots: u64,
    ends: &[u64],
    results: &Results,
    handle: &Ring<Item>,
) {
    let number = u32::try_from(ring).unwrap();
    let total = counted::total(object, number);
    assert_eq!(total.doubled, 0, "tickets claimed twice, ring of {slots}");
    let mut last = handle.reader();
    let last_delivered = last.drain().count() as u64;
    assert_eq!(
        last.lost() + last.tally().discarded + last_delivered,
        ends.iter().map(|end| slots.min(*end)).sum()
    );
    for (cpu, &end) in ends.iter().enumerate() {
        let count = counted::ring(object, number, cpu);
        // Tickets that nobody claimed, because their slot was still being written a lap behind.
        let holes =
            end.checked_sub(count.committed + count.discarded).expect("each claim has a ticket of its own");
        let most = TRIES * (count.nested + count.dropped);
        assert!(holes <= most, "CPU {cpu}, {slots} slots: {holes} holes, {count:?}");
        assert!(slots > 1 || holes == 0, "CPU {cpu}: {holes} holes in a ring without a next slot");
        for (pace, access, seen) in results.of(ring) {
            let (start, tally) = (seen.starts[cpu], seen.tallies[cpu]);
            let passed = tally.delivered + tally.lost() + tally.discarded;
            assert_eq!(start + passed, end, "CPU {cpu}, {slots} slots, {pace:?} {access}: {tally:?}");
            if start == 0 && holes == 0 && count.discarded == 0 {
                assert_eq!(tally.delivered + tally.lost(), count.committed, "what was published, exactly");
            }
            assert!(
                tally.delivered <= count.committed && tally.discarded <= count.discarded,
                "{tally:?} {count:?}"
            );
        }
    }
    for (.., seen) in results.of(ring) {
        assert_eq!(seen.dropped, total.dropped, "dropped, ring of {slots}");
    }
}

/// Cells, latches and counters: as often written as they say, and no program read nonsense.
pub(crate) fn check_latest(object: &Object, tables: &Tables, results: &Results) {
    let cells = [0, 1].map(|cell| counted::cell(object, cell));
    let latches = [results.written.latched, counted::latch(object)];
    for seen in &results.latest {
        assert_eq!(seen.cells, cells.map(|count| count.committed), "versions and writes");
        assert_eq!(seen.latches, latches, "versions and writes");
    }
    assert_eq!(tables.cells.region().dropped(), cells.iter().map(|count| count.dropped).sum());
    for counter in 0..3 {
        assert_eq!(tables.counters.sum(counter as usize).unwrap(), counted::counter(object, counter));
    }
    assert_eq!((tables.counters.region().dropped(), tables.latches.region().dropped()), (0, 0));
    let states = states(object);
    let sum = |of: fn(&State) -> u64| states.iter().map(of).sum::<u64>();
    assert_eq!((sum(|s| s.torn), sum(|s| s.back)), (0, 0), "latches as programs read them");
}

/// That all this was worth checking: writers met writers, and readers met writers.
pub(crate) fn check_overlap(object: &Object, results: &Results) {
    let mut missing = check_contexts(object);
    let mut expect = |what: String, happened: bool| missing.extend((!happened).then_some(what));
    println!("{:?}", results.written);
    expect("no sleeper slept".into(), results.written.naps > 0);

    let mut torn = 0;
    for (ring, slots) in SLOTS.iter().enumerate() {
        let count = counted::total(object, u32::try_from(ring).unwrap());
        println!("ring of {slots}: {count:?}");
        let mut all = Tally::default();
        for (pace, access, seen) in results.of(ring) {
            let mut tally = Tally::default();
            seen.tallies.iter().for_each(|shard| tally += *shard);
            println!("  {pace:?}, {access:?}: {tally:?}");
            expect(format!("a {pace:?} reader got nothing from the ring of {slots}"), tally.delivered > 0);
            all += tally;
            torn += if access == Access::Mapped && *slots <= 4 { tally.torn } else { 0 };
        }
        expect(format!("nobody was lapped in the ring of {slots}"), all.lapped > 0);
        expect(format!("nobody skipped a ticket in the ring of {slots}"), all.skipped > 0 || *slots == 1);
        expect(format!("no claim in the ring of {slots} was nested"), count.nested > 0);
        expect(format!("nothing was dropped in the ring of {slots}"), count.dropped > 0 || *slots > 2);
        assert_eq!(count.discarded > 0, [2, 4].contains(slots));
    }
    expect("no reader was overtaken in the middle of a copy".into(), torn > 0);
    for cell in [0, 1] {
        let count = counted::cell(object, cell);
        println!("cell {cell}: {count:?}");
        expect(format!("no writer found another in cell {cell}"), count.dropped > 0 && count.committed > 0);
    }
    for latest in &results.latest {
        println!("{latest:?}");
        expect("no reader found a writer in a cell".into(), latest.busy[0] > 0);
        expect("no latch changed under a reader".into(), latest.busy[1] > 0);
    }
    let records = results.rings.iter().flat_map(|(.., seen)| seen).flat_map(|seen| &seen.tallies);
    let reads = records.map(|tally| tally.delivered).sum::<u64>();
    let reads = reads + results.latest.iter().map(|latest| latest.reads).sum::<u64>();
    let looks = states(object).iter().flat_map(|state| state.looks).sum::<u64>();
    let per_second = (reads + looks) as f64 / results.time.as_secs_f64();
    println!(
        "explored {} reads, {:.1} million a second: 10^10 take {:.1} hours",
        reads + looks,
        per_second / 1e6,
        1e10 / per_second / 3600.0
    );
    assert!(missing.is_empty(), "what this test is about did not happen: {missing:#?}");
}

/// What of [`MET`] has not happened yet.
pub(crate) fn not_met(object: &Object) -> Vec<String> {
    let states = states(object);
    let midway = |&&(outer, inner): &&(Context, Context)| {
        states.iter().all(|state| state.midway[inner as usize][outer as usize] == 0)
    };
    let unmet = MET.iter().filter(midway);
    unmet.map(|(outer, inner)| format!("no {inner:?} in the midst of a record of {outer:?}")).collect()
}

/// Who interrupted whom, and what of that was missing.
fn check_contexts(object: &Object) -> Vec<String> {
    let states = states(object);
    let mut missing = not_met(object);
    for (context, name) in CONTEXTS.iter().enumerate() {
        let sum = |of: &dyn Fn(&State) -> u64| states.iter().map(of).sum::<u64>();
        let runs = sum(&|state| state.runs[context]);
        let (looks, busy) = (sum(&|state| state.looks[context]), sum(&|state| state.busy[context]));
        println!("{name:?}: {runs} runs, {looks} looks at a latch, {busy} of them too often overtaken");
        for (outer, other) in CONTEXTS.iter().enumerate() {
            let nested = sum(&|state| state.nested[context][outer]);
            let midway = sum(&|state| state.midway[context][outer]);
            if nested > 0 {
                println!("  {nested} while {other:?} was running, {midway} in the midst of a record");
            }
        }
        missing.extend((looks == busy).then(|| format!("no {name:?} read a latch")));
    }
    missing
}
