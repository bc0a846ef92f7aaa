//! All rings at once: on every CPU tasks, system calls and a clock's interrupts write each of them, and interrupt each other.

use std::collections::HashSet;

use mapring::reading::ByTime;

use super::*;

/// `struct did`, of each ring and writer.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Did {
    begun: u64,
    dropped: u64,
}

const WRITERS: usize = 3;
/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the writers did in the ring `at` of the list.
fn did(object: &Object, at: usize) -> [Did; WRITERS] {
    let did = object.maps().find(|map| map.name().to_string_lossy().ends_with(".data.did")).unwrap();
    let all = did.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    bytemuck::pod_read_unaligned(&all[at * size_of::<[Did; WRITERS]>()..][..size_of::<[Did; WRITERS]>()])
}

/// (Numbers are no stamps, so that many are late.)
type Merged = Reader<Rec, ByTime<Rec, fn(&Rec) -> u64>>;

/// A reader in either order.
enum Order {
    ByShard(Box<Reader<Rec>>),
    ByTime(Box<Merged>),
}

macro_rules! in_either {
    ($order:expr, $reader:ident => $does:expr) => {
        match $order {
            Order::ByShard($reader) => $does,
            Order::ByTime($reader) => $does,
        }
    };
}

/// A reader of one ring, and the numbers that it got.
struct Reading {
    at: usize,
    options: RingOptions,
    reader: Order,
    seen: HashSet<u64>,
}

impl Reading {
    fn of(at: usize, ring: &Ring<Rec>, merged: bool) -> Self {
        let options = ring.options();
        let mut reader = ring.reader_from(Start::First);
        if options.keeps_oldest() {
            reader.require(FOREVER).unwrap();
            reader = reader.with_patience(FOREVER);
        }
        let stamp: fn(&Rec) -> u64 = |rec| rec.n;
        let reader = match merged {
            true => Order::ByTime(reader.merged(stamp).into()),
            false => Order::ByShard(reader.into()),
        };
        Self { at, options, reader, seen: HashSet::new() }
    }

    /// Reads what is there, and sleeps for a moment. Returns how many there were.
    fn pass(&mut self) -> usize {
        let (seen, has_tails) = (&mut self.seen, self.options.has_tails());
        in_either!(&mut self.reader, reader => {
            let found = reader.for_each(usize::MAX, |event| {
                let (_, n) = whole(&event, has_tails);
                assert!(seen.insert(n), "{}: {event:?} came twice", RINGS[self.at].0);
            });
            reader.wait(Duration::from_micros(50)).unwrap();
            found + usize::try_from(reader.stats().held).unwrap()
        })
    }

    /// Each record was delivered once, or counted.
    fn check(mut self, object: &Object) {
        let (name, did) = (RINGS[self.at].0, did(object, self.at));
        let [begun, dropped] =
            [|did: &Did| did.begun, |did: &Did| did.dropped].map(|of| did.iter().map(of).sum::<u64>());
        in_either!(&mut self.reader, reader => {
            let stats = reader.stats();
            println!("{name}: {begun} begun, {dropped} dropped; {stats}");
            assert!(did.iter().all(|did| did.begun > 0) && stats.delivered > 0, "{name}: {did:?}, {stats}");
            assert_eq!(stats.delivered, self.seen.len() as u64, "{name}");
            let missing = (begun - dropped).checked_sub(stats.delivered).expect("only what was written");
            assert!(missing <= stats.lost() + stats.stepped_over, "{name}: {missing} are missing: {stats}");
            if self.options.is_resizable() {
                assert!(reader.rings() > 1, "{name}");
            } else {
                assert_eq!(stats.dropped(), dropped, "{name}: {stats}");
            }
            if self.options.keeps_oldest() {
                assert_eq!((missing, stats.lost(), reader.is_required()), (0, 0, true), "{name}: {stats}");
                assert!(stats.full > 0, "{name}: no program was held back: {stats}");
            } else {
                assert!(stats.lapped > 0, "{name}: the reader was not overrun: {stats}");
                assert_eq!(stats.full, 0, "{name}: nobody is required");
            }
            let losses: u64 = reader.take_losses().iter().map(|loss| loss.count).sum();
            assert_eq!(losses, stats.lost() + stats.dropped(), "{name}: each with its cause");
            match reader.take_error() {
                // On a busy machine a resize takes more than a second, and continues.
                Some(error) if error.kind() != ErrorKind::ResizeUnfinished => panic!("{name}: {error}"),
                _ => {}
            }
        });
    }
}

/// Reads until `done`, and then all that is left.
fn read_all(mut all: Vec<Reading>, done: &AtomicBool) -> Vec<Reading> {
    let mut empty = 0;
    while empty < 64 {
        let ends = done.load(Ordering::Acquire);
        let found: usize = all.iter_mut().map(Reading::pass).sum();
        empty = if ends && found == 0 { empty + 1 } else { 0 };
    }
    all
}

#[test]
fn every_ring_accounts_for_each_record_while_programs_interrupt_each_other() {
    require_bpf!();
    with_rings(&[&bpf::OPTIONS, &bpf::OPTIONS_PORTABLE], fitted, |object, rings| {
        // Programs in Rust write by hand alone.
        if rings.len() == RINGS.len() {
            under_load(object);
        }
    });
}

fn under_load(object: &Object) {
    everywhere();
    let variables =
        Globals::open_with(section(object, ".bss").unwrap(), OpenOptions::new().write(true)).unwrap();
    variables.variable::<u32>("watched").unwrap().set(std::process::id()).unwrap();
    let handles = RINGS.map(|(name, _)| Ring::<Rec>::open(&map(object, name)).unwrap());
    let grow: Vec<_> = handles.iter().filter(|ring| ring.options().is_resizable()).collect();
    let [stop, done] = [const { AtomicBool::new(false) }; 2];
    let all = thread::scope(|scope| {
        let ends = [Stop(&stop), Stop(&done)];
        let readers = [false, true].map(|merged| {
            let all = (0..).zip(&handles).map(|(at, ring)| Reading::of(at, ring, merged)).collect();
            let done = &done;
            scope.spawn(move || read_all(all, done))
        });
        let enters = ["on_call_first", "on_call_second"]
            .map(|name| program(object, name).attach_raw_tracepoint("sys_enter").unwrap());
        let links = (enters, ["on_clock_first", "on_clock_second"].map(|name| ticks(object, name, 250_000)));
        let tasks: Vec<_> = cpus()
            .iter()
            .map(|&cpu| {
                let stop = &stop;
                let tasks = ["on_task_first", "on_task_second"].map(|name| Runner::new(object, name));
                scope.spawn(move || {
                    on_cpu(cpu);
                    while !stop.load(Ordering::Relaxed) {
                        tasks.iter().for_each(|task| task.run(&mut [0]));
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let start = Instant::now();
        let all_wrote = || (0..RINGS.len()).all(|at| did(object, at).iter().all(|did| did.begun > 100));
        for slots in [128, 32, 1024, 64].into_iter().cycle() {
            grow.iter().for_each(|ring| ring.resize(slots).unwrap());
            thread::sleep(Duration::from_millis(20));
            if start.elapsed() > stress_seconds(2.0) && (all_wrote() || start.elapsed() > PATIENCE) {
                break;
            }
        }
        let [stop, done] = ends;
        drop(stop);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        drop(links);
        // The last programs may still be on their way.
        let begun = || (0..RINGS.len()).flat_map(|at| did(object, at)).map(|did| did.begun).sum::<u64>();
        let mut before = 0;
        while before != begun() {
            before = begun();
            thread::sleep(Duration::from_millis(50));
        }
        drop(done);
        readers.map(|reader| reader.join().unwrap())
    });
    all.into_iter().flatten().for_each(|reading| reading.check(object));
}
