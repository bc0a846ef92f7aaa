//! Models of programs that carry out commands, which the production code pushes.

use std::sync::Arc;

use mapring_core::abi::commands::{APPLIED, CommandsPlace, LOCK, PUSHED, SKIPPED};
use mapring_core::abi::{Geometry, Kind};
use mapring_core::protocol::{Words, WordsMut, commands};

use crate::check;
use crate::decode::{CMPXCHG, From, Insn, XCHG};
use crate::machine::Machine;
use crate::map::Map;
use crate::models::{Code, Seen};
use crate::mutate::{AX, Mutant, set, store};
use crate::order::{Fetch, Order};
use crate::sync::{AtomicU64, Ordering, thread};

/// As the program declares it.
const SLOTS: u64 = 2;

/// A ring of commands, and the words that they change: those behind the header, `spare` in `bpf/programs.bpf.c`.
struct Commands {
    map: Map,
    places: CommandsPlace,
    spare: usize,
}

/// What an event did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    /// The numbers and values of the commands that it carried out.
    applied: Vec<(u64, u64)>,
    /// Whether it looked at the lock.
    tried: bool,
    /// Whether it had the lock.
    locked: bool,
    /// What it saw afterwards.
    seen: [u64; 2],
}

impl Commands {
    fn new(name: &'static str) -> Self {
        let geometry = Geometry::new(Kind::Commands, 16, SLOTS, 1).unwrap();
        let words = (0..geometry.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let stride = geometry.element_words();
        let map = Map { name, words, stride, inner: None };
        Self { map, places: CommandsPlace::new(&geometry), spare: (geometry.first() + 3) * stride }
    }

    fn push(&self, value: u64) -> Option<u64> {
        commands::push(WordsMut::new(&self.map.words), &self.places, &[value; 2])
    }

    fn acknowledged(&self) -> u64 {
        commands::acknowledged(Words::new(&self.map.words), &self.places)
    }

    fn header(&self, word: usize) -> &AtomicU64 {
        &self.map.words[self.places.header() + word]
    }

    fn machine<'a>(&'a self, code: &'a Code) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, 0, [0, 0])
    }

    /// Runs the program; checks that it carries out whole commands, and only while it has the lock.
    fn event(&self, code: &Code) -> Event {
        self.event_that_waits(code, usize::MAX)
    }

    /// The same, but it waits before this access, so that others run there: loom remembers only the last access to a
    /// word, so it does not find all of these places by itself.
    fn event_that_waits(&self, code: &Code, at: usize) -> Event {
        let mut machine = self.machine(code);
        let (mut accesses, mut tried) = (0, false);
        let returned = loop {
            if let Some(word) = machine.shares_next() {
                if accesses == at {
                    thread::yield_now();
                }
                accesses += 1;
                tried |= word == self.places.header() + LOCK;
            }
            if let Some(returned) = machine.step() {
                break returned;
            }
        };
        assert_eq!(returned & 0xffff_ffff, 0);
        let mut event = Event { seen: machine.context(), tried, ..Event::default() };
        let (mut has_lock, mut words) = (false, Vec::new());
        for change in machine.changes() {
            match change.word.wrapping_sub(self.places.header()) {
                LOCK => {
                    has_lock = change.value == 1;
                    event.locked |= has_lock;
                }
                APPLIED => {
                    assert!(has_lock, "{:?}", machine.changes());
                    let words = std::mem::take(&mut words);
                    if let [a, b] = words[..] {
                        assert_eq!(a, b, "words of two commands");
                        event.applied.push((change.value, a));
                    }
                }
                SKIPPED => assert!(has_lock && words.is_empty()),
                _ => {
                    assert!(
                        has_lock && change.word == self.spare + words.len(),
                        "a write to {}",
                        change.word
                    );
                    words.push(change.value);
                }
            }
        }
        assert!(!has_lock && words.is_empty(), "{:?}", machine.changes());
        event
    }

    /// Carries out the rest, and checks that each command was carried out once: `pushed`, in order.
    fn check(&self, code: &Code, events: impl IntoIterator<Item = Event>, pushed: &[u64]) {
        let rest = [(); 2].map(|()| self.event(code));
        let last = rest[1].seen;
        let mut applied: Vec<_> = events.into_iter().chain(rest).flat_map(|event| event.applied).collect();
        applied.sort_unstable();
        let expected: Vec<_> = (1..).zip(pushed.iter().copied()).collect();
        assert_eq!(applied, expected);
        assert_eq!(self.acknowledged(), pushed.len() as u64);
        let [skipped, lock] = [SKIPPED, LOCK].map(|word| self.header(word).load(Ordering::Relaxed));
        assert_eq!((skipped, lock), (0, 0));
        assert_eq!(last, [*pushed.last().unwrap(); 2], "the last command");
    }
}

/// Starts a program that drains `times` times.
fn drains(commands: &Arc<Commands>, code: &Code, times: usize) -> thread::JoinHandle<Vec<Event>> {
    let (commands, code) = (Arc::clone(commands), code.clone());
    thread::spawn(move || (0..times).map(|_| commands.event(&code)).collect())
}

/// At least as many accesses as a program makes that carries out one command.
const ACCESSES: usize = 18;

/// A program carries out `count` commands that were pushed, and waits before any of its accesses, while another thread
/// does `other`.
fn beside(
    name: &'static str,
    count: u64,
    code: &Code,
    other: impl Fn(&Commands) -> Option<Event> + Clone + Send + Sync + 'static,
) -> u64 {
    let model = |at| {
        let (code, other) = (code.clone(), other.clone());
        check(Some(3), move || {
            let commands = Arc::new(Commands::new(name));
            let pushed: Vec<_> = (1..=count).collect();
            pushed.iter().for_each(|&value| assert_eq!(commands.push(value), Some(value)));
            let (there, other) = (Arc::clone(&commands), other.clone());
            let other = thread::spawn(move || other(&there));
            let mine = commands.event_that_waits(&code, at);
            commands.check(&code, other.join().unwrap().into_iter().chain([mine]), &pushed);
        })
    };
    (0..usize::try_from(count).unwrap() * ACCESSES).map(model).sum()
}

/// An event after `push` sees the command, unless another program is at it.
pub(crate) fn next_event(name: &'static str, code: Code, seen: Seen) -> u64 {
    let of = code.clone();
    beside(name, 1, &of, move |commands| {
        let event = commands.event(&code);
        let is_busy = event.tried && !event.locked;
        assert!(is_busy || event.seen == [1; 2], "{event:?}");
        seen.note("busy", is_busy);
        seen.note("carried out by another", !event.tried);
        Some(event)
    })
}

/// An event after the acknowledgement sees the command: the first of a drain, and the last.
pub(crate) fn acknowledged(name: &'static str, code: Code, seen: Seen) -> u64 {
    let model = |count| {
        let (of, code, seen) = (code.clone(), code.clone(), seen.clone());
        beside(name, count, &of, move |commands| {
            let acknowledged = commands.acknowledged() == count;
            seen.note("acknowledged", acknowledged);
            let event = acknowledged.then(|| commands.event(&code));
            let saw = event.as_ref().is_none_or(|event| event.seen == [count; 2]);
            assert!(saw, "acknowledged, and not seen: {event:?}");
            event
        })
    };
    (1..=SLOTS).map(model).sum()
}

/// A slot is written again after a program copied the command before.
pub(crate) fn again(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let commands = Arc::new(Commands::new(name));
        commands.push(1).unwrap();
        commands.push(2).unwrap();
        let program = drains(&commands, &code, 1);
        let first = commands.push(3);
        thread::yield_now();
        let pushed: Vec<_> = [1, 2, 3]
            .into_iter()
            .filter(|&value| value < 3 || first.or_else(|| commands.push(3)).is_some())
            .collect();
        seen.note("full", pushed.len() == 2);
        seen.note("again", pushed.len() == 3);
        commands.check(&code, program.join().unwrap(), &pushed);
    })
}

/// A program carries out as many commands as it may, and waits before any of the accesses at its end, while another one
/// takes over.
pub(crate) fn handed_over(name: &'static str, code: Code, seen: Seen) -> u64 {
    let model = |at| {
        let (code, seen) = (code.clone(), seen.clone());
        check(Some(2), move || {
            let commands = Arc::new(Commands::new(name));
            (1..=2).for_each(|value| assert_eq!(commands.push(value), Some(value)));
            let other = drains(&commands, &code, 1);
            let mine = commands.event_that_waits(&code, at);
            let other = other.join().unwrap();
            seen.note("one carried out both", mine.applied.len() == 2 || other[0].applied.len() == 2);
            seen.note("after the other", other[0].locked && mine.locked);
            assert_eq!(commands.push(3), Some(3), "both have ended");
            commands.check(&code, other.into_iter().chain([mine]), &[1, 2, 3]);
        })
    };
    (0..2 * ACCESSES).map(model).sum()
}

/// Two programs drain while userspace pushes.
pub(crate) fn two_programs(name: &'static str, code: Code, seen: Seen) -> u64 {
    check(Some(2), move || {
        let commands = Arc::new(Commands::new(name));
        commands.push(1).unwrap();
        let others = [(); 2].map(|()| drains(&commands, &code, 1));
        commands.push(2).unwrap();
        let events = others.map(|other| other.join().unwrap()).concat();
        seen.note("shared", events.iter().all(|event| event.applied.len() == 1));
        seen.note("busy", events.iter().any(|event| !event.locked) && commands.acknowledged() == 2);
        seen.note("idle", events.iter().any(|event| event.locked && event.applied.is_empty()));
        commands.check(&code, events, &[1, 2]);
    })
}

/// Whatever the words are, an event ends, and carries out only commands with the right number.
pub(crate) fn forged(name: &'static str, code: Code, seen: Seen) -> u64 {
    let words = [0, 1, 2, 3, 4, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
    let cases: Vec<_> = words
        .iter()
        .flat_map(|&pushed| words.iter().map(move |&applied| (pushed, applied)))
        .flat_map(|(pushed, applied)| [0, 1, u64::MAX].map(|lock| (pushed, applied, lock)))
        .collect();
    let count = cases.len() as u64;
    check(Some(0), move || {
        for &(pushed, applied, lock) in &cases {
            let commands = Commands::new(name);
            commands.header(PUSHED).store(pushed, Ordering::Relaxed);
            commands.header(APPLIED).store(applied, Ordering::Relaxed);
            commands.header(LOCK).store(lock, Ordering::Relaxed);
            let event = commands.event(&code);
            // A slot that was never written has the number 0, which is the one after 2^64 - 1.
            assert!(event.applied.iter().all(|&command| command == (0, 0)), "{event:?}");
            let skipped = commands.header(SKIPPED).load(Ordering::Relaxed);
            if lock == 0 {
                // All slots are empty: skipped one by one, or all at once if they are more than there are.
                let distance = pushed.wrapping_sub(applied);
                let passed = skipped + event.applied.len() as u64;
                assert_eq!(passed, if distance > SLOTS { 1 } else { distance });
                assert_eq!(commands.acknowledged(), pushed);
                seen.note("skipped", skipped > 0);
            } else {
                assert_eq!((skipped, commands.acknowledged(), event.locked), (0, applied, false));
                seen.note("locked", true);
            }
        }
    });
    count
}

/// Every mutant of the program.
pub fn mutants(name: &'static str, code: &Code) -> Vec<Mutant> {
    let (program, order) = (&*code.program, code.order);
    let commands = Commands::new(name);
    (1..=SLOTS).for_each(|value| assert_eq!(commands.push(value), Some(value)));
    let mut machine = commands.machine(code);
    let mut mutants = Vec::new();
    let mut mutant = |name: String, program, order, equivalent| {
        mutants.push(Mutant { name, program, order, equivalent, of_write: None });
    };
    loop {
        let (at, is_barrier) = (machine.pc(), machine.is_at_barrier());
        let word = machine.shares_next().map(|word| word.wrapping_sub(commands.places.header()));
        let position = [PUSHED, APPLIED, LOCK].iter().position(|&of| word == Some(of));
        let of = position.map_or("a command", |at| ["pushed", "applied", "the lock"][at]);
        match program.code[at] {
            Insn::Atomic { base, off, src, .. } if is_barrier => {
                mutant(
                    format!("{at}: no barrier"),
                    program.patched(at, &[store(base, off, src)]),
                    order,
                    None,
                );
            }
            Insn::Store { base, off, from, release, bytes } if word.is_some() => {
                mutant(format!("{at}: store to {of} left out"), program.patched(at, &[]), order, None);
                if release {
                    let plain = [Insn::Store { release: false, bytes, base, off, from }];
                    mutant(
                        format!("{at}: store to {of} made plain"),
                        program.patched(at, &plain),
                        order,
                        None,
                    );
                }
            }
            Insn::Atomic { op: XCHG, base, off, src, .. } => {
                let plain = [store(base, off, src)];
                let barrier = "right before it is a full barrier: the exchange of `applied`, or the one after which \
                               there was nothing more to do";
                let equivalent = (word == Some(LOCK)).then_some(barrier);
                mutant(
                    format!("{at}: exchange of {of} made plain"),
                    program.patched(at, &plain),
                    order,
                    equivalent,
                );
            }
            Insn::Atomic { op: CMPXCHG, base, off, src, .. } => {
                let blind = [store(base, off, src), set(0, From::Imm(0))];
                mutant(format!("{at}: the lock taken by a store"), program.patched(at, &blind), order, None);
                let load = Insn::Load { bytes: 8, signed: false, acquire: false, dst: AX, base, off };
                let other = Insn::If { op: 0x50, wide: true, dst: AX, from: From::Imm(0), to: at + 3 };
                let split = [load, other, store(base, off, src), set(0, From::Reg(AX))];
                mutant(
                    format!("{at}: the lock not taken atomically"),
                    program.patched(at, &split),
                    order,
                    None,
                );
            }
            _ => {}
        }
        if machine.step().is_some() {
            break;
        }
    }
    let weaker =
        if order == Order::TSO { vec![Order::WEAK] } else { vec![Order { fetch: Fetch::Relaxed, ..order }] };
    for order in weaker {
        mutant(format!("on a machine that orders {order:?}"), program.clone(), order, None);
    }
    mutants
}
