//! The verifier and the headers: programs that write in a loop of 1024 (16 before 5.16) load, at a cost per record that
//! leaves room for the rest of the program, and behave as documented.

use libbpf_rs::ObjectBuilder;
use mapring_kernel_tests::prelude::*;

type Item = [u64; 7];

/// Iterations of each loop in `bpf/loops.bpf.c`, and in `bpf/loops_short.bpf.c`: verifiers before 5.16 reach a million
/// instructions in longer ones.
const TIMES: u64 = 1024;
const FEW: u64 = 16;
/// Instructions processed per record that are "well under 1,000".
const ENOUGH: u64 = 500;

#[test]
fn programs_for_this_machine() {
    require_bpf!();
    if check(&bpf::LOOPS_SHORT.load(fitted), FEW) {
        assert!(check(&bpf::LOOPS.load(fitted), TIMES));
        check_longest();
    }
}

#[test]
fn programs_without_the_guard() {
    require_bpf!();
    if check(&bpf::LOOPS_SHORT_NO_GUARD.load(fitted), FEW) {
        assert!(check(&bpf::LOOPS_NO_GUARD.load(fitted), TIMES));
    }
}

#[test]
fn programs_for_any_machine() {
    require_bpf!();
    if check(&bpf::LOOPS_SHORT_PORTABLE.load(fitted), FEW) {
        assert!(check(&bpf::LOOPS_PORTABLE.load(fitted), TIMES));
    }
}

/// One object by each clang of the build machine.
static LONGEST: &[(u32, &[u8])] = include!(concat!(env!("OUT_DIR"), "/longest.rs"));
static LONGEST_WAKING: &[(u32, &[u8])] = include!(concat!(env!("OUT_DIR"), "/longest_waking.rs"));

/// The programs that the verifier rejects first if a claim or an end adds one more jump.
fn check_longest() {
    for (clang, object) in LONGEST.iter().chain(LONGEST_WAKING) {
        let mut open = ObjectBuilder::default().open_memory(object).unwrap();
        fitted(&mut open);
        let object = open.load().unwrap_or_else(|e| panic!("by clang {clang}: {e:#}"));
        let ring = Ring::<Item>::open(&map(&object, "many")).unwrap();
        let times = send(object.progs().next().unwrap().as_fd(), &[0; 64], 1);
        assert!(times >= 1000, "shorter than promised");
        let mut reader = ring.reader();
        let read: Vec<_> = reader.drain().map(|e| (e.ticket, e.record)).collect();
        assert_eq!(read, (0..times.into()).map(|n| (n, item(n))).collect::<Vec<_>>());
    }
}

static STACK: &[(u32, &[u8])] = include!(concat!(env!("OUT_DIR"), "/stack.rs"));
static STACK_SOURCE: &str = include_str!("../bpf/stack/stack.bpf.c");
static GUIDE: &str = include_str!("../../../docs/guide/rings.md");

/// A program and the slow path of its reserve share 512 bytes of stack. The guide says how many a reserve leaves.
#[test]
fn stack_beside_a_record() {
    for line in STACK_SOURCE.lines().filter_map(|line| line.strip_prefix("MAPRING_RING(")) {
        let (name, options) = line.split_once(", struct event, 64").unwrap();
        let (_, rest) = STACK_SOURCE.split_once(&format!("PROGRAM({name}, ")).unwrap();
        let (bytes, _) = rest.split_once(',').unwrap();
        // The guide says that this option takes no stack.
        let options = options.replace("TAILS(64, 128)", "TAILS").replace(", PER_CPU_MAPS", "");
        let row = match options.trim_start_matches(", ").trim_end_matches(");") {
            "" => format!("| none | {bytes} bytes |"),
            options => format!("| `{options}` | {bytes} bytes |"),
        };
        assert!(GUIDE.lines().any(|line| line == row), "{name}: the guide does not say {row}");
    }
    require_bpf!();
    for (clang, object) in STACK {
        let mut open = ObjectBuilder::default().open_memory(object).unwrap();
        fitted(&mut open);
        let object = open.load().unwrap_or_else(|e| panic!("by clang {clang}: {e:#}"));
        assert_eq!(object.progs().count(), 14);
    }
}

/// Record number `n`.
fn item(n: u64) -> Item {
    std::array::from_fn(|i| n + i as u64)
}

/// Whether the kernel reported the verifier's count; checks everything else.
fn check(object: &Object, times: u64) -> bool {
    each_loop_writes_what_it_says(object, times);
    object.progs().all(|program| {
        let name = program.name().to_str().unwrap();
        let Some(verified) = Runner::new(object, name).verified().map(u64::from) else { return false };
        println!("{name}: {} instructions a record", verified / times);
        // The verifier walks through each iteration, so it has checked the whole loop.
        assert!(verified > times * 10, "{name}: {verified} instructions for {times} records");
        assert!(verified < times * ENOUGH, "{name}: {verified} instructions for {times} records");
        true
    })
}

fn each_loop_writes_what_it_says(object: &Object, times: u64) {
    on_one_cpu();
    let run = |name: &str| {
        Runner::new(object, name).run(&mut [0; 1]);
    };
    for (name, slots) in [("one", 1), ("few", 4), ("many", 4096), ("most", 65536)] {
        run(&format!("reserve_{name}"));
        let ring = Ring::<Item>::open(&map(object, name)).unwrap();
        let mut reader = ring.reader();
        let read: Vec<_> = reader.drain().map(|e| (e.ticket, e.record)).collect();
        assert_eq!(read, (times.saturating_sub(slots)..times).map(|n| (n, item(n))).collect::<Vec<_>>());
        assert_eq!((ring.slots() as u64, reader.stats().dropped()), (slots, 0));
    }
    run("output");
    run("discard");
    run("scoped");
    let ring = Ring::<Item>::open(&map(object, "many")).unwrap();
    let mut reader = ring.reader();
    let read: Vec<_> = reader.drain().map(|e| e.record).collect();
    let written = (0..times).chain(0..times).chain((0..times).step_by(2)).chain((0..times).step_by(2));
    assert_eq!(read, written.map(item).collect::<Vec<_>>());
    assert_eq!((reader.lost(), reader.stats().discarded), (0, times / 2 * 2));
    run("spill");
    assert_eq!(reader.drain().filter(|e| e.record == item(0)).count() as u64, times);

    run("cell_begin");
    run("cell_set");
    let cells = Cells::<Item>::open(&map(object, "cells")).unwrap();
    for index in 0..times.min(100) {
        let writes = (times - 1 - index) / 100 + 1;
        let snapshot = cells.snapshot(usize::try_from(index).unwrap()).unwrap();
        assert_eq!((snapshot.version, snapshot.value), (2 * writes, item(index + (writes - 1) * 100)));
    }
    run("count");
    let counters = Counters::open(&map(object, "counters")).unwrap();
    let sum: u64 = (0..100).map(|index| counters.sum(index).unwrap()).sum();
    assert_eq!(sum, (0..times).sum::<u64>());
    assert_eq!(counters.sum(9).unwrap(), (9..times).step_by(100).sum::<u64>());
}
