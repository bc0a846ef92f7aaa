//! Attacks that a seal does not prevent: BPF programs of processes that opened the map, and pinning it again; and
//! Linux's protections against them.

use std::fs::Permissions;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::libbpf_sys::BPF_F_RDONLY;
use mapring::abi::PreambleError;
use mapring::record::UncheckedReason;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::RawMap;

const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");
const UNPRIVILEGED_BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";

/// Tests that change the sysctl, or rely on it, run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static SYSCTL: Mutex<()> = Mutex::new(());
    SYSCTL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A ring without a writing program, with its preamble.
fn ring() -> Region {
    let geometry = Geometry::new(Kind::Ring, 56, 8, 1).unwrap();
    let (bytes, entries) = (geometry.element(), geometry.entries());
    let [bytes, entries] = [bytes, entries].map(|n| u32::try_from(n).unwrap());
    let fd = RawMap::array(bytes, entries, BPF_F_MMAPABLE).make().unwrap();
    OpenOptions::new().assume_layout(geometry).write_preamble(true).open(fd).unwrap()
}

fn nobody_may_load() -> bool {
    fs::read_to_string(UNPRIVILEGED_BPF).unwrap().trim() == "0"
}

/// A child's attack on a sealed ring: its result, and whether the ring's preamble stays intact.
fn sealed_and_overwritten(who: &str, mode: u32) -> (Result<String, String>, bool) {
    let (region, pins) = (ring(), PublicPins::new());
    let path = pins.path("ring");
    region.freeze_and_pin(&path, PinOptions::new(mode).allow_unprivileged_bpf(true)).unwrap();
    let message = try_child(CHILD, &[who, "overwrite", path.to_str().unwrap()]);
    let opened = Region::open(path.as_path());
    let spoilt =
        opened.as_ref().is_err_and(|e| e.preamble_error() == Some(&PreambleError::Magic { found: 0x666 }));
    assert!(spoilt || opened.is_ok(), "{opened:?}");
    (message, opened.is_ok())
}

#[test]
fn cap_bpf_overwrites_a_sealed_map() {
    require_bpf!();
    for mode in [0o444, 0o666] {
        let (message, intact) = sealed_and_overwritten("cap_bpf", mode);
        assert_eq!(message.as_deref(), Ok("overwritten\n"), "mode {mode:o}");
        assert!(!intact, "mode {mode:o}");
    }
}

#[test]
fn nobody_overwrites_a_sealed_map_where_everybody_loads_programs() {
    require_bpf!();
    let _alone = alone();
    if !nobody_may_load() {
        let (message, intact) = sealed_and_overwritten("nobody", 0o666);
        // Before 5.19: the pin can't be opened at all.
        match message {
            Ok(message) => assert_eq!(message, "refused: EPERM\n"),
            Err(message) => assert!(message.contains("Operation not permitted"), "{message}"),
        }
        assert!(intact);
    }
    let everybody = match UnprivilegedBpf::allow() {
        Ok(everybody) => everybody,
        Err(why) => return skipped("nobody_overwrites_a_sealed_map_where_everybody_loads_programs", &why),
    };
    let (message, intact) = sealed_and_overwritten("nobody", 0o444);
    drop(everybody);
    assert_eq!(message.as_deref(), Ok("overwritten\n"));
    assert!(!intact);
}

#[test]
fn a_seal_that_is_worth_nothing_is_refused() {
    require_bpf!();
    let _alone = alone();
    let (region, pins) = (ring(), PublicPins::new());
    let everybody = match UnprivilegedBpf::allow() {
        Ok(everybody) => everybody,
        Err(why) => return skipped("a_seal_that_is_worth_nothing_is_refused", &why),
    };
    let others = [0o666, 0o444, 0o604, 0o602].map(PinOptions::new);
    let groups = [0o660, 0o640].map(|mode| PinOptions::new(mode).group(NOBODY));
    let refused: Vec<_> = others
        .into_iter()
        .chain(groups)
        .map(|options| region.freeze_and_pin(pins.path("refused"), options))
        .collect();
    let own = region.freeze_and_pin(pins.path("own"), 0o600);
    let accepted =
        region.freeze_and_pin(pins.path("accepted"), PinOptions::new(0o666).allow_unprivileged_bpf(true));
    drop(everybody);
    for error in refused {
        let error = error.unwrap_err();
        assert!(error.kind() == ErrorKind::CannotSeal, "{error:?}");
        let message = error.to_string();
        for part in ["kernel.unprivileged_bpf_disabled=2", "mode 600", "PinOptions::allow_unprivileged_bpf"] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert!(!pins.path("refused").exists());
    own.unwrap();
    accepted.unwrap();
    if !nobody_may_load() {
        region.freeze_and_pin(pins.path("protected"), 0o666).unwrap();
    }
}

/// A pin of mode 0444 gives a read-only descriptor. If a process may pin that, its own pin also gives a writable one,
/// and removing the first pin does not remove the second.
#[test]
fn a_pin_is_pinned_again() {
    require_bpf!();
    let (pins, open) = (PublicPins::new(), PublicPins::with_mode(c"mode=1777"));
    let nobody = |again: &Path, region: &Region| {
        let pin = pins.path("ring");
        MapHandle::from_map_id(raw::info(region).id).unwrap().pin(&pin).unwrap();
        fs::set_permissions(&pin, Permissions::from_mode(0o444)).unwrap();
        let message = child(CHILD, &["nobody", "repin", pin.to_str().unwrap(), again.to_str().unwrap()]);
        fs::remove_file(&pin).unwrap();
        message
    };
    // Unfrozen: written.
    let (region, again) = (ring(), open.path("unfrozen"));
    assert_eq!(nobody(&again, &region), "write: Err(\"EPERM\")\nwrite by another pin: Ok(())\n");
    assert!(
        matches!(Region::open(again.as_path()), Err(e) if e.kind() == ErrorKind::Preamble),
        "overwritten"
    );
    // Frozen: read-only, but the map stays as long as user nobody likes, after its creator's pin is gone.
    let (region, again) = (ring(), open.path("frozen"));
    raw::freeze(&region).unwrap();
    assert_eq!(nobody(&again, &region), "write: Err(\"EPERM\")\nwrite by another pin: Err(\"EPERM\")\n");
    assert_eq!(fs::metadata(&again).unwrap().uid(), NOBODY);
    drop(region);
    assert_eq!(Region::open(again.as_path()).unwrap().access(), Access::Mapped);
    // If nobody may write to a directory of a BPF file system, no such pin is possible.
    let (region, pin) = (ring(), pins.path("ring"));
    region.freeze_and_pin(&pin, PinOptions::new(0o444).allow_unprivileged_bpf(true)).unwrap();
    let elsewhere = pins.path("again");
    let message = try_child(CHILD, &["nobody", "repin", pin.to_str().unwrap(), elsewhere.to_str().unwrap()]);
    assert!(message.unwrap_err().contains("ermission denied"));
}

/// A process that may not call bpf(2) opens and maps a descriptor that it received.
#[test]
fn a_descriptor_needs_no_bpf_call() {
    require_bpf!();
    let region = ring();
    raw::freeze(&region).unwrap();
    let fd = |flags| -> OwnedFd { raw::by_id(raw::info(&region).id, flags).unwrap() };
    let (mapped, read_only) = (fd(0), fd(BPF_F_RDONLY));
    without_bpf(|| {
        let opened = OpenOptions::new().write(true).open(mapped).unwrap();
        assert_eq!((opened.access(), opened.writable()), (Access::Mapped, Err(Refusal::Frozen)));
        assert_eq!(opened.geometry(), region.geometry());
        assert_eq!(opened.layout_check::<u64>(), LayoutCheck::Size(UncheckedReason::NotAsked));
        // Maps that Linux refuses to map need bpf(2), and the error contains that.
        let message = Region::open(read_only).unwrap_err().to_string();
        assert!(message.contains("Operation not permitted"), "{message}");
    });
}

/// The SHA-256 of the instructions of `raw::overwriting(map, OWN)`, with no map in them.
const OWN_PROGRAM: [u8; 32] = [
    0x28, 0x9e, 0x8b, 0xe0, 0x04, 0x56, 0x87, 0x45, 0x4b, 0x3a, 0xf9, 0x50, 0x2b, 0x80, 0x36, 0x05, 0xb8,
    0x12, 0x26, 0x82, 0x7b, 0x47, 0x7e, 0x66, 0x59, 0xae, 0xc1, 0x4d, 0x49, 0x3c, 0xd5, 0x66,
];
const OWN: i32 = 0x11;

/// Since Linux 6.18: a map for one program only.
#[test]
fn an_exclusive_map_keeps_other_programs_out() {
    require_bpf!();
    let array = RawMap::array(4096, 1, BPF_F_MMAPABLE);
    let map = match array.make_exclusive(&OWN_PROGRAM) {
        // Older kernels do not have these fields; the last ones before 6.18 have room for them.
        Err(libc::E2BIG | libc::EINVAL) => {
            return skipped("an_exclusive_map_keeps_other_programs_out", "exclusive maps need Linux 6.18");
        }
        map => map.unwrap(),
    };
    let first = || {
        let mut value = [0; 512];
        raw::lookup(&map, 0, &mut value).unwrap();
        value[0]
    };
    // Its program writes it, others are refused.
    let own = raw::overwriting(map.as_fd(), OWN).unwrap();
    assert_eq!(raw::overwriting(map.as_fd(), OWN + 1).unwrap_err(), libc::EACCES);
    raw::run_filter(&own);
    assert_eq!(first(), OWN.cast_unsigned().into());
    // Userspace maps, updates, freezes and pins it like any other.
    raw::map(&map, 4096, true).unwrap();
    raw::update(&map, 0, &[0; 512]).unwrap();
    raw::freeze(&map).unwrap();
    assert_eq!((raw::map(&map, 4096, true), raw::map(&map, 4096, false)), (Err(libc::EPERM), Ok(())));
    raw::run_filter(&own);
    assert_eq!(first(), OWN.cast_unsigned().into());
    let pins = PublicPins::new();
    let mut handle = MapHandle::from_map_id(raw::info(&map).id).unwrap();
    handle.pin(pins.path("map")).unwrap();
    // Not through a map of maps either, where other programs would find it.
    let maps = RawMap { ty: MapType::ArrayOfMaps, ..RawMap::array(4, 1, 0) };
    assert_eq!(maps.make_of(map.as_fd()).unwrap_err(), 524);
    let maps = maps.make_of(array.make().unwrap().as_fd()).unwrap();
    assert_eq!(raw::update(&maps, 0, &[u64::try_from(map.as_raw_fd()).unwrap()]), Err(524));
    // But the same instructions are the same program, for any loader and any program type.
    fs::set_permissions(pins.path("map"), Permissions::from_mode(0o444)).unwrap();
    let read_only = MapHandle::from_pinned_path_with_file_flags(pins.path("map"), BPF_F_RDONLY).unwrap();
    raw::overwriting(read_only.as_fd(), OWN).unwrap();
}
