//! Names chosen by others and printed to a terminal: they are shown, and control nothing there.

use mapring::abi::{Geometry, Kind, Preamble};
use mapring::{Cells, ErrorKind, Region, Ring};
use mapring_hostile_tests::forge;

/// Clears the screen, sets a title, a new line, a device report; C1 controls; reversed text; invalid UTF-8.
const NAMES: [&[u8]; 8] = [
    b"\x1b[2J\x1b[Hroot@host:~#",
    b"\x1b]0;owned\x07\x1b]52;c;cm0=\x1b\\",
    b"u64\nlost 0, all is well\r",
    b"\x1b[6n\x08\x08\x7f\t\x0b",
    b"a\xc2\x9b31mb\xc2\x85c",
    b"\xe2\x80\xaetxt.exe\xe2\x81\xa6\xe2\x80\x8f\xef\xbb\xbf",
    b"\xff\xfe\x80\xc3(\xf0\x9f",
    b"0123456789012345678901234567890\xc3",
];

/// A ring of 24-byte records whose creator named it `name`.
fn called(name: &[u8]) -> Region {
    let geometry = Geometry::new(Kind::Ring, 24, 8, 1).unwrap();
    let mut words = vec![0; geometry.bytes() / 8];
    words[..Preamble::WORDS]
        .copy_from_slice(&Preamble { geometry, generation: 1, name: String::new() }.encode());
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    bytes[64..64 + name.len()].copy_from_slice(name);
    Region::open(forge(bytes, true)).unwrap()
}

/// Checks that a terminal shows the text as it is, in one line from left to right.
fn assert_harmless(text: &str) {
    let harmless = |c: char| c == ' ' || c.is_ascii_graphic() || c == '\u{fffd}';
    assert!(text.chars().all(harmless), "{text:?}");
}

#[test]
fn a_preambles_name_does_nothing_to_a_terminal() {
    for name in NAMES {
        let region = called(name);
        assert_harmless(&region.preamble().name);
        let other_size = Ring::<[u8; 7]>::from_region(region.clone()).unwrap_err();
        assert_eq!(other_size.kind(), ErrorKind::Layout);
        assert!(other_size.to_string().contains(" has records of 24 bytes ("), "{other_size}");
        let other_kind = Cells::<[u64; 3]>::from_region(region.clone()).unwrap_err();
        for error in [other_size, other_kind] {
            assert_harmless(&error.to_string());
            assert_harmless(&format!("{error:?}"));
        }
        assert_harmless(&format!("{region:?}"));
        assert_harmless(&format!("{:?}", region.preamble()));
        assert_harmless(&format!("{:?}", Ring::<[u64; 3]>::from_region(region).unwrap()));
    }
    // The escaped text shows the original bytes.
    assert_eq!(called(NAMES[0]).preamble().name, r"\u{1b}[2J\u{1b}[Hroot@host:~#");
    assert_eq!(called(b"my::Type<'_, [u8; 4]>").preamble().name, "my::Type<'_, [u8; 4]>");
}

#[cfg(feature = "bpf")]
#[test]
fn a_pins_path_does_nothing_to_a_terminal() {
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;

    use libbpf_rs::{MapHandle, MapType, libbpf_sys::bpf_map_create_opts};
    use mapring_kernel_tests::{PinDir, require_bpf};

    require_bpf!();
    let opts = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
    let mut map = MapHandle::create(MapType::Array, Some("hostile"), 4, 64, 4, &opts).unwrap();
    let mut hash = MapHandle::create(MapType::Hash, Some("hostile"), 4, 64, 4, &opts).unwrap();
    let pins = PinDir::new();
    let cells = Geometry::new(Kind::Cells, 56, 2, 1).unwrap();
    let fd = map.as_fd().try_clone_to_owned().unwrap();
    let region = mapring::OpenOptions::new().assume_layout(cells).open(fd).unwrap();
    for name in NAMES {
        // The BPF file system allows no dots.
        let name: Vec<u8> = name.iter().copied().filter(|byte| !b"./\0".contains(byte)).collect();
        let path = pins.path("").join(OsStr::from_bytes(&name));
        assert_harmless(&Region::open(path.as_path()).unwrap_err().to_string());
        for map in [&mut map, &mut hash] {
            map.pin(pins.path("plain")).unwrap();
            std::fs::rename(pins.path("plain"), &path).unwrap();
            let (no_region, ring) = (Region::open(path.as_path()).unwrap_err(), Ring::<u64>::open(path.as_path()).unwrap_err());
            let globals = mapring::globals::Globals::open(path.as_path()).unwrap_err();
            let array = mapring::Array::<u64>::open(path.as_path()).unwrap_err();
            let dispatch = mapring::dispatch::Dispatch::open(path.as_path()).unwrap_err();
            for error in [no_region, ring, globals, array, dispatch] {
                assert_harmless(&error.to_string());
            }
            // The path is taken.
            assert_harmless(&region.freeze_and_pin(&path, 0o600).unwrap_err().to_string());
            std::fs::remove_file(&path).unwrap();
        }
    }
}
