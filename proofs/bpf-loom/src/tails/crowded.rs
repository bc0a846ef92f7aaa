//! Others are in tails while programs claim bytes, or end: what is granted, and where readers find what was stepped over.

use super::changes::BEGIN;
use super::meet::position;
use super::{
    ACTIVE, BESIDE, Code, ENTERS, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, MOVING, NEXT, SHORT, STEPPED,
};

/// The entry of a program that finds two others.
const THIRD: usize = ACTIVE + 2;

impl Found {
    /// Two others are in tails, in this round or some rounds behind, and the first may be about to change its position.
    /// What was claimed before some position is void.
    pub fn crowded(&mut self, code: &Code) {
        let capacity = (self.ring)().capacity;
        let behind = [
            16,
            LONGEST,
            capacity - 2 * LONGEST,
            capacity - LONGEST,
            capacity - 48,
            capacity,
            capacity + 16,
            2 * capacity - 192,
            3 * capacity + 16,
        ];
        let pairs = behind.into_iter().flat_map(|first| behind.map(|second| (first, second)));
        for ((first, second), mark) in pairs.flat_map(|pair| [0, MOVING, ENTERS].map(|mark| (pair, mark))) {
            // With a mark, a single try.
            let voids: &[u64] = match mark {
                0 => &[0, 1, 3, 8],
                _ if second == 16 => &[0],
                _ => &[],
            };
            for &void in voids {
                self.cases += 1;
                let rings = [(self.ring)(), (self.ring)()];
                for ring in &rings {
                    ring.granted_to(BEGIN);
                    ring.put(STEPPED, if void == 0 { 0 } else { BEGIN + void * LONGEST });
                    ring.put(ACTIVE, BEGIN - first + 1);
                    ring.put(ACTIVE + 1, BEGIN - second + 1);
                }
                let [bpf, rust] = &rings;
                bpf.put(ACTIVE, (BEGIN - first + 1) | mark);
                let what = format!("{first} (mark {mark}) and {second} behind, void: {void}");
                let published = self.push_all(bpf, code, 1, &[SHORT]);
                self.dropped += 1 - published;
                assert_eq!(bpf.get(THIRD), 0, "it is still entered: {what}");
                // By a round or more behind the end of the claim. One that moves NEXT may claim the bytes before.
                let end = if mark == MOVING { 2 * LONGEST } else { LONGEST };
                if mark != 0 && first + end > capacity {
                    assert_eq!(published, 0, "{what}");
                    [NEXT, HIGH, GRANTED]
                        .into_iter()
                        .for_each(|word| assert_eq!(bpf.get(word), BEGIN, "{what}"));
                } else if mark != MOVING {
                    assert_eq!(published, rust.push_in_rust(1, SHORT), "{what}");
                    bpf.put(ACTIVE, BEGIN - first + 1);
                    assert!(bpf.words() == rust.words(), "{what}");
                }
            }
        }
    }

    /// A program that steps over another one looks at the words only as often as it must: twice where it claims a
    /// position, twice where it moves them, and once to see if its own claim is void.
    pub fn steps_once(&mut self, code: &Code) {
        for (word, looks) in [(BESIDE, 2 + 2 + 2), (STEPPED, 2 + 1 + 1 + 1)] {
            let ring = (self.ring)();
            ring.granted_to(BEGIN);
            ring.put(FIRST_SLOT - 1, BEGIN - ring.capacity + 48 + 1);
            assert_eq!(self.looks(code, &ring, word), (looks, true), "word {word}");
        }
    }

    /// A program that steps over another one is granted less than that, since a third one is in the way: no claim beyond
    /// what it is granted is void.
    pub fn steps_up_to(&mut self, code: &Code) {
        let ring = (self.ring)();
        ring.granted_to(BEGIN);
        ring.put(FIRST_SLOT - 1, BEGIN - ring.capacity + 48 + 1);
        // Later it is in the way for good: it is about to change its position.
        ring.put(FIRST_SLOT - 2, (BEGIN - ring.capacity + LONGEST + 1) | ENTERS);
        assert_eq!(self.push_all(&ring, code, 1, &[SHORT]), 0);
        assert_eq!([GRANTED, STEPPED].map(|word| ring.get(word)), [BEGIN + LONGEST; 2]);
        self.dropped += 1;
    }

    /// Others step over the bytes of a program before it ends its record. Readers find the record where these bytes come
    /// last. Until the program has left its entry, nobody steps over them again. A forged HIGH moves nothing.
    pub fn stepped_over(&mut self, code: &Code) {
        let capacity = (self.ring)().capacity;
        for (rounds, more) in (0..4).flat_map(|rounds| [0, 1, 16, LONGEST].map(|more| (rounds, more))) {
            for (taken, is_scribbled) in [(false, false), (true, false), (false, true), (true, true)] {
                self.cases += 1;
                let ring = (self.ring)();
                ring.granted_to(BEGIN);
                ring.put(ACTIVE, u64::from(taken) * (BEGIN - LONGEST + 1));
                let mut machine = ring.machine(code, 1, SHORT);
                assert_eq!(self.run_into(&mut machine), None);
                let at = position(&machine).expect("it is in a tail");
                let high = ring.get(HIGH).max(at + rounds * capacity + more);
                [HIGH, GRANTED].into_iter().for_each(|word| ring.put(word, high));
                let (is_over, entry) = (high > at + capacity, ACTIVE + usize::from(taken));
                let mut looks = 0;
                let published = loop {
                    let next = machine.shares_next();
                    assert!(
                        next != Some(FIRST_SLOT + 1) || (ring.get(entry) & ENTERS != 0) == is_over,
                        "{rounds} rounds and {more} ahead"
                    );
                    looks += usize::from(next == Some(HIGH));
                    if is_scribbled && looks == 2 {
                        ring.put(HIGH, at);
                    }
                    if let Some(published) = self.step(&mut machine) {
                        break published;
                    }
                };
                assert_eq!((published, ring.get(entry)), (1, 0), "it has left");
                assert_eq!(looks, 1 + usize::from(is_over), "it looks again for where they come last");
                let last = if is_over && !is_scribbled { (high - at - 1) / capacity * capacity } else { 0 };
                assert_eq!(ring.get(FIRST_SLOT + 1), at + last, "{rounds} rounds and {more} ahead");
            }
        }
    }
}
