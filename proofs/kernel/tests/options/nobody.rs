//! Readers without privilege, by the pin: of every ring, mapped without a system call, and by system call.

use super::*;

/// Starts a reader that may do nothing else, and writes on each CPU until it has enough records. Returns how it reads.
fn nobody_reads(ring: &Subject<'_>, args: &[&str], mut meanwhile: impl FnMut(u64)) -> String {
    let mut next = 0;
    let (access, _) = written_for(env!("CARGO_BIN_EXE_kernel-tests-nobody"), args, || {
        for &cpu in cpus() {
            on_cpu(cpu);
            ring.push(next, 16);
        }
        next += 16;
        if next % 160 == 0 {
            meanwhile(next / 160);
        }
    });
    everywhere();
    access.split(' ').next().unwrap().to_owned()
}

#[test]
fn nobody_reads_every_sealed_ring_without_a_system_call() {
    require_bpf!();
    for_each_ring(|ring, options| {
        if ring.object().is_none() {
            return; // it has no pin
        }
        let (handle, pins) = (ring.open(), PublicPins::new());
        for (mode, how) in [(0o666, "Mapped"), (0o444, "Syscall(ReadOnlyFd)")] {
            let (pin, to) = (pins.path(how), PinOptions::new(mode).allow_unprivileged_bpf(true));
            match options.is_resizable() {
                true => handle.pin(&pin, to), // not frozen: resizing closes its gates
                false => handle.freeze_and_pin(&pin, to),
            }
            .unwrap_or_else(|e| panic!("{}: {e}", ring.name));
            if options.is_resizable() {
                handle.pin(pins.path(&format!("{how} too")), to).unwrap(); // a ring that replaces it is at both
            }
            let pin = pin.to_str().unwrap();
            if mode == 0o444 && options.has_tails() {
                continue; // a lookup would copy a whole shard: `languages.rs`
            }
            let no_syscalls: &[&str] = if mode == 0o666 { &["no_syscalls"] } else { &[] };
            let args = [&[pin, "2000"], no_syscalls].concat();
            assert_eq!(nobody_reads(ring, &args, |_| ()), how, "{}", ring.name);
            if options.is_resizable() {
                let resize = |round| {
                    let slots = [64, 8192, 16384, 1024][usize::try_from(round).unwrap() % 4];
                    handle.resize(slots).unwrap();
                    assert_eq!(fs::metadata(pin).unwrap().permissions().mode() & 0o777, mode);
                };
                assert_eq!(nobody_reads(ring, &[pin, "2000"], resize), how, "{}", ring.name);
            }
            let taken = handle.freeze_and_pin(pin, to);
            says(taken.unwrap_err(), &["already pinned there"]);
        }
        if !options.is_resizable() {
            // Only programs write it.
            let pin = pins.path("Mapped");
            let one = if options.has_per_cpu_maps() { pin.join("cpu0") } else { pin };
            let write = OpenOptions::new().write(true).open(one).unwrap();
            assert_eq!(write.writable(), Err(Refusal::Frozen), "{}", ring.name);
        }
    });
}
