//! Where the kernel refuses a mapping: the reader reports the reason, and reads the records by system call, whole and
//! counted. Everything else is read mapped.

use bytemuck::AnyBitPattern;
use libbpf_rs::libbpf_sys::{BPF_F_RDONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_F_WRONLY_PROG};
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::RawMap;

const MAPS: [&str; 3] = ["ring", "cells", "counters"];
const ONLY_PROGRAMS_WRITE: &str = "only programs can write it";

/// Prepares the object, and sets its maps' flags (`MMAPABLE` and these; `plain` removes `MMAPABLE`).
fn flagged(object: &mut OpenObject, flags: u32) {
    fitted(object);
    for mut map in object.maps_mut().filter(|map| MAPS.iter().any(|name| map.name() == *name)) {
        map.set_map_flags(flags).unwrap();
    }
}

/// Checks a ring and cells that are read while a program writes them at full speed from one CPU: the n-th record and
/// the n-th value are `right(n)`, nothing is torn or doubled, and losses are counted exactly. `writer` writes `count`
/// records from `n` on.
fn read_while_written<T: AnyBitPattern + PartialEq + std::fmt::Debug>(
    ring: &Ring<T>,
    cells: &Cells<T>,
    writer: &Runner,
    right: impl Fn(u64) -> T,
) {
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let cpu = *cpus().last().unwrap();
    let mut reader = ring.reader();
    std::thread::scope(|scope| {
        // If the reader fails, the writer must stop.
        let stop_at_end = Stop(&stop);
        scope.spawn(|| {
            on_cpu(cpu);
            while !stop.load(Ordering::Relaxed) {
                written.fetch_add(write(writer, written.load(Ordering::Relaxed), 64), Ordering::Relaxed);
                // A reader that is slower than the program would find few whole records.
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        let (mut next, mut version, mut changes) = (0, 0, 0);
        while reader.stats().delivered < 1_000 || reader.stats().lapped == 0 || changes < 50 {
            // Sometimes slower than the writer, so that the writer laps it.
            if reader.stats().lapped == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            reader.for_each(200, |event| {
                assert!(event.ticket >= next, "ticket {} after {next}", event.ticket);
                assert_eq!((event.shard, event.record), (cpu, &right(event.ticket)));
                next = event.ticket + 1;
            });
            if let Some(snapshot) = cells.try_snapshot(1).unwrap().filter(|s| s.version > 0) {
                assert!(snapshot.version >= version);
                assert_eq!(snapshot.value, right(snapshot.version - 1));
                changes += u32::from(snapshot.version > version);
                version = snapshot.version;
            }
            assert!(reader.take_error().is_none());
        }
        drop(stop_at_end);
    });
    let total = written.into_inner();
    while reader.position(cpu) < Some(total) {
        reader.for_each(usize::MAX, |event| assert_eq!(event.record, &right(event.ticket)));
    }
    assert!(reader.poll().is_none());
    let stats = reader.stats();
    assert_eq!((stats.delivered + stats.lost(), stats.discarded), (total, 0), "{stats:?}");
    assert_eq!(cells.snapshot(1).unwrap().version, total);
    assert_eq!((reader.stats().dropped(), cells.region().dropped().unwrap()), (0, 0));
}

/// Writes `count` (64 at most) records from `n` on. Returns the number written.
fn write(writer: &Runner, n: u64, count: u64) -> u64 {
    let mut args = [0, count, n, 0];
    writer.run(&mut args);
    args[3]
}

/// The sums that `refusals.bpf.c` counts: 3 for each record whose number ends in that digit.
fn counted(counters: &Counters, total: u64) {
    for index in 0..10 {
        let records = (total + 9 - index as u64) / 10;
        assert_eq!(counters.sum(index).unwrap(), records * 3, "counter {index} after {total}");
    }
    let mut sums = [0; 10];
    counters.sums(&mut sums).unwrap();
    assert_eq!(sums.iter().sum::<u64>(), total * 3);
}

/// All three kinds through descriptors that the kernel refuses to map.
fn fallback(fds: [OwnedFd; 3], writer: &Runner, refusal: Refusal) {
    let [ring, cells, counters] = fds;
    let ring = Ring::<Filled<14>>::open(ring).unwrap();
    let cells = Cells::<Filled<14>>::open(cells).unwrap();
    let counters = Counters::open(counters).unwrap();
    for region in [&ring.region(), cells.region(), counters.region()] {
        assert_eq!(region.access(), Access::Syscall(refusal));
    }
    read_while_written(&ring, &cells, writer, words_of);
    let total = cells.snapshot(1).unwrap().version;
    counted(&counters, total);
    assert_eq!(counters.get(*cpus().last().unwrap(), 0).unwrap(), counters.sum(0).unwrap());
    assert!(matches!(ring.writer(0), Err(e) if e.kind() == ErrorKind::NotWritable && e.refusal().is_some()));
    // The same one by one, as on a kernel without batches.
    let late: Vec<_> = ring.reader().drain().collect();
    assert_eq!(late.len(), 64);
    without_batches(|| {
        assert_eq!(ring.reader().drain().collect::<Vec<_>>(), late);
        counted(&counters, total);
        // The handles above had batches, and detect that they are gone; a new one never had them.
        let again = Ring::<Filled<14>>::open(fd_of(&ring.region())).unwrap();
        assert_eq!(again.reader().drain().collect::<Vec<_>>(), late);
    });
}

#[test]
fn read_only_descriptors() {
    let object = &require_bpf!(REFUSALS);
    let writer = Runner::new(object, "write");
    let mapped = Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
    let (_cells, counters) =
        (Region::open(&map(object, "cells")).unwrap(), Counters::open(&map(object, "counters")).unwrap());
    let pins = PinDir::new();
    let fds = MAPS.map(|name| {
        MapHandle::try_from(&map(object, name)).unwrap().pin(pins.path(name)).unwrap();
        let handle = MapHandle::from_pinned_path_with_file_flags(pins.path(name), BPF_F_RDONLY).unwrap();
        fd_of(&handle)
    });
    let again = Ring::<Filled<14>>::open(fds[0].try_clone().unwrap()).unwrap();
    fallback(fds, &writer, Refusal::ReadOnlyFd);
    // The same records as the mapped reader delivers.
    assert_eq!(mapped.access(), Access::Mapped);
    assert_eq!(again.reader().drain().collect::<Vec<_>>(), mapped.reader().drain().collect::<Vec<_>>());
    assert_eq!(again.region().preamble(), mapped.region().preamble());
    let message = again.access().to_string();
    assert!(message.contains("read-only file descriptor") && message.contains("0666"), "{message}");
    assert_eq!(counters.access(), Access::Mapped);
}

#[test]
fn maps_read_only_for_user_space() {
    require_bpf!();
    let object = &bpf::REFUSALS.load_only(|o| flagged(o, BPF_F_MMAPABLE | BPF_F_RDONLY));
    let writer = Runner::new(object, "write");
    // No process can write a preamble; root finds the shape by BTF.
    fallback(MAPS.map(|name| fd_of(&map(object, name))), &writer, Refusal::ReadOnlyFd);
}

#[test]
fn maps_without_mmapable() {
    require_bpf!();
    let object = &bpf::REFUSALS.load(|object| flagged(object, 0));
    let writer = Runner::new(object, "write");
    let loaders = MAPS.map(|name| Region::open(&map(object, name)).unwrap());
    let opened = OpenOptions::new().write(true).open(fd_of(&map(object, "ring"))).unwrap();
    assert_eq!(opened.writable(), Err(Refusal::NotMmapable));
    assert_eq!(opened.preamble(), loaders[0].preamble(), "written and read by system call");
    let message = opened.access().to_string();
    assert!(message.contains("without BPF_F_MMAPABLE") && message.contains("map_flags"), "{message}");
    fallback(MAPS.map(|name| fd_of(&map(object, name))), &writer, Refusal::NotMmapable);
}

#[test]
fn values_with_a_spin_lock() {
    let object = &require_bpf!(REFUSALS);
    let writer = Runner::new(object, "write_locked");
    // Plain words, where C has a struct with a lock.
    let ring = Ring::<Filled<36>>::from_region(Region::open(&map(object, "locked_ring")).unwrap()).unwrap();
    let cells =
        Cells::<Filled<36>>::from_region(Region::open(&map(object, "locked_cells")).unwrap()).unwrap();
    assert_eq!(ring.access(), cells.access());
    // Before 6.11 the kernel searches for locks only at the top level of a value, and maps a lock in a record.
    if ring.access() != Access::Mapped {
        assert_eq!(ring.access(), Access::Syscall(Refusal::SpecialFields));
        let message = ring.access().to_string();
        assert!(message.contains("bpf_spin_lock") && message.contains("a map of their own"), "{message}");
    }
    // The last word is the lock: it is never taken, and a kernel that finds it hides it.
    let right = |n| {
        let mut words = words_of::<36>(n);
        words[35] = 0;
        words
    };
    read_while_written(&ring, &cells, &writer, right);
}

/// Readers can map these; `refusal` is the error for writers.
fn mapped_for_reading(name: &str, map: &impl MapCore, refusal: Refusal, remedy: &str) {
    let region = OpenOptions::new().write(true).open(fd_of(map)).unwrap();
    assert_eq!((region.access(), region.writable()), (Access::Mapped, Err(refusal)), "{name}");
    let refused = match name {
        "ring" => Ring::<Filled<14>>::from_region(region).unwrap().writer(0).unwrap_err(),
        "cells" => Cells::<Filled<14>>::from_region(region).unwrap().writer().unwrap_err(),
        _ => Counters::from_region(region).unwrap().writer(0).unwrap_err(),
    };
    assert_eq!(refused.refusal(), Some(refusal), "{refused}");
    assert_eq!(refused.kind() == ErrorKind::Sealed, refusal == Refusal::Frozen, "{refused}");
    assert!(refused.to_string().contains(remedy), "{refused}");
}

#[test]
fn frozen_maps_are_read_mapped() {
    let object = &require_bpf!(REFUSALS);
    let writer = Runner::new(object, "write");
    let ring = Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
    let (cells, counters) = (
        Cells::<Filled<14>>::open(&map(object, "cells")).unwrap(),
        Counters::open(&map(object, "counters")).unwrap(),
    );
    // A writable mapping prevents freezing a map; readers never have one.
    let handle = MapHandle::try_from(&map(object, "ring")).unwrap();
    let writable = OpenOptions::new().write(true).open(&map(object, "ring")).unwrap();
    assert_eq!(writable.writable(), Ok(()));
    assert!(handle.freeze().unwrap_err().to_string().contains("busy"));
    drop(writable);
    for name in MAPS {
        MapHandle::try_from(&map(object, name)).unwrap().freeze().unwrap();
        mapped_for_reading(name, &map(object, name), Refusal::Frozen, ONLY_PROGRAMS_WRITE);
    }
    let refused = handle.update(&[0; 4], &[0; 64], MapFlags::ANY).unwrap_err();
    assert_eq!(refused.kind(), libbpf_rs::ErrorKind::PermissionDenied);
    // Programs continue to write.
    on_one_cpu();
    assert_eq!(write(&writer, 0, 20), 20);
    let read: Vec<_> = ring.reader().drain().map(|e| e.record).collect();
    assert_eq!(read, (0..20).map(words_of).collect::<Vec<_>>());
    assert_eq!(cells.snapshot(1).unwrap().version, 20);
    counted(&counters, 20);
}

#[test]
fn maps_read_only_for_programs_are_read_mapped() {
    require_bpf!();
    let object = &bpf::REFUSALS.load(|object| {
        object.progs_mut().for_each(|mut program| program.set_autoload(false));
        flagged(object, BPF_F_MMAPABLE | BPF_F_RDONLY_PROG);
    });
    for name in MAPS {
        // The loader wrote the preamble by system call.
        let region = Region::open(&map(object, name)).unwrap();
        assert_eq!(word_at(&map(object, name), 0, 7), region.preamble().generation);
        let remedy = "bpf_map_update_elem";
        mapped_for_reading(name, &map(object, name), Refusal::ReadOnlyForPrograms, remedy);
    }
    // As in the message: written by system call, read mapped.
    let ring = Ring::<Filled<14>>::open(&map(object, "ring")).unwrap();
    let mut slot = [0_u64; 8];
    slot[0] = 2;
    slot[1..].copy_from_slice(bytemuck::cast_slice(&words_of::<14>(0)));
    let first = u32::try_from(ring.region().geometry().slots(0)).unwrap();
    update(&map(object, "ring"), first, &slot);
    let event = ring.reader().drain().next().unwrap();
    assert_eq!((event.ticket, event.record), (0, words_of(0)));
}

#[test]
fn maps_write_only_for_programs_are_mapped() {
    require_bpf!();
    // The headers' programs read the memory that they write, so no program writes here.
    let object = &bpf::REFUSALS.load(|object| {
        object.progs_mut().for_each(|mut program| program.set_autoload(false));
        flagged(object, BPF_F_MMAPABLE | BPF_F_WRONLY_PROG);
    });
    for name in MAPS {
        let region = OpenOptions::new().write(true).open(&map(object, name)).unwrap();
        assert_eq!((region.access(), region.writable()), (Access::Mapped, Ok(())));
    }
}

#[test]
fn maps_write_only_for_user_space_are_no_regions() {
    require_bpf!();
    let object = &bpf::REFUSALS.load_only(|o| flagged(o, BPF_F_MMAPABLE | BPF_F_WRONLY));
    for name in MAPS {
        let refused = Region::open(fd_of(&map(object, name))).unwrap_err();
        assert!(
            (refused.kind(), refused.refusal()) == (ErrorKind::NotReadable, Some(Refusal::WriteOnlyFd)),
            "{refused}"
        );
        assert!(refused.to_string().contains("BPF_F_WRONLY"), "{refused}");
    }
}

/// The flag belongs to the creator's descriptor; a process that opens the map by its id or pin maps it, as in the
/// message.
#[test]
fn what_only_its_maker_may_not() {
    require_bpf!();
    for (flag, refusal) in [(BPF_F_WRONLY, Refusal::WriteOnlyFd), (BPF_F_RDONLY, Refusal::ReadOnlyFd)] {
        let object = &bpf::FLAGS.load_only(|object| {
            fitted_alone(object);
            object
                .maps_mut()
                .find(|map| map.name() == "hits")
                .unwrap()
                .set_map_flags(BPF_F_MMAPABLE | flag)
                .unwrap();
        });
        let pins = PinDir::new();
        MapHandle::try_from(&map(object, "hits")).unwrap().pin(pins.path("hits")).unwrap();
        let log = match Region::open(fd_of(&map(object, "hits"))) {
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.refusal()),
                    (ErrorKind::NotReadable, Some(refusal)),
                    "{error}"
                );
                error.to_string()
            }
            Ok(region) => {
                assert_eq!(region.access(), Access::Syscall(refusal));
                region.access().to_string()
            }
        };
        assert!(log.contains("by id or pin"), "{log}");
        for region in [
            OpenOptions::new().write(true).open(pins.path("hits")).unwrap(),
            OpenOptions::new()
                .write(true)
                .open(Source::id(map(object, "hits").info().unwrap().info.id))
                .unwrap(),
        ] {
            assert_eq!((region.access(), region.writable()), (Access::Mapped, Ok(())));
        }
    }
}

#[test]
fn maps_of_each_cpu_are_mapped_for_nobody() {
    require_bpf!();
    let object = &bpf::PERCPU.load(fitted_alone);
    let region = OpenOptions::new().write(true).open(&map(object, "counters_1")).unwrap();
    assert_eq!(
        (region.access(), region.writable()),
        (Access::Syscall(Refusal::MapType), Err(Refusal::MapType))
    );
    let log = Counters::from_region(region).unwrap().writer(0).unwrap_err();
    assert!((log.kind(), log.refusal()) == (ErrorKind::NotWritable, Some(Refusal::MapType)), "{log}");
    assert!(log.to_string().contains("an ARRAY made with BPF_F_MMAPABLE"), "{log}");
}

/// An error that is in no table: no room for the mapping in this process.
#[test]
fn an_errno_that_is_passed_on_whole() {
    require_bpf!();
    const CHILD: &str = "MAPRING_TEST_NO_ROOM";
    const MUCH: u32 = 64 << 20;
    // The limit applies to the whole process, so this runs in its own.
    if std::env::var_os(CHILD).is_none() {
        let name = "an_errno_that_is_passed_on_whole";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let log = again.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&log.stdout);
        assert!(
            log.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&log.stderr)
        );
        return;
    }
    let geometry = Geometry::new(Kind::Cells, 56, u64::from(MUCH / 64), 1).unwrap();
    let map = RawMap::array(64, u32::try_from(geometry.entries()).unwrap(), BPF_F_MMAPABLE).make().unwrap();
    let words = Preamble { geometry, generation: 1, name: String::new() }.encode();
    for (index, words) in (0..).zip(words.chunks(8)) {
        raw::update(&map, index, words).unwrap();
    }
    raw::update(&map, 2, &[2, 7, 7, 7, 7, 7, 7, 7]).unwrap();
    let pages: u64 =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    let limit = rustix::process::Rlimit { current: Some(pages * 4096 + u64::from(MUCH / 2)), maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();

    let cells = Cells::<[u64; 7]>::open_with(map, OpenOptions::new().write(true)).unwrap();
    assert_eq!(cells.access(), Access::Syscall(Refusal::Errno(libc::ENOMEM)));
    assert_eq!(cells.read(0).unwrap(), [7; 7], "read all the same");
    let refused = cells.writer().unwrap_err();
    assert!(
        (refused.kind(), refused.refusal()) == (ErrorKind::NotWritable, Some(Refusal::Errno(libc::ENOMEM))),
        "{refused}"
    );
    let log = refused.to_string();
    assert!(log.contains("Cannot allocate memory (os error 12)"), "{log}");
}
