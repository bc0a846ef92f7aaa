//! Loaders with CAP_BPF and CAP_PERFMON alone: they load and initialize objects with every kind of map.

use mapring::loader::initialize_map;
use mapring_kernel_tests::prelude::*;
use mapring_loader::Reuse;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Calls `run` while this thread has no other capability.
fn with_two<T>(run: impl FnOnce() -> T) -> T {
    // Before Linux 5.11 maps count against this limit. Lifting it takes CAP_SYS_RESOURCE, which root has in guests.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let before = capabilities(None).unwrap();
    let mut two = before;
    two.effective = CapabilitySet::BPF | CapabilitySet::PERFMON;
    set_capabilities(None, two).unwrap();
    let done = run();
    set_capabilities(None, before).unwrap();
    done
}

/// Prepares an object without its programs for packets, which take CAP_NET_ADMIN.
fn prepared(object: &mut OpenObject) {
    fitted(object);
    for mut program in
        object.progs_mut().filter(|program| program.name().to_string_lossy().ends_with("_packet"))
    {
        program.set_autoload(false);
    }
}

/// Opens a map without reading its types: it needs a preamble.
fn has_preamble(object: &Object, name: &str) -> bool {
    with_two(|| Region::open(&map(object, name))).is_ok()
}

#[test]
fn regions_of_every_kind_are_initialized() {
    require_bpf!();
    let check = |object: &Compiled, maps: &[&str]| {
        let object = &with_two(|| object.load_only(prepared));
        for &name in maps {
            assert!(!has_preamble(object, name), "{name}");
        }
        with_two(|| initialize_object(object)).unwrap();
        for &name in maps {
            assert!(has_preamble(object, name), "{name}");
        }
    };
    check(&bpf::REFUSALS, &["ring", "cells", "counters"]);
    check(&bpf::PERCPU, &["cells_56", "counters_1"]);
    check(&bpf::LATCHES, &["latches_56", "one"]);
    check(&bpf::COMMANDS, &["orders", "drained_on"]);
    check(&bpf::HISTOGRAM, &["histograms"]);
    check(&bpf::GAUGE, &["gauges"]);
    check(&bpf::TOP, &["table"]);
    check(&bpf::KEEP, &["events"]);
    check(&bpf::TAILS, &["small", "kept"]);
    check(&bpf::WAKEABLE, &["events", "events__readers", "tailed"]);
}

/// Programs write all of the ring, and the maps that the loader made have types as the first one.
#[test]
fn rings_in_several_maps_are_initialized() {
    require_bpf!();
    let numa = &with_two(|| bpf::NUMA.load(prepared));
    let resizable = &with_two(|| bpf::RESIZABLE.load(prepared));
    for object in [numa, resizable] {
        let program = Runner::new(object, "push_run");
        for &cpu in cpus() {
            on_cpu(cpu);
            assert_eq!(push(&program, cpu as u64, 0, 4), 0, "none is dropped");
        }
        everywhere();
        let rings = map(object, "numbers");
        let refused = with_two(|| Ring::<Numbered>::open(&rings)).unwrap_err();
        assert!(refused.to_string().contains("opening maps by id needs CAP_SYS_ADMIN"), "{refused}");
        let first = with_two(|| Ring::<Numbered>::open(&map(object, "numbers__first"))).unwrap();
        assert!(first.reader().poll().is_some(), "a record of the first CPU");
        let ring = Ring::<Numbered>::open(&rings).unwrap();
        assert!(ring.regions().iter().all(|map| map.layout_check::<Numbered>() == LayoutCheck::Fields));
        assert_eq!(ring.reader().drain().count(), 4 * cpus().len());
    }
}

/// By the object, a ring's readers and bells are found, and the map of a resizable ring.
#[test]
fn the_loader_reads_its_rings() {
    require_bpf!();
    let wakeable = &with_two(|| bpf::WAKEABLE.load(prepared));
    let keep = &with_two(|| bpf::KEEP.load(prepared));
    with_two(|| {
        let ring = Ring::<Rec>::open(mapring_loader::map(wakeable, "events").unwrap()).unwrap();
        assert_eq!(ring.region().layout_check::<Rec>(), LayoutCheck::Fields);
        ring.reader().bell().unwrap();
        let mut by_map = Ring::<Rec>::open(&map(wakeable, "events")).unwrap().reader();
        assert!(by_map.bell().unwrap_err().to_string().contains("CAP_SYS_ADMIN"));
        let pins = PinDir::new();
        ring.pin(pins.path("events"), 0o600).unwrap();
        Ring::<Rec>::open(pins.path("events")).unwrap().reader().bell().unwrap();

        let ring = Ring::<Rec>::open(mapring_loader::map(keep, "events").unwrap()).unwrap();
        ring.reader().require(Duration::from_secs(60)).unwrap();
    });

    let object = &with_two(|| bpf::RESIZABLE.load(prepared));
    let source = || mapring_loader::map(object, "numbers").unwrap();
    assert_eq!(push(&Runner::new(object, "push_run"), 0, 0, 4), 0);
    let ring = with_two(|| Ring::<Numbered>::open(source())).unwrap();
    let refused = with_two(|| ring.resize(128)).unwrap_err();
    assert!(refused.to_string().contains("CAP_SYS_ADMIN"), "{refused}");
    assert_eq!((ring.slots(), ring.reader().drain().count()), (64, 4), "nothing has changed");
    ring.resize(128).unwrap();
    assert_eq!(Ring::<Numbered>::open(source()).unwrap().slots(), 128);
    let refused = with_two(|| Ring::<Numbered>::open(source())).unwrap_err();
    assert!(refused.to_string().contains("CAP_SYS_ADMIN"), "{refused}");

    let unknown = mapring_loader::map(object, "number").unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::OutOfRange);
    assert!(
        unknown.to_string().contains("no map number: there are ") && unknown.to_string().contains("numbers")
    );
}

/// What is pinned is found by its pins alone.
#[test]
fn a_loader_starts_again() {
    require_bpf!();
    fn check(object: &Compiled, name: &str, pin: impl Fn(&Object, &Path)) {
        let pins = PinDir::new();
        let path = pins.path(name);
        for first in [true, false] {
            with_two(|| {
                let mut open = object.open();
                let found = mapring_loader::reuse(&mut open, name, &path).unwrap();
                assert!(
                    if first { matches!(found, Reuse::Nothing) } else { matches!(found, Reuse::Pinned) },
                    "{found:?}"
                );
                prepared(&mut open);
                let object = &open.load().unwrap();
                initialize_object(object).unwrap();
                pin(object, &path);
            });
        }
    }
    let replace = PinOptions::new(0o600).replace(true);
    let ring = |object: &Object, name: &str| mapring_loader::map(object, name).unwrap();
    for name in ["events", "tailed"] {
        check(&bpf::WAKEABLE, name, |object, path| {
            Region::open(ring(object, name)).unwrap().pin(path, replace).unwrap();
        });
    }
    check(&bpf::RESIZABLE, "numbers", |object, path| {
        Ring::<Numbered>::open(ring(object, "numbers")).unwrap().pin(path, replace).unwrap();
    });
}

/// A loader that does not pass the object reads the types by their id.
#[test]
fn a_single_map_takes_more() {
    require_bpf!();
    let object = &with_two(|| bpf::REFUSALS.load_only(prepared));
    let ring = map(object, "ring");
    let refused = with_two(|| initialize_map(&ring)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Layout);
    assert!(refused.to_string().contains("CAP_SYS_ADMIN"), "{refused}");
    initialize_map(&ring).unwrap();
    assert!(has_preamble(object, "ring"));
}

/// Maps of mapring, and of others, that the object does not create, or creates not anew.
#[test]
fn maps_that_are_not_new() {
    let first = &require_bpf!(REFUSALS);
    let second = &with_two(|| {
        bpf::REFUSALS.load(|object: &mut OpenObject| {
            fitted(object);
            for mut program in object.progs_mut() {
                program.set_autoload(false);
            }
            for mut open in object.maps_mut() {
                match open.name().to_str().unwrap() {
                    "cells" => open.set_autocreate(false).unwrap(),
                    "ring" => open.reuse_fd(map(first, "ring").as_fd()).unwrap(),
                    _ => {}
                }
            }
        })
    });
    let [ring, same] = [first, second].map(|object| Region::open(&map(object, "ring")).unwrap());
    assert_eq!(ring.preamble().generation, same.preamble().generation);
    assert!(has_preamble(second, "counters"));
}

#[test]
fn variables_are_found_by_name() {
    require_bpf!();
    let object = &with_two(|| bpf::GLOBALS.load(prepared));
    with_two(|| {
        let bss = Globals::open(section(object, ".bss").unwrap()).unwrap();
        assert!(bss.names().iter().any(|name| name == "cell"));
    });
    let by_map = with_two(|| Globals::open(&map(object, "globals_.bss")));
    assert!(by_map.is_err_and(|refused| refused.to_string().contains("CAP_SYS_ADMIN")));
}
