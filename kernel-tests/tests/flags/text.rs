//! The table as Markdown: all combinations, joined where they behave alike.

use mapring_kernel_tests::raw::{self, Said};

use crate::cover::{Group, joined};
use crate::facts::{Case, FLAGS, Facts, Fd, Holds, Outcome, Workshop};

/// What a map has in the places of [`FLAGS`]: each alone, but for those of programs.
const PROGRAMS: [u32; 4] = [0, FLAGS[1].0, FLAGS[2].0, FLAGS[1].0 | FLAGS[2].0];

/// All combinations, on the kernel that runs here.
pub(crate) struct Table {
    groups: Vec<Group<Outcome>>,
    combinations: usize,
}

impl Table {
    pub(crate) fn of_this_kernel() -> Self {
        let workshop = Workshop::new();
        let mut all = Vec::new();
        for (at_holds, holds) in Holds::ALL.into_iter().enumerate() {
            for (at_fd, fd) in Fd::ALL.into_iter().enumerate() {
                for (at_programs, programs) in PROGRAMS.into_iter().enumerate() {
                    // Frozen, and the flags but for those of programs.
                    for bits in 0..16_u32 {
                        let has = |bit: u32, flag: usize| (bits >> bit & 1) * FLAGS[flag].0;
                        let flags = programs | has(0, 4) | has(1, 3) | has(2, 0);
                        let case = Case { holds, flags, fd, frozen: bits & 8 != 0 };
                        let yes_no = |bit: u32| 1 << (bits >> bit & 1);
                        let values = vec![
                            yes_no(0),
                            yes_no(1),
                            1 << at_programs,
                            yes_no(3),
                            1 << at_fd,
                            yes_no(2),
                            1 << at_holds,
                        ];
                        all.push(Group { values, outcome: workshop.outcome(case) });
                    }
                }
            }
        }
        Self { combinations: all.len(), groups: joined(all) }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} combinations, in {} groups that behave alike:\n\n\
             | values | flags and state | mmap RW | mmap RO | lookup | update | programs | mapring reads | mapring writes |\n\
             |---|---|---|---|---|---|---|---|---|\n",
            self.combinations,
            self.groups.len()
        );
        let mut rows: Vec<_> = self.groups.iter().map(|group| (group.values[6], row(group))).collect();
        rows.sort_by_key(|(holds, _)| holds.trailing_zeros());
        rows.into_iter().for_each(|(_, row)| text += &row);
        text
    }
}

fn row(group: &Group<Outcome>) -> String {
    let [inner, numa, programs, frozen, fd, mmapable, holds] = group.values[..] else { unreachable!() };
    let mut which = Vec::new();
    let yes_no = |bits: u32, name: &str| match bits {
        1 => Some(format!("not {name}")),
        2 => Some(name.to_owned()),
        _ => None,
    };
    which.extend(yes_no(mmapable, "`MMAPABLE`"));
    which.extend(some(fd, &["read-write fd", "read-only fd", "write-only fd"]));
    which.extend(some(
        programs,
        &["no `…_PROG`", "`RDONLY_PROG`", "`WRONLY_PROG`", "`RDONLY_PROG` with `WRONLY_PROG`"],
    ));
    which.extend(yes_no(frozen, "frozen"));
    which.extend(yes_no(numa, "`NUMA_NODE`"));
    which.extend(yes_no(inner, "`INNER_MAP`"));
    let which = if which.is_empty() { "any".to_owned() } else { which.join(", ") };
    let holds = some(holds, &["plain", "with a lock", "with a timer", "of each CPU", "programs"]);
    let holds = holds.unwrap_or_else(|| "any".to_owned());
    let rest = match &group.outcome {
        Outcome::NotMade(errno) => format!("can't be made: {} | | | | | |", raw::errno(*errno)),
        Outcome::NotFrozen(errno) => format!("can't be frozen: {} | | | | | |", raw::errno(*errno)),
        Outcome::Facts(facts) => cells(facts),
    };
    format!("| {holds} | {which} | {rest} |\n")
}

/// Those of the names whose bits are set; nothing, if all are.
fn some(bits: u32, names: &[&str]) -> Option<String> {
    let set: Vec<_> = names.iter().enumerate().filter(|(at, _)| bits >> at & 1 != 0).map(|(_, n)| *n).collect();
    (set.len() < names.len()).then(|| set.join(" or "))
}

fn cells(facts: &Facts) -> String {
    let said = |said: &Said| said.map_or_else(raw::errno, |()| "ok".to_owned());
    let both = |one: &Said, many: &Said| {
        if one == many { said(one) } else { format!("{}, batch {}", said(one), said(many)) }
    };
    let programs = match (facts.program_reads, facts.program_writes) {
        (true, true) => "read, write",
        (true, false) => "read",
        (false, true) => "write",
        (false, false) => "neither",
    };
    [
        said(&facts.map_writable),
        said(&facts.map_read_only),
        both(&facts.lookup, &facts.lookup_batch),
        both(&facts.update, &facts.update_batch),
        programs.to_owned(),
        facts.reads.clone(),
        facts.writes.clone(),
    ]
    .join(" | ")
}
