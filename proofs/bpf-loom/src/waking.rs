//! Models of wakeable rings: a compiled program ends a ticket while the production reader says that it sleeps, and
//! checks once more. Either it finds the record, or the program rings its bell.

use std::sync::Arc;

use mapring::abi::readers::{ASLEEP, IDLE_SINCE, LOOK, NEVER, wake_at};
use mapring::protocol::WordsMut;
use mapring::protocol::readers::Place;
use mapring::protocol::ring::{Cursor, Unread};

use crate::check;
use crate::decode::{AND, CMPXCHG, FETCH, From, Insn, OR, XCHG};
use crate::history::{End, History};
use crate::machine::{Machine, RING_A_BELL, VALUE};
use crate::map::{Bells, Inner};
use crate::models::{Code, PATIENT, Seen};
use crate::mutate::{AX, Mutant, load, mutant, set, store};
use crate::nest::{Choices, INTERRUPTS, Nest};
use crate::order::{Fetch, Order};
use crate::ring::{Ring, Word};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicU64, Ordering};

/// The ring of a model, with a reader in the first places.
pub(crate) struct Waking(pub(crate) Ring);

impl Waking {
    pub(crate) fn new(name: &'static str, readers: u64) -> Arc<Self> {
        let waking = Self(Ring::new(name));
        for me in 1..=readers {
            let place = Place::take(WordsMut::new(waking.words()), me, |_| true).unwrap();
            assert_eq!(place.number() as u64, me - 1);
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

    pub(crate) fn place(&self, number: usize) -> Place<'_> {
        Place::at(WordsMut::new(self.words()), number)
    }

    /// Programs look for sleepers where all these bits of a ticket are set.
    fn look(&self, bits: u64) {
        self.words()[LOOK].store(bits, Ordering::Relaxed);
    }

    /// The readers that sleep, as programs see them.
    fn asleep(&self) -> u64 {
        self.words()[ASLEEP].load(Ordering::Relaxed)
    }

    fn rung(&self, place: usize) -> usize {
        self.parts().1.rung(place)
    }

    /// A program of a CPU: it ends one ticket. Returns whether it saw that a reader's bell is to be rung.
    fn run(&self, code: &Code, cpu: u64, value: u64) -> bool {
        let mut machine = Machine::new(&code.program, &self.0.map, code.order, cpu, [value, 0]);
        assert_eq!(machine.run() & 0xffff_ffff, 0, "there is place");
        machine.changes().iter().any(|change| self.0.word(change.word) == Word::Readers)
    }

    /// What a reader of the first shard does before it sleeps until `many` tickets have ended.
    fn sleeps(self: &Arc<Self>, many: u64) -> JoinHandle<Unread> {
        let waking = Arc::clone(self);
        thread::spawn(move || {
            let place = waking.place(0);
            if many > 1 {
                place.sleeps_until(0, Some(many - 1));
            }
            place.asleep();
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
                move || waking.place(0).will_sleep(0)
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
                    let place = waking.place(0);
                    place.sleeps_until(0, until);
                    place.asleep();
                    let looked_for = place.look() == 0;
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
            waking.place(0).sleeps_until(0, Some(3));
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
        waking.place(0).asleep();
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
        waking.place(0).asleep();
        waking.parts().1.refuse();
        let other = thread::spawn({
            let waking = Arc::clone(&waking);
            move || waking.place(1).asleep()
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
            let place = also.place(0);
            place.asleep();
            place.awake();
            let before = also.rung(0);
            place.asleep();
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
            waking.place(0).sleeps_until(0, until);
            waking.place(0).asleep();
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

/// Makes the next program that ends a lap find that no reader has slept for long. The clock of these machines stands at 1.
fn nobody_slept(waking: &Waking, code: &Code) {
    (0..3).for_each(|value| _ = waking.run(code, 0, value));
    waking.words()[IDLE_SINCE].store(1_u64.wrapping_sub(IDLE + 1), Ordering::Relaxed);
}

/// A program that stops looking by a plain store.
fn of_idle(name: &'static str, code: &Code, look: usize) -> Vec<Mutant> {
    let waking = Waking::new(name, 1);
    nobody_slept(&waking, code);
    let mut machine = waking.0.machine(&code.program, code.order, 3);
    let mut mutants = Vec::new();
    loop {
        let at = machine.pc();
        if let Insn::Atomic { op: CMPXCHG, base, off, src, .. } = code.program.code[at]
            && machine.shares_next() == Some(look)
        {
            let program = code.program.patched(at, &[store(base, off, src)]);
            mutants.push(mutant(code, format!("{at}: stops looking without a barrier"), program));
        }
        if machine.step().is_some() {
            break;
        }
    }
    assert_eq!(mutants.len(), 1, "it stops looking");
    mutants
}

/// A program that decides whether to look before its ticket ends, or never looks, or always; that has no barrier, or looks for
/// sleepers before it; that rings twice, or never; that forgets whom the kernel refused to wake. Or a machine whose atomic
/// operations are no full barrier.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let waking = Waking::new(name, 1);
    waking.place(0).asleep();
    waking.parts().1.refuse();
    let [bits, look, until] = [ASLEEP, LOOK, wake_at(0, 0)].map(|word| waking.parts().0 + word);
    let mut mutants = Vec::new();
    let mut add =
        |at: usize, what: &str, program| mutants.push(mutant(code, format!("{at}: {what}"), program));
    let decided_after = |at: usize| {
        let decides = |at: &usize| matches!(program.code[*at], Insn::If { .. });
        let at = (at + 1..at + 20).find(decides).expect("something is decided by it");
        let Insn::If { to, .. } = program.code[at] else { unreachable!("as was found") };
        (at, [program.patched(at, &[]), program.patched(at, &[Insn::Goto { to }])])
    };
    let (mut end, mut barrier, mut looks) = (None, None, 0);
    // Whether the end of the ticket is itself a full barrier, or is followed by one.
    let mut has_another_barrier = false;
    // Loads a word of the readers at one place, and uses the value at the load of another one.
    let earlier = |word: usize, from: usize, to: usize| {
        let Insn::Load { dst, .. } = program.code[from] else { panic!("{from} is no load") };
        let value = Insn::Const { dst: AX, value: VALUE | (word * 8) as u64 };
        let early = [value, Insn::Half, load(AX, AX, 0), program.code[to]];
        program.patched(from, &[set(dst, From::Reg(AX))]).patched(to, &early)
    };
    let mut machine = waking.0.machine(program, order, 1);
    let mut calls = 0;
    loop {
        let (at, shares) = (machine.pc(), machine.shares_next());
        let is_atomic = matches!(program.code[at], Insn::Atomic { .. });
        has_another_barrier |= is_atomic && end.is_some() && barrier.is_none() && shares.is_some();
        match (program.code[at], shares) {
            (Insn::Store { .. } | Insn::Atomic { op: XCHG, .. }, Some(word))
                if matches!(waking.0.word(word), Word::Seq(_)) =>
            {
                end = Some(at);
                has_another_barrier = is_atomic;
            }
            (Insn::Load { .. }, Some(word)) if word == look => {
                let end = end.expect("the ticket has ended");
                add(at, "decides before the ticket ends whether to look", earlier(look, at, end));
                let (at, [never, always]) = decided_after(at);
                add(at, "looks at all tickets, or none", never);
                add(at, "the other way: looks at all tickets, or none", always);
            }
            (Insn::Atomic { op: XCHG, .. }, None) => {
                add(at, "no barrier before it looks for sleepers", program.patched(at, &[]));
                barrier = Some(at);
            }
            (Insn::Load { .. }, Some(word)) if word == bits => {
                looks += 1;
                if looks == 1 {
                    let barrier = barrier.expect("the text has the order of the program");
                    add(at, "looks for sleepers before the barrier", earlier(bits, at, barrier));
                }
            }
            (Insn::Load { dst, .. }, Some(word)) if word == until => {
                let any = program.patched(at, &[program.code[at], set(dst, From::Imm(0))]);
                add(at, "wakes at any ticket", any);
                let never = program.patched(at, &[program.code[at], set(dst, From::Imm(u64::MAX))]);
                add(at, "waits for a ticket that nobody asked for", never);
            }
            (Insn::Atomic { op, bytes, base, off, src }, Some(word)) if word == bits && op == AND | FETCH => {
                let unfetched = Insn::Atomic { op: AND, bytes, base, off, src };
                add(at, "the bit's old value is not fetched", program.patched(at, &[unfetched]));
                let apart = [load(AX, base, off), unfetched, set(src, From::Reg(AX))];
                add(at, "the bit's old value is loaded before", program.patched(at, &apart));
                let and = Insn::Alu { op: 0x50, wide: true, dst: src, from: From::Reg(AX), off: 0 };
                let split = [load(AX, base, off), and, store(base, off, src), set(src, From::Reg(AX))];
                add(at, "the bit is cleared by a plain store", program.patched(at, &split));
                let left = [load(src, base, off)];
                add(at, "the bit is not cleared", program.patched(at, &left));
                let (at, [never, always]) = decided_after(at);
                add(at, "two programs ring, or none", never);
                add(at, "the other way: two programs ring, or none", always);
            }
            (Insn::Helper { id: RING_A_BELL }, _) => {
                calls += 1;
                let (at, [never, always]) = decided_after(at);
                add(at, "the bit is always set again, or never", never);
                add(at, "the other way: the bit is always set again, or never", always);
            }
            (Insn::Atomic { op: OR, base, off, src, .. }, Some(word)) if word == bits => {
                add(at, "the bit is not set again", program.patched(at, &[]));
                let or = Insn::Alu { op: 0x40, wide: true, dst: AX, from: From::Reg(src), off: 0 };
                let split = [load(AX, base, off), or, store(base, off, AX)];
                add(at, "the bit is set again by a plain store", program.patched(at, &split));
            }
            _ => {}
        }
        if machine.step().is_some() {
            break;
        }
    }
    assert_eq!((looks, calls, waking.asleep()), (2, 1, 1), "it looked, again, rang, and was refused");
    mutants.extend(of_idle(name, code, look));
    // Targets without a store-release end a ticket by an exchange. Without the guard, a tail ends by a compare-and-swap.
    if has_another_barrier {
        let of_barrier = mutants.iter_mut().filter(|mutant| is_of_barrier(mutant));
        of_barrier
            .for_each(|mutant| mutant.equivalent = Some("the end of the ticket or its tail is a barrier"));
    }
    let weaker = [Fetch::AcqRel, Fetch::Relaxed].map(|fetch| Order { fetch, ..order });
    mutants.extend(weaker.map(|order| Mutant {
        name: format!("on a machine with {:?} atomics", order.fetch),
        program: program.clone(),
        order,
        equivalent: None,
        of_write: None,
    }));
    mutants
}

fn is_of_barrier(mutant: &Mutant) -> bool {
    mutant.name.contains("looks for sleepers")
}

/// Those without the barrier, of a program that has no other one.
pub fn of_barrier(name: &'static str, code: &Code) -> Vec<Mutant> {
    mutants(name, code).into_iter().filter(is_of_barrier).collect()
}
