//! The readers and bells of a ring, which readers without privilege find only by their pins.
#![allow(missing_docs)]

use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libbpf_rs::MapHandle;
use libbpf_rs::skel::Skel;
use mapring::loader::PinOptions;
use mapring::{Error, Ring};
use mapring_kernel_tests::skel::KeepSkelBuilder;
use mapring_kernel_tests::{NOBODY, PublicPins, fitted, kernel, load, map, require_bpf, skipped};
use rustix::thread::{
    CapabilitySet, Gid, Uid, capabilities, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, mapring::Record)]
#[repr(C)]
struct Rec {
    n: u64,
    twice: u64,
}

/// As user nobody: is required, and with CAP_BPF gets a bell.
fn as_nobody(pin: &Path, kept: CapabilitySet) -> Result<(), Error> {
    let read = || {
        set_keep_capabilities(true).unwrap();
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        let mut sets = capabilities(None).unwrap();
        (sets.effective, sets.permitted, sets.inheritable) = (kept, kept, CapabilitySet::empty());
        set_capabilities(None, sets).unwrap();
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
    let mut storage = MaybeUninit::uninit();
    let skel = load::<KeepSkelBuilder>(&mut storage, fitted);
    let ring = map(skel.object(), "events");
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
