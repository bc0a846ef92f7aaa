//! Every flag of an array, alone and combined: the kernel's results for userspace and for programs, and mapring's
//! results for reading and writing. The test builds the table in `docs/kernels.md` and compares it; `MAPRING_BLESS=1`
//! rewrites it.

mod cover;
mod facts;
mod kernel;
mod limits;
mod text;
mod through;

use facts::{Holds, Workshop};
use kernel::Kernel;
use mapring_kernel_tests::prelude::*;
use text::{OVERLOOKED, SECTIONS, Section};

/// The text at compile time: other kernels run the test without the repository.
const DOCS: &str = include_str!("../../../../docs/kernels.md");
const BEGIN: &str = "<!-- flags -->\n";
const END: &str = "<!-- /flags -->\n";

/// The text before the table, the table, and the text after it.
fn parts(docs: &str) -> [&str; 3] {
    let (before, rest) = docs.split_once(BEGIN).expect("docs/kernels.md has a place for it");
    let (table, after) = rest.split_once(END).expect("the place ends");
    [before, table, after]
}

/// Lines that only one of the two has.
fn difference(there: &[&str], here: &str) -> String {
    let here: Vec<_> = here.lines().collect();
    let only = |sign: char, one: &[&str], other: &[&str]| -> String {
        one.iter().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    if there == here { String::new() } else { only('-', there, &here) + &only('+', &here, there) + "." }
}

#[test]
fn the_table_of_flags_is_what_the_kernel_does() {
    require_bpf!();
    let workshop = Workshop::new();
    let kernel = Kernel::running();
    let overlooked = |(_, holds): &(_, &[Holds])| kernel.overlooks_locks() && holds.contains(&Holds::Locks);
    let there: Vec<_> = SECTIONS.into_iter().filter(|section| !overlooked(section)).collect();
    let sections: Vec<_> = there.iter().map(|section| Section::new(&workshop, *section)).collect();
    let text = text::text(&sections, &limits::text(&kernel));
    let [_, table, _] = parts(DOCS);
    let mut table: Vec<_> = table.lines().collect();
    if std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kernels.md");
        let docs = std::fs::read_to_string(&path).unwrap();
        let [before, _, after] = parts(&docs);
        assert_eq!(there.len(), SECTIONS.len(), "a kernel that can all of it writes it");
        std::fs::write(path, format!("{before}{BEGIN}{text}{END}{after}")).unwrap();
        return;
    }
    // Only the records' own kind distinguishes these maps from others.
    for overlooked in SECTIONS.iter().filter(|section| overlooked(section)) {
        Section::new(&workshop, OVERLOOKED);
        table.retain(|line| !line.starts_with(&format!("| {} |", overlooked.0)));
    }
    let difference = difference(&table, &text);
    assert!(
        difference.is_empty(),
        "docs/kernels.md differs; MAPRING_BLESS=1 writes what is so here:\n{difference}"
    );
}
