//! One program at a time, in many states of the ring: it does the same as the production writer in Rust, word for word.

use super::{
    ACTIVE, CAPACITY, Code, FIRST_SLOT, Found, GRANTED, HIGH, LONGEST, Machine, NEXT, NO_SPACE, Preamble,
    Reader, Ring, SHORT, SINCE, SLOT, SLOTS, ShardMut, TOO_LONG, Tails, TailsMut, UNTIL, WordsMut,
};
use crate::decode::Insn;

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
    fn push_in_rust(&self, value: u64, len: u64) -> u64 {
        let words = WordsMut::new(&self.map.words);
        let (tails, tail) = (TailsMut::new(words, &self.area), value.to_ne_bytes().repeat(8));
        let tail = &tail[..usize::try_from(len).unwrap()];
        u64::from(ShardMut::new(words, &self.place).push_with_tail(&tails, &value, tail).is_ok())
    }
}

impl Found {
    /// Programs and the production writer, from the same states.
    pub fn alike(&mut self, code: &Code) {
        for seed in 1..20 {
            let mut random = Random(seed);
            let rings = [Ring::default(), Ring::default()];
            let [bpf, rust] = &rings;
            // Also where positions wrap.
            let first = if seed % 2 == 0 { 0 } else { (8 * CAPACITY).wrapping_neg() };
            for ring in &rings {
                [NEXT, HIGH, GRANTED].into_iter().for_each(|word| ring.put(word, first));
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

    /// One other program in a tail, in each entry, is in the way or is not.
    pub fn in_the_way(&mut self, code: &Code) {
        for entry in ACTIVE..FIRST_SLOT {
            for behind in [LONGEST, LONGEST + 16, CAPACITY] {
                let rings = [Ring::default(), Ring::default()];
                for ring in &rings {
                    [NEXT, HIGH, GRANTED].into_iter().for_each(|word| ring.put(word, 8 * CAPACITY));
                    ring.put(entry, 8 * CAPACITY - behind + 1);
                }
                let published = self.run(&mut rings[0].machine(code, 1, SHORT));
                assert_eq!(published, u64::from(behind == LONGEST), "{behind} behind, in {entry}");
                assert_eq!(rings[1].push_in_rust(1, SHORT), published);
                assert!(rings[0].words() == rings[1].words());
                self.cases += 1;
            }
        }
    }

    /// Programs that publish nothing: a tail that is too long, no entry for a tail, a CPU without a shard.
    pub fn refused(&mut self, code: &Code) {
        let ring = Ring::default();
        assert_eq!(self.push_all(&ring, code, 1, &[SHORT]), 1);
        let next = ring.get(NEXT);
        for (drop, len) in
            (0..).zip([LONGEST + 1, i64::MAX.cast_unsigned(), LONGEST + 1, SHORT, SHORT, SHORT])
        {
            let full = len == SHORT;
            (ACTIVE..FIRST_SLOT).for_each(|entry| ring.put(entry, if full { next - 16 + 1 } else { 0 }));
            // The last drop was more than a second ago, or was just now.
            let is_new = drop % 3 > 0;
            ring.put(UNTIL, if is_new { (2_u64 << 30).wrapping_neg() } else { 0 });
            ring.put(SINCE, 7);
            assert_eq!(self.push_all(&ring, code, 2, &[len]), 0);
            assert_eq!([SINCE, UNTIL].map(|word| ring.get(word)), [if is_new { 1 } else { 7 }, 1]);
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
        // The slot of the first record was used again.
        assert_eq!((&reader.whole[..], reader.cursor.stats().discarded), (&[3][..], 3));

        let ring = Ring::default();
        let mut machine = Machine::new(&code.program, &ring.map, code.order, 1, [1, SHORT]);
        assert_eq!(self.run(&mut machine), 0);
        let mut expected = vec![0; FIRST_SLOT + SLOTS * SLOT];
        expected[Preamble::DROPPED] = 1;
        assert!(ring.words() == expected);
    }

    /// A program whose slot and bytes are free calls no function. Others look at each word only as often as they must.
    pub fn fast(&mut self, code: &Code) {
        let ring = Ring::default();
        assert_eq!(self.looks(code, &ring, GRANTED), (4, true), "it asks for its bytes");
        assert_eq!(self.looks(code, &ring, HIGH), (1, false), "they are those of the first, which used none");
        let ring = Ring::default();
        assert_eq!(self.looks(code, &ring, HIGH), (4, true));
        let ring = Ring::default();
        ring.put(NEXT, 16);
        (ACTIVE..FIRST_SLOT).for_each(|entry| ring.put(entry, 1));
        assert_eq!(self.looks(code, &ring, ACTIVE + 1), (1, true), "it is taken");
    }

    /// How often a program without a tail accesses a word, and whether it calls a function.
    fn looks(&mut self, code: &Code, ring: &Ring, word: usize) -> (u64, bool) {
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
    let (near, far) = (before(4), before(2 * CAPACITY / 16));
    match random.below(16) {
        0 => put(ACTIVE + usize::try_from(random.below(Tails::WRITERS as u64)).unwrap(), far + 1),
        1 => put(ACTIVE, near + 1),
        2 => (ACTIVE..FIRST_SLOT).for_each(|word| put(word, near + 1)),
        3 => put(NEXT, next.wrapping_add(16 * random.below(12))),
        4 => put(HIGH, ring.get(HIGH).wrapping_add(16 * random.below(12))),
        // All slots, or none.
        even @ 5..7 => {
            let seqs = (FIRST_SLOT..FIRST_SLOT + SLOTS * SLOT).step_by(SLOT);
            seqs.filter(|seq| ring.get(*seq) % 2 == even - 5).for_each(|seq| put(seq, ring.get(seq) + 1));
        }
        7..11 => (ACTIVE..FIRST_SLOT).for_each(|word| put(word, 0)),
        _ => {}
    }
}
