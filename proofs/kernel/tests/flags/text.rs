//! The table as Markdown: all combinations, merged where they behave alike.

use std::fmt::Write;

use libbpf_rs::libbpf_sys::{BPF_F_INNER_MAP, BPF_F_NUMA_NODE, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG};
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::SysResult;

use crate::cover::{Group, joined};
use crate::facts::{Case, Facts, Fd, Holds, Outcome, Workshop};

/// A property of maps: its values, and their names.
struct Property {
    flags: &'static [u32],
    names: &'static [&'static str],
}

/// The last two are not flags: the descriptor, and whether the map is frozen.
const PROPERTIES: [Property; 6] = [
    Property { flags: &[0, BPF_F_INNER_MAP], names: &["not `INNER_MAP`", "`INNER_MAP`"] },
    Property { flags: &[0, BPF_F_NUMA_NODE], names: &["not `NUMA_NODE`", "`NUMA_NODE`"] },
    Property {
        flags: &[0, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG],
        names: &["no `…_PROG`", "`RDONLY_PROG`", "`WRONLY_PROG`", "both `…_PROG`"],
    },
    Property { flags: &[0; 2], names: &["not frozen", "frozen"] },
    Property { flags: &[0; 3], names: &["read-write fd", "read-only fd", "write-only fd"] },
    Property { flags: &[BPF_F_MMAPABLE, 0], names: &["`MMAPABLE`", "not `MMAPABLE`"] },
];
const FROZEN: usize = 3;
const FD: usize = 4;

/// Before Linux 6.11 these are maps like any other, which the test must show there.
pub(crate) const OVERLOOKED: (&str, &[Holds]) = ("", &[Holds::Cells, Holds::Locks, Holds::Timers]);

/// Sections of the table: name and content.
pub(crate) const SECTIONS: [(&str, &[Holds]); 4] = [
    ("`ARRAY`", &[Holds::Values]),
    ("`ARRAY` of records with a lock or timer", &[Holds::Locks, Holds::Timers]),
    ("`PERCPU_ARRAY`", &[Holds::OfEachCpu]),
    ("`PROG_ARRAY`", &[Holds::Programs]),
];

/// All combinations of some maps, on the running kernel.
pub(crate) struct Section {
    name: &'static str,
    all: Vec<Group<Outcome>>,
    programs: Vec<Group<[SysResult; 2]>>,
}

impl Section {
    pub(crate) fn new(workshop: &Workshop, (name, holds): (&'static str, &[Holds])) -> Self {
        let mut all = vec![Vec::new()];
        for property in PROPERTIES.iter().rev() {
            let values = 0..property.flags.len();
            all = all
                .into_iter()
                .flat_map(|rest| values.clone().map(move |v| [vec![v], rest.clone()].concat()))
                .collect();
        }
        let (mut groups, mut programs) = (Vec::new(), Vec::new());
        for values in all {
            let flags = PROPERTIES.iter().zip(&values).map(|(property, &value)| property.flags[value]).sum();
            let case = |holds| Case { holds, flags, fd: Fd::ALL[values[FD]], frozen: values[FROZEN] == 1 };
            // Slow tests are skipped for these two flags.
            let alone = flags & (BPF_F_NUMA_NODE | BPF_F_INNER_MAP) == 0;
            let outcome = workshop.outcome(case(holds[0]), alone);
            let may = if alone { workshop.programs_may(case(holds[0])) } else { None };
            for &other in &holds[1..] {
                let other = case(other);
                assert_eq!(outcome, workshop.outcome(other, alone), "{other:?}");
                assert!(!alone || may == workshop.programs_may(other), "{other:?}");
            }
            let values: Vec<_> = values.iter().map(|value| 1 << value).collect();
            programs.extend(may.map(|outcome| Group { values: values.clone(), outcome }));
            groups.push(Group { values, outcome });
        }
        Self { name, all: groups, programs }
    }

    /// Rows of the combinations for which `columns` returns text.
    fn rows<T>(&self, all: &[Group<T>], columns: impl Fn(&T) -> Option<String>) -> String {
        let of = |group: &Group<T>| {
            columns(&group.outcome).map(|outcome| Group { values: group.values.clone(), outcome })
        };
        let mut rows = String::new();
        let counts = PROPERTIES.map(|property| property.names.len());
        let groups = joined(all.iter().filter_map(of).collect(), &counts);
        for group in groups.into_iter().filter(|group| !group.outcome.is_empty()) {
            writeln!(rows, "| {} | {} | {} |", self.name, which(&group.values), group.outcome).unwrap();
        }
        rows
    }
}

/// The property values of a group.
fn which(values: &[u32]) -> String {
    let properties = PROPERTIES.iter().zip(values).rev();
    let which: Vec<_> = properties.filter_map(|(property, &values)| property.name(values)).collect();
    if which.is_empty() { "all".to_owned() } else { which.join(", ") }
}

impl Property {
    /// The names of some of the values; `None` if these are all values.
    fn name(&self, values: u32) -> Option<String> {
        let has = |value: &usize| values >> value & 1 != 0;
        let (in_it, out): (Vec<_>, Vec<_>) = (0..self.names.len()).partition(has);
        let names = |values: &[usize]| values.iter().map(|&v| self.names[v]).collect::<Vec<_>>().join(" or ");
        match &out[..] {
            [] => None,
            [out] if in_it.len() > 1 && *out != 0 => Some(format!("not {}", self.names[*out])),
            [0] if self.names[0].starts_with("no ") => Some(self.names[0].replace("no ", "any ")),
            _ => Some(names(&in_it)),
        }
    }
}

const HEAD: &str = "\
Each row stands for all combinations of these flags and states that behave alike. Flags that a row does not name make no
difference in it. A pin of mode 0444 gives a *read-only fd*. So does creating a map with `RDONLY` (*write-only fd*: with
`WRONLY`). These two flags apply only to the creator's descriptor: a process that reopens the map, by id or by a pin of mode
0666, has a *read-write fd*, as if the map had been created without them.

*mmap RW* and *RO* are shared mappings for writing and for reading only. *lookup* and *update* are of one element and, unless
the row says otherwise, of batches. The last two columns name how mapring reads and writes, or its error and the cause.
";

const OLDER: &str = "\
Before Linux 6.11 the kernel looks for locks and timers only at the top level of a value, and so does not find those in a
record: such a map behaves like any other. Before 5.13 a `PERCPU_ARRAY` has no batches (ENOTSUPP).
";

const CONSTANTS: &str = "\
(ENOTSUPP: the verifier takes the values of such a map for constants, and looks those up only in arrays of one element.)
";

/// The tables of these sections.
pub(crate) fn text(sections: &[Section], whatever: &str) -> String {
    let mut text = HEAD.to_owned();
    let head = "| map | which | mmap RW | mmap RO | lookup | update | mapring reads | mapring writes |";
    let of_facts = |outcome: &Outcome| facts(outcome).map(user_space);
    table(&mut text, head, sections.iter().map(|section| section.rows(&section.all, of_facts)));
    text += OLDER;
    text +=
        "\nThe verifier's result for a program that is loaded after that, and reads or writes elements:\n";
    let may = |may: &[SysResult; 2]| Some(may.each_ref().map(shown).join(" | "));
    let head = "| map | which | reads | writes |";
    table(&mut text, head, sections.iter().map(|section| section.rows(&section.programs, may)));
    text += CONSTANTS;
    text += "\nImpossible combinations:\n";
    let refused = |outcome: &Outcome| match outcome {
        Outcome::NotMade(errno) => Some(format!("{} |", raw::errno(*errno))),
        Outcome::NotFrozen(errno) => Some(format!("| {}", raw::errno(*errno))),
        Outcome::Facts(_) => Some(String::new()),
    };
    let head = "| map | which | create | freeze |";
    table(&mut text, head, sections.iter().map(|section| section.rows(&section.all, refused)));
    text + whatever
}

fn table(text: &mut String, head: &str, rows: impl Iterator<Item = String>) {
    let rule = "---|".repeat(head.matches('|').count() - 1);
    writeln!(text, "\n{head}\n|{rule}").unwrap();
    rows.for_each(|rows| *text += &rows);
    text.push('\n');
}

fn facts(outcome: &Outcome) -> Option<&Facts> {
    match outcome {
        Outcome::Facts(facts) => Some(facts),
        _ => None,
    }
}

fn user_space(facts: &Facts) -> String {
    let both = |one: &SysResult, many: &SysResult| {
        if one == many { shown(one) } else { format!("{}, batch {}", shown(one), shown(many)) }
    };
    [
        shown(&facts.map_writable),
        shown(&facts.map_read_only),
        both(&facts.lookup, &facts.lookup_batch),
        both(&facts.update, &facts.update_batch),
        facts.reads.clone(),
        facts.writes.clone(),
    ]
    .join(" | ")
}

fn shown(result: &SysResult) -> String {
    result.map_or_else(raw::errno, |()| "ok".to_owned())
}
