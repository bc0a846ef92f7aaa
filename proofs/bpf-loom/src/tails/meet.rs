//! Programs that meet in a shard: they interrupt and preempt each other at every access, or find a word changed there.

use std::fmt;
use std::ops::Range;

use super::{
    ACTIVE, BESIDE, Code, ENTERS, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, MOVING, Machine, NEXT, NO_SPACE,
    Preamble, Reader, Ring, SHORT, SLOT, TOO_LONG, Tails,
};
use crate::decode::{CMPXCHG, Insn};

/// The lengths of the tails of programs that run one after the other.
const INNER: [&[u64]; 5] = [&[SHORT], &[LONGEST], &[SHORT, LONGEST], &[LONGEST, LONGEST], &[0]];

impl Found {
    /// Runs a program up to its access number `at`, or to its end.
    pub(super) fn run_to(&mut self, machine: &mut Machine<'_>, mut at: usize) -> Option<u64> {
        loop {
            if machine.shares_next().is_some() {
                if at == 0 {
                    return None;
                }
                at -= 1;
            }
            if let Some(published) = self.step(machine) {
                return Some(published);
            }
        }
    }

    /// Runs a program until tasks can preempt it, or to its end.
    pub(super) fn run_out_of_guard(&mut self, machine: &mut Machine<'_>) -> Option<u64> {
        while machine.is_guarded() {
            if let Some(published) = self.step(machine) {
                return Some(published);
            }
        }
        None
    }

    /// Runs a program until it is in a tail, or to its end.
    fn run_into(&mut self, machine: &mut Machine<'_>) -> Option<u64> {
        while position(machine).is_none() || machine.is_guarded() {
            if let Some(published) = self.step(machine) {
                return Some(published);
            }
        }
        None
    }

    /// A ring; a program has been in the first tail for good, if `is_held`.
    fn held(&self, is_held: bool) -> Ring {
        let ring = (self.ring)();
        if is_held {
            [NEXT, HIGH, GRANTED].into_iter().for_each(|word| ring.put(word, ring.capacity));
            ring.put(LAST_ENTRY, 1);
            ring.put(ring.area(), HELD);
            ring.put(ring.area() + 7, HELD);
        }
        ring
    }

    /// The number of accesses of a program to its shard after `before` records.
    fn accesses(&mut self, code: &Code, before: usize, is_held: bool) -> usize {
        let ring = self.held(is_held);
        self.push_all(&ring, code, 0, &[LONGEST; 2][..before]);
        let (mut machine, mut count) = (ring.machine(code, 1, SHORT), 0);
        loop {
            count += usize::from(machine.shares_next().is_some());
            if self.step(&mut machine).is_some() {
                return count;
            }
        }
    }

    /// All programs have ended, and `published` of them published their records; the others counted their drops.
    fn finish(&mut self, ring: &Ring, code: &Code, programs: u64, published: u64) {
        assert_eq!(programs - published, ring.dropped(), "dropped, and not counted");
        assert!((0..Tails::WRITERS).all(|entry| ring.get(ACTIVE + entry) == 0), "nobody is in a tail");
        assert!(ring.get(HIGH) >= ring.get(GRANTED), "written beyond what readers take for overwritten");
        // In any resulting state, there is a slot and space for the next tails, and readers find the last one.
        let next = self.push_all(ring, code, 200, &[LONGEST, SHORT]);
        assert_eq!(next, 2, "nobody is in the way");
        let reader = Reader::default().finish(ring, published + next);
        assert_eq!(reader.whole.last(), Some(&201), "{reader:?}");
        self.dropped += programs - published;
        self.cases += 1;
    }

    /// Before each access of a program, programs with the code `other` run to their end. Before each access of the first
    /// of these, another one does. Before all of them, others claimed tails from NEXT, or beside it.
    pub fn interrupts(&mut self, code: &Code, other: &Code) {
        let states = [(0, 0, false), (1, 0, false), (2, 0, false), (1, 2 * LONGEST, false), (1, 0, true)];
        let with = |is_held: bool| if is_held { &INNER[..2] } else { &INNER };
        for (state, &lens) in
            states.into_iter().flat_map(|state| with(state.2).iter().map(move |lens| (state, lens)))
        {
            for at in 0..self.accesses(code, state.0, state.2) {
                (0..).find(|inner| self.interrupt([code, other], state, lens, [at, *inner]));
            }
        }
    }

    /// One program interrupts another, and is interrupted. Returns whether it had ended.
    fn interrupt(
        &mut self,
        codes: [&Code; 2],
        (before, beside, is_held): (usize, u64, bool),
        lens: &[u64],
        at: [usize; 2],
    ) -> bool {
        let ring = self.held(is_held);
        let mut published = self.push_all(&ring, codes[0], 0, &[LONGEST; 2][..before]);
        ring.put(BESIDE, if beside > 0 { ring.get(NEXT) + beside } else { 0 });
        let (mut outer, mut inner) =
            (ring.machine(codes[0], 50, SHORT), ring.machine(codes[1], 100, lens[0]));
        let outer_ends = self.run_to(&mut outer, at[0]);
        let inner_ends = self.run_to(&mut inner, at[1]);
        published += self.push_all(&ring, codes[0], 70, &[if lens == [0] { 0 } else { LONGEST }]);
        expect_hold(&ring, &[&outer, &inner]);
        published += inner_ends.unwrap_or_else(|| self.run(&mut inner));
        published += self.push_all(&ring, codes[1], 101, &lens[1..]);
        expect_hold(&ring, &[&outer]);
        published += outer_ends.unwrap_or_else(|| self.run(&mut outer));
        release(&ring, is_held);
        self.finish(&ring, codes[0], (before + 2 + lens.len()) as u64, published);
        inner_ends.is_some()
    }

    /// Two tasks preempt each other: one stops before each access, the other runs up to each access of its own, where a
    /// program interrupts it; the first ends, others follow, and the second ends last.
    pub fn preemptions(&mut self, code: &Code, other: &Code) {
        let states = [(0, false), (1, false), (2, false), (1, true)];
        for (state, lens) in states.into_iter().flat_map(|state| [(state, INNER[0]), (state, INNER[3])]) {
            for at in 0..self.accesses(code, state.0, state.1) {
                (0..).find(|second| self.preempt([code, other], state, lens, [at, *second]));
            }
        }
    }

    /// One task preempts another, and is interrupted. Returns whether it had ended.
    fn preempt(
        &mut self,
        codes: [&Code; 2],
        (before, is_held): (usize, bool),
        lens: &[u64],
        at: [usize; 2],
    ) -> bool {
        let ring = self.held(is_held);
        let mut published = self.push_all(&ring, codes[0], 0, &[LONGEST; 2][..before]);
        let (mut a, mut b) = (ring.machine(codes[0], 50, SHORT), ring.machine(codes[1], 60, LONGEST));
        let a_ends = self.run_to(&mut a, at[0]).or_else(|| self.run_out_of_guard(&mut a));
        let b_stops = self.run_to(&mut b, at[1]);
        published += self.push_all(&ring, codes[0], 70, &[SHORT]);
        let b_ends = b_stops.or_else(|| self.run_out_of_guard(&mut b));
        expect_hold(&ring, &[&a, &b]);
        published += a_ends.unwrap_or_else(|| self.run(&mut a));
        published += self.push_all(&ring, codes[0], 100, lens);
        expect_hold(&ring, &[&b]);
        published += b_ends.unwrap_or_else(|| self.run(&mut b));
        release(&ring, is_held);
        self.finish(&ring, codes[0], (before + 3 + lens.len()) as u64, published);
        b_stops.is_some()
    }

    /// Two tasks whose tails are the same bytes, or are not; each enters any entry. One has claimed its position. The
    /// other, `distance` behind it, stops before each access; then the first goes into its tail, and ends last. Those
    /// in the entries before may end in between.
    pub fn entries(&mut self, code: &Code) {
        let capacity = (self.ring)().capacity;
        let ways = [(LONGEST, false), (capacity, false), (capacity, true)];
        for (entries, (distance, end)) in
            (0..=Tails::WRITERS).flat_map(|entries| ways.map(|way| (entries, way)))
        {
            for at in 0.. {
                let ring = (self.ring)();
                let (mut first, mut second) =
                    (ring.machine(code, 50, LONGEST), ring.machine(code, 60, LONGEST));
                (0..entries).for_each(|entry| ring.put(ACTIVE + entry, distance - 16 + 1));
                // A guarded claim is at once in its tail, unless the entry is taken.
                ring.put(ACTIVE, ring.get(ACTIVE).max(u64::from(code.program.guarded)));
                let mut first_ends = None;
                while first_ends.is_none() && !first.changes().iter().any(|change| change.word == NEXT) {
                    first_ends = self.step(&mut first);
                }
                assert_eq!(first_ends.is_some(), entries == Tails::WRITERS, "it claims a position");
                if entries == 0 {
                    ring.put(ACTIVE, if code.program.guarded { 0 } else { ring.get(ACTIVE) });
                }
                ring.put(NEXT, distance);
                let stops = self.run_to(&mut second, at);
                let is_last = stops.is_some();
                let second_ends = stops.or_else(|| self.run_out_of_guard(&mut second));
                if end {
                    (0..entries).for_each(|entry| ring.put(ACTIVE + entry, 0));
                }
                let first_ends = first_ends.or_else(|| self.run_into(&mut first));
                expect_hold(&ring, &[&first, &second]);
                let second_ends = second_ends.or_else(|| self.run_into(&mut second));
                expect_hold(&ring, &[&first, &second]);
                let second_ends = second_ends.unwrap_or_else(|| self.run(&mut second));
                let published = second_ends + first_ends.unwrap_or_else(|| self.run(&mut first));
                let room = (Tails::WRITERS - entries).min(2) as u64;
                // Of two at the same bytes, one may have been overtaken.
                let least = if distance == capacity { room.min(1) } else { room };
                assert!(published >= least, "nobody is in the way");
                (0..entries).for_each(|entry| ring.put(ACTIVE + entry, 0));
                self.finish(&ring, code, 2, published);
                if is_last {
                    break;
                }
            }
        }
    }

    /// Another one gives bytes back after a program has entered a position: the program claims none before it.
    pub fn given_back(&mut self, code: &Code) {
        let ring = (self.ring)();
        [NEXT, HIGH, GRANTED].into_iter().for_each(|word| ring.put(word, BEGIN));
        ring.put(ACTIVE, NEAR); // a guarded claim enters its position at once, unless the entry is taken
        let mut machine = ring.machine(code, 50, SHORT);
        while ring.get(ACTIVE + 1) == 0 {
            assert_eq!(self.step(&mut machine), None, "it enters");
        }
        assert_eq!(ring.get(ACTIVE + 1) & !ENTERS, BEGIN + 1);
        ring.put(NEXT, BEGIN - 16);
        assert_eq!(self.run_into(&mut machine), None);
        assert!(position(&machine).is_some_and(|at| at >= BEGIN), "{:?}", position(&machine));
        expect_hold(&ring, &[&machine]);
        assert_eq!(self.run(&mut machine), 1);
    }

    /// Before some accesses of a program to a word, others change this word as they may. A change that makes a
    /// compare-and-swap fail costs a try, and nothing else.
    pub fn changes(&mut self, code: &Code) {
        let words =
            COUNTS.into_iter().chain(NEXT..=GRANTED).chain([BESIDE, ACTIVE, ACTIVE + 1, FIRST_SLOT - 1]);
        for (state, word) in STATES.iter().flat_map(|state| words.clone().map(move |word| (state, word))) {
            let undisturbed = self.change(code, state, word, 0..0, false);
            let moves = [HIGH, GRANTED].contains(&word);
            if moves && !undisturbed.published {
                continue; // others find the same in their way
            }
            for from in 0..undisturbed.accesses {
                for times in 1..=9 {
                    for far in [false, true] {
                        let changed = self.change(code, state, word, from..from + times, far);
                        let spare = changed.accesses.saturating_sub(undisturbed.accesses);
                        assert!(
                            !moves || spare <= 2 * changed.failed,
                            "word {word} of {state:?}: {changed:?}"
                        );
                        assert!(
                            word != BESIDE || changed.accesses <= TRIES * 4 * TRIES + 1,
                            "it goes on: {changed:?}"
                        );
                        let expected = undisturbed.published && (!moves || changed.failed < TRIES);
                        assert!(
                            changed.is_further
                                || changed.published == expected
                                || state.is_full && changed.published
                                || state.steps && word >= ACTIVE,
                            "word {word} of {state:?}, from access {from} on: {changed:?}"
                        );
                        self.cases += 1;
                    }
                }
            }
        }
    }

    /// Runs a program while others change `word` before these of its accesses; the last time by much, if `far`.
    fn change(&mut self, code: &Code, state: &State, word: usize, at: Range<usize>, far: bool) -> Changed {
        let ring = (self.ring)();
        [NEXT, HIGH, GRANTED].into_iter().for_each(|word| ring.put(word, BEGIN));
        (state.prepare)(&ring);
        let mut machine = Machine::new(&code.program, &ring.map, code.order, state.cpu, [50, state.len]);
        let (mut changed, mut last) = (Changed::default(), None);
        let mut changes = 0;
        let published = loop {
            // What interrupts the guard has left its entry by then.
            if machine.shares_next() == Some(word) && !(word == ACTIVE && machine.is_guarded()) {
                if at.contains(&changed.accesses)
                    && let is_last = changed.accesses + 1 == at.end
                    && let Some(value) = elsewhere(&ring, word, far && is_last)
                {
                    ring.put(word, value);
                    if word == GRANTED {
                        ring.put(HIGH, ring.get(HIGH).max(value)); // moved first
                    }
                    let claims = machine.changes().iter().any(|change| change.word == NEXT);
                    changed.is_further |= word == BESIDE || word == NEXT && !claims;
                    (changes, last) = (changes + 1, Some(value));
                    let swaps = matches!(code.program.code[machine.pc()], Insn::Atomic { op: CMPXCHG, .. });
                    changed.failed += usize::from(swaps);
                }
                changed.accesses += 1;
            }
            if machine.shares_next().is_some_and(|word| word >= ring.area()) {
                expect_hold(&ring, &[&machine]);
                let beside = last.filter(|_| word == BESIDE).unwrap_or_default();
                assert!(
                    position(&machine).is_none_or(|at| at >= beside),
                    "claimed beside by another: {state:?}"
                );
            }
            if let Some(published) = self.step(&mut machine) {
                break published;
            }
        };
        assert!(
            (ACTIVE..FIRST_SLOT).all(|entry| ring.get(entry) <= BEGIN),
            "it is still entered after changes of word {word} at {at:?}, far: {far}: {state:?}"
        );
        let (now, is_count) = (ring.get(word), COUNTS.contains(&word));
        if let Some(last) = last.filter(|_| !is_count) {
            let kept = if word >= ACTIVE { now == last } else { now >= last };
            assert!(kept, "word {word} is {now} after another made it {last}: {state:?}");
        }
        let counts: u64 = COUNTS.iter().map(|word| ring.get(*word)).sum();
        let own = counts + ring.shard().dropped() - if is_count { changes } else { 0 };
        assert_eq!(own, 1 - published, "the counts of {state:?}");
        self.dropped += own;
        Changed { published: published == 1, ..changed }
    }
}

/// What became of a program.
#[derive(Debug, Default)]
struct Changed {
    published: bool,
    /// How often it accessed the word.
    accesses: usize,
    /// How many compare-and-swaps failed.
    failed: usize,
    /// Whether others claimed before it did: there they may be in the way.
    is_further: bool,
}

/// The words that count drops.
const COUNTS: [usize; 3] = [Preamble::DROPPED, NO_SPACE, TOO_LONG];

/// How often a program tries to move a word: `MAPRING__TAIL_TRIES`.
const TRIES: usize = 4;

/// A word as others may change it at any time (NEXT unless one is moving it): HIGH and GRANTED by a little, or beyond where this program moves them.
fn elsewhere(ring: &Ring, word: usize, far: bool) -> Option<u64> {
    let (now, is_moving) = (ring.get(word), ring.get(ACTIVE) & MOVING != 0);
    match word {
        NEXT => (!is_moving).then_some(now + LONGEST),
        // No claim of this program ends there.
        BESIDE => Some(now.max(BEGIN) + LONGEST + 16),
        // As far as possible, unless the program is overtaken.
        HIGH | GRANTED if far => Some(BEGIN + ring.capacity).filter(|to| *to > now),
        HIGH | GRANTED => Some(now + 1),
        // Another one enters, or ends.
        ACTIVE.. if now == 0 => Some(NEAR),
        ACTIVE.. => (now == NEAR).then_some(0),
        _ => Some(now + 1),
    }
}

/// A position in the midst of all.
const BEGIN: u64 = 1 << 16;

/// A program that is not in the way.
const NEAR: u64 = BEGIN - 16 + 1;

/// The state that a program finds, its CPU, and the length of its tail.
struct State {
    name: &'static str,
    prepare: fn(&Ring),
    cpu: u64,
    len: u64,
    /// Whether it finds an entry only if another one ends.
    is_full: bool,
    /// Whether it steps over another one. If one more enters, both may fill the area.
    steps: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn state(name: &'static str, prepare: fn(&Ring), cpu: u64, len: u64) -> State {
    State { name, prepare, cpu, len, is_full: false, steps: false }
}

const STATES: [State; 8] = [
    state("undisturbed", |_| (), 0, SHORT),
    state("too long", |_| (), 0, LONGEST + 1),
    state("no such CPU", |_| (), 1, SHORT),
    state("one is near", |ring| ring.put(ACTIVE, NEAR), 0, SHORT),
    state("one moves NEXT", |ring| ring.put(ACTIVE, NEAR | MOVING), 0, SHORT),
    State {
        steps: true,
        ..state("one is stepped over", |ring| ring.put(FIRST_SLOT - 1, BEGIN - ring.capacity + 1), 0, SHORT)
    },
    state(
        "no slot",
        |ring| (FIRST_SLOT..ring.area()).step_by(SLOT).for_each(|slot| ring.put(slot, 1)),
        0,
        SHORT,
    ),
    State {
        is_full: true,
        ..state("no entry", |ring| (ACTIVE..FIRST_SLOT).for_each(|entry| ring.put(entry, NEAR)), 0, SHORT)
    },
];

/// The position of a program that is in a tail and has not ended its record, by what it wrote.
fn position(machine: &Machine<'_>) -> Option<u64> {
    // Until its commit, the word for the length has its claim.
    let is_claim = |word: usize| word >= FIRST_SLOT && (word - FIRST_SLOT) % SLOT == 2;
    let changes = machine.changes();
    let began = changes.iter().position(|change| is_claim(change.word))?;
    let has_ended = changes[began..].iter().any(|change| change.word == changes[began].word - 2);
    (!has_ended).then_some(changes[began].value & !15)
}

const LAST_ENTRY: usize = FIRST_SLOT - 1;
const HELD: u64 = 7;

/// The bytes of the program that was in the first tail for good are as it left them. It ends.
fn release(ring: &Ring, is_held: bool) {
    if is_held {
        assert_eq!([0, 7].map(|word| ring.get(ring.area() + word)), [HELD; 2]);
        ring.put(LAST_ENTRY, 0);
    }
}

/// Each program in a tail has entered its position. Its bytes were granted to it, and to nobody else.
fn expect_hold(ring: &Ring, programs: &[&Machine<'_>]) {
    for at in programs.iter().filter_map(|program| position(program)) {
        assert!((ACTIVE..FIRST_SLOT).any(|entry| ring.get(entry) & !ENTERS == at + 1), "{at} is not entered");
        let [high, granted] = [HIGH, GRANTED].map(|word| ring.get(word));
        assert!(high >= at + LONGEST, "readers take bytes at {at} for written before");
        assert!(granted >= at + LONGEST, "granted up to {granted}, in a tail at {at}");
        assert!(ring.get(NEXT).max(ring.get(BESIDE)) >= at + LONGEST, "the bytes at {at} are claimed again");
    }
    let places = programs.iter().filter_map(|program| position(program)).map(|at| at % ring.capacity);
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    let round = places.first().map(|first| first + ring.capacity);
    let ends = places.iter().skip(1).copied().chain(round);
    assert!(
        places.iter().zip(ends).all(|(place, next)| next - place >= LONGEST),
        "the same bytes: {places:?}"
    );
}
