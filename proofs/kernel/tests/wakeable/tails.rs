//! Rings whose records have tails, and which wake their readers.

use std::mem::MaybeUninit;
use std::time::Duration;

use libbpf_rs::skel::Skel;
use mapring::abi::readers::{ASLEEP, NEVER};
use mapring::{ErrorKind, Ring, Tailed};
use mapring_kernel_tests::skel::WakeableSkelBuilder;
use mapring_kernel_tests::{PinDir, Runner, cpus, fitted, load, map, on_cpu, read_only, require_bpf};

use super::{DISCARD, FOREVER, Numbered, PUBLISH, Rec, run, rung};

type Records = Tailed<Rec>;

#[test]
fn a_reader_of_tails_is_woken_once_for_each_sleep() {
    require_bpf!();
    on_cpu(cpus()[0]);
    let mut storage = MaybeUninit::uninit();
    let skel = load::<WakeableSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let publish = Runner::new(object, "publish_tailed");
    let asleep = || Records::shared(object, ASLEEP);
    assert_eq!(Records::look(object), NEVER, "there are no readers");
    let mut reader = Records::open(object).reader();
    run(&publish, 0, 3, PUBLISH);
    assert_eq!(reader.arm(), None, "there are records");
    assert_eq!((Records::numbers(&mut reader), asleep()), (vec![0, 1, 2], 0));
    for round in 0..100 {
        assert!(reader.arm().is_some());
        assert_eq!((rung(&mut reader), asleep()), (false, 1));
        run(&publish, round, 1, PUBLISH);
        assert_eq!((rung(&mut reader), asleep()), (true, 0), "rung, and no more from now on");
        run(&publish, round + 1, 63, PUBLISH);
        assert!(reader.wait(Duration::ZERO).unwrap());
        assert_eq!(Records::numbers(&mut reader), (round..round + 64).collect::<Vec<_>>());
    }
    // A discarded record wakes too, because others may be behind it.
    assert!(reader.arm().is_some());
    run(&publish, 0, 1, DISCARD);
    assert!(rung(&mut reader) && asleep() == 0);
    assert_eq!(Records::numbers(&mut reader), []);

    let mut reader = reader.with_watermark(8, FOREVER);
    while reader.arm().is_none() {
        Records::numbers(&mut reader);
    }
    run(&publish, 0, 7, PUBLISH);
    assert!(!rung(&mut reader));
    run(&publish, 7, 8, PUBLISH);
    assert!(rung(&mut reader));
    assert_eq!(Records::numbers(&mut reader).len(), 15);
    let stats = reader.stats();
    assert_eq!((stats.delivered, stats.discarded, stats.lost()), (3 + 6400 + 15, 1, 0), "{stats}");
}

#[test]
fn other_processes_find_the_bells_of_a_ring_with_tails() {
    require_bpf!();
    on_cpu(cpus()[0]);
    let mut storage = MaybeUninit::uninit();
    let skel = load::<WakeableSkelBuilder>(&mut storage, fitted);
    let object = skel.object();
    let (dir, publish) = (PinDir::new(), Runner::new(object, "publish_tailed"));
    let pin = dir.path("tailed");
    Records::open(object).pin(&pin, 0o600).unwrap();
    let ring = Ring::<Records>::open(&pin).unwrap();
    let tails = *ring.region().geometry().tails().expect("the link has a word of its own");
    assert_eq!((tails.longest(), tails.bytes()), (64, 16384));
    let mut reader = ring.reader();
    assert!(reader.arm().is_some());
    run(&publish, 5, 1, PUBLISH);
    assert!(rung(&mut reader));
    assert_eq!(Records::numbers(&mut reader), [5]);
    // It is read as one with tails only: never by system calls.
    assert_eq!(Ring::<Rec>::open(&pin).unwrap_err().kind(), ErrorKind::WrongType);
    let by_call = Ring::<Records>::open(read_only(&map(object, "tailed")));
    assert_eq!(by_call.unwrap_err().kind(), ErrorKind::NotReadable);
}
