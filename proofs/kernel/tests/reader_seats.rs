//! Whose seat is it: readers of other PID namespaces, readers that fork, and readers that come after another one.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

use mapring::abi::readers::{SEATS, held};
use mapring::liveness::RingReader;
use mapring_kernel_tests::prelude::*;

/// The slots of a shard.
const SLOTS: u64 = 64;
const FOREVER: Duration = Duration::from_secs(3600);

/// A ring that keeps its oldest records, and its pin.
fn pinned(object: &Object) -> (Ring<Rec>, Runner, PathBuf, PinDir) {
    let (ring, pins) = (Ring::open(&map(object, "events")).unwrap(), PinDir::new());
    let pin = pins.path("events");
    ring.pin(&pin, 0o600).unwrap();
    (ring, Runner::new(object, "publish"), pin, pins)
}

/// Publishes `count` records. Returns how many were not dropped.
fn publish(program: &Runner, n: u64, count: u64) -> u64 {
    let mut args = [n, count];
    program.run(&mut args);
    args[1] >> 32
}

/// A process of the tests, which goes on with each line. It ends when this is dropped.
struct Process(Child, Option<ChildStdin>, BufReader<ChildStdout>);

impl Process {
    fn new(args: &[&str], pin: &Path, stages: &[&str]) -> Self {
        everywhere();
        let mut child = Command::new(env!("CARGO_BIN_EXE_kernel-tests-child"));
        child.args(args).arg(pin).args(stages).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        on_one_cpu();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self(child, input, output)
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.2.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        writeln!(self.1.as_mut().unwrap()).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.1 = None;
        self.0.wait().unwrap();
    }
}

fn required(ring: &Ring<Rec>) -> Vec<RingReader> {
    ring.readers().unwrap().into_iter().filter(|reader| reader.required.is_some()).collect()
}

/// Takes all seats but these.
fn take_all_others(ring: &Ring<Rec>, taken: usize) {
    let mut readers: Vec<_> = (taken..SEATS).map(|_| ring.reader_from(Start::Now)).collect();
    for (at, reader) in readers.iter_mut().enumerate() {
        // Both kinds of readers look for seats of the dead.
        if at % 16 == 0 {
            reader.require(FOREVER).unwrap();
        } else {
            reader.bell().unwrap();
        }
    }
    let mut one_more = ring.reader_from(Start::Now);
    assert_eq!(one_more.require(FOREVER).unwrap_err().kind(), ErrorKind::NoSeat);
}

/// Neither side sees the other's process.
#[test]
fn a_reader_of_another_pid_namespace_keeps_its_seat() {
    let object = &require_bpf!(KEEP);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned(object);

    let mut other = Process::new(&["elsewhere", "reader"], &pin, &["require=3600000"]);
    assert_eq!(other.line(), "ready");
    let [known] = required(&ring)[..] else { panic!("one reader") };
    assert!(known.alive && known.pid != std::process::id(), "{known:?}");
    take_all_others(&ring, 1);
    assert_eq!(required(&ring).len(), 1);
    assert_eq!(publish(&program, 0, SLOTS + 5), SLOTS, "programs wait for it");

    // The other way round, and among several namespaces.
    let mut mine = ring.reader();
    mine.require(FOREVER).unwrap();
    for stage in ["bell", "require=3600000"] {
        let mut third = Process::new(&["elsewhere", "reader"], &pin, &[stage]);
        assert_eq!(third.line(), "ready");
        assert!(mine.is_required(), "{stage}");
        assert_eq!(required(&ring).len(), 2 + usize::from(stage != "bell"));
    }
    assert_eq!((required(&ring).len(), ring.readers().unwrap().len()), (2, 2), "they gave their seats back");
    drop(other);
    assert_eq!(required(&ring).len(), 1);
    while mine.poll().is_some() {}
    assert_eq!(mine.lost(), 0);
}

/// A worker that ends takes nothing from its parent. A daemon reads on in a seat of its own.
#[test]
fn only_the_process_that_took_a_seat_gives_it_back() {
    let object = &require_bpf!(KEEP);
    on_one_cpu();
    let (ring, program, pin, _pins) = pinned(object);
    let mut forked = Process::new(&["forks"], &pin, &[]);
    assert_eq!(forked.line(), "true true false", "required, with a bell, without an error");
    let [parent] = required(&ring)[..] else { panic!("one reader") };
    assert!(parent.alive && parent.pid == forked.0.id(), "{parent:?}");
    // It is rung for as before.
    assert_eq!(publish(&program, 0, SLOTS), SLOTS);
    assert_eq!(publish(&program, SLOTS, 1), 0, "it is still required");
    forked.go_on();
    assert_eq!(forked.line(), "true true false", "the daemon has read");
    forked.0.wait().unwrap();
    let alive: Vec<_> = required(&ring).into_iter().filter(|reader| reader.alive).collect();
    let [daemon] = alive[..] else { panic!("one reader: {alive:?}") };
    assert_ne!(daemon.pid, parent.pid);
    // What was the parent's is free for the next reader, and the daemon's is not.
    let mut next = ring.reader_from(Start::Now);
    next.require(FOREVER).unwrap();
    assert_eq!(required(&ring).iter().filter(|reader| reader.pid == daemon.pid).count(), 1);
    assert!(required(&ring).iter().all(|reader| reader.alive));
    assert_eq!(publish(&program, 100, SLOTS + 1), SLOTS);
}

/// The time since when an earlier reader has held programs back is not the next one's.
#[test]
fn a_lease_begins_with_its_reader() {
    let object = &require_bpf!(KEEP);
    on_one_cpu();
    let (ring, program, _, _pins) = pinned(object);
    let readers = map(object, "events__readers");
    publish(&program, 0, SLOTS);
    let mut reader = ring.reader();
    for again in [false, true] {
        // As if the earlier one had held them back since the machine has started.
        for shard in 0..ring.shards() {
            let (element, word) = (held(shard, 0) / SEATS, held(shard, 0) % SEATS);
            let key = u32::try_from(element).unwrap().to_ne_bytes();
            let mut value = readers.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            value[8 * word..8 * word + 8].copy_from_slice(&1_u64.to_ne_bytes());
            readers.update(&key, &value, MapFlags::ANY).unwrap();
        }
        reader.require(Duration::from_nanos(1_000_000_000)).unwrap();
        assert_eq!(ring.readers().unwrap()[0].required.unwrap().holds, None, "{again}");
        // Its lease begins with this record.
        assert_eq!(publish(&program, 100, 1), 0);
        assert!(reader.is_required(), "{again}");
    }
}
