//! Without fetching atomics, which kernels before 5.12 lack: programs that nothing preempts write
//! rings, cells and counters by plain stores, and what can't do without is refused with the remedy.
#![cfg(target_arch = "x86_64")]
#![allow(missing_docs)]

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{OpenObject, ProgramMut};
use mapring::{
    Access, Cells, Claim, Counters, Error, Fit, Grounds, Latches, NumaRing, Options, PerCpuCells, Region,
    Ring,
};
use mapring_kernel_tests::skel::AloneSkelBuilder;
use mapring_kernel_tests::{
    Filled, everywhere, fitted, load, on_one_cpu, read_only, real_time, require_bpf, send, unfitted, words_of,
};

type Record = Filled<14>;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn packets(program: &ProgramMut<'_>, count: i32) -> u32 {
    send(program.as_fd(), &[0; 64], count)
}

#[test]
fn plain_stores_of_a_single_writer() {
    require_bpf!();
    if real_time() {
        return; // no program of such a kernel only nests: see below
    }
    let mut storage = MaybeUninit::uninit();
    let skel = load::<AloneSkelBuilder>(&mut storage, fitted);
    let cpu = on_one_cpu();
    let ring = Ring::<Record>::open(&skel.maps.ring).unwrap();
    let cells = Cells::<Record>::open(&skel.maps.cells).unwrap();
    let own = PerCpuCells::<Record>::open(&skel.maps.own).unwrap();
    let counters = Counters::open(&skel.maps.counters).unwrap();
    let placed = NumaRing::<Record>::open(&skel.maps.placed).unwrap();
    let mut of_placed = placed.reader();
    assert!(placed.rings().all(|(.., of)| of.claim() == Claim::Nested));
    assert_eq!((ring.access(), ring.claim()), (Access::Mapped, Claim::Nested));

    assert_eq!(packets(&skel.progs.on_packet, 1), XDP_DROP, "nobody has written the latch");
    let latch = Latches::<Record>::from_region(Options::new().write(true).open(&skel.maps.first).unwrap());
    let mut first = words_of(0);
    first[0] = 7;
    latch.unwrap().writer().unwrap().set(0, &first).unwrap();

    // Readers of both sorts, while it writes.
    let by_call = Ring::<Record>::open_fd(read_only(&skel.maps.ring)).unwrap();
    assert!(matches!(by_call.access(), Access::Syscall(_)));
    let stop = AtomicBool::new(false);
    let mut total = 1;
    std::thread::scope(|scope| {
        let readers = [&ring, &by_call].map(|ring| {
            let (stop, cells, mut reader) = (&stop, &cells, ring.reader());
            scope.spawn(move || {
                everywhere(); // not on the writer's CPU alone
                let mut version = 0;
                while !stop.load(Ordering::Relaxed) {
                    reader.for_each(1000, |event| {
                        assert_eq!((event.cpu, event.record), (cpu, &words_of(event.ticket)));
                    });
                    if let Some(now) = cells.try_snapshot(1).unwrap().filter(|now| now.version > 0) {
                        assert!(now.version >= version);
                        assert_eq!(now.value, words_of(now.version - 1));
                        version = now.version;
                    }
                }
                reader
            })
        });
        for _ in 0..30 {
            assert_eq!(packets(&skel.progs.on_packet, 500), XDP_PASS);
            total += 500;
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let mut reader = reader.join().unwrap();
            while reader.position(cpu) < Some(total) {
                reader.for_each(usize::MAX, |event| assert_eq!(event.record, &words_of(event.ticket)));
            }
            let tally = reader.tally();
            assert!(tally.delivered > 0);
            assert_eq!((tally.delivered + tally.lost(), tally.discarded), (total, 0), "{tally:?}");
        }
    });
    let mut check = |event: mapring::Event<&Record>| assert_eq!(*event.record, words_of(event.ticket));
    assert!(of_placed.for_each(usize::MAX, &mut check) > 0);
    assert_eq!(of_placed.tally().delivered + of_placed.lost(), total);
    let last = words_of(total - 1);
    let (shared, mine) = (cells.snapshot(1).unwrap(), own.snapshot(cpu, 0).unwrap());
    assert_eq!((shared.version, shared.value), (total, last));
    assert_eq!((mine.version, mine.value), (total, last));
    for index in 0..10 {
        assert_eq!(counters.sum(index).unwrap(), (total + 9 - index as u64) / 10 * 3);
    }
    let dropped = [
        ring.region().dropped().unwrap(),
        cells.region().dropped().unwrap(),
        counters.region().dropped().unwrap(),
    ];
    assert_eq!((dropped, ring.reader().dropped()), ([0; 3], 0));
}

#[test]
fn nobody_writes_whom_no_loader_has_shown_to_nest() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let skel = load::<AloneSkelBuilder>(&mut storage, unfitted);
    on_one_cpu();
    let ring = Ring::<Record>::open(&skel.maps.ring).unwrap();
    packets(&skel.progs.on_packet, 30);
    assert_eq!((ring.reader().poll().is_none(), ring.region().dropped().unwrap()), (true, 30));
    let first = Region::open_inner(&skel.maps.placed, &[0; 4]).unwrap();
    assert_eq!(first.dropped().unwrap(), 30);
}

fn with(object: &mut OpenObject, program: &str) {
    object.progs_mut().find(|found| found.name() == program).unwrap().set_autoload(true);
}

#[test]
fn rings_of_nested_claims_alone_want_programs_that_nest() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let mut open = AloneSkelBuilder::default().open(&mut storage).unwrap();
    let asked = Fit::new().atomic().object(open.open_object_mut()).unwrap_err();
    assert!(matches!(&asked, Error::NotNested { grounds: Grounds::Asked, .. }), "{asked}");
    with(open.open_object_mut(), "on_call");
    let refused = mapring::fit_to_machine(&mut open).unwrap_err();
    let Error::NotNested { grounds, .. } = &refused else { panic!("{refused}") };
    let (expected, why) = match real_time() {
        true => (*grounds == Grounds::RealTime, "PREEMPT_RT"),
        false => (matches!(grounds, Grounds::Preemptible { .. }), "on_call"),
    };
    let said = refused.to_string();
    assert!(
        expected && ["ring ring", "MAPRING_NESTED_ONLY", why].iter().all(|part| said.contains(part)),
        "{said}"
    );
}

/// What fits is what loads: where the kernel would refuse it, the library says what to do instead.
#[test]
fn programs_with_fetching_atomics_fit_where_they_load() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let mut open = AloneSkelBuilder::default().open(&mut storage).unwrap();
    with(open.open_object_mut(), "on_shared");
    let fits = mapring::fit_to_machine(&mut open);
    if real_time() {
        assert!(matches!(fits, Err(Error::NotNested { grounds: Grounds::RealTime, .. })), "{fits:?}");
        return;
    }
    let loads = open.load();
    assert_eq!(fits.is_ok(), loads.is_ok(), "{fits:?} {:?}", loads.err());
    if let Err(refused) = fits {
        let said = refused.to_string();
        let parts = ["on_shared", "since 5.12", "MAPRING_NESTED_ONLY", "mapring_cell_begin_alone"];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}
