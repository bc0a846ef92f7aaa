//! The compiled programs and the production producers in Rust have the same effect on memory, word for word.
#![cfg(not(loom))]

use bytemuck::NoUninit;
use mapring_bpf_loom::decode::{FETCH, Insn};
use mapring_bpf_loom::machine::Machine;
use mapring_bpf_loom::map::{Inner, Map};
use mapring_bpf_loom::object::{Object, variants};
use mapring_bpf_loom::ring::{Ring, Word};
use mapring_bpf_loom::sync::Ordering;
use mapring_core::abi::gauge::{self as gauges, GAUGE};
use mapring_core::abi::histogram::{BUCKETS, HISTOGRAM, STRIDE, values};
use mapring_core::abi::readers::{LOOK, NEVER};
use mapring_core::abi::top as tops;
use mapring_core::abi::{Geometry, Kind, Preamble};
use mapring_core::protocol::ring::{ShardMut, Slot};
use mapring_core::protocol::{WordsMut, cell, counters, gauge, histogram, top};

const RINGS: [&str; 9] =
    ["narrow1", "narrow2", "narrow4", "narrow8", "narrow16", "wide1", "wide2", "placed2", "placed4"];

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}

fn words(map: &Map) -> Vec<u64> {
    map.words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// The words of a ring. Of the times of drops only whether there was one: the two writers drop at different times.
fn words_of(ring: &Ring) -> Vec<u64> {
    let (mut words, header) = (words(&ring.map), ring.place().head());
    (words[header + 6], words[header + 7]) = (0, u64::from(words[header + 7] != 0));
    words
}

/// 0, or -1: dropped.
fn done(returned: u64) -> bool {
    match returned & 0xffff_ffff {
        0 => true,
        0xffff_ffff => false,
        other => panic!("{other}"),
    }
}

/// Claims as a program does, and stops after it has stored the hint, or dropped.
fn claim(ring: &Ring, machine: &mut Machine<'_>) -> bool {
    loop {
        // A guarded claim also stores to the head earlier.
        if let [.., claimed, _] = machine.changes()
            && ring.word(claimed.word).any_slot() == Word::Seq(0)
        {
            return true;
        }
        if machine.step().is_some() {
            return false;
        }
    }
}

/// The end of a record.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Commit,
    Discard,
    Never,
}

/// Writes a record into a slot, if one is free, and ends it. Returns its ticket.
fn rust_writes<T: NoUninit>(slot: Option<Slot<'_, T>>, record: T, end: End) -> Option<u64> {
    let mut slot = slot?;
    let ticket = slot.ticket();
    if end == End::Never {
        std::mem::forget(slot);
        return Some(ticket);
    }
    slot.write(&record);
    match end {
        End::Commit => assert_eq!(slot.commit(), Some(ticket)),
        _ => slot.discard(),
    }
    Some(ticket)
}

#[test]
fn rings_are_written_alike() {
    let mut random = Random(1);
    let (mut drops, mut steps) = (0, 0);
    let objects: Vec<_> = Object::all().collect();
    let guarded = objects.iter().filter(|object| object.asks_for_guard()).map(|object| ("guarded ", object));
    for (way, object) in objects.iter().map(|object| ("", object)).chain(guarded) {
        // Nobody sleeps: a wakeable ring is written like any other.
        for name in RINGS.into_iter().chain(["waking4"]).filter(|name| object.has(&format!("push_{name}"))) {
            let [push, discard, output] =
                ["push", "discard", "output"].map(|verb| object.program(&format!("{way}{verb}_{name}")));
            for _ in 0..50 {
                let (bpf, rust) = (Ring::new(name), Ring::new(name));
                for ring in [&bpf, &rust] {
                    if let Some(Inner::Readers(first, _)) = &ring.map.inner {
                        ring.map.words[first + LOOK].store(NEVER, Ordering::Relaxed);
                    }
                }
                let shard = ShardMut::new(WordsMut::new(&rust.map.words), rust.place());
                let mut next = 0;
                for value in 1..60 {
                    let what = random.below(32);
                    let program = [&push, &discard, &output][usize::try_from(what % 3).unwrap()];
                    let mut machine = bpf.machine(program, object.order, value);
                    if what == 15 {
                        // A stale hint, as far back as possible.
                        let head = next - random.below(3 * bpf.slots()).min(next);
                        bpf.set_head(head);
                        rust.set_head(head);
                    }
                    let end = if what == 14 {
                        End::Never
                    } else {
                        [End::Commit, End::Discard, End::Commit][usize::try_from(what % 3).unwrap()]
                    };
                    let ticket = if name.starts_with("wide") {
                        rust_writes(shard.reserve(), [value; 2], end)
                    } else {
                        rust_writes(shard.reserve(), value, end)
                    };
                    if what == 14 {
                        // Abandoned: the slot stays taken permanently.
                        assert_eq!(claim(&bpf, &mut machine), ticket.is_some());
                    } else {
                        let before = words(&bpf.map);
                        let got = done(machine.run());
                        assert_eq!(got, ticket.is_some(), "{} {name}: {ticket:?} of {before:?}", object.name);
                    }
                    assert_eq!(words_of(&bpf), words_of(&rust), "{} {name} {value} {what}", object.name);
                    next = ticket.map_or(next, |t| t + 1);
                    drops += u64::from(ticket.is_none());
                    steps = steps.max(machine.steps());
                }
            }
        }
    }
    assert!(drops > 0, "never dropped anything");
    println!("{drops} drops; {steps} instructions at most");
}

#[test]
fn cells_are_written_alike() {
    let geometry = Geometry::new(Kind::Cells, 16, 1, 1).unwrap();
    for object in Object::all() {
        let (bpf, rust) = (Map::new("cell", &geometry), Map::new("cell", &geometry));
        let one = |words| WordsMut::new(words).slice(geometry.shard(0) * 3, 3);
        let [set, update] = ["set_cell", "update_cell"].map(|name| object.program(name));
        for (value, sum) in [(5_u64, 5_u64), (7, 12), (30, 42)] {
            let run = |program, by| done(Machine::new(program, &bpf, object.order, 0, [by, 0]).run());
            assert!(if value == 5 { run(&set, value) } else { run(&update, value) });
            assert!(cell::set(one(&rust.words), &[sum; 2]));
            assert_eq!(words(&bpf), words(&rust), "{}", object.name);
        }
        // Another writer is in the cell, or the cell does not exist: dropped, and counted.
        bpf.words[geometry.shard(0) * 3].store(7, Ordering::Relaxed);
        for (dropped, index) in [(1, 0), (2, 1), (3, u64::from(u32::MAX))] {
            let before = words(&bpf);
            assert!(!done(Machine::new(&set, &bpf, object.order, 0, [9, index]).run()));
            assert_eq!(words(&bpf)[Preamble::DROPPED], dropped);
            assert_eq!(words(&bpf)[Preamble::DROPPED + 1..], before[Preamble::DROPPED + 1..]);
        }
    }
}

#[test]
fn counters_are_written_alike() {
    let geometry = Geometry::new(Kind::Counters, 8, 2, 2).unwrap();
    for object in Object::all() {
        let (bpf, rust) = (Map::new("counters", &geometry), Map::new("counters", &geometry));
        let add = object.program("add_counters");
        for (cpu, index, by) in [(0, 0, 3), (0, 1, 5), (1, 0, 7), (1, 1, u64::MAX), (0, 0, 1)] {
            Machine::new(&add, &bpf, object.order, cpu, [by, index]).run();
            let bank = geometry.shard(usize::try_from(cpu).unwrap()) * geometry.element_words();
            counters::add(WordsMut::new(&rust.words).slice(bank, 2), usize::try_from(index).unwrap(), by);
            assert_eq!(words(&bpf), words(&rust), "{}", object.name);
        }
        // No such counter, no such CPU's bank.
        for (dropped, cpu, index) in [(1, 0, 2), (2, 0, u64::MAX), (3, 2, 0)] {
            Machine::new(&add, &bpf, object.order, cpu, [1, index]).run();
            assert_eq!(words(&bpf)[Preamble::DROPPED], dropped, "{}", object.name);
        }
    }
}

/// Every bucket's first and last value: the programs have no instruction that finds the highest bit.
#[test]
fn histograms_are_written_alike() {
    let geometry = Geometry::new(Kind::Histograms, HISTOGRAM as u64, 2, 2).unwrap();
    for object in Object::all() {
        let (bpf, rust) = (Map::new("histogram", &geometry), Map::new("histogram", &geometry));
        let add = object.program("add_histogram");
        let mut steps = 0;
        for value in (0..BUCKETS).map(values).flat_map(|values| [*values.start(), *values.end()]) {
            let (cpu, index) = (value >> 1 & 1, value & 1);
            let mut machine = Machine::new(&add, &bpf, object.order, cpu, [value, index]);
            machine.run();
            steps = steps.max(machine.steps());
            let bank = geometry.shard(usize::try_from(cpu).unwrap()) * geometry.element_words();
            let first = bank + usize::try_from(index).unwrap() * STRIDE;
            histogram::add(WordsMut::new(&rust.words).slice(first, BUCKETS), value);
            let place = rust.words.iter().zip(&bpf.words);
            let same = place.map(|(a, b)| (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)));
            assert!(same.into_iter().all(|(rust, bpf)| rust == bpf), "{}: {value}", object.name);
        }
        // No such histogram, no such CPU's bank.
        let before = words(&bpf);
        for (dropped, cpu, index) in [(1, 0, 2), (2, 0, u64::from(u32::MAX)), (3, 2, 0)] {
            Machine::new(&add, &bpf, object.order, cpu, [u64::MAX, index]).run();
            assert_eq!(words(&bpf)[Preamble::DROPPED], dropped, "{}", object.name);
        }
        assert_eq!(words(&bpf)[Preamble::DROPPED + 1..], before[Preamble::DROPPED + 1..]);
        println!("{}: {steps} instructions at most", object.name);
    }
}

#[test]
fn gauges_are_written_alike() {
    let geometry = Geometry::new(Kind::Gauges, GAUGE as u64, 2, 2).unwrap();
    for object in Object::all() {
        let (bpf, rust) = (Map::new("gauge", &geometry), Map::new("gauge", &geometry));
        let set = object.program("set_gauge");
        let (mut random, mut late, mut steps) = (Random(1), 0, 0);
        for n in 0..3000_u64 {
            // Some windows, of several turns; the first and the last place are among them.
            let window = [0, 1, 1023][usize::try_from(n % 3).unwrap()] + 1024 * (n / 500 + random.below(2));
            let (cpu, index, value) = (random.below(2), random.below(2), random.below(1 << 20));
            let mut machine = Machine::new(&set, &bpf, object.order, cpu, [window << 20 | value, index]);
            machine.run();
            steps = steps.max(machine.steps());
            let bank = geometry.shard(usize::try_from(cpu).unwrap()) * geometry.element_words();
            let first = bank + usize::try_from(index).unwrap() * gauges::STRIDE;
            late += u64::from(!gauge::set(
                WordsMut::new(&rust.words).slice(first, gauges::STRIDE),
                window,
                value,
            ));
            assert_eq!(words(&bpf)[Preamble::DROPPED], late, "{}: {n}", object.name);
        }
        assert!(late > 0, "none was late");
        assert_eq!(words(&bpf)[Preamble::WORDS..], words(&rust)[Preamble::WORDS..], "{}", object.name);
        // No such gauge, no such CPU's bank.
        for (dropped, cpu, index) in [(1, 0, 2), (2, 0, u64::from(u32::MAX)), (3, 2, 0)] {
            Machine::new(&set, &bpf, object.order, cpu, [u64::MAX, index]).run();
            assert_eq!(words(&bpf)[Preamble::DROPPED], late + dropped, "{}", object.name);
        }
        println!("{}: {steps} instructions at most", object.name);
    }
}

#[test]
fn top_keys_are_counted_alike() {
    let geometry = Geometry::new(Kind::TopKeys, tops::BUCKET as u64, 2, 2).unwrap();
    for object in Object::all() {
        let (bpf, rust) = (Map::new("top", &geometry), Map::new("top", &geometry));
        let add = object.program("add_top");
        let (mut random, mut replaced, mut steps) = (Random(1), 0, 0);
        for n in 0..3000_u64 {
            // Keys that come again, and others; also 0, and those that differ only in the high half.
            let key = match n % 4 {
                0 => n,
                1 => random.below(12) << 60,
                _ => random.below(8),
            };
            let (cpu, amount) = (random.below(2), random.below(100));
            let mut machine = Machine::new(&add, &bpf, object.order, cpu, [key, amount]);
            machine.run();
            steps = steps.max(machine.steps());
            let bucket = geometry.shard(usize::try_from(cpu).unwrap()) + tops::bucket(key, 2);
            let bucket = WordsMut::new(&rust.words).slice(bucket * tops::STRIDE, tops::STRIDE);
            assert!(top::add(bucket, key, amount));
            replaced += u64::from(n % 4 == 0);
            assert_eq!(words(&bpf), words(&rust), "{}: addition {n} of {amount} to {key:x}", object.name);
        }
        assert!(replaced > 100);
        // Another program is in the bucket: only the sum changes.
        let first = (geometry.shard(0) + tops::bucket(5, 2)) * tops::STRIDE;
        for map in [&bpf, &rust] {
            map.words[first].store(map.words[first].load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        }
        Machine::new(&add, &bpf, object.order, 0, [5, 7]).run();
        assert!(!top::add(WordsMut::new(&rust.words).slice(first, tops::STRIDE), 5, 7));
        assert_eq!(words(&bpf), words(&rust), "{}", object.name);
        assert_eq!(words(&bpf)[first + tops::OTHER], 7);
        // No such CPU's table.
        Machine::new(&add, &bpf, object.order, 2, [5, 7]).run();
        assert_eq!(words(&bpf)[Preamble::DROPPED], 1, "{}", object.name);
        println!("{}: {steps} instructions at most", object.name);
    }
}

#[test]
fn a_cpu_beyond_the_last_shard_writes_nothing() {
    for object in Object::all() {
        for name in ["narrow1", "wide2", "placed2"] {
            let ring = Ring::new(name);
            let push = object.program(&format!("push_{name}"));
            assert!(!done(Machine::new(&push, &ring.map, object.order, 1, [1, 0]).run()));
            let mut expected = vec![0; ring.map.words.len()];
            expected[Preamble::DROPPED] = 1;
            assert_eq!(words(&ring.map), expected, "{}", object.name);
        }
    }
}

/// The purpose of guarded claims: programs on a kernel that has the guard make no fetching atomic.
#[test]
fn a_guarded_claim_needs_no_atomic() {
    for variant in variants(&RINGS.map(|name| format!("guarded push_{name}"))) {
        for (program, name) in variant.programs.iter().zip(RINGS) {
            let ring = Ring::new(name);
            for value in 1..10 {
                let mut machine = ring.machine(program, variant.order, value);
                loop {
                    let insn = program.code[machine.pc()];
                    assert!(!matches!(insn, Insn::Atomic { op, .. } if op & FETCH != 0), "{name}: {insn:?}");
                    if let Some(returned) = machine.step() {
                        assert!(done(returned), "{name}: dropped");
                        break;
                    }
                }
            }
        }
    }
}

/// This state once made every claim in C fail permanently: the claim took the odd sequence of a later lap for one of
/// its own lap, and so did not search for the end of the ring.
#[test]
fn a_stale_hint_among_held_slots_does_not_stop_a_ring() {
    for object in Object::all() {
        let ring = Ring::new("narrow4");
        for (word, shared) in ring.map.words.iter().enumerate() {
            if let Word::Seq(slot) = ring.word(word) {
                shared.store([14, 13, 9, 9][slot], Ordering::Relaxed);
            }
        }
        ring.set_head(21);
        let push = object.program("push_narrow4");
        for value in 1..4 {
            assert!(done(ring.machine(&push, object.order, value).run()), "{}: record {value}", object.name);
        }
    }
}
