//! Programs that find a word of the shard changed, before any of their accesses to it.

use std::fmt;
use std::ops::Range;

use super::meet::{expect_hold, position};
use super::{
    ACTIVE, BESIDE, Code, ENTERS, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, MOVING, Machine, NEXT, NO_SPACE,
    Preamble, Ring, SHORT, SLOT, STEPPED, TOO_LONG,
};
use crate::decode::{ADD, CMPXCHG, FETCH, Insn};

impl Found {
    /// Before some accesses of a program to a word, others change this word as they may. A change that makes a
    /// compare-and-swap fail costs a try, and nothing else.
    pub fn changes(&mut self, code: &Code) {
        // Behind a void claim, or one that steps over another, others may be in the way.
        let tight = self.is_tight();
        let words = COUNTS.into_iter().chain(NEXT..=GRANTED);
        let words = words.chain([BESIDE, STEPPED, ACTIVE, ACTIVE + 1, FIRST_SLOT - 1]);
        for (state, word) in STATES.iter().flat_map(|state| words.clone().map(move |word| (state, word))) {
            let own_tries = if tight || state.steps { 1 } else { TRIES };
            let undisturbed = self.change(code, state, word, 0..0, Far::Never);
            for from in 0..undisturbed.accesses {
                for times in (1..=9).chain([100]) {
                    for far in [Far::Never, Far::AtLast, Far::Always] {
                        let moves =
                            [HIGH, GRANTED].contains(&word) || is_claimed_by(word) && far != Far::Always;
                        if moves && !undisturbed.published {
                            continue; // others find the same in their way
                        }
                        let changed = self.change(code, state, word, from..from + times, far);
                        let spare = changed.accesses.saturating_sub(undisturbed.accesses);
                        assert!(
                            !moves
                                || is_claimed_by(word) && far == Far::AtLast
                                || spare <= 2 * changed.failed,
                            "word {word} of {state:?}: {changed:?}"
                        );
                        assert!(
                            !is_claimed_by(word) || changed.accesses <= TRIES * 4 * TRIES + 1,
                            "it goes on: {changed:?}"
                        );
                        let expected = undisturbed.published && (!moves || changed.failed < TRIES);
                        assert!(
                            changed.is_further
                                || changed.published == expected
                                || state.is_full && changed.published
                                || state.steps && (word >= ACTIVE || word == NEXT && tight)
                                || word == STEPPED && far != Far::Never && changed.changes >= own_tries,
                            "word {word} of {state:?}, from access {from} on: {changed:?}"
                        );
                        self.cases += 1;
                    }
                }
            }
        }
    }

    /// Runs a program while others change `word` before these of its accesses.
    fn change(&mut self, code: &Code, state: &State, word: usize, at: Range<usize>, far: Far) -> Changed {
        let ring = (self.ring)();
        ring.granted_to(BEGIN);
        (state.prepare)(&ring);
        let mut machine = Machine::new(&code.program, &ring.map, code.order, state.cpu, [50, state.len]);
        let (mut changed, mut last) = (Changed::default(), None);
        let published = loop {
            if machine.shares_next() == Some(NEXT)
                && matches!(code.program.code[machine.pc()], Insn::Atomic { op, .. } if op & !FETCH == ADD)
            {
                let enters = (ACTIVE..FIRST_SLOT).any(|entry| ring.get(entry) & ENTERS != 0);
                assert!(enters, "others may step over it before it knows its position: {state:?}");
            }
            // What interrupts the guard has left its entry by then.
            if machine.shares_next() == Some(word) && !(word == ACTIVE && machine.is_guarded()) {
                if at.contains(&changed.accesses)
                    && let is_last = changed.accesses + 1 == at.end
                    && let is_far = (far == Far::Always) | (is_last && far == Far::AtLast)
                    && let Some(value) = elsewhere(&ring, word, is_far)
                {
                    ring.put(word, value);
                    if word == GRANTED {
                        ring.put(HIGH, ring.get(HIGH).max(value)); // moved first
                    }
                    let claims = machine.changes().iter().any(|change| change.word == NEXT);
                    changed.is_further |= word == BESIDE && is_far || word == NEXT && !claims;
                    (changed.changes, last) = (changed.changes + 1, Some(value));
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
            "it is still entered after changes of word {word} at {at:?}, far: {far:?}: {state:?}"
        );
        let (now, is_count) = (ring.get(word), COUNTS.contains(&word));
        if let Some(last) = last.filter(|_| !is_count) {
            let kept = if word >= ACTIVE { now == last } else { now >= last };
            assert!(kept, "word {word} is {now} after another made it {last}: {state:?}");
        }
        let counts: u64 = COUNTS.iter().map(|word| ring.get(*word)).sum();
        let own = counts + ring.shard().dropped() - if is_count { changed.changes as u64 } else { 0 };
        assert_eq!(own, 1 - published, "the counts of {state:?}");
        let void = (state.void)(ring.capacity);
        assert!(
            published == 0 || word != STEPPED || ring.get(STEPPED) >= void,
            "stepped over and not void: {state:?}"
        );
        self.dropped += own;
        Changed { published: published == 1, ..changed }
    }
}

/// When others change a word by much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    Never,
    AtLast,
    Always,
}

/// What became of a program.
#[derive(Debug, Default)]
struct Changed {
    published: bool,
    /// How often it accessed the word.
    accesses: usize,
    /// How often others changed it.
    changes: usize,
    /// How many compare-and-swaps failed.
    failed: usize,
    /// Whether others claimed before it did: there they may be in the way.
    is_further: bool,
}

/// The words that count drops.
const COUNTS: [usize; 3] = [Preamble::DROPPED, NO_SPACE, TOO_LONG];

/// How often a program tries to move a word: `MAPRING__TAIL_TRIES`.
const TRIES: usize = 4;

/// Whether the word says which positions may not be claimed.
fn is_claimed_by(word: usize) -> bool {
    [BESIDE, STEPPED].contains(&word)
}

/// A word as others may change it at any time (NEXT unless one is moving it): HIGH, GRANTED and the words of
/// `is_claimed_by` by a little, or beyond where this program moves them.
fn elsewhere(ring: &Ring, word: usize, far: bool) -> Option<u64> {
    let (now, is_moving) = (ring.get(word), ring.get(ACTIVE) & MOVING != 0);
    match word {
        NEXT => (!is_moving).then_some(now + LONGEST),
        // Before what this program steps over.
        BESIDE | STEPPED if !far => Some(now.max(BEGIN - ring.capacity) + 1).filter(|to| *to < BEGIN),
        // No claim of this program ends there.
        BESIDE => Some(now.max(BEGIN) + LONGEST + 16),
        // All that is claimed is void.
        STEPPED => Some(ring.get(NEXT).max(ring.get(BESIDE))).filter(|to| *to > now),
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
    /// What it makes void, if it publishes its record.
    void: fn(capacity: u64) -> u64,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn state(name: &'static str, prepare: fn(&Ring), cpu: u64, len: u64) -> State {
    State { name, prepare, cpu, len, is_full: false, steps: false, void: |_| 0 }
}

const STATES: [State; 11] = [
    state("undisturbed", |_| (), 0, SHORT),
    state("too long", |_| (), 0, LONGEST + 1),
    state("no such CPU", |_| (), 1, SHORT),
    state("one is near", |ring| ring.put(ACTIVE, NEAR), 0, SHORT),
    state("one moves NEXT", |ring| ring.put(ACTIVE, NEAR | MOVING), 0, SHORT),
    State {
        steps: true,
        void: |_| BEGIN + LONGEST,
        ..state("one is stepped over", |ring| ring.put(FIRST_SLOT - 1, BEGIN - ring.capacity + 1), 0, SHORT)
    },
    State {
        steps: true,
        void: |_| BEGIN + 48 + LONGEST,
        ..state("one is further", |ring| ring.put(FIRST_SLOT - 1, BEGIN - ring.capacity + 48 + 1), 0, SHORT)
    },
    State {
        steps: true,
        void: |capacity| BEGIN - capacity / 2 + LONGEST,
        ..state("one is behind", |ring| ring.put(FIRST_SLOT - 1, BEGIN - 3 * ring.capacity / 2 + 1), 0, SHORT)
    },
    state("one enters", |ring| ring.put(FIRST_SLOT - 1, (BEGIN - ring.capacity + 1) | ENTERS), 0, SHORT),
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
