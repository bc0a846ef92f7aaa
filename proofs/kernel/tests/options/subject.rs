//! The rings of the contract, each with its writer.

use libbpf_rs::ObjectBuilder;
use mapring::abi::Tails;
use mapring::writers::MemfdOptions;
use mapring::{Record, Writer};

use super::*;

/// A ring of the list, with its writer.
pub(super) struct Subject<'o> {
    pub(super) name: &'static str,
    written: Written<'o>,
}

enum Written<'o> {
    /// By a program, on the CPU where it runs.
    InMap(&'o Object, Runner),
    /// By this process, in the shard of the CPU where it runs.
    InMemfd(Ring<Rec>, Vec<Writer<Rec>>),
}

/// Rings between processes, with a shard for each CPU.
pub(super) fn memfds() -> impl Iterator<Item = (Subject<'static>, &'static str)> {
    let (plain, tails) = (MemfdOptions::default(), Tails::new(LONGEST, 16384).unwrap());
    let all = [
        ("memfd", "", plain),
        ("memfd_wakes", "WAKEABLE", plain.wakeable()),
        ("memfd_keeps", "KEEP_OLDEST", plain.keep_oldest()),
        ("memfd_tails", "TAILS", plain.tails(tails)),
        ("memfd_wakes_tails", "WAKEABLE, TAILS", plain.wakeable().tails(tails)),
    ];
    all.into_iter().map(|(name, declared, options)| {
        let (slots, shards) = (usize::try_from(SLOTS).unwrap(), cpus().len());
        let ring = Ring::create_memfd_with(slots, shards, options).unwrap();
        let writers = (0..shards).map(|shard| ring.writer(shard).unwrap()).collect();
        (Subject { name, written: Written::InMemfd(ring, writers) }, declared)
    })
}

impl<'o> Subject<'o> {
    pub(super) fn new(object: &'o Object, name: &'static str) -> Self {
        Self { name, written: Written::InMap(object, Runner::new(object, &format!("push_{name}"))) }
    }

    pub(super) fn open(&self) -> Ring<Rec> {
        self.try_open().unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Opens it as a ring of such records: in a memfd, as a process does that may write it.
    pub(super) fn try_open<T: Pod + Record>(&self) -> mapring::Result<Ring<T>> {
        match &self.written {
            Written::InMap(object, _) => Ring::open(&map(object, self.name)),
            Written::InMemfd(ring, _) => Ring::open_with(
                ring.region().as_fd().try_clone_to_owned().unwrap(),
                OpenOptions::new().write(true),
            ),
        }
    }

    /// The object with its map, unless it is in a memfd.
    pub(super) fn object(&self) -> Option<&'o Object> {
        if let Written::InMap(object, _) = self.written { Some(object) } else { None }
    }

    /// Writes `count` records, numbered from `n`, on this CPU, and ends each in this way. Returns how many were reserved.
    pub(super) fn write(&self, n: u64, count: u64, end: u64) -> u64 {
        let one = |n| match &self.written {
            Written::InMap(_, program) => u64::from(program.run_for(&mut [n, end])),
            Written::InMemfd(_, writers) => {
                u64::from(write_one(&writers[rustix::thread::sched_getcpu()], n, end))
            }
        };
        (n..n + count).map(one).sum()
    }

    pub(super) fn push(&self, n: u64, count: u64) -> u64 {
        self.write(n, count, COMMIT)
    }

    /// Programs in Rust discard what they do not commit.
    pub(super) fn never_abandons(&self) -> bool {
        self.object().is_some_and(|object| object.progs().all(|program| program.name() != "on_task_first"))
    }
}

/// Writes a record as `options.bpf.c` does. Returns whether it was reserved.
fn write_one(writer: &Writer<Rec>, n: u64, end: u64) -> bool {
    let rec = Rec { n, twice: 2 * n };
    let len = if writer.region().geometry().tails().is_some() { n % (LONGEST + 1) } else { 0 };
    let tail = vec![n.to_le_bytes()[0]; usize::try_from(len).unwrap()];
    if end == COMMIT && n.is_multiple_of(2) {
        return writer.push_with_tail(&rec, &tail).is_some();
    }
    let Some(mut slot) = writer.reserve() else { return false };
    slot.write(&rec);
    assert!(slot.write_tail(&tail));
    match end {
        COMMIT => _ = slot.commit().unwrap(),
        DISCARD => slot.discard(),
        _ => std::mem::forget(slot),
    }
    true
}

/// Runs `test` with the rings of the list. With MAPRING_OPTIONS=FILE:FILE, as `cargo xtask prove rust-bpf` sets it, with those of the
/// list that each of these objects has: their programs are another producer of the same rings.
pub(super) fn with_rings(
    objects: &[&Compiled],
    prepare: fn(&mut OpenObject),
    test: impl Fn(&Object, &[(&'static str, &str)]),
) {
    let Some(files) = std::env::var_os("MAPRING_OPTIONS") else {
        return objects.iter().for_each(|object| test(&object.load(prepare), &RINGS));
    };
    for file in std::env::split_paths(&files) {
        let mut open = ObjectBuilder::default().open_file(file).unwrap();
        prepare(&mut open);
        let object = open.load().unwrap();
        mapring_loader::initialize_object(&object).unwrap();
        let there = |name: &str| object.maps().any(|map| map.name() == name);
        let rings: Vec<_> = RINGS.into_iter().filter(|(name, _)| there(name)).collect();
        assert!(rings.len() >= 12, "{rings:?}");
        test(&object, &rings);
    }
}

/// Only the programs that a test runs by hand: the others take long to verify, and Linux 5.15 refuses one of them.
pub(super) fn by_hand(open: &mut OpenObject) {
    let others = open.progs_mut().filter(|program| !program.name().to_string_lossy().starts_with("push_"));
    others.for_each(|mut program| program.set_autoload(false));
    fitted(open);
}

pub(super) fn for_each_ring(test: impl Fn(&Subject<'_>, RingOptions)) {
    let check = |ring: &Subject<'_>, declared: &str| {
        let options = ring.open().options();
        assert_eq!(options.to_string(), declared, "{}", ring.name);
        test(ring, options);
        println!("{}: {declared}", ring.name);
    };
    with_rings(&[&bpf::OPTIONS], by_hand, |object, rings| {
        rings.iter().for_each(|&(name, declared)| check(&Subject::new(object, name), declared));
    });
    memfds().for_each(|(ring, declared)| check(&ring, declared));
}
