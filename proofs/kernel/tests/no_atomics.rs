//! Without fetching atomics, which kernels before 5.12 lack: the only writer of a cell uses plain stores, counters
//! work, and everything else is refused with the fix.
#![cfg(target_arch = "x86_64")]

use mapring_kernel_tests::prelude::*;

type Record = Filled<14>;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn packets(program: &ProgramMut<'_>, count: i32) -> u32 {
    send(program.as_fd(), &[0; 64], count)
}

#[test]
fn plain_stores_of_a_single_writer() {
    let object = &require_bpf!(ALONE);
    let cpu = on_one_cpu();
    let cells = Cells::<Record>::open(&map(object, "cells")).unwrap();
    let own = PerCpuCells::<Record>::open(&map(object, "own")).unwrap();
    let counters = Counters::open(&map(object, "counters")).unwrap();
    assert_eq!(cells.access(), Access::Mapped);

    assert_eq!(packets(&program(object, "on_packet"), 1), XDP_DROP, "nobody has written the latch");
    let latch =
        Latches::<Record>::from_region(OpenOptions::new().write(true).open(&map(object, "first")).unwrap());
    let mut first = words_of(0);
    first[0] = 7;
    latch.unwrap().writer().unwrap().set(0, &first).unwrap();

    // Readers of both kinds, while the program writes.
    let by_call = Cells::<Record>::open(read_only(&map(object, "cells"))).unwrap();
    assert!(matches!(by_call.access(), Access::Syscall(_)));
    let stop = AtomicBool::new(false);
    let mut total = 1;
    std::thread::scope(|scope| {
        for cells in [&cells, &by_call] {
            let stop = &stop;
            scope.spawn(move || {
                everywhere(); // not only on the writer's CPU
                let mut version = 0;
                while !stop.load(Ordering::Relaxed) {
                    if let Some(now) = cells.try_snapshot(1).unwrap().filter(|now| now.version > 0) {
                        assert!(now.version >= version);
                        assert_eq!(now.value, words_of(now.version - 1));
                        version = now.version;
                    }
                }
            });
        }
        for _ in 0..30 {
            assert_eq!(packets(&program(object, "on_packet"), 500), XDP_PASS);
            total += 500;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let last = words_of(total - 1);
    let (shared, mine) = (cells.snapshot(1).unwrap(), own.snapshot(cpu, 0).unwrap());
    assert_eq!((shared.version, shared.value), (total, last));
    assert_eq!((mine.version, mine.value), (total, last));
    for index in 0..10 {
        assert_eq!(counters.sum(index).unwrap(), (total + 9 - index as u64) / 10 * 3);
    }
    assert_eq!([cells.region().dropped().unwrap(), counters.region().dropped().unwrap()], [0; 2]);
}

fn with(object: &mut OpenObject, program: &str) {
    object.progs_mut().find(|found| found.name() == program).unwrap().set_autoload(true);
}

/// `prepare` accepts exactly the objects that load: where the kernel would refuse one, the library reports the
/// alternatives.
#[test]
fn programs_with_fetching_atomics_fit_where_they_load() {
    require_bpf!();
    let mut open = bpf::ALONE.open();
    with(&mut open, "on_shared");
    let fits = mapring_loader::prepare_object(&mut open);
    let loads = open.load();
    assert_eq!(fits.is_ok(), loads.is_ok(), "{fits:?} {:?}", loads.err());
    if let Err(refused) = fits {
        let message = refused.to_string();
        let parts = ["on_shared", "since 5.12", "newer kernel", "mapring_cell_begin_single_writer"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}
