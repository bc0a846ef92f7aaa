//! Folded stacks, as Brendan Gregg's tools read them: `comm;outer;…;inner count`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Kind, Summed};

/// A line for each stack of a thread's name, those with the largest counts first.
pub(super) fn lines(kind: Kind, stacks: &[Summed]) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for stack in stacks {
        let mut line = match &*String::from_utf8_lossy(&stack.comm) {
            "" => format!("[{}]", stack.tid),
            comm => name(comm),
        };
        for frame in stack.frames.iter().rev() {
            for function in frame.names.iter().rev() {
                line.push(';');
                line.push_str(&name(function));
            }
        }
        let count = if kind == Kind::Running { stack.weight.count } else { stack.weight.ns };
        let total = counts.entry(line).or_default();
        *total = total.saturating_add(count);
    }
    let scale = if kind == Kind::Running { 1 } else { 1000 };
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| Reverse(count));
    counts.into_iter().map(|(line, count)| format!("{line} {}", count / scale)).collect()
}

/// A name that is neither cut at a `;` nor read as a count or a comment. It is escaped already.
fn name(name: &str) -> String {
    let mut name = name.replace(';', ":");
    if let Some((text, end)) = name.rsplit_once(' ')
        && end.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        name = format!("{text}_{end}");
    }
    if name.starts_with(['#', ' ']) {
        name.insert(0, '_');
    }
    name
}
