//! Programs that meet in a shard: they interrupt and preempt each other at every access.

use super::changes::{BEGIN, NEAR};
use super::{
    ACTIVE, BESIDE, Code, ENTERS, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, Machine, NEXT, Reader, Ring,
    SHORT, SLOT, Tails,
};

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
    pub(super) fn run_into(&mut self, machine: &mut Machine<'_>) -> Option<u64> {
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
            ring.granted_to(ring.capacity);
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
        ring.granted_to(BEGIN);
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
}

/// The position of a program that is in a tail and has not ended its record, by what it wrote.
pub(super) fn position(machine: &Machine<'_>) -> Option<u64> {
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
pub(super) fn expect_hold(ring: &Ring, programs: &[&Machine<'_>]) {
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
