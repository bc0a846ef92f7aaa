//! Mutants of the instructions that some runs executed: each store and atomic left out or not atomic, each decision the
//! other way. For tests of one machine that keeps the order of accesses.

use std::collections::BTreeSet;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use mapring_core::abi::Preamble;

use crate::decode::{ADD, CMPXCHG, FETCH, From, Insn, XCHG};
use crate::machine::Machine;
use crate::models::Code;
use crate::mutate::{AX, Mutant, load, mutant, set, store};
use crate::object::{KERNEL_FUNCTION, LOADER_CONSTANT, Program};

/// `bpf_map_lookup_elem`
const LOOKUP: Insn = Insn::Helper { id: 1 };

/// What an instruction did, in some run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Site {
    #[default]
    Nothing,
    Executed,
    /// It accessed the map.
    Shares,
    /// It accessed the words of the part.
    Part,
}

/// The instructions that were executed.
#[derive(Debug)]
pub struct Trace {
    sites: Vec<Site>,
    /// The loads of a ring's head in the guard, which begin a guarded claim of a slot.
    claims: BTreeSet<usize>,
    /// Only what this program does, if it is set.
    program: Option<Arc<Program>>,
    part: Range<usize>,
}

impl Trace {
    /// The mutants will be in those functions that access these words.
    pub fn of(part: Range<usize>) -> Self {
        Self { sites: Vec::new(), claims: BTreeSet::new(), program: None, part }
    }

    /// From now on the sites are those of this program alone.
    pub fn only(&mut self, program: &Arc<Program>) {
        self.program = Some(Arc::clone(program));
    }

    /// Executes an instruction. At the end of the program, returns its return value.
    pub fn step(&mut self, machine: &mut Machine<'_>) -> Option<u64> {
        if self.program.as_deref().is_some_and(|program| !ptr::eq(program, machine.program())) {
            return machine.step();
        }
        let at = machine.pc();
        if self.sites.len() <= at {
            self.sites.resize(at + 1, Site::Nothing);
        }
        let site = match machine.shares_next() {
            Some(word) if self.part.contains(&word) => Site::Part,
            Some(_) => Site::Shares,
            None => Site::Executed,
        };
        self.sites[at] = self.sites[at].max(site);
        if machine.is_guarded() && machine.shares_next() == Some(Preamble::WORDS) {
            self.claims.insert(at);
        }
        machine.step()
    }

    fn site(&self, at: usize) -> Site {
        self.sites.get(at).copied().unwrap_or_default()
    }

    /// All mutants of the code that was executed.
    #[must_use]
    pub fn mutants(&self, code: &Code) -> Vec<Mutant> {
        let program = &*code.program;
        let calls = program.code.iter().filter_map(|insn| match insn {
            Insn::Call { to } => Some(*to),
            _ => None,
        });
        let mut ends: Vec<_> = calls.chain([0, program.code.len()]).collect();
        ends.sort_unstable();
        let functions = ends.windows(2).map(|ends| ends[0]..ends[1]);
        let of_part = functions.filter(|function| function.clone().any(|at| self.site(at) == Site::Part));
        of_part
            .flatten()
            .filter(|at| self.site(*at) != Site::Nothing && !self.is_in_claim(program, *at))
            .flat_map(|at| self.mutants_at(code, at))
            .collect()
    }

    /// Whether an instruction is in a guarded claim of a slot, which has its own mutants elsewhere (`mutate.rs`).
    fn is_in_claim(&self, program: &Program, at: usize) -> bool {
        let ends = |begin: usize| program.code[begin..=at].contains(&Insn::Guard { begins: false });
        self.claims.range(..=at).next_back().is_some_and(|begin| !ends(*begin))
    }

    /// The mutants of one instruction.
    fn mutants_at(&self, code: &Code, at: usize) -> Vec<Mutant> {
        let mut mutants = Vec::new();
        let (program, shares) = (&*code.program, self.site(at) >= Site::Shares);
        let mut add = |what: &str, instead: &[Insn]| {
            mutants.push(mutant(code, format!("{at}: {what}"), program.patched(at, instead)));
        };
        match program.code[at] {
            Insn::If { .. } if is_choice(program, at) => {}
            Insn::If { op, from, to, .. } => {
                add("always jumps", &[Insn::Goto { to }]);
                add("never jumps", &[]);
                // Whether this program may end its tail in the guard: all may do it by atomic operations.
                if [at - 1, at + 1].iter().any(|&other| {
                    is_choice(program, other)
                        && matches!(program.code[other], Insn::If { to: there, .. } if there == to)
                }) {
                    mutants[0].equivalent = Some("there are two ways to end a tail");
                }
                let last = mutants.last_mut().expect("it was added");
                // The program asked for this CPU's shard before, and the first shard always exists.
                let looked_up = program.code[..at].iter().rposition(|insn| *insn == LOOKUP);
                let is_first = looked_up == program.code.iter().position(|insn| *insn == LOOKUP);
                let is_null = (op, from) == (0x10, From::Imm(0));
                if is_null && !is_first && looked_up.is_some_and(|looked_up| at - looked_up <= 5) {
                    last.equivalent = Some("the element exists");
                }
            }
            Insn::Store { .. } if shares => add("store left out", &[]),
            Insn::Atomic { op: XCHG, .. } if shares => add("xchg left out", &[]),
            Insn::Atomic { op: CMPXCHG, base, off, src, .. } => {
                add("cmpxchg left out", &[]);
                add("cmpxchg made a store", &[store(base, off, src)]);
                let other = Insn::If { op: 0x50, wide: true, dst: AX, from: From::Reg(0), to: at + 3 };
                let split = [load(AX, base, off), other, store(base, off, src), set(0, From::Reg(AX))];
                add("cmpxchg not atomic", &split);
            }
            Insn::Atomic { op, base, off, src, .. } if op & !FETCH == ADD => {
                let alu = |op| Insn::Alu { op, wide: true, dst: AX, from: From::Reg(src), off: 0 };
                let [sum, difference] = [0, 0x10].map(alu);
                let split =
                    [load(AX, base, off), sum, store(base, off, AX), difference, set(src, From::Reg(AX))];
                let (fetches, old) = (op & FETCH != 0, [load(src, base, off)]);
                add("addition left out", if fetches { &old } else { &[] });
                add("addition not atomic", if fetches { &split } else { &split[..3] });
            }
            _ => {}
        }
        mutants
    }
}

/// Whether an instruction asks if the kernel has the guard, or if it is slow.
fn is_choice(program: &Program, at: usize) -> bool {
    let Insn::If { dst, .. } = program.code[at] else { return false };
    let asks = |insn: &Insn| match insn {
        Insn::Const { dst: to, value } => *to == dst && [0, KERNEL_FUNCTION, LOADER_CONSTANT].contains(value),
        _ => false,
    };
    program.code[at.saturating_sub(8)..at].iter().any(asks)
}
