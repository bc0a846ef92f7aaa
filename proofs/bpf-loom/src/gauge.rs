//! Gauges: two programs of a CPU preempt each other at every access, in every order, and a production reader begins and
//! ends at any of these points. The machine keeps the order of accesses here.

use std::cell::Cell;

use mapring_core::abi::gauge::{GAUGE, VALUE_MAX, WINDOWS, same_window, unpack, words};
use mapring_core::abi::{Geometry, Kind, Preamble};
use mapring_core::protocol::gauge::{Extremes, TRIES, try_read};

use crate::machine::Machine;
use crate::map::Map;
use crate::models::Code;
use crate::mutate::Mutant;
use crate::nest::Choices;
use crate::sync::Ordering;
use crate::trace::Trace;

/// A place in the midst, a window with this place, and the next such window.
const WINDOW: u64 = PLACE as u64;
const LATER: u64 = WINDOW + WINDOWS as u64;
const PLACE: usize = 7;

/// A window, and a value in it.
type Set = (u64, u64);

/// The values that were set before, and those that two programs set.
const CASES: [(&[Set], [Set; 2]); 9] = [
    (&[], [(WINDOW, 9), (LATER, 3)]),
    (&[], [(WINDOW, 3), (WINDOW, 9)]),
    (&[], [(WINDOW, 5), (WINDOW, 5)]),
    (&[(WINDOW, 5)], [(WINDOW, 3), (WINDOW, 9)]),
    (&[(WINDOW, 5)], [(WINDOW, 2), (WINDOW, 3)]),
    (&[(WINDOW, 5)], [(WINDOW, 8), (WINDOW, 9)]),
    (&[(WINDOW, 1), (WINDOW, 99)], [(LATER, 3), (LATER, 9)]),
    (&[(WINDOW, 5)], [(WINDOW, 9), (LATER, 3)]),
    (&[(LATER, 5)], [(WINDOW, 9), (LATER, 3)]),
];

/// The results of runs.
#[derive(Debug)]
pub struct Found {
    /// The number of runs.
    pub runs: u64,
    /// The number of values that came when a later window had their place.
    pub late: u64,
    trace: Trace,
}

impl Default for Found {
    fn default() -> Self {
        Self { runs: 0, late: 0, trace: Trace::of(0..usize::MAX) }
    }
}

/// Two gauges, and banks of two CPUs.
struct Gauge {
    map: Map,
    /// The word of the maximum; the minimum's follows.
    at: usize,
}

impl Gauge {
    fn new() -> Self {
        let geometry = Geometry::new(Kind::Gauges, GAUGE as u64, 2, 2).unwrap();
        // The second gauge of the second CPU.
        let at = geometry.shard(1) * geometry.element_words() + GAUGE / 8 + 2 * PLACE;
        Self { map: Map::new("gauge", &geometry), at }
    }

    fn get(&self, word: usize) -> u64 {
        self.map.words[word].load(Ordering::Relaxed)
    }

    fn put(&self, word: usize, value: u64) {
        self.map.words[word].store(value, Ordering::Relaxed);
    }

    fn machine<'a>(&'a self, code: &'a Code, (window, value): Set) -> Machine<'a> {
        Machine::new(&code.program, &self.map, code.order, 1, [window << 20 | value, 1])
    }

    /// The words of the maximum and the minimum.
    fn words(&self) -> [u64; 2] {
        [0, 1].map(|word| self.get(self.at + word))
    }

    /// The production reader, which loads words by `load`.
    fn read(&self, load: impl Fn(usize) -> u64) -> Option<Extremes> {
        try_read(|word| load(self.at - 2 * PLACE + word), PLACE)
    }

    /// Forgets all values.
    fn clear(&self) {
        [self.at, self.at + 1, Preamble::DROPPED].into_iter().for_each(|word| self.put(word, 0));
    }

    fn dropped(&self) -> u64 {
        self.get(Preamble::DROPPED)
    }
}

/// A program that sets a value.
struct Task<'a> {
    machine: Machine<'a>,
    set: Set,
    ended: bool,
    /// Whether the words covered its value at some time, and whether a later window had its place.
    covered: [bool; 2],
    late: bool,
}

impl Found {
    /// Mutants of what was executed.
    #[must_use]
    pub fn mutants(&self, code: &Code) -> Vec<Mutant> {
        self.trace.mutants(code)
    }

    /// All cases.
    pub fn explore(&mut self, code: &Code) {
        let gauge = Gauge::new();
        self.contended(&gauge, code);
        self.out_of_range(&gauge, code);
        for (before, sets) in CASES {
            self.runs += Choices::explore(|choices| {
                gauge.clear();
                before.iter().for_each(|set| self.run(gauge.machine(code, *set)));
                self.preempt(&gauge, code, choices, before, sets);
            });
        }
    }

    fn run(&mut self, mut machine: Machine<'_>) {
        while self.trace.step(&mut machine).is_none() {}
    }

    /// Continues a program up to its next access, which others may precede.
    fn advance(&mut self, gauge: &Gauge, task: &mut Task<'_>) {
        let before = gauge.words();
        loop {
            let returned = self.trace.step(&mut task.machine);
            task.ended = returned.is_some();
            if task.ended || task.machine.shares_next().is_some() {
                break;
            }
        }
        let now = gauge.words();
        assert!(before[0] <= now[0] && before[1] <= now[1], "words only grow: {before:?} {now:?}");
    }

    fn preempt(&mut self, gauge: &Gauge, code: &Code, choices: &mut Choices, before: &[Set], sets: [Set; 2]) {
        let task = |set| Task {
            machine: gauge.machine(code, set),
            set,
            ended: false,
            covered: [false; 2],
            late: false,
        };
        let mut tasks = sets.map(task);
        let begun: Vec<_> = before.iter().copied().chain(sets).collect();
        // For each point so far: the minimum there, and the values that were set before it.
        let mut begins: Vec<(u64, Vec<Set>)> = Vec::new();
        loop {
            let ended = tasks.iter().filter(|task| task.ended).map(|task| task.set);
            begins.push((gauge.words()[1], before.iter().copied().chain(ended).collect()));
            // A reader loads the minimum at any of these points, and the maximum here.
            for (min, done) in &begins {
                let is_min = Cell::new(true);
                let load = |word| if is_min.replace(false) { *min } else { gauge.get(word) };
                expect_read(gauge.read(load), done, &begun);
            }
            let task = match tasks.each_ref().map(|task| task.ended) {
                [true, true] => break,
                [false, false] => &mut tasks[usize::from(choices.choose())],
                [ended, _] => &mut tasks[usize::from(ended)],
            };
            self.advance(gauge, task);
            tasks.iter_mut().for_each(|task| task.note(gauge.words()));
        }

        // At the end, the newest window has all of its values, and those that are not in memory were counted.
        let newest = begun.iter().map(|set| set.0).max().unwrap();
        expect_read(gauge.read(|word| gauge.get(word)), &begun, &begun);
        let mut dropped = 0;
        for task in &tasks {
            let recorded = task.covered == [true; 2];
            assert!(recorded || task.late, "{:?} is lost", task.set);
            assert!(!task.late || task.set.0 < newest);
            dropped += u64::from(!recorded);
        }
        let late = tasks.iter().filter(|task| task.late).count() as u64;
        assert!(
            (dropped..=late).contains(&gauge.dropped()),
            "{dropped} of {late} late, {} counted",
            gauge.dropped()
        );
        self.late += gauge.dropped();
    }

    /// Others raise a word before some tries: the fourth time, the program gives up, and counts it. If they raise it
    /// far enough the last time, nothing is left to do.
    fn contended(&mut self, gauge: &Gauge, code: &Code) {
        for (word, times, far) in (0..2).flat_map(|word| {
            (0..=TRIES).flat_map(move |times| [false, true].map(|far| (word, times, far && times > 0)))
        }) {
            gauge.clear();
            self.run(gauge.machine(code, (WINDOW, 50)));
            let value = [90, 10][word];
            let mut machine = gauge.machine(code, (WINDOW, value));
            let (mut accesses, mut last) = (0, 0);
            loop {
                if machine.shares_next() == Some(gauge.at + word) {
                    // The first one is the load.
                    if (1..=times).contains(&accesses) {
                        let beyond = words(WINDOW, value)[word] + 1;
                        last = if far && accesses == times { beyond } else { gauge.get(gauge.at + word) + 1 };
                        gauge.put(gauge.at + word, last);
                    }
                    accesses += 1;
                }
                if self.trace.step(&mut machine).is_some() {
                    break;
                }
            }
            let given_up = times == TRIES && !far;
            assert_eq!(
                accesses,
                1 + (times + usize::from(!far)).min(TRIES),
                "a load, and a try for each change"
            );
            let is_last = far && times == TRIES;
            assert_eq!(gauge.dropped(), u64::from(given_up || is_last), "{times} changes");
            let own = words(WINDOW, value)[word];
            let expected = if far || given_up { last } else { own };
            assert_eq!(gauge.get(gauge.at + word), expected, "{times} changes of {word}");
            self.runs += 1;
        }
    }

    /// No such gauge, no such CPU; the last place of a gauge. What is counted is counted by others in between, too.
    fn out_of_range(&mut self, gauge: &Gauge, code: &Code) {
        for (cpu, index) in [(0, 2), (1, u64::from(u32::MAX)), (2, 0)] {
            gauge.clear();
            let new = || Machine::new(&code.program, &gauge.map, code.order, cpu, [WINDOW << 20 | 5, index]);
            let (mut machine, mut others) = (new(), 0);
            loop {
                if machine.shares_next().is_some() {
                    self.run(new());
                    others += 1;
                }
                if self.trace.step(&mut machine).is_some() {
                    break;
                }
            }
            assert!(others > 0 && gauge.dropped() == 1 + others, "{others} and one");
            assert_eq!(gauge.words(), [0, 0]);
            self.runs += 1;
        }
        gauge.clear();
        let last = WINDOWS as u64 - 1;
        self.run(gauge.machine(code, (last, 1)));
        let word = gauge.at + 2 * (WINDOWS - 1 - PLACE);
        assert_eq!(
            [word, word + 1].map(|word| unpack(gauge.get(word), WINDOWS - 1)),
            [Some((last, 1)), Some((last, VALUE_MAX - 1))]
        );
        [word, word + 1].into_iter().for_each(|word| gauge.put(word, 0));
        self.runs += 1;
    }
}

impl Task<'_> {
    /// The words after an access of any program.
    fn note(&mut self, now: [u64; 2]) {
        let own = words(self.set.0, self.set.1);
        for ((covered, now), own) in self.covered.iter_mut().zip(now).zip(own) {
            *covered |= now >= own && same_window(now, own);
            self.late |= now > own && !same_window(now, own);
        }
    }
}

/// A read that began when the values `done` were set, and ended when `begun` were about to be set.
fn expect_read(seen: Option<Extremes>, done: &[Set], begun: &[Set]) {
    let Some(seen) = seen else {
        let newest = |sets: &[Set]| sets.iter().map(|set| set.0).max();
        assert!(newest(done) < newest(begun), "there is a whole window: {done:?}");
        return;
    };
    let of =
        |sets: &[Set]| sets.iter().filter(|set| set.0 == seen.window).map(|set| set.1).collect::<Vec<_>>();
    assert!([seen.min, seen.max].iter().all(|value| of(begun).contains(value)), "{seen:?} of {begun:?}");
    assert!(done.iter().all(|set| set.0 <= seen.window), "{seen:?} after {done:?}");
    assert!(of(done).iter().all(|value| (seen.min..=seen.max).contains(value)), "{seen:?} without {done:?}");
}
