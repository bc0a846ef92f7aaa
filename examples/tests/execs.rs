//! Runs `execs`, and compares its records with those of bcc's execsnoop: both in the same BPF programs, under load.
#![cfg(feature = "bpf")]

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use libbpf_rs::RingBufferBuilder;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use mapring::record::{LayoutCheck, string};
use mapring::{Ring, Tagged};

mod common;

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/execs_both.skel.rs"));
}
mapring::skeleton_records!("execs_both.skel.rs": skel::types::{exec, exit});

#[derive(Tagged)]
enum Event<'r> {
    #[tag(1)]
    Exec(&'r skel::types::exec),
    #[tag(2)]
    Exit(&'r skel::types::exit),
}

/// What both mechanisms say about an execve, or about the end of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Exec { pid: u32, ppid: u32, uid: u32, ret: i32, comm: String, args: Vec<u8> },
    Exit { pid: u32, ppid: u32, uid: u32, code: i32 },
}

/// Threads that start processes, and the processes of each.
const THREADS: usize = 4;
const EACH: usize = 150;
/// An ELF file: arguments of scripts are changed by the kernel.
const PROGRAM: &str = "/bin/true";
const MISSING: &str = "/nowhere/to be found";
const ENOENT: i32 = -2;

/// The program and the arguments of the process with this number.
fn load(n: usize) -> Vec<String> {
    let program = if n.is_multiple_of(3) { MISSING } else { PROGRAM };
    let more = (0..n % 7).map(|i| "x".repeat((n * 13 + i * 31) % 120));
    [program.to_owned(), format!("number {n}")].into_iter().chain(more).collect()
}

/// The same as in a tail: each with a NUL.
fn joined(args: &[String]) -> Vec<u8> {
    args.iter().flat_map(|arg| arg.bytes().chain([0])).collect()
}

/// A word of the peer's records.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[4 * at..][..4].try_into().unwrap())
}

/// Held by each test: both count the processes that this process starts.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn the_same_events_as_execsnoop() {
    if !common::allowed() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::ExecsBothSkelBuilder::default().open(&mut storage).unwrap();
    open.progs.on_sys_exit.set_autoload(false);
    open.progs.on_process_exit.set_autoload(false);
    mapring_loader::prepare(&mut open).unwrap();
    let mut skel = open.load().unwrap();
    mapring_loader::initialize(&skel).unwrap();
    let ring = Ring::<Tagged<Event<'_>>>::open(&skel.maps.events).unwrap();
    assert_eq!(ring.layout_check(), LayoutCheck::Fields);
    let mut reader = ring.reader();
    skel.attach().unwrap();

    let me = std::process::id();
    let mut ours = Vec::new();
    let mut read = |ours: &mut Vec<Row>| {
        reader.for_each(usize::MAX, |event| {
            ours.push(match event.record.variant().unwrap() {
                Event::Exec(&skel::types::exec { pid, ppid, uid, ret, comm, .. }) => Row::Exec {
                    pid,
                    ppid,
                    uid,
                    ret,
                    comm: string(&comm).into_owned(),
                    args: event.tail.to_vec(),
                },
                Event::Exit(&skel::types::exit { pid, ppid, uid, code, .. }) => {
                    assert!(event.tail.is_empty());
                    Row::Exit { pid, ppid, uid, code }
                }
            });
        })
    };
    let theirs = RefCell::new(Vec::new());
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&skel.maps.peer, |bytes| {
            let [pid, ppid, uid, last] = [0, 1, 2, 3].map(|at| word(bytes, at));
            let last = last.cast_signed();
            theirs.borrow_mut().push(match bytes.len() {
                16 => Row::Exit { pid, ppid, uid, code: last },
                _ => {
                    let (comm, args) = bytes[24..].split_at(16);
                    let args = args[..word(bytes, 5) as usize].to_vec();
                    Row::Exec { pid, ppid, uid, ret: last, comm: string(comm).into_owned(), args }
                }
            });
            0
        })
        .unwrap();
    let peer = builder.build().unwrap();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let starters: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    for n in thread * EACH..(thread + 1) * EACH {
                        let args = load(n);
                        let status = Command::new(&args[0]).args(&args[1..]).status();
                        assert_eq!(status.is_ok(), args[0] == PROGRAM, "{status:?}");
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            starters.into_iter().for_each(|starter| starter.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            read(&mut ours);
            peer.consume().unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    // All processes have ended, and so have the programs that recorded them.
    read(&mut ours);
    peer.consume().unwrap();
    drop(peer);

    let stats = reader.stats();
    println!("{stats}");
    assert_eq!((stats.lost(), stats.dropped()), (0, 0), "{stats}");
    assert_eq!(skel.maps.bss_data.as_ref().unwrap().peer_dropped, 0);
    // Other processes of this machine may start scripts, or programs from several threads, where the two differ.
    let mine = |all: Vec<Row>| {
        let mut all: Vec<_> =
            all.into_iter().filter(|(Row::Exec { ppid, .. } | Row::Exit { ppid, .. })| *ppid == me).collect();
        all.sort();
        all
    };
    let (ours, theirs) = (mine(ours), mine(theirs.into_inner()));
    assert_eq!(ours.len(), 2 * THREADS * EACH);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    // And each process is there, as it was started.
    let mut expected: Vec<_> = (0..THREADS * EACH)
        .map(|n| (if n.is_multiple_of(3) { ENOENT } else { 0 }, joined(&load(n))))
        .collect();
    let mut found: Vec<_> = ours
        .into_iter()
        .filter_map(|row| match row {
            Row::Exec { ret, args, .. } => Some((ret, args)),
            Row::Exit { .. } => None,
        })
        .collect();
    expected.sort();
    found.sort();
    assert!(found == expected);
}

#[test]
fn execs() {
    if !common::allowed() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let execs = thread::spawn(|| Command::new(env!("CARGO_BIN_EXE_execs")).arg("2").output().unwrap());
    // An argument may contain anything: this one clears the screen.
    while !execs.is_finished() {
        assert!(Command::new(PROGRAM).args(["one two", "\x1b[2J"]).status().unwrap().success());
        Command::new(MISSING).arg("three").status().unwrap_err();
        thread::sleep(Duration::from_millis(20));
    }
    let text = common::text(&execs.join().unwrap());
    let me = format!(" {} ", std::process::id());
    let mine: Vec<_> = text.lines().filter(|line| line.contains(&me)).collect();
    let has = |what: &str| mine.iter().any(|line| line.contains(what));
    assert!(has(r#" exec 0 true "/bin/true" "one two" "\u{1b}[2J""#), "{text}");
    assert!(has(&format!(r#" "{MISSING}" "three""#)) && has(" exec -2 "), "{text}");
    assert!(has(" exit 0, signal 0, after "), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let last = text.lines().last().unwrap();
    assert!(last.contains(" delivered, 0 lost, 0 dropped; read mapped"), "{last}");
}
