//! Maps of programs that rustc compiled (`proofs/rust-bpf`): records, cells, counters and histograms on the real kernel, what BTF
//! says of them, and what the command shows. `options.rs` runs against the same object. `cargo xtask prove rust-bpf` builds it, says
//! where in MAPRING_RUST_BPF, and runs these tests, which are ignored otherwise.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use bytemuck::{Pod, Zeroable};
use libbpf_rs::{Object, ObjectBuilder, PrintLevel, ProgramType, set_print};
use mapring::abi::{Geometry, Kind, Tails};
use mapring::record::LayoutCheck;
use mapring::{Cells, Counters, ErrorKind, Histograms, Ring};
use mapring_kernel_tests::{PinDir, Runner, cpus, fitted, kernel, map, on_cpu, require_bpf};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Mixed {
    ns: u64,
    ratio: f32,
    flags: u16,
    letters: [u8; 5],
    small: Small,
    _padding: [u8; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Small {
    a: i8,
    b: u8,
}

/// The same with another name.
#[derive(Clone, Copy, Debug, Pod, Zeroable, mapring::Record)]
#[repr(C)]
struct Other {
    n: u64,
    thrice: u64,
}

/// The first release of those that are tested whose verifier accepts loops of more than a thousand records: 6.1 does not.
const LONG_LOOPS: (u32, u32) = (6, 12);

/// The objects for this machine: those for any machine, and those that publish by plain stores.
fn objects() -> Vec<PathBuf> {
    let folder = std::env::var_os("MAPRING_RUST_BPF").expect("cargo xtask prove rust-bpf sets it");
    let ways = if cfg!(target_arch = "x86_64") { &["any", "x86"][..] } else { &["any"] };
    ways.iter().map(|way| PathBuf::from(&folder).join(way).join("options")).collect()
}

fn with_each(test: impl Fn(&Object)) {
    for file in objects() {
        let mut open = ObjectBuilder::default().open_file(&file).unwrap();
        fitted(&mut open);
        let object = open.load().unwrap();
        mapring_loader::initialize_object(&object).unwrap();
        test(&object);
    }
}

fn run(object: &Object, program: &str, args: [u64; 2]) -> u32 {
    Runner::new(object, program).run_for(&mut { args })
}

/// What libbpf says of a program that the kernel refuses: the verifier's words.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Each by itself, as a program of a type that old kernels have, too. Without fetching atomics, counters and histograms are left.
#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn each_program_loads_by_itself() {
    require_bpf!();
    let has_atomics = kernel() >= if cfg!(target_arch = "aarch64") { (5, 18) } else { (5, 12) };
    let print = set_print(Some((PrintLevel::Warn, |_, text| SAID.lock().unwrap().push_str(&text))));
    let mut wrong = Vec::new();
    for file in objects() {
        let open = || ObjectBuilder::default().open_file(&file).unwrap();
        let names: Vec<_> =
            open().progs().map(|program| program.name().to_string_lossy().into_owned()).collect();
        assert!(names.len() > 12, "{names:?}");
        for name in names.into_iter().filter(|name| name != "push_many") {
            let mut object = open();
            for mut program in object.progs_mut() {
                program.set_autoload(*program.name() == *name);
                program.set_prog_type(ProgramType::RawTracepoint);
            }
            let loads = object.load().is_ok();
            let log = std::mem::take(&mut *SAID.lock().unwrap());
            let should = has_atomics || ["count_calls", "add_time"].contains(&&*name);
            if loads != should || !(loads || log.contains("BPF_STX uses reserved fields")) {
                wrong.push(format!("{}: {name}: {}", file.display(), &log[log.len().saturating_sub(500)..]));
            }
        }
    }
    set_print(print);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without `loader::prepare`, and for loaders that have none: one shard.
#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn maps_have_the_elements_of_one_shard() {
    let geometry = |kind, record, capacity| Geometry::new(kind, record, capacity, 1).unwrap();
    let tailed =
        |record| geometry(Kind::Ring, record, 64).with_tails(Tails::new(64, 16384).unwrap()).unwrap();
    let expected = [
        ("plain", geometry(Kind::Ring, 16, 64)),
        ("wakes", geometry(Kind::Ring, 16, 64)),
        ("keeps", geometry(Kind::Ring, 16, 64)),
        ("plain_of_cpu__first", geometry(Kind::Ring, 16, 64)),
        ("tails", tailed(32)),
        ("wakes_tails", tailed(32)),
        ("wakes__readers", geometry(Kind::Readers, 8, 64)),
        ("mixed", geometry(Kind::Ring, 24, 8)),
        ("values", geometry(Kind::Cells, 16, 3)),
        ("calls", geometry(Kind::Counters, 8, 9)),
        ("times", geometry(Kind::Histograms, 4096, 2)),
    ];
    for file in objects() {
        let open = ObjectBuilder::default().open_file(&file).unwrap();
        for (name, geometry) in &expected {
            let map = open.maps().find(|map| map.name() == *name).unwrap_or_else(|| panic!("no map {name}"));
            let found = (map.value_size() as usize, map.max_entries() as usize);
            assert_eq!(found, (8 * geometry.element_words(), geometry.entries()), "{name}");
        }
    }
}

#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn records_have_the_fields_of_their_type() {
    require_bpf!();
    with_each(|object| {
        let ring = Ring::<Mixed>::open(&map(object, "mixed")).unwrap();
        assert_eq!(ring.layout_check(), LayoutCheck::Fields);
        let mut reader = ring.reader();
        on_cpu(cpus()[0]);
        assert_eq!(run(object, "push_mixed", [77, 0]), 1);
        let read: Vec<_> = reader.drain().map(|event| event.record).collect();
        let small = Small { a: -1, b: 1 };
        let expected =
            Mixed { ns: 77, ratio: 0.5, flags: 7, letters: [77, 1, 2, 3, 4], small, ..Mixed::zeroed() };
        assert_eq!(read.iter().map(|it| Mixed { _padding: [0; 3], ..*it }).collect::<Vec<_>>(), [expected]);
        let refused = Ring::<Other>::open(&map(object, "plain")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Layout, "{refused}");
    });
}

/// As long as C's, on newer kernels: the verifier checks the slow claim once, and remembers a few jumps of each round.
#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn a_long_loop_of_records_is_accepted() {
    require_bpf!();
    for file in objects() {
        let mut open = ObjectBuilder::default().open_file(&file).unwrap();
        for mut program in open.progs_mut() {
            program.set_autoload(program.name() == "push_many");
            if kernel() < LONG_LOOPS {
                // Statistics only: otherwise libbpf loads a refused program again and again for the whole log, which takes minutes.
                program.set_log_level(4);
            }
        }
        fitted(&mut open);
        let loaded = open.load();
        assert_eq!(loaded.is_ok(), kernel() >= LONG_LOOPS, "{:?}", loaded.err());
        let Ok(object) = loaded else { continue };
        mapring_loader::initialize_object(&object).unwrap();
        let mut reader = Ring::<Rec>::open(&map(&object, "plain")).unwrap().reader();
        on_cpu(cpus()[0]);
        assert_eq!(run(&object, "push_many", [0, 0]), 1600);
        let read: Vec<_> = reader.drain().map(|event| event.record.n).collect();
        let stats = reader.stats();
        assert!(read.is_sorted() && read.last() == Some(&1599), "{read:?}");
        assert_eq!(stats.delivered + stats.lost(), 1600, "{stats}");
    }
}

/// The record of a tail that is too long, or whose helper failed.
#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn a_tail_that_is_too_long_is_refused_and_counted() {
    require_bpf!();
    with_each(|object| {
        let mut reader = Ring::<Rec>::open(&map(object, "tails")).unwrap().reader();
        on_cpu(cpus()[0]);
        for (len, committed) in [(64, 1), (65, 0), (u64::MAX, 1), (i64::MAX as u64, 0), (0, 1)] {
            assert_eq!(run(object, "push_too_long", [1, len]), committed, "{len}");
        }
        assert_eq!(reader.drain().count(), 3);
        let stats = reader.stats();
        assert_eq!((stats.discarded, stats.too_long, stats.lost()), (2, 2, 0), "{stats}");
    });
}

#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn cells_hold_the_latest_value() {
    require_bpf!();
    with_each(|object| {
        let cells = Cells::<Rec>::open(&map(object, "values")).unwrap();
        assert_eq!(cells.layout_check(), LayoutCheck::Fields);
        for (at, index) in (0..3).enumerate() {
            assert_eq!(run(object, "set_value", [10 + index, index]), 1);
            assert_eq!(run(object, "update_value", [5, index]), 1);
            let n = 15 + index;
            assert_eq!(cells.read(at).unwrap(), Rec { n, twice: 2 * n });
        }
        for index in [3, u64::from(u32::MAX)] {
            assert_eq!(run(object, "set_value", [1, index]), 0, "no such cell");
        }
        assert_eq!(cells.region().dropped().unwrap(), 2);
    });
}

#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn counters_and_histograms_count_on_each_cpu() {
    require_bpf!();
    with_each(|object| {
        let calls = Counters::open(&map(object, "calls")).unwrap();
        let times = Histograms::open(&map(object, "times")).unwrap();
        for &cpu in cpus() {
            on_cpu(cpu);
            run(object, "count_calls", [41, 8]);
            run(object, "count_calls", [1, 9]);
            run(object, "add_time", [1000, 1]);
            run(object, "add_time", [u64::MAX, 1]);
            run(object, "add_time", [1000, 2]);
            assert_eq!(calls.get(cpu, 8).unwrap(), 42);
            assert_eq!(times.snapshot_of(cpu, 1).unwrap().count(), 2);
        }
        let all = cpus().len() as u64;
        assert_eq!((calls.sum(8).unwrap(), calls.sum(7).unwrap()), (42 * all, 0));
        let buckets: Vec<_> = times.snapshot(1).unwrap().buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets.len(), 2, "{buckets:?}");
        assert!(
            buckets
                .iter()
                .zip([1000, u64::MAX])
                .all(|((range, count), value)| { range.contains(&value) && *count == all })
        );
        assert_eq!(calls.region().dropped().unwrap(), 2 * all, "add and inc");
        assert_eq!(times.region().dropped().unwrap(), all);
    });
}

/// What `mapring show` prints of a record: the names of its fields.
#[test]
#[ignore = "cargo xtask prove rust-bpf"]
fn the_command_shows_fields_by_name() {
    require_bpf!();
    let command = std::env::var_os("MAPRING_COMMAND").expect("cargo xtask prove rust-bpf sets it");
    with_each(|object| {
        let dir = PinDir::new();
        let pins = [("mixed", "ratio"), ("values", "twice"), ("wakes", "twice"), ("tails", "twice")];
        run(object, "push_mixed", [1, 0]);
        run(object, "set_value", [1, 0]);
        for (name, field) in pins {
            if name == "wakes" || name == "tails" {
                run(object, &format!("push_{name}"), [1, 0]);
            }
            let pin = dir.path(name);
            match name {
                "mixed" => Ring::<Mixed>::open(&map(object, name)).unwrap().pin(&pin, 0o600).unwrap(),
                "values" => Cells::<Rec>::open(&map(object, name)).unwrap().pin(&pin, 0o600).unwrap(),
                _ => Ring::<Rec>::open(&map(object, name)).unwrap().pin(&pin, 0o600).unwrap(),
            }
            let shown = Command::new(&command).arg("show").arg(&pin).output().unwrap();
            let text = String::from_utf8_lossy(&shown.stdout);
            assert!(shown.status.success() && text.contains(field), "{name}: {text}{shown:?}");
        }
    });
}
