//! Compares Rust types with C types at open, field by field: equal types are reported as compared, differences with
//! both sides, and so are types that could not be compared.

use std::mem::MaybeUninit;

use libbpf_rs::Map;
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::record::UncheckedReason;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::skel::{LayoutsSkelBuilder, layouts_types as c};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Record)]
#[repr(C)]
struct Pair {
    first: u32,
    second: u32,
}

/// `struct nested`, with one of the names of its anonymous union.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Nested {
    ns: u64,
    pid: u32,
    port: u16,
    comm: [u8; 6],
    pair: Pair,
    _pad: [u8; 4],
}

#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Padded {
    kind: u8,
    _hole: [u8; 7],
    ns: u64,
    pid: u32,
    _end: [u8; 4],
}

#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C, packed)]
struct Packed {
    kind: u8,
    ns: u64,
    pid: u32,
}

#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Arrays {
    matrix: [[u32; 3]; 2],
    comm: [u8; 16],
    pairs: [Pair; 2],
}

#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(transparent)]
struct Address(u64);

#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Numbers {
    ratio: f64,
    r#where: Address,
    wide: u64,
    mode: u32,
    yes: u8,
    sign: i8,
    quick: u16,
}

/// Declares a struct in its own scope, as a type that differs from C's.
macro_rules! other {
    ($name:ident $([$repr:ident])? { $($field:ident: $ty:ty),* }) => {
        #[derive(Clone, Copy, Pod, Zeroable, Record)]
        #[repr(C $(, $repr)?)]
        struct $name {
            $($field: $ty),*
        }
    };
}

#[test]
fn the_same_in_both_languages() {
    require_bpf!();
    on_one_cpu();
    let mut storage = MaybeUninit::uninit();
    let mut open = LayoutsSkelBuilder::default().open(&mut storage).unwrap();
    mapring_loader::prepare(&mut open).unwrap();
    let skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    let (object, maps) = (skel.object(), &skel.maps);
    let ring = Ring::<Nested>::open(&maps.ring).unwrap();
    let packed = Cells::<Packed>::open(&maps.packed).unwrap();
    assert_eq!(ring.layout_check(), LayoutCheck::Fields);
    assert_eq!(packed.layout_check(), LayoutCheck::Fields);
    assert_eq!(Cells::<Padded>::open(&maps.padded).unwrap().layout_check(), LayoutCheck::Fields);
    assert_eq!(Cells::<Arrays>::open(&maps.arrays).unwrap().layout_check(), LayoutCheck::Fields);
    assert_eq!(Cells::<Numbers>::open(&maps.numbers).unwrap().layout_check(), LayoutCheck::Fields);
    assert_eq!(Cells::<Pair>::open(&maps.cells).unwrap().layout_check(), LayoutCheck::Fields);
    assert_eq!(
        Latches::<Pair>::open_with(&maps.latches, OpenOptions::new().write(true)).unwrap().layout_check(),
        LayoutCheck::Fields
    );
    assert_eq!(PerCpuCells::<Pair>::open(&maps.percpu).unwrap().layout_check(), LayoutCheck::Fields);

    Runner::new(object, "write").run(&mut [0, 0, 123, 0]);
    let record = ring.reader().poll().unwrap().record;
    assert_eq!((record.ns, record.pid, record.port, record.pair), (123, 8, 9, Pair { first: 3, second: 4 }));
    let Packed { kind, ns, pid } = packed.read(0).unwrap();
    assert_eq!((kind, ns, pid), (1, 123, 8));
}

/// libbpf-cargo's own structs, without any field written by hand.
#[test]
fn structs_of_the_skeleton() {
    let object = &require_bpf!(LAYOUTS);
    on_one_cpu();
    Runner::new(object, "write").run(&mut [0, 0, 123, 0]);
    let cells = Cells::<c::pair>::open(&map(object, "cells")).unwrap();
    let packed = Cells::<c::packed>::open(&map(object, "packed")).unwrap();
    assert_eq!((cells.layout_check(), packed.layout_check()), (LayoutCheck::Fields, LayoutCheck::Fields));
    assert_eq!(Cells::<c::padded>::open(&map(object, "padded")).unwrap().layout_check(), LayoutCheck::Fields);
    assert_eq!(c::mode::LAYOUT, u32::LAYOUT);
    let (pair, c::packed { kind, ns, pid }) = (cells.read(0).unwrap(), packed.read(0).unwrap());
    assert_eq!(((pair.first, pair.second), (kind, ns, pid)), ((3, 4), (1, 123, 8)));
}

/// Types that every way to open refuses; the message contains both sides.
fn differs<T: Record>(map: &Map<'_>, field: &str, c: &str, rust: &str) {
    let fd = || map.as_fd().try_clone_to_owned().unwrap();
    let id = map.info().unwrap().info.id;
    for error in [
        Cells::<T>::open(map).unwrap_err(),
        Cells::<T>::open(fd()).unwrap_err(),
        Cells::<T>::open_with(fd(), OpenOptions::new().write(true)).unwrap_err(),
        Cells::<T>::open(Source::id(id)).unwrap_err(),
        OpenOptions::new().expect_record::<T>().open(fd()).unwrap_err(),
    ] {
        let message = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Layout, "{message}");
        assert!(message.contains(std::any::type_name::<T>()), "{message}");
        assert!(message.ends_with(&format!(": {field} is {c} in C, and {rust} in Rust")), "{message}");
    }
}

#[test]
fn names_and_places() {
    let object = &require_bpf!(LAYOUTS);
    let cells = &map(object, "cells");
    let int = "unsigned int (4 bytes)";

    other!(Swapped { second: u32, first: u32 });
    let integer = |at| format!("an integer of 4 bytes at byte {at}");
    differs::<Swapped>(cells, "pair.second", &format!("{int} at byte 4"), &integer(0));
    other!(Renamed { first: u32, third: u32 });
    differs::<Renamed>(cells, "pair.third", "no such field", &integer(4));
    // Half of it, and the rest unnamed.
    other!(Half { first: u32, _rest: u32 });
    differs::<Half>(cells, "pair.second", int, "no such field");
    other!(Narrow { first: u16, _first: u16, second: u32 });
    differs::<Narrow>(cells, "pair.first", int, "an integer of 2 bytes");
    differs::<u64>(cells, "pair", "struct pair (8 bytes)", "an integer of 8 bytes");
    differs::<[u32; 2]>(cells, "pair", "struct pair (8 bytes)", "2 times an integer of 4 bytes");
    other!(Longer { first: u32, second: u32, _more: u64 });
    differs::<Longer>(cells, "pair", "struct pair (8 bytes)", "a struct of 16 bytes");
    other!(More { first: u32, second: u32, third: u32 });
    differs::<More>(cells, "pair.third", "no such field", &integer(8));
}

#[test]
fn padding_and_packing() {
    let object = &require_bpf!(LAYOUTS);
    let long = "unsigned long long (8 bytes)";

    // Packed in one type, padded in the other, and the reverse.
    let (in_c, rust) = (format!("{long} at byte 8"), "an integer of 8 bytes at byte 1");
    differs::<Packed>(&map(object, "padded"), "padded.ns", &in_c, rust);
    let (in_c, rust) = (format!("{long} at byte 1"), "an integer of 8 bytes at byte 8");
    differs::<Padded>(&map(object, "packed"), "packed.ns", &in_c, rust);
    // All fields at their place, except padding at the end.
    other!(Cut[packed] { kind: u8, _hole: [u8; 7], ns: u64, pid: u32 });
    differs::<Cut>(&map(object, "padded"), "padded", "struct padded (24 bytes)", "a struct of 20 bytes");
    other!(Grown { kind: u8, _hole: [u8; 7], ns: u64, pid: u32, _end: [u8; 12] });
    differs::<Grown>(&map(object, "padded"), "padded", "struct padded (24 bytes)", "a struct of 32 bytes");
    // A field where C has padding.
    other!(Filled { kind: u8, hole: [u8; 7], ns: u64, pid: u32, _end: u32 });
    let hole = "7 times an integer of 1 bytes at byte 1";
    differs::<Filled>(&map(object, "padded"), "padded.hole", "no such field", hole);
}

#[test]
fn arrays_and_nested_structs() {
    let object = &require_bpf!(LAYOUTS);
    let arrays = &map(object, "arrays");

    other!(Turned { matrix: [[u32; 2]; 3], comm: [u8; 16], pairs: [Pair; 2] });
    differs::<Turned>(
        arrays,
        "arrays.matrix",
        "2 times 3 times unsigned int (4 bytes)",
        "3 times 2 times an integer of 4 bytes",
    );
    other!(Flat { matrix: [u32; 6], comm: [u8; 16], pairs: [Pair; 2] });
    differs::<Flat>(
        arrays,
        "arrays.matrix",
        "2 times 3 times unsigned int (4 bytes)",
        "6 times an integer of 4 bytes",
    );
    other!(Wider { matrix: [[u32; 3]; 2], comm: [u16; 8], pairs: [Pair; 2] });
    differs::<Wider>(arrays, "arrays.comm", "16 times char (1 bytes)", "8 times an integer of 2 bytes");
    other!(Riap { second: u32, first: u32 });
    other!(Within { matrix: [[u32; 3]; 2], comm: [u8; 16], pairs: [Riap; 2] });
    let (in_c, rust) = ("unsigned int (4 bytes) at byte 4", "an integer of 4 bytes at byte 0");
    differs::<Within>(arrays, "arrays.pairs[].second", in_c, rust);

    // Padding in another place, within a ring's record.
    other!(Moved { ns: u64, pid: u32, port: u16, comm: [u8; 6], _pad: [u8; 4], pair: Pair });
    let moved = Ring::<Moved>::open(&map(object, "ring")).unwrap_err().to_string();
    assert!(moved.starts_with("map ring (") && moved.contains("Moved): nested.pair is"), "{moved}");
    assert!(
        moved.ends_with("struct pair (8 bytes) at byte 20 in C, and a struct of 8 bytes at byte 24 in Rust")
    );
}

#[test]
fn kinds_of_numbers() {
    let object = &require_bpf!(LAYOUTS);
    let numbers = &map(object, "numbers");

    other!(Whole { ratio: u64, r#where: u64, wide: u64, mode: u32, yes: u8, sign: i8, quick: u16 });
    differs::<Whole>(numbers, "numbers.ratio", "double (8 bytes)", "an integer of 8 bytes");
    other!(Real { ratio: f64, r#where: u64, wide: u64, mode: f32, yes: u8, sign: i8, quick: u16 });
    differs::<Real>(numbers, "numbers.mode", "enum mode (4 bytes)", "a float of 4 bytes");
    other!(Wide { ratio: f64, r#where: u64, wide: [u32; 2], mode: u32, yes: u8, sign: i8, quick: u16 });
    // Its kind depends on the compiler; kernels before 6.0 do not support such a wide one, and libbpf makes it a union.
    let wide = Cells::<Wide>::open(numbers).unwrap_err().to_string();
    let kind = if kernel() < (6, 0) && wide.contains("union") { "union" } else { "enum" };
    assert!(
        wide.contains(&format!("numbers.wide is {kind}")) && wide.contains("wide (8 bytes) in C"),
        "{wide}"
    );
    assert!(wide.ends_with("and 2 times an integer of 4 bytes in Rust"), "{wide}");

    // Rust has no bit fields: the Rust type declares the integer that contains them, as padding.
    other!(Bits { plain: u32, flag: u32, after: u64 });
    differs::<Bits>(
        &map(object, "bits"),
        "bits.flag",
        "a bit field of 1 bits at bit 32",
        "an integer of 4 bytes at byte 4",
    );
    other!(Unnamed { plain: u32, _bits: u32, after: u64 });
    differs::<Unnamed>(&map(object, "bits"), "bits.flag", "unsigned int (4 bytes)", "no such field");
}

#[test]
fn kinds_come_before_fields() {
    let object = &require_bpf!(LAYOUTS);
    let error = Ring::<u16>::open(&map(object, "cells")).unwrap_err();
    assert!(error.to_string().ends_with("holds cells, expected ring"), "{error:?}");
}

/// A region of pairs without BTF.
fn without_btf() -> MapHandle {
    let geometry = Geometry::new(Kind::Cells, 8, 2, 1).unwrap();
    let size = size_of::<bpf_map_create_opts>() as u64;
    let opts = bpf_map_create_opts { sz: size, map_flags: BPF_F_MMAPABLE, ..Default::default() };
    let entries = u32::try_from(geometry.entries()).unwrap();
    let map = MapHandle::create(MapType::Array, Some("bare"), 4, 16, entries, &opts).unwrap();
    let words = Preamble { geometry, generation: 1, name: "pair".to_owned() }.encode();
    for (index, words) in (0..).zip(words.chunks(2)) {
        update(&map, index, words);
    }
    map
}

#[test]
fn what_was_not_compared_and_why() {
    let object = &require_bpf!(LAYOUTS);
    let fd = |map: &dyn AsFd| -> OwnedFd { map.as_fd().try_clone_to_owned().unwrap() };
    let says = |compared: LayoutCheck, why: UncheckedReason, part: &str| {
        assert_eq!(compared, LayoutCheck::Size(why));
        assert!(compared.to_string().starts_with("by size alone (") && compared.to_string().contains(part));
    };

    // Not compared: a region, for any type; a region that was opened with another type.
    let region = Region::open(&map(object, "cells")).unwrap();
    let cells = Cells::<[u8; 8]>::from_region(region).unwrap();
    says(cells.layout_check(), UncheckedReason::NotAsked, "OpenOptions::expect_record");
    let region = OpenOptions::new().expect_record::<Pair>().open(&map(object, "cells")).unwrap();
    assert_eq!(Cells::<Pair>::from_region(region.clone()).unwrap().layout_check(), LayoutCheck::Fields);
    says(
        Cells::<u64>::from_region(region).unwrap().layout_check(),
        UncheckedReason::NotAsked,
        "without this type",
    );

    // Nothing to compare with.
    let bare = without_btf();
    let cells = Cells::<Pair>::open(fd(&bare.as_fd())).unwrap();
    says(cells.layout_check(), UncheckedReason::NoBtf, "clang -g");
    let size = Cells::<Filled<3>>::open(&bare).unwrap_err();
    assert!(
        size.to_string().contains("records of 8 bytes") && size.to_string().ends_with("has 12"),
        "{size:?}"
    );
    let memfd = Cells::<Pair>::create_memfd(1).unwrap();
    says(memfd.layout_check(), UncheckedReason::Memfd, "memfd");
    let opened = Cells::<Pair>::open(fd(memfd.region())).unwrap();
    says(opened.layout_check(), UncheckedReason::Memfd, "memfd");

    // A read-only descriptor also gives access to its types.
    let cells = Cells::<Pair>::open(read_only(&map(object, "cells"))).unwrap();
    assert_eq!(cells.layout_check(), LayoutCheck::Fields);
    assert_eq!(cells.layout_check().to_string(), "field by field with the map's BTF");
}

/// Reading BTF takes privilege, reading the region does not.
#[test]
fn who_may_not_read_btf_is_told() {
    let object = &require_bpf!(LAYOUTS);
    let pins = PublicPins::new();
    let cells = Cells::<Pair>::open(&map(object, "cells")).unwrap();
    cells
        .region()
        .freeze_and_pin(pins.path("cells"), PinOptions::new(0o666).allow_unprivileged_bpf(true))
        .unwrap();
    let path = pins.path("cells");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let program = env!("CARGO_BIN_EXE_kernel-tests-child");
    let output = child(program, &["nobody", "compared", path.to_str().unwrap()]);
    assert_eq!(output, "Mapped by size alone (reading BTF takes CAP_SYS_ADMIN)\n");
    let output = child(program, &["compared", path.to_str().unwrap()]);
    assert_eq!(output, "Mapped field by field with the map's BTF\n");
}
