//! Writers nested in writers, on all CPUs, into tiny rings, cells and counters, while readers of
//! every sort read: nothing torn, nothing twice, nothing uncounted. Fails, too, if the overlap
//! that it is about did not happen. `MAPRING_STRESS_SECONDS` (5) says how long.
#![allow(missing_docs)]

mod counted;
mod readers;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, Object, ProgramMut};
use mapring::{Access, Cells, Counters, Refusal, Ring, Start, Tally};
use mapring_kernel_tests::skel::{StressPortableSkelBuilder, StressSkelBuilder};
use mapring_kernel_tests::{cpus, everywhere, load, map, on_cpu, read_only, require_bpf, sample_clock};

use counted::{SLOTS, ends, prepare, states};
use readers::{Ends, Item, Latest, Pace, Seen, read_latest, read_rings};

/// Nanoseconds between two ticks of the clock that interrupts everything.
const TICK: u64 = 50_000;

#[test]
fn nested_writers() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    stress(load::<StressSkelBuilder>(&mut storage, prepare).object());
}

#[test]
fn nested_writers_that_publish_portably() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    stress(load::<StressPortableSkelBuilder>(&mut storage, prepare).object());
}

/// The handles to all maps of the object, by `fd`.
struct Handles {
    rings: Vec<Ring<Item>>,
    cells: Cells<Item>,
    counters: Counters,
}

impl Handles {
    fn new(fd: impl Fn(&str) -> OwnedFd, access: Access) -> Self {
        let rings = SLOTS.iter().map(|slots| Ring::open_fd(fd(&format!("ring_{slots}"))).unwrap()).collect();
        let (cells, counters) =
            (Cells::open_fd(fd("cells")).unwrap(), Counters::open_fd(fd("counters")).unwrap());
        assert_eq!((cells.access(), counters.access()), (access, access));
        Self { rings, cells, counters }
    }
}

/// Everything that the readers brought home.
struct Results {
    /// By reader and ring.
    rings: Vec<(Pace, Access, Vec<Seen>)>,
    latest: [Latest; 2],
}

impl Results {
    /// What each reader of a ring saw of it.
    fn of(&self, ring: usize) -> impl Iterator<Item = (Pace, Access, &Seen)> {
        self.rings.iter().filter_map(move |(pace, access, seen)| Some((*pace, *access, seen.get(ring)?)))
    }
}

fn stress(object: &Object) {
    everywhere();
    let names: Vec<_> = SLOTS.iter().map(|slots| format!("ring_{slots}")).collect();
    for name in names.iter().map(String::as_str).chain(["cells", "counters"]) {
        mapring::Region::open(&map(object, name)).unwrap();
    }
    let mapped = Handles::new(|name| map(object, name).as_fd().try_clone_to_owned().unwrap(), Access::Mapped);
    let looked_up = Handles::new(|name| read_only(&map(object, name)), Access::Syscall(Refusal::ReadOnlyFd));

    let ends = Ends::new();
    let results = run(object, &mapped, &looked_up, &ends);
    let ends = ends.get().unwrap();
    for (ring, &slots) in SLOTS.iter().enumerate() {
        check_ring(object, ring, slots, &ends[ring], &results, &mapped.rings[ring]);
    }
    check_latest(object, &mapped, &results.latest);
    check_overlap(object, &results);
}

/// Lets the programs and the readers loose, and ends them in order.
fn run(object: &Object, mapped: &Handles, looked_up: &Handles, ends_seen: &Ends) -> Results {
    let seconds =
        std::env::var("MAPRING_STRESS_SECONDS").map_or(5.0, |s| s.parse().expect("a number of seconds"));
    let time = Duration::from_secs_f64(seconds);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // If anything fails, nobody may be left running.
        let at_end = AtEnd { stop: &stop, ends: ends_seen };
        let (all, tiny) = (SLOTS.len(), SLOTS.len() - 1);
        let early = [
            (Pace::Poll, mapped, all),
            (Pace::Poll, mapped, tiny),
            (Pace::Slow, mapped, all),
            (Pace::Drain, looked_up, all),
        ];
        let early = early.map(|(pace, handles, rings)| {
            let rings = &handles.rings[..rings];
            (pace, rings, scope.spawn(move || read_rings(rings, Start::Oldest, pace, ends_seen)))
        });
        let latest = [mapped, looked_up]
            .map(|handles| scope.spawn(|| read_latest(&handles.cells, &handles.counters, ends_seen)));
        let links = attach(object);
        for &cpu in cpus() {
            let stop = &stop;
            scope.spawn(move || {
                on_cpu(cpu);
                while !stop.load(Ordering::Relaxed) {
                    let _ = rustix::process::getppid();
                }
            });
        }
        std::thread::sleep(time / 2);
        let late = scope.spawn(|| read_rings(&mapped.rings, Start::Now, Pace::Drain, ends_seen));
        std::thread::sleep(time / 2);
        stop.store(true, Ordering::Relaxed);
        drop(links);
        settle(object);
        ends_seen.set(ends(object)).unwrap();
        let mut rings: Vec<_> = early
            .into_iter()
            .map(|(pace, rings, thread)| (pace, rings[0].access(), thread.join().unwrap()))
            .collect();
        rings.push((Pace::Drain, Access::Mapped, late.join().unwrap()));
        let latest = latest.map(|thread| thread.join().unwrap());
        drop(at_end);
        Results { rings, latest }
    })
}

/// Ends the threads when a test fails in their midst.
struct AtEnd<'a> {
    stop: &'a AtomicBool,
    ends: &'a Ends,
}

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.ends.set(Vec::new());
    }
}

fn attach(object: &Object) -> Vec<Link> {
    let program = |name: &str| -> ProgramMut<'_> { object.progs_mut().find(|p| p.name() == name).unwrap() };
    let clocks = cpus()
        .iter()
        .map(|&cpu| program("on_tick").attach_perf_event(sample_clock(cpu, TICK).into_raw_fd()).unwrap());
    let mut links: Vec<_> = clocks.collect();
    links.push(program("on_call").attach().unwrap());
    links
}

/// Waits until no program is in the middle of anything.
fn settle(object: &Object) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = 0;
    loop {
        let states = states(object);
        let runs = states.iter().map(|state| state.calls + state.ticks).sum::<u64>();
        if runs == before && states.iter().all(|state| state.depth == 0) {
            return;
        }
        before = runs;
        assert!(Instant::now() < deadline, "programs still run: {states:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One ring, each CPU, each reader: what was claimed, what was seen, and that it adds up.
fn check_ring(
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
    let nested_only = states(object).iter().all(|state| state.preempted == 0);
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
        if nested_only {
            // One program at a time is interrupted, and so holds one slot.
            assert!(slots == 1 || count.dropped == 0, "{slots} slots leave room: {count:?}");
            assert!(holes <= count.nested, "CPU {cpu}, {slots} slots: {holes} holes, {count:?}");
            assert!(holes == 0 || ![1, 4096].contains(&slots), "CPU {cpu}, {slots} slots: {holes} holes");
        }
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

fn check_latest(object: &Object, handles: &Handles, latest: &[Latest]) {
    let cells = [0, 1].map(|cell| counted::cell(object, cell));
    for seen in latest {
        assert_eq!(seen.versions, cells.map(|count| count.committed), "versions and writes");
    }
    assert_eq!(handles.cells.region().dropped(), cells.iter().map(|count| count.dropped).sum());
    for counter in 0..3 {
        assert_eq!(handles.counters.sum(counter as usize).unwrap(), counted::counter(object, counter));
    }
    assert_eq!(handles.counters.region().dropped(), 0);
}

/// That all this was worth checking: writers met writers, and readers met writers.
fn check_overlap(object: &Object, results: &Results) {
    let states = states(object);
    let sum = |of: fn(&counted::State) -> u64| states.iter().map(of).sum::<u64>();
    let (calls, ticks) = (sum(|s| s.calls), sum(|s| s.ticks));
    let (nested, in_claim) = (sum(|s| s.nested), sum(|s| s.in_claim));
    println!(
        "{calls} calls, {ticks} ticks, {nested} nested, {in_claim} in a claim, {} preempted",
        sum(|s| s.preempted)
    );
    let mut torn = 0;
    for (ring, slots) in SLOTS.iter().enumerate() {
        let count = counted::total(object, u32::try_from(ring).unwrap());
        println!("ring of {slots}: {count:?}");
        let mut all = Tally::default();
        for (pace, access, seen) in results.of(ring) {
            let mut tally = Tally::default();
            seen.tallies.iter().for_each(|shard| tally += *shard);
            println!("  {pace:?}, {access:?}: {tally:?}");
            assert!(tally.delivered > 0, "ring of {slots}");
            all += tally;
            torn += if access == Access::Mapped && *slots <= 4 { tally.torn } else { 0 };
        }
        assert!(all.lapped > 0 && count.committed > 0, "ring of {slots}");
        assert_eq!(
            count.dropped > 0,
            *slots == 1,
            "one slot is taken while it is written; several leave room"
        );
        assert!(*slots == 1 || count.nested > 0, "{slots} slots: {count:?}");
        assert_eq!(count.discarded > 0, [2, 4].contains(slots));
    }
    assert!(torn > 0, "no reader was ever overtaken in the middle of a copy");
    assert!(nested > 100 && in_claim > 10, "{nested} ticks in a program, {in_claim} in a record");
    for cell in [0, 1] {
        let count = counted::cell(object, cell);
        println!("cell {cell}: {count:?}");
        assert!(count.committed > 0 && count.dropped > 0, "{count:?}");
    }
    let records = results.rings.iter().flat_map(|(.., seen)| seen).flat_map(|seen| &seen.tallies);
    let reads = records.map(|tally| tally.delivered).sum::<u64>();
    println!("explored {} reads", reads + results.latest.iter().map(|latest| latest.reads).sum::<u64>());
    for latest in &results.latest {
        println!("{latest:?}");
        assert!(latest.reads > 0 && latest.busy > 0, "{latest:?}");
    }
}
