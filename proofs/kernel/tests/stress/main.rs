//! Writers nested in writers, on all CPUs, into tiny rings, cells, latches and counters, while readers of every kind
//! read: nothing torn, nothing twice, nothing uncounted. Programs write in six contexts that interrupt, preempt and
//! outsleep each other. The test also fails, with a message, if these events did not happen. `MAPRING_STRESS_SECONDS`
//! (12) sets the duration of each of the three tests; if events are missing, they continue for some minutes at most.

mod checks;
mod counted;
mod readers;
mod writers;

use std::sync::Mutex;

use checks::{Counted, check_latest, check_overlap, check_ring, missing};
use counted::{SLOTS, ends, prepare};
use mapring_kernel_tests::prelude::*;
use readers::{Ends, Item, Latest, Pace, Seen, Tables, read_latest, read_rings};
use writers::{NAP, Writers, Written, slow_pages};

/// The maximum wait for all events: even the slowest emulated machine needs only a part of it.
const MEETINGS: Duration = Duration::from_secs(300);

#[test]
fn nested_writers() {
    require_bpf!();
    stress(&bpf::STRESS.load(prepare));
}

#[test]
fn nested_writers_that_publish_portably() {
    require_bpf!();
    stress(&bpf::STRESS_PORTABLE.load(prepare));
}

#[test]
fn nested_writers_whose_claims_take_long() {
    require_bpf!();
    stress(&bpf::STRESS_SLOW.load(prepare));
}

/// The handles to all maps of the object, by `fd`.
struct Handles {
    rings: Vec<Ring<Item>>,
    tables: Tables,
}

impl Handles {
    fn new(fd: impl Fn(&str) -> OwnedFd, access: Access) -> Self {
        let rings = SLOTS.iter().map(|slots| Ring::open(fd(&format!("ring_{slots}"))).unwrap()).collect();
        let tables = Tables {
            cells: Cells::open(fd("cells")).unwrap(),
            latches: Latches::open(fd("latches")).unwrap(),
            counters: Counters::open(fd("counters")).unwrap(),
        };
        let all = [tables.cells.access(), tables.latches.access(), tables.counters.access()];
        assert_eq!(all, [access; 3]);
        Self { rings, tables }
    }
}

/// The results of all readers and writers.
struct Results {
    /// By reader and ring.
    rings: Vec<(Pace, Access, Vec<Seen>)>,
    latest: [Latest; 2],
    written: Written,
    /// The duration of the writes.
    time: Duration,
}

impl Results {
    /// The results of each reader of a ring.
    fn of(&self, ring: usize) -> impl Iterator<Item = (Pace, Access, &Seen)> {
        self.rings.iter().filter_map(move |(pace, access, seen)| Some((*pace, *access, seen.get(ring)?)))
    }

    /// The readers' counts.
    fn counted(&self) -> Counted {
        let tallies = |seen: &Vec<Seen>| seen.iter().map(Seen::stats).collect();
        let rings = self.rings.iter().map(|(pace, access, seen)| (*pace, *access, tallies(seen))).collect();
        Counted { rings, busy: self.latest.each_ref().map(|latest| latest.busy) }
    }
}

fn stress(object: &Object) {
    everywhere();
    let names: Vec<_> = SLOTS.iter().map(|slots| format!("ring_{slots}")).collect();
    for name in names.iter().map(String::as_str).chain(["cells", "latches", "counters"]) {
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
    check_latest(object, &mapped.tables, &results);
    check_overlap(object, &results);
}

/// Starts the programs and the readers, and ends them in order.
fn run(object: &Object, mapped: &Handles, looked_up: &Handles, ends_seen: &Ends) -> Results {
    let time = stress_seconds(12.0);
    let latches = map(object, "latches").as_fd().try_clone_to_owned().unwrap();
    let latches = Latches::from_region(OpenOptions::new().write(true).open(latches).unwrap()).unwrap();
    let (pages, nap, stop) = (slow_pages(), Mutex::new(NAP), AtomicBool::new(false));
    let (all, tiny) = (SLOTS.len(), SLOTS.len() - 1);
    // The last one starts later than the others.
    let readers = [
        (Pace::Poll, mapped, all),
        (Pace::Again, mapped, tiny),
        (Pace::Slow, mapped, all),
        (Pace::Drain, looked_up, all),
        (Pace::Drain, mapped, all),
    ]
    .map(|(pace, handles, rings)| (pace, &handles.rings[..rings], Mutex::new(Vec::new())));
    let busy = [mapped, looked_up].map(|handles| (&handles.tables, Mutex::new([0; 2])));
    let so_far = || {
        let tallies = |so_far: &Mutex<Vec<_>>| so_far.lock().unwrap().clone();
        let rings = readers.iter().map(|(pace, rings, so_far)| (*pace, rings[0].access(), tallies(so_far)));
        Counted { rings: rings.collect(), busy: busy.each_ref().map(|(_, so_far)| *so_far.lock().unwrap()) }
    };
    std::thread::scope(|scope| {
        // If anything fails, all threads must stop.
        let at_end = AtEnd { stop: &stop, ends: ends_seen };
        let read = |reader: usize, from| {
            let (pace, rings, so_far) = &readers[reader];
            scope.spawn(move || read_rings(rings, from, *pace, ends_seen, so_far))
        };
        let mut reading: Vec<_> = (0..readers.len() - 1).map(|reader| read(reader, Start::Oldest)).collect();
        let latest = busy
            .each_ref()
            .map(|(tables, so_far)| scope.spawn(move || read_latest(tables, ends_seen, so_far)));
        let start = Instant::now();
        let writers = Writers::start(scope, object, &latches, &pages, &nap, &stop);
        std::thread::sleep(time / 2);
        reading.push(read(readers.len() - 1, Start::Now));
        std::thread::sleep(time / 2);
        // On a busy or emulated machine, or in a short time, some events do not happen: continue longer if needed.
        let limit = MEETINGS.max(time * 10);
        loop {
            let counted = so_far();
            if missing(object, &counted).is_empty() || start.elapsed() > limit {
                break;
            }
            // Sleep long enough that even slow programs write a lap of a large ring. Until then the small rings are
            // blocked, and programs meet less there.
            let shut = !counted.round_a_large_ring();
            *nap.lock().unwrap() = if shut { start.elapsed() / 8 } else { NAP };
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        let time = start.elapsed();
        let written = writers.end(object);
        ends_seen.set(ends(object)).unwrap();
        let seen = reading.into_iter().map(|thread| thread.join().unwrap());
        let rings = readers
            .iter()
            .zip(seen)
            .map(|((pace, rings, _), seen)| (*pace, rings[0].access(), seen))
            .collect();
        let latest = latest.map(|thread| thread.join().unwrap());
        drop(at_end);
        Results { rings, latest, written, time }
    })
}

/// Ends the threads if a test fails.
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
