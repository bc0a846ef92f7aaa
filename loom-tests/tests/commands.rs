//! Models of commands: threads of one process that push, programs that carry them out, and processes that own the ring
//! one after the other.

use mapring_core::abi::commands::{OWNER, PUSHED};
use mapring_core::protocol::{WordsMut, commands};
use mapring_loom_tests::bpf::Bpf;
use mapring_loom_tests::commands::{Commands, Drained};
use mapring_loom_tests::sync::{Ordering, thread};
use mapring_loom_tests::{Seen, check};

const WAYS: [Bpf; 2] = [Bpf::Xchg, Bpf::StoreRelease];

/// Runs a model with each way to publish.
fn each(preemptions: Option<usize>, model: impl Fn(Bpf) + Send + Sync + Copy + 'static) {
    WAYS.into_iter().for_each(|bpf| check(preemptions, move || model(bpf)));
}

/// Pushes, again while the ring is full; at most `tries` times.
fn push(commands: &Commands, value: u64, tries: usize) -> Option<u64> {
    (0..tries).find_map(|_| {
        commands.push(value).or_else(|| {
            thread::yield_now();
            None
        })
    })
}

#[test]
fn two_threads_and_a_program() {
    let seen = Seen::default();
    let noted = seen.clone();
    for bpf in WAYS {
        let noted = noted.clone();
        check(Some(2), move || {
            let commands = Commands::new(2);
            let [there, program] = [(); 2].map(|()| commands.clone());
            let other = thread::spawn(move || [11, 12].map(|value| there.push(value)));
            let program = thread::spawn(move || [(); 2].map(|()| program.drain(bpf)));
            let mine = commands.push(1);
            let theirs = other.join().unwrap();
            let drained = program.join().unwrap();
            noted.note("full", mine.is_none() || theirs.contains(&None));
            noted.note("drained meanwhile", drained.contains(&Drained::Done));
            commands.drain(bpf);
            // In the order of their numbers, each once.
            let mut pushed: Vec<_> = [(mine, 1), (theirs[0], 11), (theirs[1], 12)]
                .into_iter()
                .filter_map(|(number, value)| Some((number?, value)))
                .collect();
            pushed.sort_unstable();
            assert!(pushed.iter().map(|&(number, _)| number).eq(1..=pushed.len() as u64), "{pushed:?}");
            assert_eq!(commands.log(), pushed.iter().map(|&(_, value)| value).collect::<Vec<_>>());
            assert_eq!(commands.acknowledged(), pushed.len() as u64);
        });
    }
    seen.expect(&["full", "drained meanwhile"]);
}

#[test]
fn two_programs_carry_out_each_command_once() {
    let seen = Seen::default();
    for bpf in WAYS {
        let noted = seen.clone();
        check(Some(2), move || {
            let commands = Commands::new(2);
            commands.push(1).unwrap();
            let others = [(); 2].map(|()| {
                let commands = commands.clone();
                thread::spawn(move || commands.drain(bpf))
            });
            commands.push(2).unwrap();
            let drained = others.map(|other| other.join().unwrap());
            noted.note("busy", drained.contains(&Drained::Busy));
            noted.note("idle", drained.contains(&Drained::Idle));
            noted.note("both", drained == [Drained::Done; 2]);
            commands.drain(bpf);
            assert_eq!((commands.log(), commands.acknowledged()), (vec![1, 2], 2));
            assert_eq!(commands.event(), Some((2, 2)));
        });
    }
    seen.expect(&["busy", "idle", "both"]);
}

/// One slot: a command is written over the previous one as soon as that has been copied.
#[test]
fn a_slot_is_written_again_after_it_was_copied() {
    each(Some(3), |bpf| {
        let commands = Commands::new(1);
        let there = commands.clone();
        let program = thread::spawn(move || {
            (0..3).for_each(|_| {
                there.drain(bpf);
                thread::yield_now();
            })
        });
        let pushed: Vec<_> = (1..=3).filter(|&value| push(&commands, value, 2).is_some()).collect();
        program.join().unwrap();
        commands.drain(bpf);
        assert_eq!(commands.log(), pushed);
    });
}

/// Userspace pushes a command and calls `then`, while a program drains twice. In the second model userspace waits in
/// between: loom remembers only the last access to a word, and does not find by itself that the program could run there.
fn beside_a_program(bpf: Bpf, then: impl Fn(&Commands) + Clone + Send + Sync + 'static) {
    for waits in [false, true] {
        let then = then.clone();
        check(None, move || {
            let commands = Commands::new(2);
            let there = commands.clone();
            let program = thread::spawn(move || [(); 2].map(|()| there.drain(bpf)));
            commands.push(1).unwrap();
            if waits {
                thread::yield_now();
            }
            then(&commands);
            program.join().unwrap();
        });
    }
}

/// Any program that begins after the acknowledgement sees the command.
#[test]
fn what_is_acknowledged_is_seen() {
    let seen = Seen::default();
    for bpf in WAYS {
        let noted = seen.clone();
        check(None, move || {
            let commands = Commands::new(2);
            commands.push(1).unwrap();
            let (there, noted) = (commands.clone(), noted.clone());
            let userspace = thread::spawn(move || {
                let acknowledged = there.acknowledged() == 1;
                if acknowledged {
                    assert_eq!(there.event(), Some((1, 1)), "an event after the acknowledgement");
                }
                noted.note("acknowledged", acknowledged);
            });
            assert_eq!(commands.drain(bpf), Drained::Done);
            userspace.join().unwrap();
        });
    }
    seen.expect(&["acknowledged"]);
}

/// A program that begins after `push` returned carries the command out, or another one is at it.
#[test]
fn the_next_event_sees_what_was_pushed() {
    let seen = Seen::default();
    for bpf in WAYS {
        let noted = seen.clone();
        beside_a_program(bpf, move |commands| {
            let drained = commands.drain(bpf);
            if drained != Drained::Busy {
                assert_eq!(commands.event(), Some((1, 1)), "{drained:?}");
            }
            noted.note("busy", drained == Drained::Busy);
            noted.note("another program had carried it out", drained == Drained::Idle);
        });
    }
    seen.expect(&["busy", "another program had carried it out"]);
}

/// A process gives the ring back while another one asks for it.
#[test]
fn one_process_owns_the_ring() {
    let seen = Seen::default();
    let noted = seen.clone();
    check(None, move || {
        let commands = Commands::new(4);
        let process = |me: u64, commands: &Commands| {
            let (words, places) = (commands.words(), *commands.places());
            commands::own(words, &places, me, |owner| owner != 0).is_ok().then(|| {
                let number = commands.push_alone(me);
                commands::disown(words, &places, me);
                number.unwrap()
            })
        };
        let there = commands.clone();
        let other = thread::spawn(move || process(7, &there));
        let mine = process(9, &commands);
        let theirs = other.join().unwrap();
        noted.note("refused", mine.is_none() || theirs.is_none());
        noted.note("one after the other", mine.is_some() && theirs.is_some());
        let mut numbers: Vec<_> = mine.into_iter().chain(theirs).collect();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
        commands.drain(Bpf::Xchg);
        let mut owners = vec![0; numbers.len()];
        let of = |number: Option<u64>, me, owners: &mut Vec<u64>| {
            if let Some(number) = number {
                owners[usize::try_from(number).unwrap() - 1] = me;
            }
        };
        of(mine, 9, &mut owners);
        of(theirs, 7, &mut owners);
        assert_eq!((commands.log(), commands.header(OWNER)), (owners, 0));
    });
    seen.expect(&["refused", "one after the other"]);
}

/// Two processes find that the owner died, in the middle of a command. One of them takes over.
#[test]
fn one_process_takes_over() {
    let seen = Seen::default();
    for bpf in WAYS {
        let noted = seen.clone();
        check(Some(2), move || {
            let commands = Commands::new(2);
            let places = *commands.places();
            commands::own(commands.words(), &places, 5, |_| false).unwrap();
            commands.push_alone(5).unwrap();
            let (slot, len) = places.slot(2);
            // All but the last store of a push.
            let slot: WordsMut<'_> = commands.words().slice(slot, len);
            slot.store(1, 55, Ordering::Relaxed);
            slot.store(0, 2, Ordering::Relaxed);

            let process = |me: u64, commands: &Commands| {
                let places = *commands.places();
                let owns = commands::own(commands.words(), &places, me, |owner| owner != 5).is_ok();
                owns.then(|| commands.push_alone(me).unwrap())
            };
            let (there, program) = (commands.clone(), commands.clone());
            let other = thread::spawn(move || process(7, &there));
            let program = thread::spawn(move || program.drain(bpf));
            let mine = process(9, &commands);
            let theirs = other.join().unwrap();
            program.join().unwrap();
            assert!(mine.xor(theirs) == Some(2), "{mine:?} and {theirs:?}");
            noted.note("mine", mine.is_some());
            noted.note("theirs", theirs.is_some());
            commands.drain(bpf);
            let owner = if mine.is_some() { 9 } else { 7 };
            assert_eq!((commands.log(), commands.header(OWNER)), (vec![5, owner], owner));
            assert_eq!(commands.header(PUSHED), 2);
        });
    }
    seen.expect(&["mine", "theirs"]);
}
