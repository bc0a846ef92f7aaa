//! Descriptors and mappings: replacing a ring any number of times leaks none.

use mapring_kernel_tests::prelude::*;

use crate::{all, open};

/// The numbers of this process's BPF map descriptors, and of its mappings of them.
fn held() -> [usize; 2] {
    let is_map = |entry: std::io::Result<fs::DirEntry>| {
        fs::read_link(entry.unwrap().path()).is_ok_and(|to| to.to_string_lossy().contains("bpf-map"))
    };
    let fds = fs::read_dir("/proc/self/fd").unwrap().map(is_map).filter(|is| *is).count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    [fds, maps.lines().filter(|line| line.contains("bpf-map")).count()]
}

/// Other tests also have maps, so this one runs in its own process.
#[test]
fn two_hundred_resizes_leave_nothing_behind() {
    require_bpf!();
    const ALONE: &str = "MAPRING_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "leaks::two_hundred_resizes_leave_nothing_behind";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let object = &bpf::RESIZABLE.load(fitted);
    let program = Runner::new(object, "push_run");
    let none = held();
    let ring = open(object);
    let pins = PinDir::new();
    let pin = pins.path("numbers");
    ring.pin(&pin, 0o600).unwrap();
    on_one_cpu();
    let by_pin = || Ring::open(pin.as_path()).unwrap().reader();
    let (mut followers, mut next) = ([ring.reader(), by_pin()], 0);
    let mut resize = |times: usize| {
        for _ in 0..times {
            assert_eq!(push(&program, 2, next, 1), 0);
            ring.resize(if next % 2 == 0 { 16 } else { 64 }).unwrap();
            for follower in &mut followers {
                assert_eq!(all(follower), [(2, next)]);
            }
            next += 1;
        }
    };
    resize(4);
    let before = held();
    resize(200);
    assert_eq!(held(), before, "descriptors and mappings of maps");
    assert_eq!(followers.each_ref().map(|follower| (follower.rings(), follower.lost())), [(205, 0); 2]);
    drop(followers);
    drop(ring);
    assert_eq!(held(), none, "descriptors and mappings of the ring");
    everywhere();
}
