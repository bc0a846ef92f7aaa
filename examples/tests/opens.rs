//! Runs `opens`, and compares its records with those of bcc's opensnoop: both in the same BPF programs, under load.
#![cfg(feature = "bpf")]

use std::cell::RefCell;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::PerfBufferBuilder;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::record::string;
use mapring::{Reader, Ring};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

mod common;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/opens_both.skel.rs"));
}
mapring::skeleton_records!("opens_both.skel.rs": skel::types::{open_event});

/// What both mechanisms say about a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    name: String,
    ret: i32,
    flags: u64,
    pid: u32,
    uid: u32,
    comm: String,
}

/// Threads that open files, and the calls of each.
const THREADS: usize = 4;
const EACH: usize = 5000;
const ENOENT: i32 = -2;
/// The name of these threads.
const NAME: &str = "opens-our-files";
/// The longest wait for the last records.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads all records, with whole names. Opensnoop has room for 255 bytes of a name.
fn read(reader: &mut Reader<skel::types::open_event>, all: &mut Vec<Row>) {
    reader.for_each(usize::MAX, |event| {
        let name = &event.tail[..event.tail.len().min(255)];
        let &skel::types::open_event { ret, flags, pid, uid, comm, .. } = event.record;
        let (name, comm) = (string(name).into_owned(), string(&comm).into_owned());
        all.push(Row { name, ret, flags, pid, uid, comm });
    });
}

#[test]
fn the_same_events_as_opensnoop() {
    if common::allowed() {
        compare(false);
    }
}

/// It reads nothing before the end.
#[test]
fn what_a_slow_reader_misses_is_counted() {
    if common::allowed() {
        compare(true);
    }
}

fn compare(slow: bool) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    if slow {
        // Too many files for one CPU's part of the ring.
        let mut cpus = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| cpus.is_set(cpu)).unwrap();
        cpus.clear();
        cpus.set(first);
        sched_setaffinity(None, &cpus).unwrap();
    }
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::OpensBothSkelBuilder::default().open(&mut storage).unwrap();
    open.progs.on_sys_exit.set_autoload(false);
    mapring_loader::prepare(&mut open).unwrap();
    let me = std::process::id();
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    let ours = open.maps.rodata_data.as_mut().unwrap();
    ours.our_pid = me;
    ours.our_name = [0, 8].map(|at| u64::from_ne_bytes(name[at..at + 8].try_into().unwrap()));
    let mut skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    let mut reader = Ring::<skel::types::open_event>::open(&skel.maps.opens).unwrap().reader();
    reader.require(Duration::from_secs(600)).unwrap();
    let (theirs, lost) = (RefCell::new(Vec::new()), RefCell::new(0));
    let peer = PerfBufferBuilder::new(&skel.maps.peer)
        .pages(1024)
        .sample_cb(|_, bytes: &[u8]| {
            let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            let flags = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
            let text = |at: usize, len: usize| string(&bytes[at..at + len]).into_owned();
            let [pid, uid, ret] = [8, 12, 16].map(word);
            let ret = ret.cast_signed();
            theirs.borrow_mut().push(Row { name: text(40, 256), ret, flags, pid, uid, comm: text(24, 16) });
        })
        .lost_cb(|_, count| *lost.borrow_mut() += count)
        .build()
        .unwrap();
    let folder = std::env::temp_dir().join(format!("mapring-opens-{me}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("there"), "").unwrap();
    skel.attach().unwrap();
    let is_ours = |row: &Row| row.pid == me && row.comm == NAME;
    let mut ours = Vec::new();
    let ended = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (folder, ended) = (&folder, &ended);
            let opens = move || {
                for n in 0..EACH {
                    // Some exist; names of every length, the longest are cut.
                    let name = if n % 3 == 0 {
                        "there".into()
                    } else {
                        format!("{thread}-{n}-{}", "x".repeat(n % 240))
                    };
                    let opened = File::open(folder.join(name));
                    assert_eq!(opened.is_ok(), n % 3 == 0);
                }
                ended.fetch_add(1, Ordering::Release);
            };
            thread::Builder::new().name(NAME.into()).spawn_scoped(scope, opens).unwrap();
        }
        loop {
            let last = ended.load(Ordering::Acquire) == THREADS;
            if !slow {
                read(&mut reader, &mut ours);
            }
            peer.consume().unwrap();
            if last {
                break;
            }
        }
    });
    // All calls have ended. A record of another process may be in front of some of theirs, and not ended yet.
    let counts = skel.maps.bss_data.as_ref().unwrap();
    let (dropped, peer_dropped) = (counts.ours_dropped, counts.peer_dropped);
    let count = |all: &[Row]| all.iter().filter(|row| is_ours(row)).count() as u64;
    let (peers, started) = (count(&theirs.borrow()), Instant::now());
    while count(&ours) + dropped < peers && started.elapsed() < PATIENCE {
        read(&mut reader, &mut ours);
    }
    drop(peer);
    fs::remove_dir_all(&folder).unwrap();

    let stats = reader.stats();
    println!("{stats}");
    assert_eq!((stats.lost(), reader.take_error().is_some()), (0, false), "{stats}");
    assert_eq!((peer_dropped, *lost.borrow()), (0, 0));
    let folder = folder.to_str().unwrap();
    let mine = |all: Vec<Row>| {
        let mut all: Vec<_> = all.into_iter().filter(is_ours).collect();
        all.sort();
        all
    };
    let (mut ours, theirs) = (mine(ours), mine(theirs.into_inner()));
    println!("{} of theirs, {} of ours, {dropped} dropped, {} in all", theirs.len(), ours.len(), stats.full);
    assert_eq!(theirs.iter().filter(|row| row.name.starts_with(folder)).count(), THREADS * EACH);
    // What ours lacks was dropped because this reader was too slow, and is counted: by the program that could not write
    // it, and by the ring, with those of all other processes.
    assert_eq!(ours.len() as u64 + dropped, theirs.len() as u64, "{stats}");
    assert!(dropped <= stats.dropped(), "{dropped} were dropped: {stats}");
    if slow {
        assert!(dropped > 0 && !ours.is_empty(), "all records had room: {stats}");
    } else {
        assert!(ours.len() * 2 >= theirs.len(), "more than half was dropped: {stats}");
    }
    let all = ours.len();
    let mut at = ours.drain(..).peekable();
    let found = theirs.iter().filter(|row| at.next_if_eq(row).is_some()).count();
    assert_eq!((found, at.next()), (all, None), "the same events, field by field");
    assert!(theirs.iter().any(|row| row.ret == ENOENT && row.name.len() == 255));
}

#[test]
fn opens() {
    if !common::allowed() {
        return;
    }
    let opens = thread::spawn(|| Command::new(env!("CARGO_BIN_EXE_opens")).arg("2").output().unwrap());
    // A name may contain anything: this one clears the screen.
    while !opens.is_finished() {
        File::open("/nowhere/\x1b[2J to be found").unwrap_err();
        File::open("/proc/self/status").unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    let text = common::text(&opens.join().unwrap());
    let me = format!("{:>7} ", std::process::id());
    let has = |what: &str| text.lines().any(|line| line.starts_with(&me) && line.contains(what));
    assert!(has("/proc/self/status") && has("     -2 "), "{text}");
    assert!(has("/nowhere/"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let last = text.lines().last().unwrap();
    assert!(last.contains(" delivered, 0 lost, ") && last.ends_with("; read mapped"), "{last}");
}
