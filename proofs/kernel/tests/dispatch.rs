//! Dispatch tables: programs are inserted, found, replaced while they run and removed; misses are counted.

use libbpf_rs::Program;
use mapring::dispatch::Dispatch;
use mapring_kernel_tests::prelude::*;

/// The return value of the entry after a miss.
const MISSED: u32 = 100;

/// Sends a packet for `slot` through the entry. Returns the result.
fn packet(entry: &Program<'_>, slot: u8) -> u32 {
    send(entry.as_fd(), &[slot; 64], 1)
}

fn program<'a>(object: &'a libbpf_rs::Object, name: &str) -> Program<'a> {
    object.progs().find(|program| program.name() == name).unwrap()
}

#[test]
fn programs_come_and_go() {
    let object = &require_bpf!(DISPATCH);
    on_one_cpu();
    let of = |name| program(object, name);
    let (entry, first, second) = (of("entry"), of("first"), of("second"));
    let stages = Dispatch::open(&map(object, "stages")).unwrap();
    let misses = Counters::open(&map(object, "stages_misses")).unwrap();
    assert_eq!((stages.len(), misses.len()), (4, 5));

    assert_eq!((packet(&entry, 2), packet(&entry, 200)), (MISSED, MISSED));
    assert_eq!((misses.sum(2).unwrap(), misses.sum(4).unwrap()), (1, 1));
    assert!(stages.iter().next().is_none() && stages.get(2).unwrap().is_none());

    stages.insert(2, &first).unwrap();
    stages.insert(0, &second).unwrap();
    assert_eq!((packet(&entry, 2), packet(&entry, 0), packet(&entry, 1)), (1, 2, MISSED));
    stages.insert(2, &second).unwrap();
    assert_eq!(packet(&entry, 2), 2);

    // Read back, opened, and inserted elsewhere by a process that has only the pin.
    let pins = PinDir::new();
    MapHandle::try_from(&map(object, "stages")).unwrap().pin(pins.path("stages")).unwrap();
    let other = Dispatch::open(pins.path("stages")).unwrap();
    let found = other.get(2).unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.kind.as_str()), ("second", "xdp"));
    assert_eq!(found.id, Program::id_from_fd(second.as_fd()).unwrap());
    assert_eq!(other.iter().map(Result::unwrap).collect::<Vec<_>>(), [(0, found.id), (2, found.id)]);
    other.insert(3, &found).unwrap();
    assert_eq!(packet(&entry, 3), 2);

    assert!(stages.remove(2).unwrap());
    assert!(!stages.remove(2).unwrap(), "it is empty");
    assert_eq!((packet(&entry, 2), misses.sum(2).unwrap()), (MISSED, 2));

    // The kernel stops an endless chain of jumps: this counts as a miss.
    stages.insert(0, of("endless")).unwrap();
    assert_eq!((packet(&entry, 0), misses.sum(0).unwrap()), (3, 1));
    let by_id = Dispatch::open(Source::id(map(object, "stages").info().unwrap().info.id)).unwrap();
    assert_eq!(by_id.get(0).unwrap().unwrap().name, "endless");
}

#[test]
fn what_does_not_fit_is_named() {
    let object = &require_bpf!(DISPATCH);
    let of = |name| program(object, name);
    let stages = Dispatch::open(&map(object, "stages")).unwrap();

    let stranger = stages.insert(1, of("stranger")).unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Program);
    says(
        stranger,
        &[
            "map stages[1] (programs of type xdp)",
            "stranger (of type raw_tracepoint)",
            "os error 22",
            "a table for each",
        ],
    );
    let other = stages.insert(1, map(object, "runs")).unwrap_err();
    says(other, &["what is no loaded program", "load it first"]);
    let file = stages.insert(1, std::fs::File::open("/dev/null").unwrap()).unwrap_err();
    assert!(file.kind() == ErrorKind::Program, "{file}");
    says(file, &["does not accept "]);
    for slot in [4, usize::MAX] {
        let beyond = stages.insert(slot, of("first")).unwrap_err();
        assert!(beyond.to_string() == format!("no slot {slot}: there are 4"), "{beyond}");
        assert!(stages.remove(slot).is_err() && stages.id(slot).is_err() && stages.get(slot).is_err());
    }
    let reader = Dispatch::open(read_only(&map(object, "stages"))).unwrap();
    assert_eq!(reader.id(1).unwrap(), None);
    says(reader.insert(1, of("first")).unwrap_err(), &["BPF_MAP_UPDATE_ELEM", "read-only"]);
    says(reader.remove(1).unwrap_err(), &["BPF_MAP_DELETE_ELEM", "read-only"]);
    says(Dispatch::open(&map(object, "runs")).unwrap_err(), &["map runs", "type array, expected prog_array"]);
    let pipe = || std::os::fd::OwnedFd::from(std::io::pipe().unwrap().0);
    says(Dispatch::open(pipe()).unwrap_err(), &["fd ", " is not a BPF map"]);
    says(Region::open(pipe()).unwrap_err(), &["fd ", " is not a BPF map or a memfd"]);
    says(
        Region::open(&map(object, "stages")).unwrap_err(),
        &["type prog_array, expected array", "Dispatch::open"],
    );
}

/// Two programs take turns in a slot as fast as possible while every CPU jumps to it: each jump finds one of the two,
/// and none misses.
#[test]
fn replaced_while_they_run() {
    let object = &require_bpf!(DISPATCH);
    let of = |name| program(object, name);
    let stages = Dispatch::open(&map(object, "stages")).unwrap();
    let (runs, misses) = (
        Counters::open(&map(object, "runs")).unwrap(),
        Counters::open(&map(object, "stages_misses")).unwrap(),
    );
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    stages.insert(1, of("first")).unwrap();
    std::thread::scope(|scope| {
        for &cpu in cpus() {
            let entry = object.progs().find(|p| p.name() == "entry").unwrap();
            let entry = entry.as_fd().try_clone_to_owned().unwrap();
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                on_cpu(cpu);
                while !stop.load(Ordering::Relaxed) {
                    send(entry.as_fd(), &[1; 64], 1000);
                    sent.fetch_add(1000, Ordering::Relaxed);
                }
            });
        }
        let (first, second) = (of("first"), of("second"));
        let mut turns = 0;
        while turns < 200 || runs.sum(1).unwrap() < 100_000 || runs.sum(2).unwrap() < 100_000 {
            stages.insert(1, if turns % 2 == 0 { &second } else { &first }).unwrap();
            turns += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sent = sent.into_inner();
    let [entered, by_first, by_second, missed] = [0, 1, 2, 3].map(|index| runs.sum(index).unwrap());
    assert_eq!((entered, missed, by_first + by_second), (sent, 0, sent));
    let mut counts = [0; 5];
    misses.sums(&mut counts).unwrap();
    assert_eq!(counts, [0; 5]);
    eprintln!("{sent} jumps: {by_first} and {by_second}");
}
