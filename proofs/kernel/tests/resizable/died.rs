//! A process is killed while it resizes a ring, before and after each of its system calls. Followers read every record
//! once, from the rings that it left and from the rings of the next process.

use mapring_kernel_tests::prelude::*;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{all, open};

/// Another process resizes the ring in the map of maps pinned at `maps`, and pins it at `pin`. Kills that process at
/// its `stops`-th stop at the entry or exit of a system call. Returns whether it had finished.
fn resize_and_die(maps: &str, pin: &str, slots: usize, stops: usize) -> bool {
    let program = env!("CARGO_BIN_EXE_kernel-tests-resize");
    run_and_die(Command::new(program).args([maps, pin, &slots.to_string()]), stops)
}

#[test]
fn followers_of_a_process_that_died_while_it_resized() {
    followers(&require_bpf!(RESIZABLE));
}

/// The readers stay: one that sleeps is woken by the next record, and one that comes finds its seat and its bell, in whatever
/// state the rings are.
#[test]
fn sleepers_of_a_process_that_died_while_it_resized() {
    followers(&require_bpf!(RESIZABLE_WAKING));
}

fn has_rung(reader: &mut Reader<Numbered>) -> bool {
    let bell = reader.bell().unwrap();
    poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

fn followers(object: &Object) {
    let program = Runner::new(object, "push_run");
    let pins = PinDir::new();
    let [maps, pin] = ["maps", "numbers"].map(|name| pins.path(name));
    MapHandle::try_from(&map(object, "numbers")).unwrap().pin(&maps).unwrap();
    on_one_cpu();
    let ring = open(object);
    ring.pin(&pin, 0o600).unwrap();
    let by_pin = || Ring::<Numbered>::open(pin.as_path()).unwrap().reader();
    let (mut followers, mut next) = ([ring.reader(), by_pin()], 0);
    drop(ring);
    let mut write = |count| {
        assert_eq!(push(&program, 2, next, count), 0);
        next += count;
        next
    };
    let (mut read, mut before, mut half_way, mut output) = ([0, 0], 0, 0, false);
    for stops in 0.. {
        assert!(stops < 1000, "it does not come to an end");
        write(3);
        let wakes = open(object).options().wakes_readers();
        let mut sleeper = wakes.then(|| open(object).reader_from(Start::Now));
        assert!(sleeper.as_mut().is_none_or(|sleeper| sleeper.arm().is_some()));
        let slots = if stops % 2 == 0 { 64 } else { 32 };
        let done = resize_and_die(maps.to_str().unwrap(), pin.to_str().unwrap(), slots, stops);
        let written = write(3);
        if let Some(sleeper) = &mut sleeper {
            assert!(has_rung(sleeper), "after {stops} stops");
            let mut other = open(object).reader();
            other.bell().unwrap_or_else(|e| panic!("after {stops} stops: {e}"));
        }
        // The resize is still unfinished: records are read in order, and no follower moves on too early.
        for (follower, read) in followers.iter_mut().zip(&mut read) {
            for (writer, number) in all(follower) {
                assert_eq!((writer, number), (2, *read), "after {stops} stops");
                *read += 1;
            }
        }
        let [by_map, _] = &mut followers;
        let replaced = by_map.region().replaced().unwrap().is_some();
        assert!(!done || !replaced, "what was done is done");
        if replaced {
            half_way += 1;
            while !output {
                assert_eq!(by_map.poll(), None);
                let error = by_map.take_error();
                output = error.as_ref().is_some_and(|e| e.kind() == ErrorKind::ResizeUnfinished);
                assert!(output || error.is_none(), "{error:?}");
            }
        } else if !done {
            before += 1;
        }
        // The loader restarts.
        initialize_object(object).unwrap();
        let ring = open(object);
        ring.pin(&pin, PinOptions::new(0o600).replace(true)).unwrap();
        for (follower, read) in followers.iter_mut().zip(&mut read) {
            for _ in 0..3 {
                for (writer, number) in all(follower) {
                    assert_eq!((writer, number), (2, *read), "after {stops} stops");
                    *read += 1;
                }
            }
            assert_eq!((*read, follower.lost()), (written, 0), "after {stops} stops: {follower:?}");
            assert!(!follower.region().retired().unwrap(), "it reads the ring in use");
        }
        if done {
            break;
        }
    }
    eprintln!(
        "killed {before} times before the next ring was in use, {half_way} times between that and the end"
    );
    assert!(before > 0 && half_way > 0 && output);
    everywhere();
}

/// A follower that comes late to a ring that another loader pinned in the same place reads that ring, and counts
/// nothing for the rings that it can't see.
#[test]
fn a_loader_that_starts_anew_counts_nothing() {
    let object = &require_bpf!(RESIZABLE);
    let pins = PinDir::new();
    let pin = pins.path("numbers");
    on_one_cpu();
    let ring = open(object);
    ring.pin(&pin, 0o600).unwrap();
    let mut follower = Ring::<Numbered>::open(pin.as_path()).unwrap().reader();
    assert_eq!(push(&Runner::new(object, "push_run"), 2, 0, 10), 0);
    ring.resize(128).unwrap();
    drop(ring);

    let object = &bpf::RESIZABLE.load(fitted);
    let ring = open(object);
    fs::remove_file(&pin).unwrap();
    ring.pin(&pin, 0o600).unwrap();
    assert_eq!(push(&Runner::new(object, "push_run"), 2, 10, 3), 0);
    assert_eq!(all(&mut follower), (0..13).map(|number| (2, number)).collect::<Vec<_>>());
    assert_eq!((follower.rings(), follower.stats().delivered, follower.lost()), (2, 13, 0));
    everywhere();
}
