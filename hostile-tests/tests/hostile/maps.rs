//! BPF maps: hostile contents, mapped and by system call; the pin taken away, and another map put
//! in its place, while readers have the old one mapped.

use std::os::fd::AsFd;

use libbpf_rs::libbpf_sys::{BPF_F_MMAPABLE, bpf_map_create_opts};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use mapring::layout::{Geometry, Kind, Preamble};
use mapring::{Access, Error, Options, Refusal, Region, Ring};
use mapring_hostile_tests::{Record, read_all};
use mapring_kernel_tests::{PinDir, require_bpf};

use super::images::{contents, with_images};

fn geometry(slots: u64) -> Geometry {
    Geometry::new(Kind::Ring, size_of::<Record>() as u64, slots, 1).unwrap()
}

/// An array of the shape `geometry` that holds `words`, and zeros behind them.
fn array(geometry: Geometry, words: &[u64], map_flags: u32) -> MapHandle {
    let opts =
        bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, map_flags, ..Default::default() };
    let [value, entries] = [geometry.element(), geometry.entries()].map(|n| u32::try_from(n).unwrap());
    let map = MapHandle::create(MapType::Array, Some("hostile"), 4, value, entries, &opts).unwrap();
    for (index, words) in (0_u32..).zip(words.chunks(geometry.element_words())) {
        map.update(&index.to_ne_bytes(), bytemuck::cast_slice(words), MapFlags::ANY).unwrap();
    }
    map
}

/// A ring in a BPF map, as any loader could have made it.
fn map(geometry: Geometry, generation: u64) -> MapHandle {
    let preamble = Preamble { geometry, generation, name: "Record".into() };
    array(geometry, &preamble.encode(), BPF_F_MMAPABLE)
}

fn writable(map: &MapHandle) -> Ring<Record> {
    let fd = map.as_fd().try_clone_to_owned().unwrap();
    Ring::from_region(Options::new().write(true).open_fd(fd).unwrap()).unwrap()
}

#[test]
fn a_reader_stays_with_the_map_that_it_opened() {
    require_bpf!();
    let pins = PinDir::new();
    let path = pins.path("ring");
    let mut old = map(geometry(8), 1);
    old.pin(&path).unwrap();
    let ring = Ring::<Record>::open_pinned(&path).unwrap();
    assert_eq!((ring.access(), ring.region().preamble().generation), (Access::Mapped, 1));
    let mut reader = ring.reader();
    let writer = writable(&old).writer(0).unwrap();
    assert_eq!(writer.push(&Record::new(10)), Some(0));
    assert_eq!(reader.poll().unwrap().record, Record::new(10));

    // Unpinned: nothing there to open; the reader has not noticed.
    old.unpin(&path).unwrap();
    assert!(matches!(Region::open_pinned(&path), Err(Error::Open { .. })));
    assert_eq!(writer.push(&Record::new(11)), Some(1));
    assert_eq!(reader.poll().unwrap().record, Record::new(11));

    // Replaced by a map of another shape: newcomers get that one.
    let mut new = map(geometry(16), 2);
    new.pin(&path).unwrap();
    assert_eq!(writable(&new).writer(0).unwrap().push(&Record::new(20)), Some(0));
    let reopened = Ring::<Record>::open_pinned(&path).unwrap();
    assert_eq!((reopened.slots(), reopened.region().preamble().generation), (16, 2));
    assert_eq!(reopened.reader().poll().unwrap().record, Record::new(20));
    assert!(reader.poll().is_none());
    assert_eq!((ring.slots(), ring.region().preamble().generation), (8, 1));

    // Everyone but the reader lets go of the old map: its memory is still the reader's.
    assert_eq!(writer.push(&Record::new(12)), Some(2));
    drop((writer, old));
    assert_eq!(reader.poll().unwrap().record, Record::new(12));
    assert_eq!((reader.lost(), reader.position(0)), (0, Some(3)));
    read_all(ring.region(), None);
}

#[test]
fn a_map_replaced_by_another_type_or_size_is_a_typed_error() {
    require_bpf!();
    let pins = PinDir::new();
    let path = pins.path("ring");
    let mut old = map(geometry(8), 1);
    old.pin(&path).unwrap();
    let ring = Ring::<Record>::open_pinned(&path).unwrap();
    let mut reader = ring.reader();
    old.unpin(&path).unwrap();

    let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
    let mut hash = MapHandle::create(MapType::Hash, Some("replaced"), 4, 32, 8, &opts).unwrap();
    hash.pin(&path).unwrap();
    assert!(matches!(Region::open_pinned(&path), Err(Error::MapType { .. })));
    hash.unpin(&path).unwrap();

    // The preamble of a larger ring in a smaller map: the kernel is believed.
    let larger = Preamble { geometry: geometry(64), generation: 3, name: "Record".into() };
    let mut small = array(geometry(4), &larger.encode(), BPF_F_MMAPABLE);
    small.pin(&path).unwrap();
    assert!(matches!(Region::open_pinned(&path), Err(Error::Contradiction { .. })));

    assert_eq!(writable(&old).writer(0).unwrap().push(&Record::new(10)), Some(0));
    assert_eq!(reader.poll().unwrap().record, Record::new(10));
}

#[test]
fn contents_of_any_kind_are_read_to_the_end_by_system_call_too() {
    require_bpf!();
    let refused = Access::Syscall(Refusal::NotMmapable);
    for (sort, map_flags, access) in
        [("maps, mapped", BPF_F_MMAPABLE, Access::Mapped), ("maps, by system call", 0, refused)]
    {
        with_images(sort, &contents(), |image| {
            let map = array(image.geometry, &image.words, map_flags);
            let region = Region::open_fd(map.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!((*region.geometry(), region.access()), (image.geometry, access));
            read_all(&region, Some(&image.words));
        });
    }
}
