//! Every flag that an array takes, alone and with others: what the kernel says to user space and to
//! programs, and what reading and writing through mapring does. The table in `docs/kernels.md` is made
//! here, and compared; `MAPRING_BLESS=1` writes it anew.
#![allow(missing_docs)]

mod cover;
mod facts;
mod text;

use std::path::Path;

use facts::Workshop;
use mapring_kernel_tests::require_bpf;
use text::{SECTIONS, Section};

/// As it was when this was compiled: where other kernels run it there is no repository.
const DOCS: &str = include_str!("../../../docs/kernels.md");
const BEGIN: &str = "<!-- flags -->\n";
const END: &str = "<!-- /flags -->\n";

/// What is before the table, the table, and what is behind.
fn parts(docs: &str) -> [&str; 3] {
    let (before, rest) = docs.split_once(BEGIN).expect("docs/kernels.md has a place for it");
    let (table, after) = rest.split_once(END).expect("the place ends");
    [before, table, after]
}

/// Lines that only one of the two has.
fn difference(there: &str, here: &str) -> String {
    let only = |sign: char, one: &str, other: &str| -> String {
        let lines = one.lines().filter(|line| !other.lines().any(|l| l == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    only('-', there, here) + &only('+', here, there)
}

#[test]
fn the_table_of_flags_is_what_the_kernel_does() {
    require_bpf!();
    let workshop = Workshop::new();
    let sections = SECTIONS.map(|section| Section::new(&workshop, section));
    let text = text::text(&sections);
    if std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels.md");
        let docs = std::fs::read_to_string(&path).unwrap();
        let [before, _, after] = parts(&docs);
        std::fs::write(path, format!("{before}{BEGIN}{text}{END}{after}")).unwrap();
        return;
    }
    let [_, table, _] = parts(DOCS);
    let difference = difference(table, &text);
    assert!(
        difference.is_empty(),
        "docs/kernels.md differs; MAPRING_BLESS=1 writes what is so here:\n{difference}"
    );
}
