//! The readers and bells of a ring, which readers without privilege find only by their pins.

use std::fs::Permissions;

use mapring_kernel_tests::prelude::*;
use rustix::thread::CapabilitySet;

/// As user nobody: is required, and with CAP_BPF gets a bell.
fn as_nobody(pin: &Path, kept: CapabilitySet) -> Result<(), Error> {
    let read = || {
        become_nobody_with(kept).unwrap();
        let mut reader = Ring::<Rec>::open(pin)?.reader();
        reader.require(Duration::from_secs(3600))?;
        if kept.is_empty() {
            return Ok(());
        }
        reader.bell().unwrap();
        assert!(reader.arm().is_some());
        Ok(())
    };
    thread::scope(|scope| scope.spawn(read).join().unwrap())
}

#[test]
fn readers_without_privilege_are_required_and_have_bells() {
    require_bpf!();
    if kernel() < (5, 19) {
        return skipped("companions", "only root opens pins before Linux 5.19");
    }
    let object = &bpf::KEEP.load(fitted);
    let ring = map(object, "events");
    let pins = PublicPins::new();
    let (pin, frozen) = (pins.path("events"), pins.path("frozen"));
    let readers = pins.path("events__readers");
    let says = |part: &str| {
        let error = as_nobody(&pin, CapabilitySet::empty()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    // libbpf pins one map.
    MapHandle::try_from(&ring).unwrap().pin(&pin).unwrap();
    fs::set_permissions(&pin, Permissions::from_mode(0o666)).unwrap();
    says("it isn't pinned beside the ring, and opening it by id needs CAP_SYS_ADMIN");
    fs::remove_file(&pin).unwrap();

    let ring = Ring::<Rec>::open(&ring).unwrap();
    ring.pin(&pin, 0o666).unwrap();
    fs::set_permissions(&readers, Permissions::from_mode(0o600)).unwrap();
    says("ask its owner for read and write permission on the pin");
    ring.pin(&pin, PinOptions::new(0o666).replace(true)).unwrap();
    ring.freeze_and_pin(&frozen, PinOptions::new(0o666).allow_unprivileged_bpf(true)).unwrap();
    for pin in [&pin, &frozen] {
        for kept in [CapabilitySet::empty(), CapabilitySet::BPF] {
            as_nobody(pin, kept).unwrap_or_else(|e| panic!("{kept:?}: {e}"));
        }
    }
}
