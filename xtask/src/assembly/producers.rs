//! Required properties of the producers' BPF code: the claim comes before the record, the publication after it, by the
//! instructions that the headers document.

use anyhow::{Result, ensure};

use super::listing::{moved, replaced};

/// How a record is made visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// A plain store after a compiler barrier: x86.
    Store,
    /// `xchg`: any machine.
    Xchg,
    /// The store-release instruction, for clangs that support it.
    Release,
}

const CMPXCHG: &str = "cmpxchg_64(";
const XCHG: &str = " = xchg_64(";
const RELEASE: &str = "store_release(";
const ADD: &str = "lock *(u64 *)(";

/// The guard of claims by plain stores, for machines that keep stores in order.
const GUARD: [&str; 2] = ["call bpf_preempt_disable", "call bpf_preempt_enable"];

const WORDS: usize = 7;

/// Checks a function that publishes a record: one claim, then the words, then the publication, and no other atomic
/// instruction except the count of dropped records.
pub(super) fn check_record(publish: Publish, lines: &[String]) -> Result<()> {
    let at = |what: &str| find(lines, |line| line.contains(what));
    let claims = at(CMPXCHG);
    ensure!(claims.len() == 1, "{} claims, not one", claims.len());
    let xchg: Vec<_> = at(XCHG);
    let releases = at(RELEASE);
    let published = match publish {
        Publish::Store => {
            ensure!(xchg.is_empty() && releases.is_empty(), "an atomic instruction where a store is enough");
            let stores = find(lines, |line| stored(line) == Some(0));
            // The hint is also a store to offset 0, but earlier.
            let store = stores.last().copied();
            let is_next = |barrier: usize, store| barrier < store && store - barrier <= 3;
            store.filter(|&store| barrier(lines).is_some_and(|barrier| is_next(barrier, store)))
        }
        Publish::Xchg => {
            ensure!(xchg.len() <= 1 && releases.is_empty(), "more than one publication");
            xchg.first().copied()
        }
        Publish::Release => {
            ensure!(releases.len() <= 1 && xchg.is_empty(), "more than one publication");
            releases.first().copied()
        }
    };
    let Some(published) = published else { anyhow::bail!("no publication by {publish:?}") };
    let words = find(lines, |line| stored(line).is_some_and(|offset| (8..=8 * WORDS).contains(&offset)));
    ensure!(words.len() == WORDS, "{} words are stored, not {WORDS}", words.len());
    ensure!(words.iter().all(|word| claims[0] < *word), "a word is stored before the claim");
    ensure!(words.iter().all(|word| *word < published), "a word is stored after the publication");
    if publish == Publish::Store {
        let barrier = barrier(lines);
        ensure!(words.iter().all(|word| Some(*word) < barrier), "a word is stored behind the barrier");
    }
    Ok(())
}

/// Checks a function that claims a slot of a ring with plain stores: it must have a guard. `jit` follows each path
/// through the guard, in the kernel's compiled code.
pub(super) fn check_guard(lines: &[String]) -> Result<()> {
    let [begins, ends] = GUARD.map(|call| find(lines, |line| line.trim() == call));
    // clang may emit the end of the guard once for each exit.
    ensure!(
        begins.len() == 1 && !ends.is_empty(),
        "{} beginnings of a guard, {} ends",
        begins.len(),
        ends.len()
    );
    ensure!(ends.iter().all(|end| begins[0] < *end), "a guard that ends before it begins");
    Ok(())
}

/// The same function without the start of its guard, and without its ends.
pub(super) fn weaker_guards(lines: &[String]) -> Vec<(String, Vec<String>)> {
    let without = |call: &str| lines.iter().filter(|line| line.trim() != call).cloned().collect();
    GUARD.map(|call| (format!("no {call}"), without(call))).into()
}

/// Checks a counter: a locked addition, and no fetch.
pub(super) fn check_counter(lines: &[String]) -> Result<()> {
    let additions = find(lines, |line| line.contains(ADD)).len();
    ensure!(additions == 2, "{additions} locked additions, not two: the counter's, and what has none");
    let fetches = find(lines, |line| line.contains(CMPXCHG) || line.contains(XCHG) || line.contains("fetch"));
    ensure!(fetches.is_empty(), "an addition that fetches is a full barrier");
    Ok(())
}

/// Checks every function: it calls only the two helpers, the guard and the slow path.
pub(super) fn check_calls(lines: &[String]) -> Result<()> {
    let calls = lines.iter().filter_map(|line| line.trim().strip_prefix("call "));
    for callee in calls {
        let known = ["1", "8"].contains(&callee) || callee.starts_with("mapring__claim__");
        let guards = GUARD.iter().any(|call| call.ends_with(callee));
        ensure!(
            known || guards,
            "a call of {callee}: neither map lookup, CPU number, guard, nor the slow claim"
        );
    }
    Ok(())
}

/// The instructions without their registers, targets and order: jumps are alike.
pub(super) fn kinds(lines: &[String]) -> Vec<String> {
    let kind = |line: &String| {
        let mut line = line.trim();
        for jump in ["if ", "goto "] {
            line = if line.starts_with(jump) { jump } else { line };
        }
        line.replace(|c: char| c.is_ascii_digit(), "")
    };
    let mut kinds: Vec<_> = lines.iter().filter(|line| line.starts_with('\t')).map(kind).collect();
    kinds.sort();
    kinds
}

/// Moves code that clang placed after the function's end to the jump that reaches it, so that the order of lines is the
/// order of execution.
pub(super) fn in_order(mut lines: Vec<String>) -> Vec<String> {
    let Some(exit) = lines.iter().position(|line| line.trim() == "exit") else { return lines };
    let behind = lines.split_off(exit + 1);
    let target = behind.last().and_then(|line| line.trim().strip_prefix("goto "));
    let target = target.map(|label| format!("{label}:"));
    let to = lines.iter().position(|line| Some(line) == target.as_ref()).unwrap_or(lines.len());
    lines.splice(to..to, behind);
    lines
}

/// The offset of a line's whole-word store, except stores to the stack.
fn stored(line: &str) -> Option<usize> {
    let (to, _) = line.trim().strip_prefix("*(u64 *)(")?.split_once(") =")?;
    let (register, offset) = to.split_once(" + ")?;
    (register != "r10").then(|| offset.parse().ok()).flatten()
}

/// The last barrier of the compiler before the last store to offset 0, the publication.
fn barrier(lines: &[String]) -> Option<usize> {
    let end = lines.iter().rposition(|line| stored(line) == Some(0))?;
    lines[..end].iter().rposition(|line| line.trim() == "#NO_APP")
}

/// The lines of a function by rustc, where stores of a record are relative to its slot as in C. Its pointer to the record is that
/// of the slot, plus 8 by an instruction that LLVM does not look into.
pub(super) fn from_slot(mut lines: Vec<String>) -> Vec<String> {
    let is_addition = |pair: &[String]| pair[0].trim() == "#APP" && pair[1].ends_with(" += 8");
    let Some(at) = lines.windows(2).position(is_addition) else { return lines };
    let register = lines[at + 1].trim().split(' ').next().unwrap_or_default().to_owned();
    let (behind, before) = (format!("({register} + "), format!("({register} - 8)"));
    for line in &mut lines[at + 2..] {
        let shifted = line.split_once(&behind).and_then(|(start, rest)| {
            let (offset, end) = rest.split_once(')')?;
            Some(format!("{start}{behind}{}){end}", offset.parse::<u64>().ok()? + 8))
        });
        *line = shifted.unwrap_or_else(|| line.replace(&before, &format!("({register} + 0)")));
    }
    lines
}

fn find(lines: &[String], what: impl Fn(&str) -> bool) -> Vec<usize> {
    (0..lines.len()).filter(|&at| what(&lines[at])).collect()
}

/// Producers of records with one defect each.
pub(super) fn weaker_records(publish: Publish, lines: &[String]) -> Vec<(String, Vec<String>)> {
    let mut weaker = Vec::new();
    let claims = find(lines, |line| line.contains(CMPXCHG));
    let words = find(lines, |line| stored(line) == Some(8 * WORDS));
    let end = match publish {
        Publish::Store => find(lines, |line| stored(line) == Some(0)),
        Publish::Xchg => find(lines, |line| line.contains(XCHG)),
        Publish::Release => find(lines, |line| line.contains(RELEASE)),
    };
    let (&[claim], &[word], Some(&end)) = (&claims[..], &words[..], end.last()) else { return weaker };
    let other =
        if publish == Publish::Store { "\tr2 = xchg_64(r1 + 0, r2)" } else { "\t*(u64 *)(r1 + 0) = r2" };
    weaker.extend([
        ("a plain store for the claim".into(), replaced(lines, claim, "\t*(u64 *)(r1 + 0) = r2")),
        ("a word before the claim".into(), moved(lines, word, claim)),
        ("a word behind the publication".into(), moved(lines, word, end)),
        ("another publication".into(), replaced(lines, end, other)),
        ("no publication".into(), replaced(lines, end, "\tr0 = 0")),
    ]);
    if publish == Publish::Store {
        let barrier = barrier(lines).unwrap_or(0);
        weaker.push(("a word behind the compiler's barrier".into(), moved(lines, word, barrier)));
    }
    weaker
}
