//! What the reader in C tells programs: that it sleeps, or is required; commands and latches. And records in the order of stamps.

use mapring_kernel_tests::prelude::*;
use nix::sys::signal::Signal;

use super::reader::Reader;
use super::written_before::locator;

fn hex<T: bytemuck::Pod>(value: &T) -> String {
    bytemuck::bytes_of(value).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn first_words(records: &[(u64, u64, Vec<u8>)]) -> Vec<u64> {
    records.iter().map(|(.., bytes)| u64::from_ne_bytes(bytes[..8].try_into().unwrap())).collect()
}

#[test]
fn a_program_wakes_it() {
    require_bpf!();
    on_one_cpu();
    let object = &bpf::WAKEABLE.load(fitted);
    let publish = Runner::new(object, "publish");
    // It gives its seat back when it ends: more of them than there are seats.
    for _ in 0..66 {
        assert_eq!(Reader::once(&["--wait", "ring", &locator(object, "events")]).0, "mapped");
    }
    let reader = Reader::start(&["--wait", "ring", &locator(object, "events")]);
    for n in 0..40 {
        publish.run(&mut [n, 1]);
        reader.wait_until(|now| now.lines as u64 > n);
    }
    let (_, readers) = Reader::once(&["readers", &locator(object, "events__readers")]);
    assert_eq!(readers.readers.len(), 1, "{readers:?}");
    let report = reader.stop();
    assert_eq!(first_words(&report.records), (0..40).collect::<Vec<_>>());
    assert!(report.wakes > 0, "{report:?}");
    everywhere();
}

#[test]
fn programs_wait_for_it() {
    require_bpf!();
    on_one_cpu();
    let object = &bpf::KEEP.load(fitted);
    let publish = Runner::new(object, "publish");
    let reader = Reader::start(&["--require", "3600000", "ring", &locator(object, "events")]);
    reader.signal(Signal::SIGSTOP);
    publish.run(&mut [0, 60]);
    publish.run(&mut [60, 40]);
    reader.signal(Signal::SIGCONT);
    reader.wait_until(|now| now.lines >= 64);
    // It says how far it has read: there is room again.
    publish.run(&mut [200, 50]);
    let report = reader.stop();
    let right: Vec<_> = (0..64).chain(200..250).collect();
    assert_eq!((first_words(&report.records), report.dropped), (right, 36), "{:?}", report.stats);
    // One whose lease has ended, because it was stopped, says so.
    let reader = Reader::start(&["--require", "1", "ring", &locator(object, "events")]);
    reader.signal(Signal::SIGSTOP);
    for n in 0..8 {
        publish.run(&mut [300 + n * 50, 50]);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    reader.signal(Signal::SIGCONT);
    assert!(!reader.ends().success(), "its lease has ended");
    everywhere();
}

#[test]
fn records_of_all_cpus_in_the_order_of_their_stamps() {
    require_bpf!();
    let object = &bpf::WAKEABLE.load(fitted);
    let publish = Runner::new(object, "publish");
    for n in 0..60 {
        on_cpu(cpus()[usize::try_from(n).unwrap() % cpus().len()]);
        publish.run(&mut [n, 1]);
    }
    everywhere();
    for way in [&["--merged"][..], &["--lookup", "--merged"], &["--merged", "--wait"]] {
        let (_, report) = Reader::once(&[way, &["ring", &locator(object, "events")]].concat());
        assert_eq!(first_words(&report.records), (0..60).collect::<Vec<_>>(), "{way:?}");
        assert_eq!(report.stats.delivered, 60);
    }
    on_one_cpu();
    Runner::new(object, "publish_tailed").run(&mut [0, 20]);
    let (_, report) = Reader::once(&["--merged", "ring", &locator(object, "tailed")]);
    assert_eq!(report.tails, (0..20_u64).map(|n| n.to_ne_bytes().to_vec()).collect::<Vec<_>>());
    everywhere();
}

#[test]
fn records_of_two_rings_in_the_order_of_their_stamps() {
    require_bpf!();
    let object = &bpf::WAKEABLE.load(fitted);
    let programs = ["publish", "publish_tailed"].map(|program| Runner::new(object, program));
    let of = |n: u64| usize::from(n % 5 == 2);
    for n in 0..60 {
        on_cpu(cpus()[usize::try_from(n).unwrap() % cpus().len()]);
        programs[of(n)].run(&mut [n, 1]);
    }
    everywhere();
    let locators = ["events", "tailed"].map(|ring| locator(object, ring));
    for way in [&["--merged"][..], &["--merged", "--wait"]] {
        let (_, report) = Reader::once(&[way, &["rings", &locators[0], &locators[1]]].concat());
        assert_eq!(first_words(&report.records), (0..60).collect::<Vec<_>>(), "{way:?}");
        assert_eq!(report.rings_of, (0..60).map(of).collect::<Vec<_>>(), "{way:?}");
        assert_eq!((report.stats.delivered, report.rings), (60, 2));
    }
    // A program of either ring wakes it.
    let reader = Reader::start(&["--merged", "--wait", "rings", &locators[0], &locators[1]]);
    for n in 60..100 {
        programs[of(n)].run(&mut [n, 1]);
        reader.wait_until(|now| now.lines as u64 > 2 * n);
    }
    assert_eq!(first_words(&reader.stop().records), (0..100).collect::<Vec<_>>());
}

#[test]
fn commands_and_latches_that_it_writes() {
    require_bpf!();
    let object = &bpf::COMMANDS.load(fitted);
    let program = Runner::new(object, "one_event");
    for number in 1..=3 {
        let pushing = Reader::start(&["push", &locator(object, "orders"), &hex(&Order::new(1, number))]);
        let mut event = [0; 4];
        program.run(&mut event);
        assert_eq!(event[1..], [1, number, 1], "the event saw this command, whole");
        assert_eq!(pushing.stop().pushed.0, number);
    }
    let object = &bpf::CONFORMANCE.load(fitted);
    let latches = Latches::<Numbered>::open(&map(object, "latches")).unwrap();
    for number in 1..=3 {
        let value = Numbered::new(7, number);
        Reader::once(&["set", &locator(object, "latches"), &hex(&value)]);
        let found = latches.snapshot(0).unwrap();
        assert_eq!((found.version, found.value), (number, value));
    }
}
