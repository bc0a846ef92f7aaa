//! Claims under load, by programs that interrupt each other in the middle of a claim.
#![cfg(target_arch = "x86_64")]

use std::collections::VecDeque;
use std::io::Write as _;

use mapring_kernel_tests::prelude::*;

/// `struct item`: words computed from writer and number.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Item {
    writer: u64,
    n: u64,
    words: [u64; 5],
}

const SLOTS: [u64; 4] = [4, 8, 64, 4096];
/// Packets, clock ticks, context switches.
const WRITERS: usize = 3;
const TICK: usize = 1;
/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// `struct count`, for one ring, writer and CPU.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Count {
    committed: u64,
    discarded: u64,
    dropped: u64,
    next: u64,
    nested: u64,
    pending: u64,
}

/// `struct under_way`, for one ring and CPU.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct UnderWay {
    now: u64,
    begun: u64,
    before: u64,
    longest: u64,
}

/// The records that a reader got from one ring.
#[derive(Debug)]
struct Seen {
    ring: usize,
    access: Access,
    delivered: Vec<[u64; WRITERS]>,
    /// Where a writer's numbers first decreased on each CPU: its record, and the one before.
    back: Vec<Option<[Event<Item>; 2]>>,
    reader: Reader<Item>,
}

fn name(ring: usize) -> String {
    format!("ring_{}", SLOTS[ring])
}

#[test]
fn programs_that_interrupt_each_other() {
    require_bpf!();
    everywhere();
    if real_time() {
        // Interrupts are tasks here; the stress test covers that.
        writeln!(std::io::stderr(), "SKIPPED programs_that_interrupt_each_other: PREEMPT_RT").unwrap();
        return;
    }
    let object = &bpf::NESTED.load(fitted);
    let rings: Vec<_> =
        (0..SLOTS.len()).map(|ring| Ring::<Item>::open(&map(object, &name(ring))).unwrap()).collect();
    for ring in &rings {
        assert_eq!(ring.access(), Access::Mapped);
    }
    let looked_up: Vec<_> = (0..SLOTS.len())
        .map(|ring| Ring::<Item>::open(read_only(&map(object, &name(ring)))).unwrap())
        .collect();

    let stop = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let mut seen: Vec<Seen> = std::thread::scope(|scope| {
        let at_end = AtEnd([&stop, &done]);
        let readers: Vec<_> = [&rings, &looked_up]
            .map(|rings| {
                let done = &done;
                let readers: Vec<_> = rings.iter().map(Ring::reader).collect();
                let access = rings[0].access();
                scope.spawn(move || {
                    // Lookups start late on purpose, on machines of every speed.
                    let last = SLOTS.len() - 1;
                    while access != Access::Mapped && !done.load(Ordering::Relaxed) && !lapped(object, last) {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    read(readers, access, done)
                })
            })
            .into();
        let links = attach(object);
        let writers: Vec<_> = cpus()
            .iter()
            .map(|&cpu| {
                let (stop, packets) = (&stop, Runner::new(object, "on_packet"));
                scope.spawn(move || {
                    on_cpu(cpu);
                    while !stop.load(Ordering::Relaxed) {
                        packets.packets(50);
                    }
                })
            })
            .collect();
        let start = Instant::now();
        std::thread::sleep(stress_seconds(5.0));
        // Until writers have interrupted each other, and records are lost: this takes longer on a slow or emulated
        // machine.
        while !(0..SLOTS.len()).all(|ring| met(object, ring) && lapped(object, ring))
            && start.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop(links);
        settle(object);
        done.store(true, Ordering::Relaxed);
        let seen = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        drop(at_end);
        seen
    });
    seen.iter_mut().for_each(|seen| check(object, seen));
    check_overlap(object, &seen);
}

/// Ends the threads if a test fails.
struct AtEnd<'a>([&'a AtomicBool; 2]);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

fn attach(object: &Object) -> Vec<Link> {
    let switch = |&cpu: &usize| sample_switches(cpu).into_raw_fd();
    let on_switch = program(object, "on_switch");
    let switches = cpus().iter().map(switch).map(|fd| on_switch.attach_perf_event(fd).unwrap());
    ticks(object, "on_tick", 50_000).into_iter().chain(switches).collect()
}

/// The numbers of a writer's records that were read.
#[derive(Clone, Default)]
struct Numbers {
    next: u64,
    /// The record with the largest number.
    largest: Option<Event<Item>>,
    /// A bit for each of the last numbers.
    last: VecDeque<bool>,
}

impl Numbers {
    const LAST: usize = 1 << 14;

    /// Adds a record, whose number must be new. If the number is smaller than an earlier one, returns both.
    fn note(&mut self, event: Event<Item>) -> Option<[Event<Item>; 2]> {
        let n = event.record.n;
        let back = self.largest.filter(|_| n < self.next).map(|largest| [event, largest]);
        if back.is_none() {
            self.largest = Some(event);
            let gap = usize::try_from(n - self.next).unwrap().min(Self::LAST);
            self.last.extend(std::iter::repeat_n(false, gap + 1));
            self.last.drain(..self.last.len().saturating_sub(Self::LAST));
            self.next = n + 1;
        }
        let behind = usize::try_from(self.next - n).unwrap();
        let at = self.last.len().checked_sub(behind).expect("no record comes that late");
        assert!(!std::mem::replace(&mut self.last[at], true), "number {n} is delivered twice");
        back
    }
}

/// Reads until all writers have ended and nothing is left: each record must be whole, and none comes twice.
fn read(readers: Vec<Reader<Item>>, access: Access, done: &AtomicBool) -> Vec<Seen> {
    let cpus = libbpf_rs::num_possible_cpus().unwrap();
    let mut all: Vec<_> = readers
        .into_iter()
        .enumerate()
        .map(|(ring, reader)| Seen {
            ring,
            access,
            delivered: vec![[0; WRITERS]; cpus],
            back: vec![None; cpus],
            reader,
        })
        .collect();
    let mut numbers = vec![vec![[(); WRITERS].map(|()| Numbers::default()); cpus]; all.len()];
    loop {
        let last_round = done.load(Ordering::Relaxed);
        for seen in &mut all {
            for _ in 0..if last_round { 1 << 17 } else { 1 } {
                seen.reader.for_each(512, |event| {
                    let Item { writer, n, words } = event.record;
                    let writer_here = usize::try_from(*writer).ok().filter(|writer| *writer < WRITERS);
                    let writer_here = writer_here.unwrap_or_else(|| panic!("{event:?}"));
                    for (i, word) in words.iter().enumerate() {
                        let expected = n
                            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                            .wrapping_add(writer.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
                            .wrapping_add(i as u64);
                        assert_eq!(*word, expected, "torn, or never published: {event:?}");
                    }
                    let whole =
                        Event { shard: event.shard, ticket: event.ticket, record: *event.record, tail: () };
                    let back = numbers[seen.ring][event.shard][writer_here].note(whole);
                    seen.back[event.shard] = seen.back[event.shard].or(back);
                    seen.delivered[event.shard][writer_here] += 1;
                });
            }
        }
        if last_round {
            return all;
        }
    }
}

/// Waits until no program runs any more.
fn settle(object: &Object) {
    let deadline = Instant::now() + Duration::from_secs(300);
    let runs =
        || (0..SLOTS.len()).flat_map(|ring| counts(object, ring)).flatten().map(|c| c.next).sum::<u64>();
    let mut before = u64::MAX;
    while before != runs() {
        assert!(Instant::now() < deadline, "programs still run");
        before = runs();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The counts of one ring, by CPU and writer.
fn counts(object: &Object, ring: usize) -> Vec<[Count; WRITERS]> {
    let counts = map(object, "counts");
    let of = |writer: usize| {
        let key = u32::try_from(ring * WRITERS + writer).unwrap();
        counts.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap()
    };
    let writers: [_; WRITERS] = std::array::from_fn(of);
    let count = |value: &Vec<u8>| bytemuck::pod_read_unaligned(&value[..size_of::<Count>()]);
    (0..writers[0].len()).map(|cpu| std::array::from_fn(|writer| count(&writers[writer][cpu]))).collect()
}

/// The largest number of records that began while a writer of this ring that interrupted no other was active.
fn longest(object: &Object, ring: usize, cpu: usize) -> u64 {
    let key = u32::try_from(ring).unwrap().to_ne_bytes();
    let values = map(object, "writing").lookup_percpu(&key, MapFlags::ANY).unwrap().unwrap();
    bytemuck::pod_read_unaligned::<UnderWay>(&values[cpu]).longest
}

/// Whether writers wrote more than twice the ring's capacity, on some CPU.
fn lapped(object: &Object, ring: usize) -> bool {
    let committed = |cpu: &[Count; WRITERS]| cpu.iter().map(|count| count.committed).sum::<u64>();
    counts(object, ring).iter().map(committed).any(|committed| committed > 2 * SLOTS[ring])
}

/// Whether all writers wrote, and the clock interrupted a record and a claim.
fn met(object: &Object, ring: usize) -> bool {
    let by_cpu = counts(object, ring);
    let any = |writer: usize, what: fn(&Count) -> u64| by_cpu.iter().any(|cpu| what(&cpu[writer]) > 0);
    (0..WRITERS).all(|writer| any(writer, |c| c.committed))
        && any(TICK, |c| c.nested)
        && (!has_guard() || any(TICK, |c| c.pending))
}

/// Every written record is accounted for.
fn check(object: &Object, seen: &mut Seen) {
    let slots = SLOTS[seen.ring];
    let by_cpu = counts(object, seen.ring);
    let dropped = by_cpu.iter().flatten().map(|count| count.dropped).sum::<u64>();
    assert_eq!(seen.reader.stats().dropped(), dropped, "ring of {slots}");
    let mut all_passed = 0;
    for (cpu, counts) in by_cpu.iter().enumerate() {
        let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
        let (committed, discarded, nested) = (sum(|c| c.committed), sum(|c| c.discarded), sum(|c| c.nested));
        let delivered = seen.delivered[cpu];
        assert!(
            delivered.iter().zip(counts).all(|(seen, made)| *seen <= made.committed),
            "{delivered:?} {counts:?}"
        );
        // Unclaimed tickets, because their slot was still held from the lap before.
        let passed = seen.reader.position(cpu).unwrap();
        all_passed += passed;
        let holes = passed.checked_sub(committed + discarded).expect("each record has a ticket of its own");
        assert!(holes <= nested * 6, "CPU {cpu}, {slots} slots: {holes} holes, {nested} nested");
        // A burst in the middle of a claim can take more tickets than the claim tries.
        let gave_up = counts.iter().map(|count| count.dropped).sum::<u64>();
        assert!(gave_up <= nested, "CPU {cpu}, {slots} slots: {gave_up} dropped, {nested} nested");
        // A slot is stepped over, or read late, only if it is held for a whole lap.
        let longest = longest(object, seen.ring, cpu);
        let none = longest < slots;
        assert!(
            !none || (holes == 0 && seen.back[cpu].is_none()),
            "CPU {cpu}, {slots} slots: {holes} holes, {seen:?}"
        );
    }
    let stats = seen.reader.stats();
    assert_eq!(stats.passed(), all_passed, "ring of {slots}: {stats:?}");
    assert_eq!(stats.delivered, seen.delivered.iter().flatten().sum::<u64>());
}

/// Checks that the test covered these events.
fn check_overlap(object: &Object, seen: &[Seen]) {
    let mut reads = 0;
    for (ring, slots) in SLOTS.iter().enumerate() {
        let by_cpu = counts(object, ring);
        let of =
            |writer: usize, what: fn(&Count) -> u64| by_cpu.iter().map(|cpu| what(&cpu[writer])).sum::<u64>();
        for writer in 0..WRITERS {
            assert!(of(writer, |c| c.committed) > 0, "ring of {slots}: writer {writer} never wrote");
        }
        let (nested, pending) = (of(TICK, |c| c.nested), of(TICK, |c| c.pending));
        let dropped = (0..WRITERS).map(|writer| of(writer, |c| c.dropped)).sum::<u64>();
        println!(
            "ring of {slots}: {nested} records in the midst of another, {pending} in the midst of a claim, {dropped} dropped"
        );
        assert!(
            nested > 0 && (pending > 0) == has_guard(),
            "ring of {slots}: {nested} nested, {pending} in a claim"
        );
        for seen in seen.iter().filter(|seen| seen.ring == ring) {
            let stats = seen.reader.stats();
            println!("  {}: {stats:?}", seen.access);
            assert!(stats.delivered > 0, "ring of {slots}");
            assert!(stats.lapped > 0 || seen.access == Access::Mapped, "ring of {slots}");
            reads += stats.delivered;
        }
    }
    println!("explored {reads} reads");
}
