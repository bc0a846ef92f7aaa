//! Models of wakeable rings: a compiled program ends a ticket while the production reader says that it sleeps, and
//! checks once more. Either it finds the record, or the program rings its bell.

mod mutants;

use std::sync::Arc;

use mapring_core::abi::readers::{ASLEEP, IDLE_SINCE, LOOK, NEVER};
use mapring_core::protocol::WordsMut;
use mapring_core::protocol::readers::Seat;
use mapring_core::protocol::ring::{Cursor, Unread};

use crate::check;
use crate::history::{End, History};
use crate::machine::{Machine, NOW};
use crate::map::{Bells, Inner};
use crate::models::{Code, PATIENT, Seen};
use crate::nest::{Choices, INTERRUPTS, Nest};
use crate::ring::{Ring, Word};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicU64, Ordering};

pub use self::mutants::{mutants, of_barrier};

/// The ring of a model, with a reader in the first seats.
pub(crate) struct Waking(pub(crate) Ring);

impl Waking {
    pub(crate) fn new(name: &'static str, readers: u64) -> Arc<Self> {
        let waking = Self(Ring::new(name));
        for me in 1..=readers {
            let seat = Seat::take(WordsMut::new(waking.words()), me, |_, _| true).unwrap();
            assert_eq!(seat.number() as u64, me - 1);
        }
        Arc::new(waking)
    }

    pub(crate) fn parts(&self) -> (usize, &Bells) {
        let Some(Inner::Readers(first, bells)) = &self.0.map.inner else { panic!("not wakeable") };
        (*first, bells)
    }

    fn words(&self) -> &[AtomicU64] {
        &self.0.map.words[self.parts().0..]
    }

    pub(crate) fn seat(&self, number: usize) -> Seat<'_> {
        Seat::at(WordsMut::new(self.words()), number)
    }

    /// Programs look for sleepers where all these bits of a ticket are set.
    fn look(&self, bits: u64) {
        self.words()[LOOK].store(bits, Ordering::Relaxed);
    }

    /// The readers that sleep, as programs see them.
    fn asleep(&self) -> u64 {
        self.words()[ASLEEP].load(Ordering::Relaxed)
    }

    fn rung(&self, seat: usize) -> usize {
        self.parts().1.rung(seat)
    }

    /// A program of a CPU: it ends one ticket. Returns whether it saw that a reader's bell is to be rung.
    fn run(&self, code: &Code, cpu: u64, value: u64) -> bool {
        let mut machine = Machine::new(&code.program, &self.0.map, code.order, cpu, [value, 0]);
        assert_eq!(machine.run() & 0xffff_ffff, 0, "there is room");
        machine.changes().iter().any(|change| self.0.word(change.word) == Word::Readers)
    }

    /// What a reader of the first shard does before it sleeps until `many` tickets have ended.
    fn sleeps(self: &Arc<Self>, many: u64) -> JoinHandle<Unread> {
        let waking = Arc::clone(self);
        thread::spawn(move || {
            let seat = waking.seat(0);
            if many > 1 {
                seat.sleeps_until(0, Some(many - 1));
            }
            seat.asleep();
            Cursor::at(0, PATIENT).unread(&mut waking.0.shard(), many)
        })
    }

    /// The end of a model in which the tickets that the reader sleeps for have ended.
    fn expect_no_sleeper(&self, found: Unread) {
        let woken = self.rung(0);
        assert!(found == Unread::Many || woken == 1, "{found:?}, {woken} woken: it sleeps for ever");
        assert_eq!(woken as u64 + self.asleep(), 1, "rung once for each sleep, or still to be rung");
    }
}

fn one_ticket(name: &'static str, code: &Code, seen: &Seen, end: End) -> u64 {
    let (code, seen) = (code.clone(), seen.clone());
    check(None, move || {
        let waking = Waking::new(name, 1);
        let reader = waking.sleeps(1);
        let mut machine = waking.0.machine(&code.program, code.order, 7);
        let returned = machine.run();
        let found = reader.join().unwrap();
        let woken = waking.rung(0) == 1;
        seen.note("found", found == Unread::Many && !woken);
        seen.note("woken", found == Unread::Nothing);
        seen.note("both", found == Unread::Many && woken);
        waking.expect_no_sleeper(found);
        let mut history = History::default();
        waking.0.account(&mut history, machine.changes(), Some(returned), end);
        waking.0.check(&history);
    })
}

/// A program publishes a record.
pub(crate) fn publish(name: &'static str, code: Code, seen: Seen) -> u64 {
    one_ticket(name, &code, &seen, End::Published(7))
}

/// A program discards its record. To readers, its ticket has ended.
pub(crate) fn discard(name: &'static str, code: Code, seen: Seen) -> u64 {
    one_ticket(name, &code, &seen, End::Discarded)
}

/// A reader makes programs look for sleepers, and waits for an RCU grace period before it sleeps. A program is before any of
/// its accesses then, or at its barrier. Its CPU issues a barrier before the grace period ends.
pub(crate) fn grace_period(name: &'static str, code: Code, seen: Seen) -> u64 {
    let stopped = |at: usize| {
        let (code, seen) = (code.clone(), seen.clone());
        check(None, move || {
            let waking = Waking::new(name, 1);
            waking.look(NEVER);
            let reader = thread::spawn({
                let waking = Arc::clone(&waking);
                move || waking.seat(0).will_sleep(0)
            });
            let mut machine = waking.0.machine(&code.program, code.order, 7);
            let mut ended = run_until(&mut machine, at);
            seen.note("had ended", ended);
            reader.join().unwrap();

            let reader = waking.sleeps(1);
            ended = ended || run_until(&mut machine, usize::MAX);
            assert!(ended, "it ran to its end");
            let found = reader.join().unwrap();
            seen.note("found", waking.rung(0) == 0);
            seen.note("woken", found == Unread::Nothing);
            waking.expect_no_sleeper(found);
        })
    };
    (0..STOPS).map(stopped).sum()
}

/// No program that ends a ticket and wakes a reader has so many accesses to words that it shares.
const ACCESSES: usize = 16;
/// Nor so many accesses of any kind and barriers, even if it claims a tail.
const STOPS: usize = 96;

/// Whether the program ended before it comes to this access, or barrier.
fn run_until(machine: &mut Machine<'_>, mut at: usize) -> bool {
    loop {
        if machine.shares_next().is_some() || machine.is_at_barrier() {
            if at == 0 {
                return false;
            }
            at -= 1;
        }
        if machine.step().is_some() {
            return true;
        }
    }
}

/// Programs look for sleepers at the tickets that readers ask for, in each shard, and at no others.
pub(crate) fn looks(name: &'static str, code: Code, seen: Seen) -> u64 {
    let asked = |(cpu, bits): (u64, u64)| {
        let (code, seen) = (code.clone(), seen.clone());
        check(None, move || {
            let waking = Waking::new(name, 1);
            waking.look(bits);
            for ticket in 0..9 {
                let mut machine = Machine::new(&code.program, &waking.0.map, code.order, cpu, [ticket, 0]);
                let asleep = waking.parts().0 + ASLEEP;
                let mut looked = false;
                loop {
                    looked |= machine.shares_next() == Some(asleep);
                    if machine.step().is_some() {
                        break;
                    }
                }
                assert_eq!(looked, ticket & bits == bits, "ticket {ticket}, {bits:x}");
                seen.note("looked", looked);
                seen.note("passed", !looked);
            }
        })
    };
    [0, 1].into_iter().flat_map(|cpu| [0, 1, 3, NEVER].map(|bits| (cpu, bits))).map(asked).sum()
}

/// No reader has slept for long: a program that ends a lap makes programs stop looking, and wakes whoever sleeps by then.
/// Each reader is woken, or finds its record, or finds that programs do not look for it.
pub(crate) fn idle(name: &'static str, code: Code, seen: Seen) -> u64 {
    let until = |until: Option<u64>| {
        let (code, seen) = (code.clone(), seen.clone());
        check(None, move || {
            let waking = Waking::new(name, 1);
            nobody_slept(&waking, &code);
            let reader = thread::spawn({
                let waking = Arc::clone(&waking);
                move || {
                    let seat = waking.seat(0);
                    seat.sleeps_until(0, until);
                    seat.asleep();
                    let looked_for = seat.look() == 0;
                    (looked_for, Cursor::at(3, PATIENT).unread(&mut waking.0.shard(), until.map_or(1, |_| 2)))
                }
            });
            waking.run(&code, 0, 3);
            let (looked_for, found) = reader.join().unwrap();
            let woken = waking.rung(0) == 1;
            let stopped = waking.words()[LOOK].load(Ordering::Relaxed) & NEVER == NEVER;
            let due = until.is_none() || stopped;
            assert!(!looked_for || !due || woken || found == Unread::Many, "{found:?}: it sleeps for ever");
            seen.note(IDLES[0], stopped && woken);
            seen.note(IDLES[1], !looked_for);
            seen.note(IDLES[2], !stopped);
        })
    };
    [None, Some(4)].map(until).into_iter().sum()
}

/// The events of a reader that sleeps after a long time.
pub(crate) const IDLES: &[&str] = &["programs stop, and wake it", "they had stopped", "they do not stop"];
/// After how long without a sleeper programs stop looking.
const IDLE: u64 = 10_000_000_000;

/// The reader waits for two records. Programs look at every ticket, or at every second one.
pub(crate) fn watermark(name: &'static str, code: Code, seen: Seen) -> u64 {
    let look = |bits: u64| {
        let (code, seen) = (code.clone(), seen.clone());
        check(None, move || {
            let waking = Waking::new(name, 1);
            waking.look(bits);
            // An earlier sleep ended by its age. Its ticket is further on.
            waking.seat(0).sleeps_until(0, Some(3));
            let reader = waking.sleeps(2);
            waking.run(&code, 0, 1);
            assert_eq!(waking.rung(0), 0, "one is too few");
            waking.run(&code, 0, 2);
            let found = reader.join().unwrap();
            seen.note("found one", found == Unread::Some);
            seen.note("woken", waking.rung(0) == 1);
            waking.expect_no_sleeper(found);
        })
    };
    [0, 1].map(look).into_iter().sum()
}

/// Programs on two CPUs end tickets at once; the kernel may refuse to ring the first bell.
fn two_cpus(name: &'static str, code: &Code, seen: &Seen, refuses: bool) -> u64 {
    let (code, seen) = (code.clone(), seen.clone());
    check(None, move || {
        let waking = Waking::new(name, 1);
        if refuses {
            waking.parts().1.refuse();
        }
        waking.seat(0).asleep();
        let other = thread::spawn({
            let (waking, code) = (Arc::clone(&waking), code.clone());
            move || waking.run(&code, 1, 11)
        });
        let both = waking.run(&code, 0, 1) & other.join().unwrap();
        seen.note("both wanted to", both);
        let woken = waking.rung(0) as u64;
        assert_eq!(woken + waking.asleep(), 1, "woken by one, or to be woken by the next");
        assert!(refuses || woken == 1, "nobody woke it");
        seen.note("the other one rang", refuses && woken == 1);
        seen.note("left for the next", woken == 0);
    })
}

/// One of them wakes the reader.
pub(crate) fn one_rings(name: &'static str, code: Code, seen: Seen) -> u64 {
    two_cpus(name, &code, &seen, false)
}

/// The other one rings the bell, or a later one will.
pub(crate) fn one_is_refused(name: &'static str, code: Code, seen: Seen) -> u64 {
    two_cpus(name, &code, &seen, true)
}

/// The kernel refuses to ring the bell of a reader while another one says that it sleeps: the next program wakes them.
pub(crate) fn refused(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let waking = Waking::new(name, 2);
        waking.seat(0).asleep();
        waking.parts().1.refuse();
        let other = thread::spawn({
            let waking = Arc::clone(&waking);
            move || waking.seat(1).asleep()
        });
        waking.run(&code, 0, 1);
        other.join().unwrap();
        let woken = waking.rung(1);
        assert_eq!((waking.rung(0), waking.asleep() & 1), (0, 1), "its bit is set again");
        assert_eq!(woken as u64 + (waking.asleep() >> 1), 1, "nor is the other one forgotten");
        seen.note("the other one is woken", woken == 1);
        seen.note("the other one sleeps", woken == 0);
        waking.run(&code, 0, 2);
        assert_eq!((waking.rung(0), waking.rung(1), waking.asleep()), (1, 1, 0), "the next one wakes them");
    })
}

/// The reader's sleep ends by its time limit, and it sleeps again. It does not hear what rang before.
pub(crate) fn again(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(None, move || {
        let waking = Waking::new(name, 1);
        let also = Arc::clone(&waking);
        let reader = thread::spawn(move || {
            let seat = also.seat(0);
            seat.asleep();
            seat.awake();
            let before = also.rung(0);
            seat.asleep();
            (Cursor::at(0, PATIENT).unread(&mut also.0.shard(), 1), before)
        });
        waking.run(&code, 0, 1);
        let (found, before) = reader.join().unwrap();
        let woken = waking.rung(0) > before;
        assert!(found == Unread::Many || woken, "{found:?}, {before} rung before: it sleeps for ever");
        seen.note("rung before", before == 1);
        seen.note("woken", woken);
    })
}

/// A program interrupts the one that ends a ticket, before any of its accesses.
pub(crate) fn interrupted(name: &'static str, code: Code, seen: Seen) -> u64 {
    let at = |(access, many): (usize, u64)| {
        let (code, seen) = (code.clone(), seen.clone());
        check(Some(2), move || {
            let waking = Waking::new(name, 1);
            let reader = waking.sleeps(many);
            let mut machine = waking.0.machine(&code.program, code.order, 1);
            let mut accesses = 0;
            loop {
                if let Some(word) = machine.shares_next() {
                    if accesses == access {
                        waking.run(&code, 0, 2);
                        seen.note("interrupted as it wakes", waking.0.word(word) == Word::Readers);
                    }
                    accesses += 1;
                }
                if machine.step().is_some() {
                    break;
                }
            }
            assert!(accesses <= ACCESSES);
            if accesses <= access {
                waking.run(&code, 0, 2);
            }
            let found = reader.join().unwrap();
            seen.note("found", found == Unread::Many);
            seen.note("held", found == Unread::Held);
            seen.note("woken", waking.rung(0) == 1);
            waking.expect_no_sleeper(found);
        })
    };
    (0..=ACCESSES).flat_map(|access| [(access, 1), (access, 2)]).map(at).sum()
}

/// Programs interrupt each other in every way while the reader sleeps, for any ticket or for the second.
pub(crate) fn nested(name: &'static str, code: Code, seen: Seen) -> u64 {
    let until = |until: Option<u64>| {
        let (code, seen) = (code.clone(), seen.clone());
        Choices::explore_alone(move |choices| {
            let waking = Waking::new(name, 1);
            waking.seat(0).sleeps_until(0, until);
            waking.seat(0).asleep();
            let (program, order, mut history) = (&*code.program, code.order, History::default());
            let mut nest =
                Nest { ring: &waking.0, programs: &[program], discards: false, order, seen: &mut |_| () };
            nest.run(choices, &mut { INTERRUPTS }, &mut history);
            let due = history.ended() > until.unwrap_or(0);
            assert_eq!((waking.rung(0) == 1, waking.asleep() == 0), (due, due), "{history:?}");
            seen.note("too few", !due);
            seen.note("woken", due);
            waking.0.check(&history);
        })
    };
    [None, Some(1)].map(until).into_iter().sum()
}

/// Makes the next program that ends a lap find that no reader has slept for long.
fn nobody_slept(waking: &Waking, code: &Code) {
    (0..3).for_each(|value| _ = waking.run(code, 0, value));
    waking.words()[IDLE_SINCE].store(NOW.wrapping_sub(IDLE + 1), Ordering::Relaxed);
}
