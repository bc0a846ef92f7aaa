//! Regions that others may read and only programs may write: through a pin for a group or read-only, and through a descriptor
//! passed on; through a pin for all: `options/nobody.rs`. Also: maps that programs may only read, written by system call.

use std::io::IoSlice;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use libbpf_rs::libbpf_sys::BPF_F_RDONLY_PROG;
use mapring_kernel_tests::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const READER: &str = env!("CARGO_BIN_EXE_kernel-tests-nobody");

/// A pin with this mode, even where unprivileged processes may load BPF programs; `seal_limits.rs` shows the risk.
fn pin(mode: u32) -> PinOptions {
    PinOptions::new(mode).allow_unprivileged_bpf(true)
}

/// Loads the rings of `options.bpf.c`, and opens a plain one.
fn plain() -> (Object, Ring<Rec>) {
    let object = bpf::OPTIONS.load(by_hand);
    let ring = Ring::open(&map(&object, "plain")).unwrap();
    (object, ring)
}

/// Starts an unprivileged reader, and programs write until it ends. Returns how it reads.
fn nobody_reads(object: &Object, args: &[&str]) -> String {
    everywhere();
    let (push, mut n) = (Runner::new(object, "push_plain"), 0);
    let (message, _) = written_for(READER, args, || {
        on_one_cpu();
        (n..n + 64).for_each(|n| push.run(&mut [n, 0]));
        n += 64;
    });
    message
}

#[test]
fn sealed_for_a_group_and_for_lookups() {
    require_bpf!();
    let ((object, ring), pins) = (&plain(), PublicPins::new());
    let (region, path) = (ring.region(), |name: &str| pins.path(name).to_str().unwrap().to_owned());
    region.freeze_and_pin(path("group"), pin(0o660).group(NOBODY)).unwrap();
    region.freeze_and_pin(path("others"), pin(0o660).group(0)).unwrap();
    region.freeze_and_pin(path("lookups"), pin(0o444)).unwrap();
    region.freeze_and_pin(path("group_lookups"), pin(0o440).group(NOBODY)).unwrap();
    assert_eq!(fs::metadata(path("group")).unwrap().gid(), NOBODY);

    assert_eq!(nobody_reads(object, &[&path("group"), "5000", "no_syscalls"]), "Mapped Err(NotAsked)");
    let refused = Command::new(READER).args([&path("others"), "1"]).output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("ermission denied") && message.contains("chmod 0666"), "{message}");
    for name in ["lookups", "group_lookups"] {
        assert!(nobody_reads(object, &[&path(name), "2000"]).starts_with("Syscall(ReadOnlyFd) "), "{name}");
    }
    // Not even root can write any more; programs can.
    let again = OpenOptions::new().write(true).open(&map(object, "plain")).unwrap();
    let refused = Ring::<Rec>::from_region(again).unwrap().writer(0).unwrap_err();
    assert!((refused.kind(), refused.refusal()) == (ErrorKind::Sealed, Some(Refusal::Frozen)), "{refused}");
}

/// The third way: no pin, the descriptor is passed on.
#[test]
fn handed_over_a_socket() {
    require_bpf!();
    let (object, ring) = &plain();
    MapHandle::try_from(&map(object, "plain")).unwrap().freeze().unwrap();
    let folder = std::env::temp_dir().join(format!("mapring-sealed-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for open in [&folder, &path] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // One that could write without the seal, and one that is read-only itself.
    let fds = [ring.region().as_fd().try_clone_to_owned().unwrap(), read_only(&map(object, "plain"))];
    // Not joined: if a reader fails before it connects, this thread waits forever.
    std::thread::spawn(move || {
        for fd in &fds {
            let (stream, _) = listener.accept().unwrap();
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let fds = [fd.as_fd()];
            let mut buffer = SendAncillaryBuffer::new(&mut space);
            assert!(buffer.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(&stream, &[IoSlice::new(&[0])], &mut buffer, SendFlags::empty()).unwrap();
        }
    });
    let socket = format!("socket:{}", path.display());
    let mapped = nobody_reads(object, &[&socket, "5000", "no_syscalls"]);
    assert_eq!(mapped, "Mapped Err(Frozen)");
    // Lookups are system calls, so the reader's filter kills it.
    let reader = Command::new(READER).args([&socket, "1000000", "no_syscalls"]).output().unwrap();
    // What it lacks, if this kernel does not let it read.
    eprint!("{}", String::from_utf8_lossy(&reader.stderr));
    assert_eq!(String::from_utf8(reader.stdout).unwrap(), "Syscall(ReadOnlyFd) Err(ReadOnlyFd)\nready\n");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&reader.status), Some(31));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_can_not_be_sealed() {
    let object = &require_bpf!(REFUSALS);
    let pins = PublicPins::new();
    let says = |error: Error, parts: &[&str]| {
        assert!(error.kind() == ErrorKind::CannotSeal);
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let region = Region::open(&map(object, "ring")).unwrap();
    let writable = OpenOptions::new().write(true).open(&map(object, "ring")).unwrap();
    says(
        region.freeze_and_pin(pins.path("ring"), pin(0o666)).unwrap_err(),
        &["map ring", "BPF_MAP_FREEZE", "OpenOptions::write"],
    );
    assert!(!pins.path("ring").exists());
    drop(writable);
    let reader = Region::open(read_only(&map(object, "ring"))).unwrap();
    match reader.freeze_and_pin(pins.path("by_reader"), pin(0o666)) {
        Err(refused) => says(refused, &["BPF_MAP_FREEZE", "read-only"]),
        // Before 6.5 the kernel requires a capability, whatever the descriptor.
        Ok(()) => assert!(pins.path("by_reader").exists()),
    }
    let elsewhere = std::env::temp_dir().join("mapring-no-pin");
    says(region.freeze_and_pin(&elsewhere, pin(0o666)).unwrap_err(), &["pin at", "BPF file system"]);
    says(
        region.freeze_and_pin(pins.path("no/where"), pin(0o666)).unwrap_err(),
        &["pin at", "BPF file system"],
    );
    region.freeze_and_pin(pins.path("ring"), pin(0o666)).unwrap();
    let memfd = Ring::<u64>::create_memfd(8, 1).unwrap();
    says(
        memfd.region().freeze_and_pin(pins.path("memfd"), pin(0o666)).unwrap_err(),
        &["Region::seal_future_writes"],
    );
}

/// Programs may only read the map, so the kernel allows no writable mapping; values are still whole.
#[test]
fn latches_are_written_by_system_call() {
    require_bpf!();
    for flags in [BPF_F_MMAPABLE | BPF_F_RDONLY_PROG, BPF_F_RDONLY_PROG, 0] {
        let object = &bpf::SEALED.load(|object| {
            fitted(object);
            object.maps_mut().find(|map| map.name() == "limits").unwrap().set_map_flags(flags).unwrap();
        });
        let region = OpenOptions::new().write(true).open(&map(object, "limits")).unwrap();
        let mapped = flags & BPF_F_MMAPABLE != 0;
        let refusal =
            if flags & BPF_F_RDONLY_PROG != 0 { Refusal::ReadOnlyForPrograms } else { Refusal::NotMmapable };
        assert_eq!((region.writable(), region.access() == Access::Mapped), (Err(refusal), mapped));
        let latches = Latches::<Filled<14>>::from_region(region).unwrap();
        let writer = latches.writer().unwrap();
        let reads = Counters::open(&map(object, "reads")).unwrap();
        let look = Runner::new(object, "look");
        let stop = AtomicBool::new(false);
        let mut n = 0;
        std::thread::scope(|scope| {
            // If the writer fails, the reader must stop.
            let stop_at_end = Stop(&stop);
            scope.spawn(|| {
                on_cpu(*cpus().last().unwrap());
                while !stop.load(Ordering::Relaxed) {
                    look.run(&mut [0, 0, 16, 0]);
                }
            });
            while n < 5_000 || reads.sum(0).unwrap() < 100_000 {
                n += 1;
                writer.set(1, &words_of(n)).unwrap();
                assert_eq!(
                    latches.snapshot(1).unwrap(),
                    mapring::table::Snapshot { version: n, value: words_of(n) }
                );
            }
            drop(stop_at_end);
        });
        let mut args = [0, 0, 1, 0];
        look.run(&mut args);
        assert_eq!(args[3], u64::from(words_of::<1>(n)[0]));
        assert_eq!(reads.sum(1).unwrap(), 0, "torn");
        eprintln!("{n} writes, {} reads, {} busy", reads.sum(0).unwrap(), reads.sum(2).unwrap());
        assert!(writer.set(3, &words_of(0)).unwrap_err().to_string().starts_with("no latch 3: "));
        // Frozen in the meantime: the error reports it, and the last value stays.
        MapHandle::try_from(&map(object, "limits")).unwrap().freeze().unwrap();
        let frozen = writer.set(1, &words_of(0)).unwrap_err();
        assert!((frozen.kind(), frozen.refusal()) == (ErrorKind::Sealed, Some(Refusal::Frozen)), "{frozen}");
        assert_eq!(latches.read(1).unwrap(), words_of(n));
    }
}
