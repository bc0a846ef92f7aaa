//! Writers of one process that write one latch or one global variable at the same time: with any handles, they take
//! turns, so that no value is torn and each write counts.

use std::sync::Barrier;

use libbpf_rs::MapInfo;
use libbpf_rs::libbpf_sys::BPF_F_RDONLY_PROG;
use mapring::globals::Global;
use mapring::table::Seqlock;
use mapring::writers::LatchesWriter;
use mapring_kernel_tests::prelude::*;

/// Large, so that its writers overlap on any machine.
type Value = [u64; 512];

fn value(n: u64) -> Value {
    std::array::from_fn(|i| n.wrapping_mul(2 * i as u64 + 1))
}

/// The same as a type that is compared with the C type.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Wide {
    words: Value,
}

/// Whether all words of `found` are from one value.
fn whole(found: &Value) -> bool {
    *found == value(found[0])
}

fn latches(flags: u32) -> OwnedFd {
    let geometry = Geometry::new(Kind::Latches, size_of::<Value>() as u64, 2, 1).unwrap();
    raw::region(geometry, "value", flags)
}

/// Each of `writers` writes `count` times, at the same time, while this thread reads. Returns the final number of
/// writes. `read` checks the values.
fn at_once(
    count: u64,
    writers: [&(dyn Fn(u64) + Sync); 2],
    read: impl Fn() -> Result<u64, ReadError> + Sync,
) -> u64 {
    let (start, done) = (&Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        let writers = writers.map(|write| {
            scope.spawn(move || {
                start.wait();
                (0..count).for_each(write);
            })
        });
        let watcher = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                match read() {
                    Ok(now) => {
                        assert!(now >= last, "version {now} after {last}");
                        last = now;
                    }
                    Err(ReadError::Busy { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        });
        let ended = writers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        let watched = watcher.join();
        assert!(ended.iter().all(Result::is_ok) && watched.is_ok());
    });
    read().unwrap()
}

#[test]
fn latches_are_written_by_one_at_a_time() {
    require_bpf!();
    for flags in [BPF_F_MMAPABLE, BPF_F_MMAPABLE | BPF_F_RDONLY_PROG, 0] {
        let (fd, pins) = (latches(flags), PinDir::new());
        let id = MapInfo::new(fd.as_fd()).unwrap().info.id;
        libbpf_rs::MapHandle::from_map_id(id).unwrap().pin(pins.path("latches")).unwrap();
        let open = |region| Latches::<Value>::from_region(region).unwrap();
        let [options, again] = [OpenOptions::new().write(true); 2];
        let one = open(options.open(fd).unwrap());
        assert_eq!(one.access() == Access::Mapped, flags & BPF_F_MMAPABLE != 0);
        let others = [
            one.writer().unwrap(),
            open(one.region().clone()).writer().unwrap(),
            open(again.open(Source::id(id)).unwrap()).writer().unwrap(),
            open(again.open(pins.path("latches")).unwrap()).writer().unwrap(),
        ];
        let writer = one.writer().unwrap();
        let count = if flags == BPF_F_MMAPABLE { 20_000 } else { 4_000 };
        for (round, other) in (1..).zip(&others) {
            let set = |writer: &LatchesWriter<Value>, n| writer.set(1, &value(n)).unwrap();
            let version = at_once(count, [&|n| set(&writer, n), &|n| set(other, n)], || {
                let Snapshot { version, value: found } = one.snapshot(1)?;
                assert!(whole(&found), "version {version} is a mixture");
                Ok(version)
            });
            assert_eq!(version, round * 2 * count, "each write counts, flags {flags:#x}, pair {round}");
        }
    }
}

fn bss(object: &Object) -> u32 {
    let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
    map.expect("there are variables").info().unwrap().info.id
}

#[test]
fn global_variables_are_written_by_one_at_a_time() {
    let object = &require_bpf!(GLOBALS);
    let options = OpenOptions::new().write(true);
    let one = Globals::open_with(section(object, ".bss").unwrap(), options).unwrap();
    let other = Globals::open_with(Source::id(bss(object)), options).unwrap();
    let latch_of = |globals: &Globals| globals.latch::<Wide>("wide_latch").unwrap();
    let wide = |n| Wide { words: value(n) };
    let (latch, count) = (latch_of(&one), 20_000);
    let others = [latch_of(&one), latch_of(&one.clone()), latch_of(&other)];
    // First two threads that share a handle.
    for (round, other) in (1..).zip([&latch].into_iter().chain(&others)) {
        let version = at_once(count, [&|n| _ = latch.set(&wide(n)), &|n| _ = other.set(&wide(n))], || {
            let Snapshot { version, value } = latch.snapshot()?;
            assert!(whole(&value.words), "version {version} is a mixture");
            Ok(version)
        });
        assert_eq!(version, round * 2 * count, "each write counts, pair {round}");
    }
    // And a cell, where two concurrent writers would drop one update.
    let cell_of = |globals: &Globals| globals.cell::<Wide>("wide_cell").unwrap();
    let (cell, other) = (cell_of(&one), cell_of(&other));
    for (round, other) in (1..).zip([&cell, &other]) {
        let set = |cell: &Global<Wide, Seqlock>, n| assert!(cell.set(&wide(n)).unwrap(), "given up");
        let version = at_once(count, [&|n| set(&cell, n), &|n| set(other, n)], || {
            let Snapshot { version, value } = cell.snapshot()?;
            assert!(whole(&value.words), "version {version} is a mixture");
            Ok(version)
        });
        assert_eq!(version, round * 2 * count);
    }
}
