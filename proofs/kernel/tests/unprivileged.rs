//! Readers without any capability: a sealed region is mapped, a read-only pin is read by system call, and nothing can
//! be written.

use std::fs::{Permissions, set_permissions};

use mapring_kernel_tests::prelude::*;

const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");
const MAPS: [&str; 3] = ["ring", "cells", "counters"];

/// Pins a map with the permissions `mode`.
fn pin(object: &Object, name: &str, path: &Path, mode: u32) {
    MapHandle::try_from(&map(object, name)).unwrap().pin(path).unwrap();
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn write(object: &Object, n: u64, count: u64) {
    on_one_cpu();
    let mut args = [0, count, n, 0];
    Runner::new(object, "write").run(&mut args);
    assert_eq!(args[3], count);
}

/// Checks everything that user nobody reads through the pins, after `total` records, by `access`.
fn nobody_reads(pins: &PublicPins, total: u64, access: &str) {
    for name in MAPS {
        let output = child(CHILD, &["nobody", name, pins.path(name).to_str().unwrap()]);
        assert!(output.starts_with(access), "{name}: {output}");
        let body: Vec<_> = output.lines().skip(1).collect();
        match name {
            "ring" => {
                let lines = (0..total)
                    .map(|n| format!("{} {n} {:x?}", cpus()[0], words_of::<14>(n)))
                    .collect::<Vec<_>>();
                assert_eq!(body[..body.len() - 1], lines);
                assert!(body[body.len() - 1].contains(&format!("delivered: {total}, lapped: 0")), "{output}");
            }
            "cells" => {
                let value: Filled<14> = words_of(total - 1);
                assert_eq!(body[1], format!("{:x?}", mapring::table::Snapshot { version: total, value }));
            }
            _ => {
                let counts = body.iter().map(|line| line.parse::<u64>().unwrap());
                assert_eq!(
                    counts.collect::<Vec<_>>(),
                    (0..10).map(|i| (total + 9 - i) / 10 * 3).collect::<Vec<_>>()
                );
            }
        }
    }
}

/// Loads, writes the preambles, and pins all maps with `mode`; seals them if requested.
fn published(test: impl FnOnce(&Object, &PublicPins), mode: u32, sealed: bool) {
    let object = &bpf::REFUSALS.load(fitted);
    let pins = PublicPins::new();
    for name in MAPS {
        Region::open(&map(object, name)).unwrap();
        if sealed {
            MapHandle::try_from(&map(object, name)).unwrap().freeze().unwrap();
        }
        pin(object, name, &pins.path(name), mode);
    }
    test(object, &pins);
}

#[test]
fn sealed_regions_are_mapped_by_nobody() {
    require_bpf!();
    published(
        |object, pins| {
            write(object, 0, 23);
            nobody_reads(pins, 23, "Mapped ");
            for name in MAPS {
                assert_eq!(
                    child(CHILD, &["nobody", "write", pins.path(name).to_str().unwrap()]),
                    "open: Err(Frozen)\nupdate: Err(PermissionDenied)\nmmap: Err(PermissionDenied)\n\
                     mprotect: Err(Os { code: 13, kind: PermissionDenied, message: \"Permission denied\" })\n"
                );
            }
            // Programs continue, and user nobody reads the new records.
            write(object, 23, 17);
            nobody_reads(pins, 40, "Mapped ");
        },
        0o666,
        true,
    );
}

#[test]
fn read_only_pins_are_read_by_system_call() {
    require_bpf!();
    published(
        |object, pins| {
            write(object, 0, 31);
            nobody_reads(pins, 31, "Syscall(ReadOnlyFd) ");
            // Root reads the same pin mapped: the mode does not restrict a process that may override it.
            let ring = Ring::<Filled<14>>::open(pins.path("ring")).unwrap();
            assert_eq!(ring.reader().drain().count(), 31);
            let cells = Cells::<Filled<14>>::open(pins.path("cells")).unwrap();
            assert_eq!(cells.snapshot(1).unwrap().version, 31);
            assert_eq!(Counters::open(pins.path("counters")).unwrap().sum(0).unwrap(), 12);
        },
        0o444,
        false,
    );
}

#[test]
fn closed_pins_and_folders_say_what_to_ask_for() {
    require_bpf!();
    published(
        |object, pins| {
            for name in MAPS {
                let output =
                    try_child(CHILD, &["nobody", name, pins.path(name).to_str().unwrap()]).unwrap_err();
                assert!(output.contains(&format!("can't open {}", pins.path(name).display())), "{output}");
                assert!(output.contains("ermission") && output.contains("chmod 0666"), "{output}");
            }
            // A pin for everybody inside a folder for root only.
            let closed = PinDir::new();
            set_permissions(closed.path(""), Permissions::from_mode(0o700)).unwrap();
            pin(object, "ring", &closed.path("ring"), 0o666);
            let output =
                try_child(CHILD, &["nobody", "ring", closed.path("ring").to_str().unwrap()]).unwrap_err();
            assert!(output.contains("search permission on its directory"), "{output}");
        },
        0o600,
        false,
    );
}
