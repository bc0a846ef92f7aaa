//! Data that programs wrote before any reader started: the C reader and the library report exactly the same.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use libbpf_rs::MapCore;
use libbpf_rs::Object;
use libbpf_rs::skel::Skel;
use mapring::loader::section;
use mapring::{Latches, OpenOptions, ReadStats, Record, Region, Ring, Start, globals::Globals};
use mapring_kernel_tests::skel::{ConformanceSkelBuilder, NumaSkelBuilder, ResizableSkelBuilder};
use mapring_kernel_tests::{
    Numbered, PinDir, Runner, cpus, everywhere, fitted, load, load_only, map, on_cpu, push, raw, require_bpf,
};

use super::reader::Reader;

/// `struct odd` of `bpf/conformance.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
pub(crate) struct Odd {
    pub(crate) number: u32,
    copies: [u32; 4],
}

impl Odd {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, copies: [1, 2, 3, 4].map(|i| number ^ i) }
    }
}

/// The reader's argument: the map's id.
pub(crate) fn place(object: &Object, name: &str) -> String {
    format!("id:{}", raw::info(map(object, name).as_fd()).id)
}

/// The same for the map of maps `numbers`.
pub(crate) fn maps(object: &Object) -> String {
    place(object, "numbers").replace("id:", "maps:")
}

/// The library's counts without the dropped records, which the C reader counts all together.
pub(crate) fn read_counts(mut stats: ReadStats) -> ReadStats {
    for count in
        [&mut stats.no_slot, &mut stats.full, &mut stats.no_shard, &mut stats.no_tail, &mut stats.too_long]
    {
        *count = 0;
    }
    stats
}

/// The end of a ticket.
#[derive(Clone, Copy)]
enum End {
    Commit,
    Discard,
    Abandon,
}

#[test]
fn a_ring_is_read_as_the_library_reads_it() {
    use End::{Abandon, Commit, Discard};
    require_bpf!();
    let scripts: [&[(End, usize)]; 8] = [
        &[],
        &[(Commit, 5)],
        &[(Commit, 3), (Discard, 2), (Commit, 1), (Discard, 1)],
        &[(Commit, 8), (Discard, 3), (Commit, 100)],
        &[(Commit, 2), (Abandon, 1), (Commit, 3)],
        &[(Abandon, 1)],
        // Claims step over the slot, which leaves holes, also two in a row.
        &[(Commit, 2), (Abandon, 1), (Commit, 5), (Discard, 1), (Commit, 7)],
        &[(Abandon, 1), (Commit, 7), (Abandon, 1), (Commit, 20), (Abandon, 2), (Commit, 4)],
    ];
    for script in scripts {
        for lookup in [false, true] {
            for start in [Start::First, Start::Oldest] {
                same_of(script, lookup, start);
            }
        }
    }
    everywhere();
}

fn same_of(script: &[(End, usize)], lookup: bool, start: Start) {
    let mut storage = MaybeUninit::uninit();
    let skel = load::<ConformanceSkelBuilder>(&mut storage, fitted);
    // No preamble is written yet: at first the reader relies on the types.
    let place = place(skel.object(), "odds");
    let mut args = vec!["--patience", "8"];
    args.extend(
        [(lookup, "--lookup"), (start == Start::First, "--first")].iter().filter(|a| a.0).map(|a| a.1),
    );
    args.extend(["ring", &place]);
    let program = Runner::new(skel.object(), "push_odd");
    on_cpu(*cpus().last().unwrap());
    let (mut number, mut dropped) = (0, 0);
    for &(end, times) in script {
        for _ in 0..times {
            let mut ctx = [end as u64, number, 0, 0];
            program.run(&mut ctx);
            (number, dropped) = (number + 1, dropped + ctx[3]);
        }
    }
    let (_, by_types) = Reader::once(&args);
    let ring = Ring::<Odd>::open(&map(skel.object(), "odds")).unwrap();
    let (access, by_preamble) = Reader::once(&args);
    assert_eq!(access, if lookup { "lookup" } else { "mapped" });
    assert_eq!(by_types.records, by_preamble.records);

    let mut reader = ring.reader_from(start).with_patience(Duration::ZERO);
    let mut records = Vec::new();
    for _ in 0..32 {
        reader.for_each(usize::MAX, |event| {
            assert_eq!(*event.record, Odd::new(event.record.number));
            records.push((event.shard as u64, event.ticket, bytemuck::bytes_of(event.record).to_vec()));
        });
    }
    assert_eq!(by_preamble.records, records);
    assert_eq!((by_preamble.stats, by_types.stats), (reader.stats(), reader.stats()));
    assert_eq!((by_preamble.dropped, dropped), (reader.stats().dropped(), reader.stats().dropped()));
}

#[test]
fn resizable_rings_are_followed_over_those_that_were_missed() {
    require_bpf!();
    for lookup in [false, true] {
        let mut storage = MaybeUninit::uninit();
        let skel = load_only::<ResizableSkelBuilder>(&mut storage, fitted);
        let program = Runner::new(skel.object(), "push_run");
        // Programs drop their records until the loader has opened the gate.
        assert_eq!(push(&program, 2, 0, 3), 3);
        mapring::loader::initialize(&skel).unwrap();
        let ring = Ring::<Numbered>::open(&map(skel.object(), "numbers")).unwrap();
        let pins = PinDir::new();
        let pin = pins.path("numbers");
        ring.pin(&pin, 0o600).unwrap();
        let maps = maps(skel.object());
        let places = [pin.to_str().unwrap(), &maps];
        let readers = places.map(|place| {
            let args = ["--lookup", "follow", place];
            Reader::start(if lookup { &args } else { &args[1..] })
        });
        let mut mine = ring.reader();
        // Followers may be in any ring until here; in the end nothing is missing.
        let mut rings = 1;
        for round in 0..40 {
            for &cpu in cpus() {
                on_cpu(cpu);
                assert_eq!(push(&program, cpu as u64, round * 10, 10), 0);
            }
            if round % 3 == 2 {
                ring.resize([16, 256, 32][usize::try_from(round / 3).unwrap() % 3]).unwrap();
                rings += 1;
            }
        }
        everywhere();
        let mut count = 0;
        while mine.poll().is_some() {
            count += 1;
        }
        let all = 40 * 10 * cpus().len() as u64;
        assert_eq!(count + mine.lost(), all);
        for reader in readers {
            assert_eq!(reader.access, if lookup { "lookup" } else { "mapped" });
            let said = reader.stop();
            let ReadStats { delivered, lapped, skipped, discarded, .. } = said.stats;
            assert_eq!((delivered, delivered + lapped), (said.records.len() as u64, all), "{said:?}");
            assert!((skipped, discarded) == (0, 0) && (2..=rings).contains(&said.rings), "{:?}", said.stats);
            let numbers: Vec<Numbered> =
                said.records.iter().map(|(.., bytes)| bytemuck::pod_read_unaligned(bytes)).collect();
            for &cpu in cpus() {
                let of_cpu = numbers.iter().filter(|record| record.writer == cpu as u64);
                assert!(of_cpu.is_sorted_by(|a, b| a.number < b.number), "in order, each once");
            }
            assert!(numbers.iter().all(Numbered::is_whole));
        }
    }
}

/// How maps of maps are distinguished, and which are refused.
#[test]
fn maps_of_maps_are_told_apart() {
    require_bpf!();
    let (mut storage, mut other) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let numa = load::<NumaSkelBuilder>(&mut storage, fitted);
    let resizable = load::<ResizableSkelBuilder>(&mut other, fitted);
    assert!(Reader::refuses(&["numa", &maps(resizable.object())]).contains("not a PER_CPU_MAPS ring"));
    // Before its loader has opened it, one CPU has a ring, which its types describe.
    let (_, said) = Reader::once(&["numa", &maps(numa.object())]);
    assert_eq!(said.stats, ReadStats::default());
    let ring = Ring::<Numbered>::open(&map(resizable.object(), "numbers")).unwrap();
    assert_eq!(push(&Runner::new(resizable.object(), "push_run"), 1, 0, 5), 0);
    assert_eq!(Reader::once(&["ring", &maps(resizable.object())]).1.records.len(), 5);
    assert!(Reader::refuses(&["cells", &maps(resizable.object())]).contains("holds ring, expected cells"));
    assert!(
        Reader::refuses(&["ring", &place(resizable.object(), "numbers")])
            .contains("is a map of type array_of_maps, expected array")
    );
    drop(ring);
}

#[test]
fn latches_that_user_space_writes() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<ConformanceSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let latches = Latches::<Numbered>::from_region(
        OpenOptions::new().write(true).open(&map(object, "latches")).unwrap(),
    )
    .unwrap();
    let globals =
        Globals::open_with(section(object, ".bss").unwrap(), OpenOptions::new().write(true)).unwrap();
    let global = globals.latch::<Odd>("global_latch").unwrap();
    for number in 0..5 {
        latches.writer().unwrap().set(1, &Numbered::new(7, number)).unwrap();
        assert!(global.set(&Odd::new(u32::try_from(number).unwrap())).unwrap());
        let bss = place(object, bss(object).as_str());
        for lookup in [&["--lookup"][..], &[]] {
            let (_, said) = Reader::once(&[lookup, &["latches", &place(object, "latches")]].concat());
            let right = bytemuck::bytes_of(&Numbered::new(7, number)).to_vec();
            assert_eq!(said.values, [(0, 1, number + 1, right)]);
            let (_, said) = Reader::once(&[lookup, &["global", &bss, "global_latch"]].concat());
            let right = bytemuck::bytes_of(&Odd::new(u32::try_from(number).unwrap())).to_vec();
            assert_eq!(said.values, [(0, 0, number + 1, right)]);
        }
    }
    let bss = place(object, bss(object).as_str());
    for (name, why) in [("nothing", "no such variable"), ("calls", "neither a cell nor a latch")] {
        assert!(Reader::refuses(&["global", &bss, name]).contains(why));
    }
    assert!(Globals::open(section(object, ".bss").unwrap()).is_ok());
    assert!(Region::open(&map(object, "latches")).is_ok());
}

/// libbpf's name of the section's map.
pub(crate) fn bss(object: &Object) -> String {
    let mut names = object.maps().map(|map| map.name().to_string_lossy().into_owned());
    names.find(|name| name.ends_with(".bss")).unwrap()
}
