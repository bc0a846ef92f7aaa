//! Losses with their intervals, and who still writes a ring: after its loader was killed, while pinned links keep its
//! programs attached, and for processes that the kernel does not tell.

use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{BufRead, BufReader};

use bytemuck::AnyBitPattern;
use mapring::Loss;
use mapring::abi::Tails;
use mapring::liveness::{Liveness, Process};
use mapring::reading::LossCause;
use mapring::time::Clock;
use mapring_kernel_tests::prelude::*;

const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");

#[derive(Clone, Copy, Debug, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    n: u64,
}

#[derive(Clone, Copy, Debug, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Wide {
    n: u64,
    words: [u64; 5],
}

/// Runs a program that writes a record, or begins one that nobody ends. Returns whether it got a slot.
fn run(program: &Runner, forever: bool, tail: u64) -> bool {
    let mut args = [u64::from(forever), tail, 1, 0];
    program.run(&mut args);
    args[3] == 1
}

/// The loss that a reader reports, checked against its stats.
fn only_loss<T: AnyBitPattern>(reader: &mut Reader<T>, sum: &mut u64) -> Loss {
    let losses = reader.take_losses();
    let [loss] = &losses[..] else { panic!("{losses:?}") };
    *sum += loss.count;
    assert_eq!(*sum, reader.stats().lost() + reader.stats().dropped(), "{}", reader.stats());
    loss.clone()
}

fn now() -> u64 {
    Clock::Monotonic.now()
}

/// Fills `slots` slots for good, or for a required reader, and checks the intervals of the drops after that.
fn drops_have_an_interval<T: AnyBitPattern>(
    mut readers: Vec<Reader<T>>,
    program: &Runner,
    slots: usize,
    cause: LossCause,
) {
    let mut sums = vec![0; readers.len()];
    (0..slots).for_each(|at| assert!(run(program, cause != LossCause::Full, 0), "slot {at}"));
    for reader in &mut readers {
        assert_eq!(reader.take_losses(), []);
    }
    for round in 0..2 {
        if round > 0 {
            thread::sleep(Duration::from_millis(1100)); // the next drop begins another spell
            readers.iter_mut().for_each(|reader| assert_eq!(reader.take_losses(), []));
        }
        let before = now();
        (0..3).for_each(|_| assert!(!run(program, false, 0)));
        let after = now();
        for (reader, sum) in readers.iter_mut().zip(&mut sums) {
            let loss = only_loss(reader, sum);
            assert_eq!((loss.cause, loss.count, &loss.tickets), (cause, 3, &None), "{loss:?}");
            assert_eq!(loss.shard, Some(cpus()[0]));
            let since = loss.since.unwrap();
            assert!(before <= since && since <= loss.until && loss.until <= after, "{loss:?}");
        }
    }
    // Of two spells since the last look, the first one is in the interval, too.
    assert!(!run(program, false, 0));
    let first = now();
    thread::sleep(Duration::from_millis(1100));
    assert!(!run(program, false, 0));
    for (reader, sum) in readers.iter_mut().zip(&mut sums) {
        let loss = only_loss(reader, sum);
        assert_eq!((loss.cause, loss.count), (cause, 2), "{loss:?}");
        assert!(loss.since <= Some(first) && loss.until > first, "{loss:?}, not {first}");
    }
}

#[test]
fn drops_are_reported_with_their_interval_for_each_sort_of_ring() {
    let object = &require_bpf!(LIVENESS);
    on_cpu(cpus()[0]);
    let open = |name: &str| Ring::<Rec>::open(&map(object, name)).unwrap().reader();
    let by_call = |name: &str| Ring::<Rec>::open(read_only(&map(object, name))).unwrap().reader();
    let program = |name: &str| Runner::new(object, &format!("write_{name}"));
    let (no_slot, no_tail) = (LossCause::NoSlot, LossCause::NoTail);
    drops_have_an_interval(vec![open("narrow"), by_call("narrow")], &program("narrow"), 8, no_slot);
    let wide = Ring::<Wide>::open(&map(object, "wide")).unwrap().reader();
    let wide_by_call = Ring::<Wide>::open(read_only(&map(object, "wide"))).unwrap().reader();
    drops_have_an_interval(vec![wide, wide_by_call], &program("wide"), 8, no_slot);
    drops_have_an_interval(vec![open("nodes")], &program("nodes"), 8, no_slot);
    drops_have_an_interval(vec![open("grows")], &program("grows"), 8, no_slot);
    let tails = |name: &str| Ring::<Rec>::open(&map(object, name)).unwrap().reader();
    drops_have_an_interval(vec![tails("paths")], &program("paths"), 8, no_slot);
    drops_have_an_interval(vec![tails("spaces")], &program("spaces"), 2, no_tail);
    let by_call = Ring::<Rec>::open(read_only(&map(object, "kept"))).unwrap().reader();
    let kept = vec![required(open("kept")), open("kept"), by_call];
    drops_have_an_interval(kept, &program("kept"), 8, LossCause::Full);
    let kept = vec![required(tails("kept_paths")), tails("kept_paths")];
    drops_have_an_interval(kept, &program("kept_paths"), 8, LossCause::Full);
}

fn required<T: AnyBitPattern>(mut reader: Reader<T>) -> Reader<T> {
    reader.require(Duration::from_secs(3600)).unwrap();
    reader
}

/// The slots are free, but not the bytes, because a required reader has not read them.
#[test]
fn bytes_that_a_required_reader_holds_back_are_reported_with_their_time() {
    let object = &require_bpf!(LIVENESS);
    on_cpu(cpus()[0]);
    let open = || Ring::<Rec>::open(&map(object, "kept_spaces")).unwrap().reader();
    let program = Runner::new(object, "write_kept_spaces");
    let mut readers = [required(open()), open()];
    let before = now();
    let written = (0..64).take_while(|_| run(&program, false, 64)).count();
    let after = now();
    assert!(written < 64, "the slots were full");
    for reader in &mut readers {
        let loss = only_loss(reader, &mut 0);
        let is = (loss.cause, loss.count, loss.shard, &loss.tickets);
        assert_eq!(is, (LossCause::Full, 1, Some(cpus()[0]), &None), "{loss:?}");
        assert!(
            loss.since >= Some(before) && loss.since <= Some(loss.until) && loss.until <= after,
            "{loss:?}"
        );
    }
}

/// The clock of a reader's looks, which advances with each tick.
fn coarse_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap()
}

/// Checks the intervals of drops on a CPU without a shard: programs store no time, so they are from look to look.
fn drops_without_a_shard_have_an_interval<T: AnyBitPattern>(mut readers: Vec<Reader<T>>, program: &Runner) {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse).tv_nsec;
    let tick = u64::try_from(tick).unwrap();
    let mut sums = vec![0; readers.len()];
    let mut looked: Vec<Option<[u64; 2]>> = vec![None; readers.len()];
    for drops in 1..=3 {
        (0..drops).for_each(|_| assert!(!run(program, false, 0)));
        for ((reader, sum), looked) in readers.iter_mut().zip(&mut sums).zip(&mut looked) {
            let before = coarse_now();
            let loss = only_loss(reader, sum);
            let after = coarse_now();
            let is = (loss.cause, loss.count, loss.shard, &loss.tickets);
            assert_eq!(is, (LossCause::NoShard, drops, None, &None), "{loss:?}");
            // Not known for the first look. From then on, when the one before began.
            match *looked {
                None => assert_eq!(loss.since, None, "{loss:?}"),
                Some([start, end]) => {
                    assert!(loss.since >= Some(start) && loss.since <= Some(end), "{start} {end} {loss:?}");
                }
            }
            assert!(before <= loss.until && loss.until <= after + 2 * tick, "{before} {after} {loss:?}");
            *looked = Some([before, after]);
        }
        thread::sleep(Duration::from_millis(50));
        // A look that finds nothing is a look.
        if drops == 2 {
            for (reader, looked) in readers.iter_mut().zip(&mut looked) {
                let before = coarse_now();
                assert_eq!(reader.take_losses(), []);
                *looked = Some([before, coarse_now()]);
            }
        }
    }
}

/// Each ring has one shard, for CPU 0, as the loader says: the library refuses a ring that was not prepared.
#[test]
fn drops_on_a_cpu_without_a_shard_are_reported_between_two_looks() {
    require_bpf!();
    let Some(&cpu) = cpus().iter().find(|&&cpu| cpu > 0) else {
        return skipped("drops_on_a_cpu_without_a_shard_are_reported_between_two_looks", "there is one CPU");
    };
    on_cpu(cpu);
    let object = &bpf::LIVENESS.load_only(unfitted);
    let described = |name: &str, geometry: Geometry| {
        let options = OpenOptions::new().assume_layout(geometry).write_preamble(true);
        options.open(&map(object, name)).unwrap();
    };
    let program = |name: &str| Runner::new(object, &format!("write_{name}"));
    described("narrow", one_shard(8, 8));
    let narrow = Ring::<Rec>::open(&map(object, "narrow")).unwrap();
    let by_call = Ring::<Rec>::open(read_only(&map(object, "narrow"))).unwrap();
    drops_without_a_shard_have_an_interval(vec![narrow.reader(), by_call.reader()], &program("narrow"));
    described("wide", one_shard(48, 8));
    let wide = Ring::<Wide>::open(&map(object, "wide")).unwrap();
    drops_without_a_shard_have_an_interval(vec![wide.reader()], &program("wide"));
    described("kept", one_shard(8, 8).keep_oldest().unwrap());
    let kept = Ring::<Rec>::open(&map(object, "kept")).unwrap();
    drops_without_a_shard_have_an_interval(vec![kept.reader()], &program("kept"));
    described(
        "paths",
        one_shard(Tails::PREFIX as u64 + 8, 8).with_tails(Tails::new(32, 1024).unwrap()).unwrap(),
    );
    let paths = Ring::<Rec>::open(&map(object, "paths")).unwrap();
    drops_without_a_shard_have_an_interval(vec![paths.reader()], &program("paths"));
}

#[test]
fn a_new_reader_finds_the_last_record() {
    let object = &require_bpf!(LIVENESS);
    on_cpu(cpus()[0]);
    let narrow = map(object, "narrow");
    let last = |fd| {
        let mut newest = Vec::new();
        let mut reader = Ring::<Rec>::open(fd).unwrap().reader();
        reader.for_each_newest(|event| newest.push((event.shard, event.ticket, event.record.n)));
        newest
    };
    let both = || [last(narrow.as_fd().try_clone_to_owned().unwrap()), last(read_only(&narrow))];
    assert_eq!(both(), [vec![], vec![]]);
    let program = Runner::new(object, "write_narrow");
    assert!(run(&program, false, 0));
    assert_eq!(both(), [[(cpus()[0], 0, 1)]; 2]);
    assert!(run(&program, true, 0), "one that nobody ends");
    assert_eq!(both(), [[(cpus()[0], 0, 1)]; 2]);
}

#[test]
fn a_tail_that_is_too_long_is_reported_with_its_time() {
    let object = &require_bpf!(LIVENESS);
    on_cpu(cpus()[0]);
    let mut reader = Ring::<Rec>::open(&map(object, "paths")).unwrap().reader();
    let program = Runner::new(object, "write_paths");
    let before = now();
    assert!(!run(&program, false, 33) && run(&program, false, 32));
    let loss = only_loss(&mut reader, &mut 0);
    assert_eq!((loss.cause, loss.count, loss.shard), (LossCause::TooLong, 1, Some(cpus()[0])));
    assert!(loss.since >= Some(before) && loss.until <= now(), "{loss:?}");
}

/// Waits until what is known of the ring is as expected: the kernel frees programs a bit later.
fn until(reader: &Reader<Rec>, expected: impl Fn(&Liveness) -> bool) {
    while !expected(&reader.liveness()) {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_loader_is_gone_and_its_pinned_links_stay_attached() {
    require_bpf!();
    let pins = PinDir::new();
    let [dir, ring, link] = ["", "calls", "link"].map(|name| pins.path(name));
    let mut loader = Command::new(CHILD)
        .args(["flight", dir.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(loader.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let mut reader = Ring::<Rec>::open(ring.as_path()).unwrap().reader();
    let names = |live: &Liveness| -> Vec<_> {
        live.programs.as_ref().unwrap().iter().map(|program| (program.name.clone(), program.links)).collect()
    };
    let live = reader.liveness();
    let Process { pid, start } = live.loader.unwrap();
    assert_eq!((pid, live.loader_lives, live.attached()), (loader.id(), true, Some(true)), "{live}");
    assert!(start > 0);
    assert_eq!(names(&live), [("on_call".to_owned(), 1)], "{live}");

    loader.kill().unwrap();
    loader.wait().unwrap();
    let live = reader.liveness();
    assert_eq!((live.loader_lives, live.attached()), (false, Some(true)), "{live}");
    assert_eq!(names(&live), [("on_call".to_owned(), 1)], "{live}");
    assert!(live.to_string().contains(&format!("loader {pid} is gone; attached: on_call (id ")), "{live}");
    // Its records still come.
    reader.drain().for_each(drop);
    let before = now();
    while !reader.drain().any(|event| event.record.n > before) {}

    remove_file(&link).unwrap();
    until(&reader, |live| live.attached() == Some(false) && names(live).is_empty());
    let live = reader.liveness();
    assert!(live.to_string().ends_with("is gone; no program is loaded"), "{live}");
    // What was recorded is still there, and then nothing comes any more.
    while reader.drain().count() > 0 {}
    let idle = reader.liveness().idle;
    assert_eq!(reader.drain().count(), 0);
    assert!(reader.liveness().idle >= idle);
}

/// The programs of a ring, without those that are not loaded any more.
fn programs(object: &Object, name: &str) -> Vec<(String, usize)> {
    let live = Ring::<Rec>::open(&map(object, name)).unwrap().reader().liveness();
    assert_eq!(live.loader.map(|loader| loader.pid), Some(std::process::id()));
    assert!(live.loader_lives);
    assert_eq!(live.attached(), None, "loaded, but how they are attached is not seen: {live}");
    live.programs.unwrap().into_iter().map(|program| (program.name, program.links)).collect()
}

#[test]
fn programs_of_maps_in_maps_are_found_and_have_no_links() {
    let object = &require_bpf!(LIVENESS);
    for name in ["narrow", "nodes", "grows"] {
        assert_eq!(programs(object, name), [(format!("write_{name}"), 0)]);
    }
    // Each CPU's own map of a PER_CPU_MAPS ring, and the next map of a resizable ring.
    for region in Ring::<Rec>::open(&map(object, "nodes")).unwrap().regions() {
        let programs = region.programs().unwrap();
        assert_eq!((programs.len(), &programs[0].name[..]), (1, "write_nodes"), "{region:?}");
    }
    Ring::<Rec>::open(&map(object, "grows")).unwrap().resize(16).unwrap();
    assert_eq!(programs(object, "grows"), [("write_grows".to_owned(), 0)]);
}

#[test]
fn without_privilege_the_loader_is_known_and_the_programs_are_not() {
    require_bpf!();
    let pins = PublicPins::new();
    let object = &bpf::LIVENESS.load(fitted);
    let path = pins.path("calls");
    Ring::<Rec>::open(&map(object, "calls")).unwrap().region().pin(&path, 0o666).unwrap();
    set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let output = child(CHILD, &["nobody", "alive", path.to_str().unwrap()]);
    let me = std::process::id();
    assert!(output.contains(&format!("loader {me} lives; programs unknown: ")), "{output}");
    assert!(output.contains("CAP_SYS_ADMIN: run as root"), "{output}");
}
