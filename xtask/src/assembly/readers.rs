//! Required properties of the readers' machine code: two barriers around the copy, a load of the sequence before and
//! after it, and no write, lock or call in between.

use anyhow::{Context, Result, bail, ensure};

use super::listing::{moved, without};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// Loads are ordered: an acquire fence only stops the compiler from reordering, and emits no instruction. LLVM
    /// leaves a comment in its place.
    X86,
    Aarch64,
}

const WORDS: usize = 7;

/// The only functions that readers call, all on cold paths.
const COLD: [&str; 3] = ["7outside", "6Cursor11skip_ticket", "_Unwind_Resume"];

impl Machine {
    fn is_barrier(self, line: &str) -> bool {
        line.trim() == if self == Self::X86 { "#MEMBARRIER" } else { "dmb ishld" }
    }

    /// Read-modify-writes and exclusive loads and stores, full barriers, system calls.
    fn is_forbidden(self, line: &str) -> bool {
        let (name, operands) = split(line);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        match self {
            Self::X86 => {
                starts(&["lock", "cmpxchg", "xadd", "mfence", "lfence", "sfence", "syscall", "int"])
                    || name.starts_with("xchg") && operands.contains('(')
            }
            Self::Aarch64 => {
                starts(&[
                    "ldx", "ldax", "stx", "stlx", "cas", "swp", "ldadd", "ldclr", "ldeor", "ldset", "ldsmax",
                    "ldsmin", "ldumax", "ldumin", "stadd", "stclr", "steor", "stset", "svc",
                ]) || name == "dmb" && operands != "ishld"
            }
        }
    }

    fn is_call(self, line: &str) -> bool {
        let (name, _) = split(line);
        if self == Self::X86 { name.starts_with("call") } else { matches!(name, "bl" | "blr") }
    }

    /// If this line is a load: its address, and the number of words.
    fn load(self, line: &str) -> Option<(&str, usize)> {
        let (name, operands) = split(line);
        match self {
            Self::X86 => {
                let store = name.starts_with("mov") && operands.ends_with(')');
                if store || name.starts_with("lea") {
                    return None;
                }
                let open = operands.find('(')?;
                let close = open + operands[open..].find(')')?;
                let start = operands[..open].rfind(' ').map_or(0, |blank| blank + 1);
                // Two words, each loaded whole (ring/core/src/sync/wide_loads.rs).
                Some((&operands[start..=close], if name == "movups" { 2 } else { 1 }))
            }
            Self::Aarch64 => {
                let address = &operands[operands.find('[')?..];
                name.starts_with("ld").then_some((address, if name.starts_with("ldp") { 2 } else { 1 }))
            }
        }
    }
}

fn split(line: &str) -> (&str, &str) {
    line.trim().split_once(' ').unwrap_or((line.trim(), ""))
}

/// Checks all code compiled for readers, fast or slow.
pub(super) fn check_all(machine: Machine, instructions: &[String]) -> Result<()> {
    let forbidden = instructions.iter().find(|line| machine.is_forbidden(line));
    forbidden.map_or(Ok(()), |line| bail!("readers must not need `{}`", line.trim()))
}

/// Checks any fast path.
pub(super) fn check_path(machine: Machine, lines: &[String]) -> Result<()> {
    check_all(machine, lines)?;
    let strange =
        lines.iter().find(|line| machine.is_call(line) && !COLD.iter().any(|cold| line.contains(cold)));
    strange.map_or(Ok(()), |line| bail!("a call on the fast path: `{}`", line.trim()))
}

/// The loop of a compiler that makes one function of a reader and its program: each read of a slot in the order of execution, from the
/// first look to the end of the block behind the second.
pub(super) fn reads(machine: Machine, lines: &[String]) -> Vec<Vec<String>> {
    const LOOK: usize = 4;
    let is_label = |at: &usize| lines[*at].ends_with(':');
    let read = |(first, second): (usize, usize)| {
        let begin = lines[..first].iter().rposition(|line| line.trim() != "#APP").map_or(0, |at| at + 1);
        // gcc looks at the end of the loop, and jumps back to the copy.
        let jump = lines[..begin].last().and_then(|label| {
            let to = format!(" {}", label.strip_suffix(':')?);
            lines.iter().position(|line| line.ends_with(&to))
        });
        let look = jump.map_or(begin, |at| at + 1);
        let end = (second..lines.len()).find(is_label).unwrap_or(lines.len());
        [&lines[look.saturating_sub(LOOK)..look], &lines[begin..end]].concat()
    };
    let barriers = barriers(machine, lines);
    let pairs = std::iter::zip(barriers.iter().copied(), barriers.iter().copied().skip(1));
    let pairs = pairs.filter(|&(first, second)| words(&loads(machine, &lines[first..second])) == WORDS);
    pairs.map(read).collect()
}

fn barriers(machine: Machine, lines: &[String]) -> Vec<usize> {
    (0..lines.len()).filter(|&at| machine.is_barrier(&lines[at])).collect()
}

/// Loads, except from the stack: addresses, and numbers of words.
fn loads(machine: Machine, lines: &[String]) -> Vec<(&str, usize)> {
    lines
        .iter()
        .filter_map(|line| machine.load(line))
        .filter(|(address, _)| !address.contains("sp"))
        .collect()
}

fn words(loads: &[(&str, usize)]) -> usize {
    loads.iter().map(|(_, words)| words).sum()
}

/// Checks a read of a slot: sequence, barrier, the words, barrier, the same sequence.
pub(super) fn check_reader(machine: Machine, lines: &[String]) -> Result<()> {
    check_path(machine, lines)?;
    let barriers = barriers(machine, lines);
    let &[first, second] = &barriers[..] else { bail!("{} barriers, not two", barriers.len()) };
    let (before, copy, behind) = (&lines[..first], &lines[first..second], &lines[second..]);
    let loads = |lines| loads(machine, lines);
    let copied = words(&loads(copy));
    ensure!(copied == WORDS, "{copied} words are loaded between the barriers, not {WORDS}");
    ensure!(!copy.iter().any(|line| machine.is_call(line)), "a call between the barriers");
    let (again, _) = loads(behind).into_iter().next().context("no second look at the sequence")?;
    ensure!(
        loads(before).iter().any(|&(address, _)| address == again),
        "the second look is at {again}, where no first one was"
    );
    let compared = behind.iter().skip_while(|line| machine.load(line).is_none()).take(4);
    ensure!(compared.into_iter().any(|line| split(line).0.starts_with("cmp")), "the looks are not compared");
    Ok(())
}

/// Reads with one defect each: every check must reject them.
pub(super) fn weaker_looks(machine: Machine, lines: &[String]) -> Vec<(String, Vec<String>)> {
    let &[first, second] = &barriers(machine, lines)[..] else { return Vec::new() };
    let with = |line: &str| {
        let mut lines = lines.to_vec();
        lines.insert(second, line.to_owned());
        lines
    };
    let load =
        |range: std::ops::Range<usize>| range.into_iter().find(|&at| machine.load(&lines[at]).is_some());
    let (locked, call) = match machine {
        Machine::X86 => ("\tlock addq $0, (%rdi)", "\tcallq memcpy"),
        Machine::Aarch64 => ("\tldadd x8, x8, [x0]", "\tbl memcpy"),
    };
    let mut weaker = vec![
        ("no barrier before the copy".into(), without(lines, first)),
        ("no barrier behind the copy".into(), without(lines, second)),
        ("a locked instruction".into(), with(locked)),
        ("a call".into(), with(call)),
    ];
    if let Some(word) = load(first..second) {
        weaker.push(("a word copied too early".into(), moved(lines, word, first)));
        weaker.push(("a word copied too late".into(), moved(lines, word, second)));
    }
    if let Some(again) = load(second..lines.len()) {
        weaker.push(("the second look too early".into(), moved(lines, again, second)));
    }
    weaker
}
