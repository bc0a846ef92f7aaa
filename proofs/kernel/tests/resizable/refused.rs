//! Maps that can't be resized or put in a map of maps, and the messages about them.

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use mapring_kernel_tests::prelude::*;

use crate::open;

#[test]
fn what_cannot_be_resized_is_named() {
    let object = &require_bpf!(RESIZABLE);
    let ring = open(object);
    let error = ring.resize(12).unwrap_err();
    assert!(error.to_string().contains("power of two"), "{error}");
    assert_error(ring.resize(1 << 31), ErrorKind::Shape, " elements: a map has at most ");
    assert_eq!(ring.slots(), 64);

    // Loaded without preparation: its programs keep dropping.
    let skel_unfit = &bpf::RESIZABLE.load(unfitted);
    let program = Runner::new(skel_unfit, "push_run");
    let first = map(skel_unfit, "numbers__first");
    if cpus().last() > Some(&0) {
        let error = Ring::<Numbered>::open(&map(skel_unfit, "numbers")).unwrap_err();
        assert!(error.to_string().contains("has 1 shard, expected "), "{error}");
        assert_error(Region::open(&first), ErrorKind::NotFitted, "has 1 shard, expected ");
        assert_eq!(push(&program, 2, 0, 16), 16);
    }

    // A map, but not a map of maps; a map of maps, but not of such rings; a key of another length.
    let first = map(object, "numbers__first");
    let error = Ring::<Numbered>::open(&first).unwrap().resize(64);
    assert_error(error, ErrorKind::NotResizable, "is opened without its map of maps");
    let error = Region::open(&map(object, "numbers")).unwrap_err();
    assert!(
        error.to_string().contains("open a resizable ring or a PER_CPU_MAPS ring with Ring::open"),
        "{error}"
    );
    let refusals = &bpf::REFUSALS.load(fitted);
    let plain = refusals.maps().find(|map| map.name() == "ring").unwrap();
    Region::open(&plain).unwrap();
    let size = size_of::<bpf_map_create_opts>() as u64;
    let opts = bpf_map_create_opts { sz: size, inner_map_fd: fd_number(&plain), ..Default::default() };
    let maps = MapHandle::create(MapType::ArrayOfMaps, Some("plain"), 4, 4, 1, &opts).unwrap();
    let error = Ring::<Numbered>::open(&maps).unwrap_err();
    assert!(error.to_string().contains("nobody has put a map there"), "{error}");
    put(&maps, &[0; 4], &plain).unwrap();
    let error = Ring::<[u32; 14]>::open(&maps).unwrap_err();
    assert!(error.kind() == ErrorKind::WrongType, "{error}");
    assert!(error.to_string().contains("open one of its entries with Source::inner"), "{error}");
    let error = Region::open(Source::inner(&maps, &[0; 8])).unwrap_err();
    assert!(error.to_string().contains("keys of 4 bytes, not 8"), "{error}");
}

#[test]
fn regions_in_a_hash_of_maps() {
    let object = &require_bpf!(RESIZABLE);
    let ring = open(object);
    let opts = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as u64,
        inner_map_fd: fd_number(map(object, "numbers__first")),
        ..Default::default()
    };
    let maps = MapHandle::create(MapType::HashOfMaps, Some("hash"), 8, 4, 4, &opts).unwrap();
    let key = 77_u64.to_ne_bytes();
    let none = "nobody has put a map there";
    assert_error(Region::open(Source::inner(&maps, &key)), ErrorKind::Open, none);
    put(&maps, &key, ring.region()).unwrap();
    let found = Ring::<Numbered>::from_region(Region::open(Source::inner(&maps, &key)).unwrap()).unwrap();
    assert_eq!((found.slots(), found.replaced().unwrap().is_none()), (64, true));
    // `BPF_F_INNER_MAP`: of another size.
    ring.resize(512).unwrap();
    put(&maps, &key, ring.region()).unwrap();
    assert_eq!(found.replaced().unwrap().expect("another one").slots(), 512);
    assert!(found.region().retired().unwrap());
    maps.delete(&key).unwrap();
    assert!(found.replaced().unwrap().is_none());

    // Without that flag the kernel accepts maps of one size only.
    let refusals = &bpf::REFUSALS.load(fitted);
    let plain = refusals.maps().find(|map| map.name() == "ring").unwrap();
    let opts = bpf_map_create_opts { inner_map_fd: fd_number(&plain), ..opts };
    let maps = MapHandle::create(MapType::HashOfMaps, Some("plain"), 8, 4, 4, &opts).unwrap();
    put(&maps, &key, &plain).unwrap();
    put(&maps, &key, ring.region()).unwrap_err();
}

fn fd_number(map: impl AsFd) -> u32 {
    u32::try_from(map.as_fd().as_raw_fd()).unwrap()
}

fn put(maps: &MapHandle, key: &[u8], map: impl AsFd) -> libbpf_rs::Result<()> {
    maps.update(key, &fd_number(map).to_ne_bytes(), MapFlags::ANY)
}
