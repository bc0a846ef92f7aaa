//! Regions that others may read and only programs may write: through a pin for all, for a group or read-only, and
//! through a descriptor passed on. Also: maps that programs may only read, written by system call.

use std::io::{BufRead, BufReader, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use libbpf_rs::libbpf_sys::BPF_F_RDONLY_PROG;
use mapring_kernel_tests::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const READER: &str = env!("CARGO_BIN_EXE_kernel-tests-sealed");
const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");
/// Records that the reader must read under its filter while they are written.
const RECORDS: u64 = 5_000;

/// A pin with this mode, even where unprivileged processes may load BPF programs; `seal_limits.rs` shows the risk.
fn pin(mode: u32) -> PinOptions {
    PinOptions::new(mode).allow_unprivileged_bpf(true)
}

/// Starts an unprivileged reader, and programs write until it ends. Returns its first output line.
fn nobody_reads(object: &Object, how: &str, path: &str) -> String {
    everywhere();
    let mut reader =
        Command::new(READER).args([how, path, &RECORDS.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(reader.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<_> = lines.take_while(|line| line != "ready").collect();
    on_one_cpu();
    let write = Runner::new(object, "write");
    let mut n = Ring::<Filled<14>>::open(&map(object, "ring"))
        .unwrap()
        .reader_from(mapring::Start::Now)
        .position(cpus()[0])
        .unwrap();
    let status = loop {
        if let Some(status) = reader.try_wait().unwrap() {
            break status;
        }
        let mut args = [0, 64, n, 0];
        write.run(&mut args);
        n += args[3];
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(0), "1: read something wrong; signal 31: made a system call ({status})");
    assert!(n >= RECORDS);
    said.join("\n")
}

#[test]
fn sealed_for_everybody() {
    let object = &require_bpf!(REFUSALS);
    let pins = PublicPins::new();
    let path = pins.path("ring");
    let ring = Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
    ring.region().freeze_and_pin(&path, pin(0o666)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);

    let reader = path.to_str().unwrap();
    assert_eq!(nobody_reads(object, "pin", reader), "Mapped Err(Frozen)");
    assert_eq!(
        child(CHILD, &["nobody", "write", reader]),
        "open: Err(Frozen)\nupdate: Err(PermissionDenied)\nmmap: Err(PermissionDenied)\n\
         mprotect: Err(Os { code: 13, kind: PermissionDenied, message: \"Permission denied\" })\n"
    );
    // Not even root can write any more; programs can.
    let again = OpenOptions::new().write(true).open(&map(object, "ring")).unwrap();
    let refused = Ring::<Filled<14>>::from_region(again).unwrap().writer(0).unwrap_err();
    assert!((refused.kind(), refused.refusal()) == (ErrorKind::Sealed, Some(Refusal::Frozen)), "{refused}");

    // Again at another place: a frozen map is only pinned. At the same place: refused completely.
    ring.region().freeze_and_pin(pins.path("other"), pin(0o600)).unwrap();
    let taken = ring.region().freeze_and_pin(&path, pin(0o600)).unwrap_err();
    assert!(taken.to_string().contains("remove it first"), "{taken}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666, "left alone");
}

#[test]
fn sealed_for_a_group_and_for_lookups() {
    let object = &require_bpf!(REFUSALS);
    let pins = PublicPins::new();
    let region = Region::open(&map(object, "ring")).unwrap();
    let path = |name: &str| pins.path(name).to_str().unwrap().to_owned();
    region.freeze_and_pin(path("group"), pin(0o660).group(NOBODY)).unwrap();
    region.freeze_and_pin(path("others"), pin(0o660).group(0)).unwrap();
    region.freeze_and_pin(path("lookups"), pin(0o444)).unwrap();
    region.freeze_and_pin(path("group_lookups"), pin(0o440).group(NOBODY)).unwrap();
    assert_eq!(fs::metadata(path("group")).unwrap().gid(), NOBODY);

    assert_eq!(nobody_reads(object, "pin", &path("group")), "Mapped Err(Frozen)");
    let said = try_child(CHILD, &["nobody", "ring", &path("others")]).unwrap_err();
    assert!(said.contains("ermission denied") && said.contains("chmod 0666"), "{said}");
    for name in ["lookups", "group_lookups"] {
        let said = child(CHILD, &["nobody", "ring", &path(name)]);
        assert!(said.starts_with("Syscall(ReadOnlyFd) ") && said.contains("lapped: 0"), "{said}");
        assert_eq!(said.lines().count(), 2 + 64, "the ring's last lap, by lookups");
    }
}

/// The third way: no pin, the descriptor is passed on.
#[test]
fn handed_over_a_socket() {
    let object = &require_bpf!(REFUSALS);
    let ring = Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
    MapHandle::try_from(&map(object, "ring")).unwrap().freeze().unwrap();
    let folder = std::env::temp_dir().join(format!("mapring-sealed-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for open in [&folder, &path] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // One that could write without the seal, and one that is read-only itself.
    let fds = [ring.region().as_fd().try_clone_to_owned().unwrap(), read_only(&map(object, "ring"))];
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
    let mapped = nobody_reads(object, "socket", path.to_str().unwrap());
    assert_eq!(mapped, "Mapped Err(Frozen)");
    // Lookups are system calls, so the reader's filter kills it.
    let mut reader = Command::new(READER)
        .args(["socket", path.to_str().unwrap(), "1000000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = BufReader::new(reader.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    assert_eq!(said, "Syscall(ReadOnlyFd) Err(ReadOnlyFd)\n");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&reader.wait().unwrap()), Some(31));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_can_not_be_sealed() {
    let object = &require_bpf!(REFUSALS);
    let pins = PublicPins::new();
    let says = |error: Error, parts: &[&str]| {
        assert!(error.kind() == ErrorKind::CannotSeal);
        let said = error.to_string();
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
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
