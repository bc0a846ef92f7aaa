//! Unprivileged readers, which follow by the pin.

use mapring_kernel_tests::prelude::*;

use crate::{SIZES, open};

/// Starts an unprivileged follower, makes a program write, and calls `meanwhile` from time to time until the follower
/// ends. Returns how it reads, and its last output.
fn nobody_follows(
    ring: &Ring<Numbered>,
    program: &Runner,
    args: &[&str],
    mut meanwhile: impl FnMut(&Ring<Numbered>, u64),
) -> (String, Vec<String>) {
    let mut next = 0;
    let said = written_for(env!("CARGO_BIN_EXE_kernel-tests-follow"), args, || {
        if next == 0 {
            // The follower already runs, on any CPU. Records are in order only from one CPU.
            on_one_cpu();
        }
        assert_eq!(push(program, 2, next, 16), 0);
        next += 16;
        if next % 160 == 0 {
            meanwhile(ring, next / 160);
        }
    });
    everywhere();
    said
}

#[test]
fn nobody_follows_by_the_pin() {
    require_bpf!();
    for (mode, how) in [(0o666, "Mapped"), (0o444, "Syscall(ReadOnlyFd)")] {
        // Each follower has its own ring; otherwise it would first read records written for another.
        let object = &bpf::RESIZABLE.load(fitted);
        let program = Runner::new(object, "push_run");
        let ring = open(object);
        assert_eq!(ring.reader().for_each(usize::MAX, |_| ()), 0, "nobody has written yet");
        let pins = PublicPins::new();
        let pin = pins.path("numbers");
        ring.pin(&pin, mode).unwrap();
        ring.pin(pins.path("another"), mode).unwrap();
        let resize = |ring: &Ring<_>, round| {
            ring.resize(SIZES[usize::try_from(round).unwrap() % SIZES.len()]).unwrap();
            assert_eq!(fs::metadata(&pin).unwrap().permissions().mode() & 0o777, mode);
        };
        let args = [pin.to_str().unwrap(), "2000"];
        let (access, said) = nobody_follows(&ring, &program, &args, resize);
        assert_eq!(access, how);
        assert!(said.len() == 1 && said[0] != "1 rings", "{said:?}");
    }
}

#[test]
fn following_makes_no_system_call_while_the_ring_is_the_same() {
    let object = &require_bpf!(RESIZABLE);
    let program = Runner::new(object, "push_run");
    let ring = open(object);
    let pins = PublicPins::new();
    let pin = pins.path("numbers");
    ring.pin(&pin, 0o666).unwrap();
    let args = [pin.to_str().unwrap(), "20000", "quiet"];
    assert_eq!(nobody_follows(&ring, &program, &args, |_, _| ()).0, "Mapped");
}
