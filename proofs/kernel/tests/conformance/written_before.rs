//! Data that programs wrote before any reader started: the C reader and the library report exactly the same.

use mapring_kernel_tests::prelude::*;

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
pub(crate) fn locator(object: &Object, name: &str) -> String {
    format!("id:{}", raw::info(map(object, name).as_fd()).id)
}

/// The same for the map of maps `numbers`.
pub(crate) fn maps(object: &Object) -> String {
    locator(object, "numbers").replace("id:", "maps:")
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

/// How maps of maps are distinguished, and which are refused.
#[test]
fn maps_of_maps_are_told_apart() {
    require_bpf!();
    let numa = &bpf::NUMA.load(fitted);
    let resizable = &bpf::RESIZABLE.load(fitted);
    assert!(Reader::refuses(&["numa", &maps(resizable)]).contains("not a PER_CPU_MAPS ring"));
    // Before its loader has opened it, one CPU has a ring, which its types describe.
    let (_, report) = Reader::once(&["numa", &maps(numa)]);
    assert_eq!(report.stats, ReadStats::default());
    let ring = Ring::<Numbered>::open(&map(resizable, "numbers")).unwrap();
    assert_eq!(push(&Runner::new(resizable, "push_run"), 1, 0, 5), 0);
    assert_eq!(Reader::once(&["ring", &maps(resizable)]).1.records.len(), 5);
    assert!(Reader::refuses(&["cells", &maps(resizable)]).contains("holds ring, expected cells"));
    assert!(
        Reader::refuses(&["ring", &locator(resizable, "numbers")])
            .contains("is a map of type array_of_maps, expected array")
    );
    drop(ring);
}

#[test]
fn latches_that_user_space_writes() {
    require_bpf!();
    let object = &bpf::CONFORMANCE.load(fitted);
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
        let bss = locator(object, bss(object).as_str());
        for lookup in [&["--lookup"][..], &[]] {
            let (_, report) = Reader::once(&[lookup, &["latches", &locator(object, "latches")]].concat());
            let right = bytemuck::bytes_of(&Numbered::new(7, number)).to_vec();
            assert_eq!(report.values, [(0, 1, number + 1, right)]);
            let (_, report) = Reader::once(&[lookup, &["global", &bss, "global_latch"]].concat());
            let right = bytemuck::bytes_of(&Odd::new(u32::try_from(number).unwrap())).to_vec();
            assert_eq!(report.values, [(0, 0, number + 1, right)]);
        }
    }
    let bss = locator(object, bss(object).as_str());
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
