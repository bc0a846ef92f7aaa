//! Checks at the end: the counts add up, and the test covered the required events.

use mapring_kernel_tests::prelude::*;

use crate::Results;
use crate::counted::{self, CONTEXTS, Context, SLOTS, State, states};
use crate::readers::{Item, PATIENCE, Pace, Tables};

/// Slots that one claim tries, at most: `MAPRING__TRIES`.
const TRIES: u64 = 6;

/// Contexts that must have interrupted a record of another, to make this a test of it: `(then, meanwhile)`.
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

/// For one ring, each CPU, each reader: the claimed and the read tickets add up.
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
    let mut last_delivered = last.drain().count() as u64;
    // It may have to wait for unclaimed tickets.
    let deadline = Instant::now() + PATIENCE;
    while (0..ends.len()).any(|cpu| last.position(cpu) < Some(ends[cpu])) {
        last_delivered += last.drain().count() as u64;
        assert!(Instant::now() < deadline, "stuck on the way to {ends:?}: {last:?}");
    }
    assert_eq!(
        last.stats().passed() - last.stats().delivered + last_delivered,
        ends.iter().map(|end| slots.min(*end)).sum()
    );
    for (cpu, &end) in ends.iter().enumerate() {
        let count = counted::ring(object, number, cpu);
        // Unclaimed tickets, because their slot was still being written from the lap before.
        let holes =
            end.checked_sub(count.committed + count.discarded).expect("each claim has a ticket of its own");
        let most = TRIES * (count.nested + count.dropped);
        assert!(holes <= most, "CPU {cpu}, {slots} slots: {holes} holes, {count:?}");
        // A claim tries the only slot for one ticket after the other. It gets a later ticket only if the slot's writer
        // ended during the claim, and that requires a preempted claim.
        let one_slot = slots == 1 && preempts_nobody();
        assert!(!one_slot || holes == 0, "CPU {cpu}: {holes} holes in a ring without a next slot");
        for (pace, access, seen) in results.of(ring) {
            let (start, stats) = (seen.starts[cpu], seen.tallies[cpu]);
            let passed = stats.passed();
            assert_eq!(start + passed, end, "CPU {cpu}, {slots} slots, {pace:?} {access}: {stats:?}");
            if start == 0 && holes == 0 && count.discarded == 0 {
                assert_eq!(stats.delivered + stats.lost(), count.committed, "what was published, exactly");
            }
            assert!(
                stats.delivered <= count.committed && stats.discarded <= count.discarded,
                "{stats:?} {count:?}"
            );
        }
    }
    for (.., seen) in results.of(ring) {
        assert_eq!(seen.dropped, total.dropped, "dropped, ring of {slots}");
    }
}

/// Cells, latches and counters: the number of writes matches their versions, and no program read a wrong value.
pub(crate) fn check_latest(object: &Object, tables: &Tables, results: &Results) {
    let cells = [0, 1].map(|cell| counted::cell(object, cell));
    let latches = [results.written.latched, counted::latch(object)];
    for seen in &results.latest {
        assert_eq!(seen.cells, cells.map(|count| count.committed), "versions and writes");
        assert_eq!(seen.latches, latches, "versions and writes");
    }
    assert_eq!(tables.cells.region().dropped().unwrap(), cells.iter().map(|count| count.dropped).sum());
    for counter in 0..3 {
        assert_eq!(tables.counters.sum(counter as usize).unwrap(), counted::counter(object, counter));
    }
    assert_eq!(
        (tables.counters.region().dropped().unwrap(), tables.latches.region().dropped().unwrap()),
        (0, 0)
    );
    let states = states(object);
    let sum = |of: fn(&State) -> u64| states.iter().map(of).sum::<u64>();
    assert_eq!((sum(|s| s.torn), sum(|s| s.back)), (0, 0), "latches as programs read them");
}

/// The readers' counts, so far or at the end.
pub(crate) struct Counted {
    /// By reader and ring.
    pub(crate) rings: Vec<(Pace, Access, Vec<ReadStats>)>,
    /// [`Latest::busy`](crate::readers::Latest), by reader.
    pub(crate) busy: [[u64; 2]; 2],
}

impl Counted {
    /// Whether programs wrote a whole lap of the largest ring while one of them slept during it, and a reader passed
    /// over the hole.
    pub(crate) fn round_a_large_ring(&self) -> bool {
        let skipped = |tallies: &[ReadStats]| {
            tallies.get(SLOTS.len() - 1).is_some_and(|stats| stats.skipped + stats.stepped_over > 0)
        };
        self.rings.iter().any(|(.., tallies)| skipped(tallies))
    }
}

/// The required events that have not happened yet: writers interrupt writers, and readers read during writes.
pub(crate) fn missing(object: &Object, readers: &Counted) -> Vec<String> {
    let mut missing = not_met(object);
    let mut expect = |what: String, happened: bool| missing.extend((!happened).then_some(what));
    let mut torn = 0;
    for (ring, slots) in SLOTS.iter().enumerate() {
        let mut all = ReadStats::default();
        for (pace, access, tallies) in &readers.rings {
            if !tallies.is_empty() && ring >= tallies.len() {
                continue; // reads only the tiny rings
            }
            let stats = tallies.get(ring).copied().unwrap_or_default();
            expect(format!("a {pace:?} reader got nothing from the ring of {slots}"), stats.delivered > 0);
            all += stats;
            torn += if *access == Access::Mapped && *slots <= 4 { stats.torn } else { 0 };
        }
        let count = counted::total(object, u32::try_from(ring).unwrap());
        expect(format!("nobody was lapped in the ring of {slots}"), all.lapped > 0);
        expect(
            format!("nobody skipped a ticket in the ring of {slots}"),
            all.skipped + all.stepped_over > 0 || *slots == 1,
        );
        expect(format!("no claim in the ring of {slots} was nested"), count.nested > 0);
        expect(format!("nothing was dropped in the ring of {slots}"), count.dropped > 0 || *slots > 2);
        expect(
            format!("nothing was discarded in the ring of {slots}"),
            count.discarded > 0 || ![2, 4].contains(slots),
        );
    }
    expect("no reader was overtaken in the middle of a copy".into(), torn > 0);
    for cell in [0, 1] {
        let count = counted::cell(object, cell);
        expect(format!("no writer found another in cell {cell}"), count.dropped > 0 && count.committed > 0);
    }
    for (reader, [cells, latches]) in ["maps", "looks up"].iter().zip(readers.busy) {
        expect(format!("no reader that {reader} found a writer in a cell"), cells > 0);
        let can_happen = *reader != "maps" || mapped_latches_change();
        expect(format!("no latch changed under a reader that {reader}"), latches > 0 || !can_happen);
    }
    missing
}

/// Whether a mapped latch can change while it is read: that takes a few instructions without a branch, and an emulator
/// that runs one CPU at a time switches only at branches.
fn mapped_latches_change() -> bool {
    std::env::var_os("MAPRING_CPUS_TAKE_TURNS").is_none()
}

/// Checks that nothing is [`missing`], and prints the events.
pub(crate) fn check_overlap(object: &Object, results: &Results) {
    println!("{:?}", results.written);
    show_contexts(object);
    for (ring, slots) in SLOTS.iter().enumerate() {
        let count = counted::total(object, u32::try_from(ring).unwrap());
        println!("ring of {slots}: {count:?}");
        for (pace, access, seen) in results.of(ring) {
            println!("  {pace:?}, {access:?}: {:?}", seen.stats());
        }
        assert!(count.discarded == 0 || [2, 4].contains(slots));
    }
    for cell in [0, 1] {
        println!("cell {cell}: {:?}", counted::cell(object, cell));
    }
    println!("{:?}", results.latest);
    let records = results.rings.iter().flat_map(|(.., seen)| seen).map(|seen| seen.stats().delivered);
    let reads = records.sum::<u64>() + results.latest.iter().map(|latest| latest.reads).sum::<u64>();
    let looks = states(object).iter().flat_map(|state| state.looks).sum::<u64>();
    let per_second = (reads + looks) as f64 / results.time.as_secs_f64();
    println!(
        "explored {} reads, {:.1} million a second: 10^10 take {:.1} hours",
        reads + looks,
        per_second / 1e6,
        1e10 / per_second / 3600.0
    );
    assert!(results.written.naps > 0, "no sleeper slept");
    if !mapped_latches_change() {
        eprintln!(
            "NOT SHOWN: a latch that changes under a reader that maps it: the emulator switches CPUs at branches"
        );
    }
    let missing = missing(object, &results.counted());
    assert!(missing.is_empty(), "what this test is about did not happen: {missing:#?}");
}

/// The pairs of [`MET`] that have not met yet, and the contexts that have not read a latch.
fn not_met(object: &Object) -> Vec<String> {
    let states = states(object);
    let sum = |of: &dyn Fn(&State) -> u64| states.iter().map(of).sum::<u64>();
    let met = |outer: Context, inner: Context| sum(&|s| s.midway[inner as usize][outer as usize]) > 0;
    let (threaded, exclusive) = (real_time(), kernel() < (6, 0));
    let can_meet = |outer, inner| match (outer, inner) {
        // Under PREEMPT_RT, tasks process softirqs and interrupt nothing: they run in the middle of a record only if
        // the scheduler can preempt it.
        (outer, Context::Softirq) => !threaded || met(outer, Context::Switch),
        // Before 6.0 no clock program runs on a CPU that runs a probe program (`bpf_prog_active`).
        (Context::Probe, Context::Clock) => !exclusive,
        _ => true,
    };
    let unmet = MET.iter().filter(|(outer, inner)| !met(*outer, *inner) && can_meet(*outer, *inner));
    let unmet = unmet.map(|(outer, inner)| format!("no {inner:?} in the midst of a record of {outer:?}"));
    // Claims that take long exist to be interrupted.
    let whole = sum(&|state| state.slow) > 0 && sum(&|state| state.interrupted) == 0;
    let whole =
        whole.then(|| "no claim was interrupted between the look at the sequence and the store".into());
    let unread = |at: usize| sum(&|state| state.looks[at] - state.busy[at]) == 0;
    let unread = CONTEXTS.iter().filter(|context| unread(**context as usize));
    unmet.chain(whole).chain(unread.map(|context| format!("no {context:?} read a latch"))).collect()
}

/// Prints which contexts interrupted which.
fn show_contexts(object: &Object) {
    let states = states(object);
    let sum = |of: &dyn Fn(&State) -> u64| states.iter().map(of).sum::<u64>();
    let (slow, interrupted) = (sum(&|state| state.slow), sum(&|state| state.interrupted));
    println!(
        "{interrupted} of {slow} slow claims interrupted between the look at the sequence and the store"
    );
    for (context, name) in CONTEXTS.iter().enumerate() {
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
    }
}
