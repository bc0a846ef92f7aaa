//! Programs that find a word of the shard changed, before any of their accesses to it.

use std::fmt;
use std::ops::Range;

use super::meet::{expect_hold, position};
use super::{
    ACTIVE, BESIDE, Code, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, MOVING, Machine, NEXT, NO_SPACE,
    Preamble, Ring, SHORT, SLOT, TOO_LONG,
};
use crate::decode::{CMPXCHG, Insn};

impl Found {
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
pub(super) const BEGIN: u64 = 1 << 16;

/// A program that is not in the way.
pub(super) const NEAR: u64 = BEGIN - 16 + 1;

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
