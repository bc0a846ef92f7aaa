//! A loader that starts again: it pins every kind of region, and the next one goes on with what is pinned, or replaces it.

use mapring::abi::Gate;
use mapring::{Commands, Gauges, Histograms, TopKeys};
use mapring_kernel_tests::prelude::*;
use mapring_loader::{Reuse, map, reuse};

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    ns: u64,
    pid: u32,
    code: i32,
}

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Pair {
    ns: u64,
    more: u64,
}

/// Those that are the same in both objects.
const SAME: [&str; 4] = ["same", "kept", "woken", "resized"];
/// Those of which one handle can pin each.
const ALL: [&str; 16] = [
    "same",
    "kept",
    "woken",
    "resized",
    "sizes",
    "nodes",
    "tails",
    "cells",
    "per_cpu",
    "latches",
    "orders",
    "counters",
    "own_counters",
    "histograms",
    "gauges",
    "top",
];

/// Pins the region `name` of an object by its own handle, and freezes it if asked to.
fn pin(object: &Object, name: &str, path: &Path, freeze: bool) -> Result<(), Error> {
    let source = map(object, name)?;
    let options = PinOptions::new(0o640).replace(true);
    macro_rules! pin {
        ($handle:expr) => {{
            let handle = $handle;
            if freeze { handle.freeze_and_pin(path, options) } else { handle.pin(path, options) }
        }};
    }
    match name {
        "tails" => pin!(Ring::<Rec>::open(source)?),
        "sizes" | "nodes" => pin!(Ring::<u64>::open(source)?),
        "cells" | "per_cpu" => pin!(Cells::<Rec>::open(source)?),
        "latches" => pin!(Latches::<Rec>::open(source)?),
        "orders" => pin!(Commands::<Rec>::open(source)?),
        "counters" | "own_counters" => pin!(Counters::open(source)?),
        "histograms" => pin!(Histograms::open(source)?),
        "gauges" => pin!(Gauges::open(source)?),
        "top" => pin!(TopKeys::open(source)?),
        _ => pin!(Ring::<Rec>::open(source)?),
    }
}

/// As procfs says.
fn is_frozen(pin: &Path) -> bool {
    let region = Region::open(pin).unwrap();
    let message = fs::read_to_string(format!("/proc/self/fdinfo/{}", region.as_fd().as_raw_fd())).unwrap();
    message.lines().any(|line| line.split_whitespace().eq(["frozen:", "1"]))
}

#[test]
fn every_handle_freezes_and_pins() {
    let object = &require_bpf!(REUSE);
    let pins = PinDir::new();
    for name in ALL.into_iter().filter(|name| *name != "per_cpu") {
        let path = pins.path(name);
        for freeze in [false, true] {
            pin(object, name, &path, freeze).unwrap_or_else(|e| panic!("{name}: {e}"));
            let one = if path.is_dir() { path.join("cpu0") } else { path.clone() };
            assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o640);
            assert_eq!(is_frozen(&one), freeze, "{name}");
        }
    }
}

/// A place that is refused leaves the map as it was.
#[test]
fn nothing_is_frozen_for_a_pin_that_exists() {
    let object = &require_bpf!(REUSE);
    let pins = PinDir::new();
    let (path, nodes) = (pins.path("same"), pins.path("nodes"));
    pin(object, "cells", &path, false).unwrap();
    pin(object, "nodes", &nodes, false).unwrap();
    let region = Region::open(map(object, "same").unwrap()).unwrap();
    region.freeze_and_pin(&path, 0o600).unwrap_err();
    let ring = Ring::<u64>::open(map(object, "nodes").unwrap()).unwrap();
    ring.freeze_and_pin(&nodes, 0o600).unwrap_err();
    for name in ["same", "nodes__first"] {
        let fd = mapring_kernel_tests::map(object, name);
        assert!(mapring::OpenOptions::new().write(true).open(&fd).unwrap().writable().is_ok(), "{name}");
    }
}

/// What an earlier ring had besides is removed with it, and nothing else is.
#[test]
fn a_region_without_readers_and_bells_replaces_a_ring_with_them() {
    let object = &require_bpf!(REUSE);
    let pins = PinDir::new();
    let path = pins.path("events");
    let [readers, bells] = ["events__readers", "events__bells"].map(|name| pins.path(name));
    for name in ["same", "nodes", "cells"] {
        pin(object, "kept", &path, false).unwrap();
        assert!(readers.exists() && bells.exists(), "before {name}");
        pin(object, name, &path, false).unwrap();
        assert!(!readers.exists() && !bells.exists(), "{name}");
    }
    pin(object, "cells", &readers, false).unwrap();
    pin(object, "same", &path, false).unwrap();
    assert!(readers.exists(), "it is no region of readers");
}

/// Starts again: what is pinned is reused if it fits. Returns what was found, for each of `names`.
fn restart(object: &Compiled, pins: &PinDir, names: &[&str]) -> (Object, Vec<Reuse>) {
    let mut open = object.open();
    let found = names.iter().map(|name| reuse(&mut open, name, pins.path(name)).unwrap()).collect();
    fitted(&mut open);
    let object = open.load().unwrap();
    initialize_object(&object).unwrap();
    (object, found)
}

/// The ids of the maps that are pinned for it.
fn ids(pin: &Path) -> Vec<u32> {
    let mut all = match pin.is_dir() {
        true => fs::read_dir(pin).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![pin.to_owned()],
    };
    all.sort();
    all.iter().map(|pin| raw::info(mapring::any::AnyMap::open(pin.as_path()).unwrap().as_fd()).id).collect()
}

#[test]
fn what_is_pinned_is_used_if_it_fits() {
    require_bpf!();
    on_cpu(cpus()[0]);
    for freeze in [false, true] {
        let pins = PinDir::new();
        // The first start finds nothing.
        let (object, found) = restart(&bpf::REUSE, &pins, &ALL);
        assert!(found.iter().all(|found| matches!(found, Reuse::Nothing)), "{found:?}");
        ALL.iter().for_each(|name| pin(&object, name, &pins.path(name), freeze).unwrap());
        let [mut kept, mut woken] = ["kept", "woken"].map(|name| {
            let mut reader = Ring::<Rec>::open(pins.path(name)).unwrap().reader_from(Start::Now);
            reader.bell().unwrap();
            reader
        });
        kept.require(Duration::from_secs(3600)).unwrap();
        Runner::new(&object, "publish").run(&mut [7, 0]);
        let before = ALL.map(|name| ids(&pins.path(name)));
        drop(object);

        let (object, found) = restart(&bpf::REUSE, &pins, &ALL);
        assert!(found.iter().all(|found| matches!(found, Reuse::Pinned)), "{found:?}");
        ALL.iter().for_each(|name| pin(&object, name, &pins.path(name), freeze).unwrap());
        assert_eq!(ALL.map(|name| ids(&pins.path(name))), before);
        let publish = Runner::new(&object, "publish");
        publish.run(&mut [8, 0]);
        for reader in [&mut kept, &mut woken] {
            assert_eq!([(); 2].map(|()| reader.poll().unwrap().record.ns), [7, 8]);
            assert!(reader.poll().is_none() && reader.arm().is_some());
        }
        publish.run(&mut [9, 0]);
        for reader in [&mut kept, &mut woken] {
            assert!(reader.wait(Duration::from_secs(5)).unwrap());
            assert_eq!(reader.poll().unwrap().record.ns, 9);
        }
        // Programs still keep what the required reader has not read.
        (0..70).for_each(|_| publish.run(&mut [10, 0]));
        assert!(std::iter::from_fn(|| kept.poll().map(drop)).count() < 70);
        assert_eq!(kept.lost(), 0);
    }
}

#[test]
fn what_does_not_fit_is_replaced() {
    require_bpf!();
    on_cpu(cpus()[0]);
    let pins = PinDir::new();
    let names: Vec<_> = ALL.into_iter().chain(["kind", "to_wakeable", "from_wakeable", "fields"]).collect();
    let (object, _) = restart(&bpf::REUSE, &pins, &names);
    let pin_all = |object: &Object, pair: bool| {
        for name in &names {
            let (source, path) = (map(object, name).unwrap(), pins.path(name));
            let options = PinOptions::new(0o600).replace(true);
            let done = match *name {
                "nodes" | "sizes" if pair => Ring::<Pair>::open(source).unwrap().pin(path, options),
                "nodes" | "sizes" => Ring::<u64>::open(source).unwrap().pin(path, options),
                "resized" => Ring::<Rec>::open(source).unwrap().pin(path, options),
                _ => Region::open(source).unwrap().pin(path, options),
            };
            done.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    };
    pin_all(&object, false);
    let olds: Vec<_> = names.iter().map(|name| ids(&pins.path(name))).collect();
    let mut old = Ring::<Rec>::open(pins.path("kept")).unwrap();
    assert!(pins.path("from_wakeable__bells").exists());
    Runner::new(&object, "publish").run(&mut [7, 0]);
    drop(object);

    let (object, found) = restart(&bpf::REUSE_OTHER, &pins, &names);
    for (name, found) in names.iter().zip(&found) {
        match found {
            Reuse::Pinned => assert!(SAME.contains(name), "{name}"),
            Reuse::Unfit(why) => {
                assert!(!SAME.contains(name) && why.kind() == ErrorKind::NotReusable, "{name}: {why}");
                // The loader replaces it.
                assert!(!why.to_string().contains("remove its pin"), "{name}: {why}");
            }
            Reuse::Nothing => panic!("{name} is pinned"),
        }
    }
    // Until the new ones are pinned, readers find the old ones.
    assert!(names.iter().zip(&olds).all(|(name, old)| ids(&pins.path(name)) == *old));
    let cells = Cells::<Rec>::open(pins.path("cells")).unwrap();
    pin_all(&object, true);
    for (name, old) in names.iter().zip(&olds) {
        assert_eq!(ids(&pins.path(name)) == *old, SAME.contains(name), "{name}");
    }
    assert!(!pins.path("from_wakeable__bells").exists() && pins.path("to_wakeable__bells").exists());
    assert!(old.replaced().unwrap().is_none());
    old = Ring::open(pins.path("kept")).unwrap();
    assert_eq!(old.reader().poll().unwrap().record.ns, 7);
    assert_eq!((cells.len(), cells.replaced().unwrap().unwrap().len()), (2, 3));
}

#[test]
fn what_is_pinned_in_part_or_is_something_else() {
    require_bpf!();
    let pins = PinDir::new();
    let object = &bpf::REUSE.load(fitted);
    let mut open = bpf::REUSE.open();
    let mut found = |name: &str, at: &str| reuse(&mut open, name, pins.path(at));
    let mut unfit = |name: &str, at: &str, message: &str| match found(name, at) {
        Ok(Reuse::Unfit(why)) => assert!(why.to_string().contains(message), "{why}"),
        other => panic!("{name} at {at}: {other:?}"),
    };
    pin(object, "kept", &pins.path("kept"), false).unwrap();
    fs::remove_file(pins.path("kept__bells")).unwrap();
    unfit("kept", "kept", "can't be reused without kept__bells");
    pin(object, "nodes", &pins.path("nodes"), false).unwrap();
    unfit("same", "nodes", "it holds a directory of maps, but the object declares one map");
    unfit("nodes", "kept", "it holds one map, but the object declares a directory of maps");
    pin(object, "slots", &pins.path("slots"), false).unwrap();
    unfit("same", "slots", "it holds a map named slots, but the object declares one named same");
    // Of a resizable ring, the pin names the ring in use.
    let ring = Ring::<Rec>::open(map(object, "resized").unwrap()).unwrap();
    ring.region().pin(pins.path("resized"), 0o600).unwrap();
    ring.resize(128).unwrap();
    unfit("resized", "resized", "which another ring has replaced");
    // A process died that resized it: nobody knows which ring programs write.
    ring.region().pin(pins.path("closing"), 0o600).unwrap();
    let pinned = MapHandle::from_pinned_path(pins.path("closing")).unwrap();
    let (at, size) = (8 * Gate::WORD, pinned.value_size() as usize);
    let key = u32::try_from(at / size).unwrap().to_ne_bytes();
    let mut element = pinned.lookup(&key, MapFlags::ANY).unwrap().unwrap();
    let gate = Gate::Open.encode(128) | Gate::LEAVING;
    element[at % size..][..8].copy_from_slice(&gate.to_ne_bytes());
    pinned.update(&key, &element, MapFlags::ANY).unwrap();
    unfit("resized", "closing", "a resizable ring that another one was to replace");

    assert!(matches!(found("same", "nothing"), Ok(Reuse::Nothing)));
    assert!(matches!(found("same", "no/directory"), Ok(Reuse::Nothing)));
    let absent = found("missing", "same").unwrap_err();
    assert!(
        absent.kind() == ErrorKind::OutOfRange && absent.to_string().contains("no map missing"),
        "{absent}"
    );
    let program = object.progs().find(|program| program.name() == "publish").unwrap();
    mapring_sys::PinDir::open(&pins.path("")).unwrap().pin(&program, "program").unwrap();
    let refused = found("same", "program").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongType, "{refused}");
    let elsewhere = reuse(&mut open, "same", "/tmp/same").unwrap_err();
    assert!(elsewhere.to_string().contains("BPF file system"), "{elsewhere}");
}

/// Another process pins the ring at `from` in place of the one at `to`. Kills it at its `stops`-th stop at the entry or exit
/// of a system call. Returns whether it had finished.
fn replace_and_die(from: &Path, to: &Path, stops: usize) -> bool {
    let program = env!("CARGO_BIN_EXE_kernel-tests-replace");
    run_and_die(Command::new(program).args([from, to]), stops)
}

/// Wherever a loader dies while it replaces a ring, a reader finds one of the two whole, and so does the next loader.
#[test]
fn a_loader_that_dies_while_it_replaces_what_is_pinned() {
    require_bpf!();
    let objects = [0, 1].map(|_| bpf::REUSE.load(fitted));
    let pins = PublicPins::new();
    let (to, beside) = (pins.path("to"), pins.path("to__next"));
    let from = ["one", "other"].map(|name| pins.path(name));
    for (object, to) in objects.iter().zip(&from).chain([(&objects[0], &to)]) {
        Ring::<Rec>::open(map(object, "kept").unwrap()).unwrap().pin(to, 0o666).unwrap();
    }
    let old = [0, 1].map(|at: usize| ids(&from[at]));
    let mut half_way = 0;
    for stops in 0.. {
        assert!(stops < 1000, "it does not come to an end");
        let now = ids(&to);
        let next = usize::from(now == old[0]);
        let done = replace_and_die(&from[next], &to, stops);
        half_way += usize::from(beside.exists());
        // Whichever it is, its readers and bells are its own.
        let mut reader = Ring::<Rec>::open(to.as_path()).unwrap().reader();
        reader.bell().unwrap_or_else(|e| panic!("after {stops} stops: {e}"));
        // Who may not open maps by id finds them, too.
        if kernel() >= (5, 19) {
            let as_nobody = || {
                become_nobody().unwrap();
                Ring::<Rec>::open(to.as_path())?.readers()
            };
            let found = thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
            let found = found.unwrap_or_else(|e| panic!("after {stops} stops: {e}"));
            // Tools that run beside this test read all rings of the machine.
            let mine = found.iter().filter(|reader| reader.pid == std::process::id()).count();
            assert_eq!(mine, 1, "after {stops} stops: {found:?}");
        }
        let mut open = bpf::REUSE.open();
        let found = reuse(&mut open, "kept", &to).unwrap();
        assert!(matches!(found, Reuse::Pinned), "after {stops} stops: {found:?}");
        assert!(!beside.exists(), "nothing is left");
        assert!(!done || ids(&to) == old[next], "what was done is done");
        if done {
            break;
        }
    }
    assert!(half_way > 0);
}

/// While loaders replace a directory of pins, readers find all of the earlier ring or all of the next one.
#[test]
fn a_directory_that_is_replaced_is_found_whole() {
    require_bpf!();
    if kernel() < (5, 16) {
        return skipped(
            "a_directory_that_is_replaced_is_found_whole",
            "the kernel can't exchange directories of pins",
        );
    }
    let objects = [0, 1].map(|_| bpf::REUSE.load(fitted));
    let (pins, over, opened) = (PinDir::new(), AtomicBool::new(false), AtomicU64::new(0));
    let path = pins.path("nodes");
    let pin_one = |at: usize| pin(&objects[at % 2], "nodes", &path, false).unwrap();
    pin_one(0);
    let cpus = Ring::<u64>::open(path.as_path()).unwrap().shards();
    thread::scope(|scope| {
        let _stop = Stop(&over);
        scope.spawn(|| {
            let _stop = Stop(&over); // also if it fails
            while !over.load(Ordering::Acquire) {
                let found = Ring::<u64>::open(path.as_path()).unwrap();
                assert_eq!(found.shards(), cpus, "after {} times", opened.load(Ordering::Relaxed));
                opened.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut replaced = 0;
        while !over.load(Ordering::Acquire) && (replaced < 1000 || opened.load(Ordering::Relaxed) < 1000) {
            replaced += 1;
            pin_one(replaced);
        }
    });
    assert!(opened.load(Ordering::Relaxed) >= 1000, "the reader has ended before");
}
