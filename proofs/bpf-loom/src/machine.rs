//! The interpreter: a program has its own registers and stack, and every access to its map is one atomic operation on
//! the words that production readers read.
//!
//! A step is one instruction, so a model can stop the machine, abandon it, or run another program at any instruction.

use mapring_core::abi::readers::SEATS;

use crate::alu;
use crate::decode::{ADD, AND, CMPXCHG, FETCH, From, Insn, OR, XCHG};
use crate::map::{Change, Inner, Map};
use crate::object::{GLOBAL_HANDLE, LOADER_CONSTANT, MAP_HANDLE, Program};
use crate::order::{Fetch, Order};
use crate::sync::{Ordering, fence};

/// Bytes of a function's stack.
const FRAME: u64 = 512;
/// The maximum depth of calls.
const DEPTH: u64 = 8;
/// The longest path of a program. A producer never waits, so a maximum exists.
const STEPS: usize = 4000;

/// The highest byte of an address is its tag.
const TAG: u64 = 0xff << 56;
const STACK: u64 = 0x53 << 56;
const CONTEXT: u64 = 0x43 << 56;
/// A word of the map.
pub(crate) const VALUE: u64 = 0x56 << 56;
/// An inner map, by its number.
const INNER: u64 = 0x49 << 56;

/// The time in all models: later than a spell of drops after boot. No model is longer than a lease.
pub const NOW: u64 = 1_000_000_001;

/// The helper `bpf_ringbuf_output`, and its flag `BPF_RB_FORCE_WAKEUP`.
pub(crate) const RING_A_BELL: u32 = 130;
const FORCE_WAKEUP: u64 = 2;

/// The value of scratch registers after a call.
const SCRATCHED: u64 = 0xdead_dead_dead_dead;

/// A running program.
pub struct Machine<'a> {
    program: &'a Program,
    map: &'a Map,
    order: Order,
    cpu: u64,
    context: [u64; 2],
    /// The last one is the kernel's own (`BPF_REG_AX`): no program uses it, but mutants do.
    regs: [u64; 12],
    stack: Vec<u8>,
    /// The callers' return positions, and their r6 to r9.
    frames: Vec<(usize, [u64; 4])>,
    pc: usize,
    /// Whether it is inside the guard.
    guarded: bool,
    steps: usize,
    changes: Vec<Change>,
}

impl<'a> Machine<'a> {
    /// `program`, ready to run on `cpu`, with `context` as its input.
    pub fn new(program: &'a Program, map: &'a Map, order: Order, cpu: u64, context: [u64; 2]) -> Self {
        let mut regs = [SCRATCHED; 12];
        regs[1] = CONTEXT;
        regs[10] = STACK + FRAME;
        let (frames, changes) = (Vec::new(), Vec::new());
        let stack = [0xa5].repeat(offset(FRAME * DEPTH));
        Self {
            program,
            map,
            order,
            cpu,
            context,
            regs,
            stack,
            frames,
            pc: 0,
            guarded: false,
            steps: 0,
            changes,
        }
    }

    /// Runs to the end, and returns the program's return value.
    pub fn run(&mut self) -> u64 {
        loop {
            if let Some(value) = self.step() {
                return value;
            }
        }
    }

    /// The program.
    pub fn program(&self) -> &'a Program {
        self.program
    }

    /// The next instruction.
    pub fn pc(&self) -> usize {
        self.pc
    }

    /// The word of the map that the next instruction accesses, if any: only then can others observe the order.
    pub fn shares_next(&self) -> Option<usize> {
        match self.program.code[self.pc] {
            Insn::Load { base, off, .. } | Insn::Store { base, off, .. } | Insn::Atomic { base, off, .. } => {
                let at = self.address(base, off);
                (at & TAG == VALUE).then(|| offset(at) / 8)
            }
            _ => None,
        }
    }

    /// Whether the program is inside the guard: only programs that interrupt it run on its CPU.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Whether the next instruction is an atomic operation on the stack, which is only a barrier.
    pub fn is_at_barrier(&self) -> bool {
        match self.program.code[self.pc] {
            Insn::Atomic { base, off, .. } => self.address(base, off) & TAG == STACK,
            _ => false,
        }
    }

    /// Continues with another map of the same shape.
    pub fn move_to(&mut self, map: &'a Map) {
        assert_eq!((self.map.name, self.map.words.len()), (map.name, map.words.len()), "another shape");
        self.map = map;
    }

    /// The content of the program's context, before or after it ran.
    pub fn context(&self) -> [u64; 2] {
        self.context
    }

    /// The number of instructions so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Its writes to the map so far, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Executes one instruction. At the end of the program, returns its return value.
    ///
    /// # Panics
    /// Panics if the program does something that the verifier would reject, or if it takes longer than any producer
    /// may.
    pub fn step(&mut self) -> Option<u64> {
        self.steps += 1;
        assert!(self.steps < STEPS, "the program does not end");
        let insn = self.program.code[self.pc];
        self.pc += 1;
        match insn {
            Insn::Alu { op, wide, dst, from, off } => {
                let value = alu::compute(op, wide, off, self.reg(dst), self.operand(from));
                self.set(dst, value);
            }
            Insn::Swap { always, to_big, dst, bits } => {
                self.set(dst, alu::swap(always, to_big, bits, self.reg(dst)));
            }
            Insn::Const { dst, value } => {
                self.set(dst, if value & TAG == GLOBAL_HANDLE { self.global(value) } else { value });
                self.pc += 1;
            }
            Insn::Half => panic!("a jump into a constant"),
            Insn::Load { bytes, signed, acquire, dst, base, off } => {
                let at = self.address(base, off);
                let value = self.load(at, bytes, acquire);
                self.set(dst, if signed { alu::extend(value, bytes) } else { value });
            }
            Insn::Store { bytes, release, base, off, from } => {
                let at = self.address(base, off);
                self.store(at, bytes, release, self.operand(from));
            }
            Insn::Atomic { op, bytes, base, off, src } => {
                self.atomic(self.address(base, off), bytes, op, src);
            }
            Insn::Goto { to } => self.pc = to,
            Insn::If { op, wide, dst, from, to } => {
                if alu::holds(op, wide, self.reg(dst), self.operand(from)) {
                    self.pc = to;
                }
            }
            Insn::Helper { id } => self.help(id),
            Insn::Guard { begins } => {
                assert!(self.program.guarded, "a call of a function that the kernel does not have");
                assert_ne!(self.guarded, begins, "the guard begins once, and ends once");
                self.guarded = begins;
                self.regs[..6].fill(SCRATCHED);
            }
            Insn::Call { to } => {
                let saved = [6, 7, 8, 9].map(|reg| self.reg(reg));
                self.frames.push((self.pc, saved));
                self.regs[10] += FRAME;
                self.pc = to;
            }
            Insn::Exit => {
                let Some((back, saved)) = self.frames.pop() else {
                    assert!(!self.guarded, "the guard does not end");
                    return Some(self.reg(0));
                };
                self.regs[1..6].fill(SCRATCHED);
                self.regs[6..10].copy_from_slice(&saved);
                self.regs[10] -= FRAME;
                self.pc = back;
            }
        }
        None
    }

    fn load(&self, at: u64, bytes: u8, acquire: bool) -> u64 {
        match at & TAG {
            VALUE => {
                let order = if acquire { Ordering::Acquire } else { self.order.load };
                self.map.words[self.word(at, bytes)].load(order)
            }
            CONTEXT if bytes == 8 => self.context[offset(at) / 8],
            LOADER_CONSTANT if bytes == 4 => 0,
            STACK => alu::from_bytes(&self.stack[offset(at)..][..bytes.into()]),
            _ => panic!("a load of {bytes} bytes at {at:#x}"),
        }
    }

    fn store(&mut self, at: u64, bytes: u8, release: bool, value: u64) {
        match at & TAG {
            VALUE => {
                let order = if release { Ordering::Release } else { self.order.store };
                let word = self.word(at, bytes);
                self.map.words[word].store(value, order);
                self.changes.push(Change { word, value });
            }
            CONTEXT if bytes == 8 => self.context[offset(at) / 8] = value,
            STACK => {
                let bytes = bytes.into();
                self.stack[offset(at)..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            }
            _ => panic!("a store of {bytes} bytes at {at:#x}"),
        }
    }

    fn atomic(&mut self, at: u64, bytes: u8, op: u32, src: u8) {
        let kind = if op & FETCH == 0 { self.order.count } else { self.order.fetch };
        if at & TAG == STACK {
            assert_eq!(op, XCHG, "on the stack, it is for the barrier");
            if kind == Fetch::Full {
                fence(Ordering::SeqCst);
            }
            let old = self.load(at, bytes, false);
            self.store(at, bytes, false, self.reg(src));
            return self.set(src, old);
        }
        let index = self.word(at, bytes);
        let (word, value) = (&self.map.words[index], self.reg(src));
        let order = if kind == Fetch::AcqRel { Ordering::AcqRel } else { Ordering::Relaxed };
        let barrier = || {
            if kind == Fetch::Full {
                fence(Ordering::SeqCst);
            }
        };
        barrier();
        let now = match op {
            ADD => word.fetch_add(value, order).wrapping_add(value),
            OR => word.fetch_or(value, order) | value,
            _ if op & !FETCH == AND => {
                let old = word.fetch_and(value, order);
                if op & FETCH != 0 {
                    self.regs[usize::from(src)] = old;
                }
                old & value
            }
            ADD_AND_FETCH => {
                let old = word.fetch_add(value, order);
                self.regs[usize::from(src)] = old;
                old.wrapping_add(value)
            }
            XCHG => {
                let old = word.swap(value, order);
                self.regs[usize::from(src)] = old;
                value
            }
            CMPXCHG => match word.compare_exchange(self.reg(0), value, order, Ordering::Relaxed) {
                Ok(_) => value,
                Err(found) => {
                    self.regs[0] = found;
                    return; // and no barrier: see `Fetch::Full`
                }
            },
            _ => panic!("the atomic operation {op:#x} is not one of these headers'"),
        };
        barrier();
        self.changes.push(Change { word: index, value: now });
    }

    fn help(&mut self, id: u32) {
        let value = match id {
            1 => self.lookup(self.cpu),
            // `bpf_map_lookup_percpu_elem`
            195 => {
                assert!(matches!(self.map.inner, Some(Inner::Copies(_))), "not a map that each CPU has");
                self.lookup(self.reg(3) & 0xffff_ffff)
            }
            // `bpf_ktime_get_ns`
            5 => NOW,
            8 => self.cpu,
            RING_A_BELL => {
                let (bell, bytes, flags) = (self.reg(1), self.reg(3), self.reg(4));
                assert_eq!((bell & TAG, bytes, flags), (INNER, 0, FORCE_WAKEUP), "no ring of a bell");
                let Some(Inner::Readers(_, bells)) = &self.map.inner else { panic!("a map without bells") };
                bells.ring(offset(bell))
            }
            _ => panic!("helper {id} is not one of these headers'"),
        };
        self.regs[1..6].fill(SCRATCHED);
        self.regs[0] = value;
    }

    /// The address of a global variable.
    fn global(&self, handle: u64) -> u64 {
        let (which, at) = (offset(handle) >> 32, handle & 0xffff_ffff);
        assert_eq!(self.program.maps[which], self.map.name, "another variable");
        VALUE | at
    }

    /// `bpf_map_lookup_elem` of an array, or an array of maps; for a per-CPU array, the copy of `cpu`.
    fn lookup(&self, cpu: u64) -> u64 {
        let map = self.reg(1);
        let index = offset(self.load(self.reg(2), 4, false));
        let part = |part: usize, parts: usize| {
            let words = self.map.words.len() / parts;
            (part * words..(part + 1) * words, self.map.stride)
        };
        let (words, stride) = match (map & TAG, &self.map.inner) {
            (INNER, Some(Inner::InUse(parts, _) | Inner::All(parts))) => part(offset(map), *parts),
            (MAP_HANDLE, Some(Inner::Readers(first, _))) => {
                match self.program.maps[offset(map)].strip_prefix(self.map.name) {
                    Some("") => (0..*first, self.map.stride),
                    Some("__readers") => (*first..self.map.words.len(), SEATS),
                    Some("__bells") if index < SEATS => return INNER | index as u64,
                    other => panic!("another map, or another bell: {other:?} {index}"),
                }
            }
            (MAP_HANDLE, inner) => {
                assert_eq!(self.program.maps[offset(map)], self.map.name, "another map");
                match inner {
                    None => part(0, 1),
                    // Accesses through a pointer come after its load, on every machine.
                    Some(Inner::InUse(_, in_use)) if index == 0 => {
                        return INNER | in_use.load(Ordering::Acquire);
                    }
                    Some(Inner::All(parts)) if index < *parts => return INNER | index as u64,
                    Some(Inner::Copies(cpus)) if cpu < *cpus as u64 => part(offset(cpu), *cpus),
                    Some(_) => return 0,
                }
            }
            _ => panic!("no map"),
        };
        let at = words.start + index * stride;
        if at + stride <= words.end { VALUE | (at * 8) as u64 } else { 0 }
    }

    /// The word of the map at `at`. The headers only access whole words.
    fn word(&self, at: u64, bytes: u8) -> usize {
        assert!(at & TAG == VALUE && at & 7 == 0 && bytes == 8, "{bytes} bytes at {at:#x} are no word");
        offset(at) / 8
    }

    fn address(&self, base: u8, off: i16) -> u64 {
        self.reg(base).wrapping_add_signed(off.into())
    }

    fn operand(&self, from: From) -> u64 {
        match from {
            From::Reg(reg) => self.reg(reg),
            From::Imm(value) => value,
        }
    }

    fn reg(&self, reg: u8) -> u64 {
        self.regs[usize::from(reg)]
    }

    fn set(&mut self, reg: u8, value: u64) {
        assert_ne!(reg, 10, "the frame pointer is read-only");
        self.regs[usize::from(reg)] = value;
    }
}

/// An addition that returns the old value.
const ADD_AND_FETCH: u32 = ADD | FETCH;

/// An address without its tag.
fn offset(at: u64) -> usize {
    usize::try_from(at & !TAG).expect("a 64-bit machine")
}
