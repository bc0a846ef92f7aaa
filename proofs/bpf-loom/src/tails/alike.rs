//! One program at a time, in many states of the ring: it does the same as the production writer in Rust, word for word.

use super::{
    ACTIVE, BESIDE, Code, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, Machine, NEXT, NO_SPACE, Preamble,
    Reader, Ring, SHORT, SINCE, SLOT, STEPPED, ShardMut, TOO_LONG, Tails, TailsMut, UNTIL, WordsMut,
};
use crate::decode::Insn;
use crate::machine::NOW;

/// Lengths of tails, and a helper's error.
const LENS: [u64; 9] = [0, 1, SHORT, 15, 16, 17, 63, LONGEST, (-14_i64).cast_unsigned()];

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}

impl Ring {
    /// The production writer publishes a record. Returns 1 if it did.
    pub(super) fn push_in_rust(&self, value: u64, len: u64) -> u64 {
        let words = WordsMut::new(&self.map.words);
        let (tails, tail) = (TailsMut::new(words, &self.area), value.to_ne_bytes().repeat(8));
        let tail = &tail[..usize::try_from(len).unwrap()];
        u64::from(ShardMut::new(words, &self.place).push_with_tail(&tails, &value, tail).is_some())
    }
}

impl Found {
    /// Programs and the production writer, from the same states.
    pub fn alike(&mut self, code: &Code) {
        for seed in 1..20 {
            let mut random = Random(seed);
            let rings = [(self.ring)(), (self.ring)()];
            let [bpf, rust] = &rings;
            // Also where positions wrap.
            let first = if seed % 2 == 0 { 0 } else { (8 * bpf.capacity).wrapping_neg() };
            for ring in &rings {
                [NEXT, HIGH, GRANTED, BESIDE, STEPPED].into_iter().for_each(|word| ring.put(word, first));
            }
            let mut reader = Reader::default();
            for value in 0..40 {
                disturb(&mut random, &rings);
                let len = LENS[usize::try_from(random.below(9)).unwrap()];
                let published = self.run(&mut bpf.machine(code, value, len));
                let written = if len > LONGEST { 0 } else { len };
                assert_eq!(published, rust.push_in_rust(value, written), "{value} of {len} bytes");
                assert!(bpf.words() == rust.words(), "{value} of {len} bytes");
                reader.read(bpf);
                assert!(published == 0 || reader.whole.last() == Some(&value), "{reader:?}");
                self.dropped += 1 - published;
                self.cases += 1;
            }
        }
    }

    /// One other program is in a tail, in each entry, and has been there for less than a round or for several: its bytes
    /// are left out.
    pub fn steps_over(&mut self, code: &Code) {
        let capacity = (self.ring)().capacity;
        let distances = [16, LONGEST, capacity - LONGEST, capacity - 16, capacity, 3 * capacity + 16];
        for (entry, behind) in (ACTIVE..FIRST_SLOT).flat_map(|entry| distances.map(|behind| (entry, behind)))
        {
            let rings = [(self.ring)(), (self.ring)()];
            // Not where it overlaps the next position: nobody claims there.
            let (first, next) = (8 * capacity - behind, 8 * capacity + LONGEST.saturating_sub(behind));
            for ring in &rings {
                ring.granted_to(next);
                ring.put(entry, first + 1);
            }
            for value in 0..3 * capacity / LONGEST {
                let published = self.run(&mut rings[0].machine(code, value, LONGEST));
                assert_eq!(published, 1, "{behind} behind, in {entry}");
                assert_eq!(rings[1].push_in_rust(value, LONGEST), published);
                assert!(rings[0].words() == rings[1].words());
                let slot = FIRST_SLOT + usize::try_from(value).unwrap() % rings[0].slots * SLOT;
                let apart = (rings[0].get(slot + 1) - first) % capacity;
                assert!((LONGEST..=capacity - LONGEST).contains(&apart), "{apart} after its first byte");
                self.cases += 1;
            }
        }
    }

    /// Two programs are in tails that fill the area, for good.
    pub fn exhausted(&mut self, code: &Code) {
        let rings = [(self.ring)(), (self.ring)()];
        let capacity = rings[0].capacity;
        for ring in &rings {
            ring.granted_to(capacity);
            let positions =
                (0..Tails::WRITERS as u64).map(|entry| entry * LONGEST).filter(|at| *at < capacity);
            (ACTIVE..).zip(positions).for_each(|(entry, at)| ring.put(entry, at + 1));
        }
        for value in 0..20 {
            assert_eq!(self.push_all(&rings[0], code, value, &[SHORT]), 0);
            assert_eq!(rings[1].push_in_rust(value, SHORT), 0);
            assert!(rings[0].words() == rings[1].words());
            self.dropped += 1;
            self.cases += 1;
        }
        rings.iter().for_each(|ring| ring.put(ACTIVE, 0));
        let published = (20..40).map(|value| {
            let published = self.push_all(&rings[0], code, value, &[SHORT]);
            assert_eq!(rings[1].push_in_rust(value, SHORT), published);
            published
        });
        // A claim steps over four others at most.
        assert!(published.sum::<u64>() >= 4);
    }

    /// Others have overtaken the next position: its program drops the record, and the one after it does not.
    pub fn overtaken(&mut self, code: &Code) {
        let rings = [(self.ring)(), (self.ring)()];
        for ring in &rings {
            let far = ring.capacity + 16;
            [(NEXT, 0), (HIGH, far), (GRANTED, far)]
                .into_iter()
                .for_each(|(word, value)| ring.put(word, value));
        }
        for published in [0, 1] {
            assert_eq!(self.push_all(&rings[0], code, 1, &[SHORT]), published);
            assert_eq!(rings[1].push_in_rust(1, SHORT), published);
            assert!(rings[0].words() == rings[1].words());
        }
    }

    /// Others have claimed many positions beside NEXT: its program claims one after them.
    pub fn beside(&mut self, code: &Code) {
        let ring = (self.ring)();
        ring.put(BESIDE, 8 * LONGEST);
        assert_eq!(self.push_all(&ring, code, 1, &[SHORT]), 1);
        assert_eq!(ring.get(NEXT), 8 * LONGEST + 16);
    }

    /// Programs that publish nothing: a tail that is too long, no entry for a tail, a CPU without a shard.
    pub fn refused(&mut self, code: &Code) {
        let ring = (self.ring)();
        assert_eq!(self.push_all(&ring, code, 1, &[SHORT]), 1);
        let next = ring.get(NEXT);
        for (drop, len) in
            (0..).zip([LONGEST + 1, i64::MAX.cast_unsigned(), LONGEST + 1, SHORT, SHORT, SHORT])
        {
            let full = len == SHORT;
            (ACTIVE..FIRST_SLOT).for_each(|entry| ring.put(entry, if full { next - 16 + 1 } else { 0 }));
            // The last drop was more than a second ago, or was just now.
            let is_new = drop % 3 > 0;
            ring.put(UNTIL, if is_new { 0 } else { NOW });
            ring.put(SINCE, 7);
            assert_eq!(self.push_all(&ring, code, 2, &[len]), 0);
            assert_eq!([SINCE, UNTIL].map(|word| ring.get(word)), [if is_new { NOW } else { 7 }, NOW]);
            assert_eq!(
                [TOO_LONG, NO_SPACE].map(|word| ring.get(word)),
                [(drop + 1).min(3), (drop + 1).max(3) - 3]
            );
            assert!(ring.get(NEXT) == next && (full || ring.get(ACTIVE) == 0), "nothing is left of it");
            self.dropped += 1;
            self.cases += 1;
        }
        (ACTIVE..FIRST_SLOT).for_each(|entry| ring.put(entry, 0));
        assert_eq!(self.push_all(&ring, code, 3, &[LONGEST]), 1);
        let mut reader = Reader::default();
        reader.read(&ring);
        // Of four slots, that of the first record was used again.
        let whole: &[u64] = if ring.slots == 4 { &[3] } else { &[1, 3] };
        assert_eq!((&reader.whole[..], reader.cursor.stats().discarded), (whole, 3));

        for taken in [false, true] {
            let ring = (self.ring)();
            ring.granted_to(LONGEST);
            ring.put(ACTIVE, u64::from(taken) * (LONGEST - 16 + 1));
            (FIRST_SLOT..ring.area()).step_by(SLOT).for_each(|slot| ring.put(slot, 1));
            assert_eq!(self.push_all(&ring, code, 1, &[SHORT]), 0, "there is no slot");
            assert_eq!(ring.get(NEXT), LONGEST, "its bytes are given back");
            assert!((ring.get(ACTIVE) != 0) == taken && ring.get(ACTIVE + 1) == 0, "so is its entry");
        }

        let ring = (self.ring)();
        let mut machine = Machine::new(&code.program, &ring.map, code.order, 1, [1, SHORT]);
        assert_eq!(self.run(&mut machine), 0);
        let mut expected = vec![0; ring.area()];
        expected[Preamble::DROPPED] = 1;
        assert!(ring.words() == expected);
    }

    /// A guarded program whose slot and bytes are free calls no function. Others look at each word only as often as they must.
    pub fn fast(&mut self, code: &Code) {
        let (ring, is_slow) = ((self.ring)(), !code.program.guarded);
        assert_eq!(self.looks(code, &ring, GRANTED), (4 - u64::from(is_slow), true), "it asks for its bytes");
        let again = self.looks(code, &ring, HIGH);
        // Once at the end of the record.
        assert_eq!(again, (2, is_slow), "they are those of the first, which used none");
        let ring = (self.ring)();
        assert_eq!(self.looks(code, &ring, HIGH), (5 - u64::from(is_slow), true));
        let ring = (self.ring)();
        ring.put(NEXT, 16);
        (ACTIVE..FIRST_SLOT).for_each(|entry| ring.put(entry, 1));
        assert_eq!(self.looks(code, &ring, ACTIVE + 1), (1, true), "it is taken");
    }

    /// How often a program without a tail accesses a word, and whether it calls a function.
    pub(super) fn looks(&mut self, code: &Code, ring: &Ring, word: usize) -> (u64, bool) {
        let (mut machine, mut looks, mut calls) = (ring.machine(code, 1, 0), 0, false);
        loop {
            looks += u64::from(machine.shares_next() == Some(word));
            calls |= matches!(code.program.code[machine.pc()], Insn::Call { .. });
            if self.step(&mut machine).is_some() {
                return (looks, calls);
            }
        }
    }
}

/// Other programs are in tails, or have ended them; or in slots.
fn disturb(random: &mut Random, rings: &[Ring; 2]) {
    let ring = &rings[0];
    let put = |word, value| rings.iter().for_each(|ring| ring.put(word, value));
    let next = ring.get(NEXT);
    let mut before = |most: u64| next.wrapping_sub(16 * (1 + random.below(most)));
    let (near, far) = (before(4), before(2 * ring.capacity / 16));
    match random.below(16) {
        0 => put(ACTIVE + usize::try_from(random.below(Tails::WRITERS as u64)).unwrap(), far + 1),
        1 => put(ACTIVE, near + 1),
        2 => (ACTIVE..FIRST_SLOT).for_each(|word| put(word, near + 1)),
        3 => put(NEXT, next.wrapping_add(16 * random.below(12))),
        4 => put(HIGH, ring.get(HIGH).wrapping_add(16 * random.below(12))),
        // All slots, or none; of few, so that the reader finds its way.
        even @ 5..7 if ring.slots == 4 => {
            let seqs = (FIRST_SLOT..ring.area()).step_by(SLOT);
            seqs.filter(|seq| ring.get(*seq) % 2 == even - 5).for_each(|seq| put(seq, ring.get(seq) + 1));
        }
        7..11 => (ACTIVE..FIRST_SLOT).for_each(|word| put(word, 0)),
        _ => {}
    }
}
