//! One table of numbers and words (`table.rs`), from which this test writes the files of the other languages. They are checked in:
//! the test compares them. `MAPRING_BLESS=1` writes them anew.

mod table;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use mapring_core::abi::{Geometry, Kind, Preamble, RingOptions};
use mapring_core::protocol::ring::LossCause;

use self::table::{CAUSES, GROUPS, KINDS, Number, OPTIONS};
use self::texts::{Holes, texts};

const FROM: &str = "Written by ring/core/tests/numbers: do not edit.";

fn kind(raw: u64) -> Kind {
    Kind::from_raw(raw).unwrap()
}

/// The bit of each option alone; KEEP_OLDEST comes with WAKEABLE.
fn bit(at: usize) -> u64 {
    let options = RingOptions::from_bits(OPTIONS[at].1).unwrap();
    assert!(options.to_string() == OPTIONS[at].0 && OPTIONS[at].1 >> at & 1 == 1);
    1 << at
}

/// The groups of the numbers that a language has, but for empty ones.
fn groups(language: char) -> impl Iterator<Item = (&'static str, &'static str, Vec<&'static Number>)> {
    GROUPS.iter().filter_map(move |(title, prefix, numbers)| {
        let of: Vec<_> = numbers.iter().filter(|it| it.of.contains(language)).collect();
        (!of.is_empty()).then_some((*title, *prefix, of))
    })
}

/// A number; `power` writes a large power of two.
fn written(value: u64, suffix: &str, power: impl Fn(u32) -> String) -> String {
    match value {
        value if value < 1 << 16 => format!("{value}{suffix}"),
        value if value.is_power_of_two() => power(value.ilog2()),
        value if (value + 1).is_power_of_two() => format!("{value:#x}{suffix}"),
        value => format!("{value}{suffix}"),
    }
}

/// A number as C has it, with the suffix of its type.
fn c(number: &Number) -> String {
    let suffix = if number.suffix.is_empty() && number.value >= 1 << 28 { "ULL" } else { number.suffix };
    written(number.value, suffix, |bits| format!("(1{suffix} << {bits})"))
}

/// `WAKE_AT` as `wakeAt`, with `first` before it.
fn camel(first: &str, word: &str) -> String {
    let mut name = first.to_owned();
    for part in word.split('_') {
        let rest = part[1..].to_lowercase();
        name += &if name.is_empty() { part[..1].to_lowercase() } else { part[..1].to_owned() };
        name += &rest;
    }
    name.replace("Cpu", "CPU")
}

fn bpf() -> String {
    let mut text = format!(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n/* The numbers of the layout. {FROM} */\n\
         #ifndef MAPRING_NUMBERS_BPF_H\n#define MAPRING_NUMBERS_BPF_H\n"
    );
    for (title, _, numbers) in groups('b') {
        let _ = write!(text, "\n/* {title}. */\n");
        for number in numbers {
            let _ = writeln!(text, "#define MAPRING__{} {} /* {} */", number.word, c(number), number.doc);
        }
    }
    text += "\n/* The options of a ring, as bits in BTF and in the preamble. KEEP_OLDEST wakes its readers, too. */\n#define MAPRING__OPTION_ 0\n";
    for (at, (name, bits)) in OPTIONS.iter().enumerate() {
        bit(at);
        let arguments = if *name == "TAILS" { "(longest, bytes)" } else { "" };
        let _ = writeln!(text, "#define MAPRING__OPTION_{name}{arguments} {bits}");
    }
    text + "\n#endif\n"
}

fn c_header() -> String {
    let mut text = format!(
        "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n/* The numbers, names and errors of the layout. {FROM} */\n\
         #ifndef MAPRING_C_NUMBERS_H\n#define MAPRING_C_NUMBERS_H\n\n/* The version of the layout that this header reads. */\n\
         #define MAPRING_ABI_VERSION {}\n\nenum mapring_kind {{\n",
        mapring_core::abi::VERSION
    );
    for (at, (name, _)) in KINDS.iter().enumerate() {
        let _ = writeln!(text, "\tMAPRING_KIND_{name} = {},", at + 1);
    }
    text += "};\n\n/* The options of a ring. */\nenum {\n";
    for (at, (name, _)) in OPTIONS.iter().enumerate() {
        let _ = writeln!(text, "\tMAPRING_OPTION_{name} = {},", bit(at));
    }
    let _ = writeln!(text, "\tMAPRING__OPTIONS = {},\n}};", 1 << OPTIONS.len());
    for (title, _, numbers) in groups('c') {
        let _ = write!(text, "\n/* {title}. */\n");
        for number in numbers {
            let name = if number.public_in_c.is_empty() {
                format!("MAPRING__{}", number.word)
            } else {
                number.public_in_c.into()
            };
            let _ = writeln!(text, "#define {name} {} /* {} */", c(number), number.doc);
        }
    }
    let names = (1..=KINDS.len() as u64).map(|raw| format!("\"{}\"", kind(raw)));
    let names: Vec<_> = ["\"nothing\"".to_owned()].into_iter().chain(names).collect();
    let _ = write!(
        text,
        "\n/* The names of the kinds, by their numbers. */\n#define MAPRING__KIND_NAMES {}\n",
        names.join(", ")
    );
    let names: Vec<_> = OPTIONS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let _ = write!(
        text,
        "/* The names of the options, by their bits. */\n#define MAPRING__OPTION_NAMES {}\n",
        names.join(", ")
    );
    text += "\n/* Why a region is refused. */\n";
    for (name, error) in texts(Holes::C) {
        let _ = writeln!(text, "#define MAPRING__NOT_{name} \"{}\"", error.replace('"', "\\\""));
    }
    text + "\n#endif\n"
}

fn go() -> String {
    let mut text =
        "// The numbers, names and errors of the layout.\n// Code generated by ring/core/tests/numbers; DO NOT EDIT.\n\npackage mapring\n\n".to_owned();
    let _ = write!(
        text,
        "// LayoutVersion is the version of the memory layout that this package reads and writes. It refuses all others.\n\
         const LayoutVersion = {}\n\n// The kinds of regions.\nconst (\n",
        mapring_core::abi::VERSION
    );
    for (at, (_, name)) in KINDS.iter().enumerate() {
        let _ = writeln!(text, "\tKind{name} Kind = {}", at + 1);
    }
    text += ")\n\nvar kindNames = [...]string{\n\t\"nothing\",\n";
    for raw in 1..=KINDS.len() as u64 {
        let _ = writeln!(text, "\t\"{}\",", kind(raw));
    }
    text += "}\n\n// The options of MAPRING_RING. KeepOldest comes with Wakeable.\nconst (\n";
    for (at, (name, _)) in OPTIONS.iter().enumerate() {
        let name = camel("Option", name);
        let _ = writeln!(text, "\t{} RingOptions = {}", &name["Option".len()..], bit(at));
    }
    let _ = write!(
        text,
        "\tallOptions RingOptions = {}\n)\n\nvar optionNames = [...]string{{",
        (1 << OPTIONS.len()) - 1
    );
    let names: Vec<_> = OPTIONS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let _ = writeln!(text, "{}}}", names.join(", "));
    for (title, prefix, numbers) in groups('g') {
        let _ = write!(text, "\n// {title}.\nconst (\n");
        for number in numbers {
            let value = written(number.value, "", |bits| format!("1 << {bits}"));
            let _ = writeln!(text, "\t{} = {value} // {}", camel(prefix, number.word), number.doc);
        }
        text += ")\n";
    }
    text += "\n// The causes: those of a reader, then those of programs.\nconst (\n";
    for (at, (cause, name, doc)) in CAUSES.iter().enumerate() {
        assert_eq!((LossCause::ALL[at], cause.is_drop()), (*cause, name.starts_with("Dropped")));
        let _ = writeln!(text, "\t{name} LossCause = {at} // {doc}");
    }
    text += ")\n\nvar causes = [...]string{\n";
    for cause in LossCause::ALL {
        let _ = writeln!(text, "\t\"{cause}\",");
    }
    text += "}\n\n// Why a region is refused.\nconst (\n";
    for (name, error) in texts(Holes::Go) {
        let _ = writeln!(text, "\t{} = {error:?}", camel("not", name));
    }
    text + ")\n"
}

/// With a capital letter.
fn sentence(doc: &str) -> String {
    doc[..1].to_uppercase() + &doc[1..]
}

fn ebpf() -> String {
    let mut text = format!("//! The numbers of the layout. {FROM}\n");
    for (title, _, numbers) in groups('e') {
        let _ = write!(text, "\n// {title}.\n");
        for number in numbers {
            let _ = writeln!(
                text,
                "/// {}.\npub(crate) const {}: usize = {};",
                sentence(number.doc),
                number.word,
                number.value
            );
        }
    }
    text
}

/// docs/abi.md, with the value in each code span `NAME = value`. It has each number.
fn abi(page: &str) -> String {
    let numbers = GROUPS.iter().flat_map(|(_, _, numbers)| *numbers).map(|it| (it.word.to_owned(), it.value));
    let kinds = KINDS.iter().zip(1..).map(|((name, _), value)| (format!("KIND_{name}"), value));
    let options = OPTIONS.iter().enumerate().map(|(at, (name, _))| (format!("OPTION_{name}"), bit(at)));
    let version = ("ABI_VERSION".to_owned(), mapring_core::abi::VERSION);
    let values: BTreeMap<_, _> = numbers.chain(kinds).chain(options).chain([version]).collect();
    let mut missing: BTreeSet<_> = values.keys().map(String::as_str).collect();
    let spans = page.split('`').map(|span| {
        let name = span.split_once(" = ").map_or("", |(name, _)| name);
        let is_name = name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let Some(value) = is_name.then(|| values.get(name).unwrap_or_else(|| panic!("no number {name}")))
        else {
            return span.to_owned();
        };
        missing.remove(name);
        format!("{name} = {}", written(*value, "", |bits| format!("2^{bits}")))
    });
    let page = spans.collect::<Vec<_>>().join("`");
    assert!(missing.is_empty(), "docs/abi.md lacks {missing:?}");
    page
}

#[test]
fn the_first_words_of_a_preamble_are_the_magic_and_the_version() {
    let geometry = Geometry::new(Kind::Ring, 8, 8, 1).unwrap();
    let words = Preamble { geometry, generation: 1, name: String::new() }.encode();
    assert_eq!(words[..2], [Preamble::MAGIC, mapring_core::abi::VERSION]);
}

#[test]
fn the_files_of_all_languages_have_the_numbers_of_the_table() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/abi.md")).unwrap();
    for (file, text) in [
        ("ring/include/mapring/detail/numbers.bpf.h", bpf()),
        ("bindings/c/include/mapring_c/numbers.h", c_header()),
        ("bindings/go/numbers.go", aligned(&go())),
        ("ring/ebpf/src/numbers.rs", ebpf()),
        ("docs/abi.md", abi(&page)),
    ] {
        if std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1") {
            fs::write(root.join(file), &text).unwrap();
        }
        let found = fs::read_to_string(root.join(file)).unwrap();
        assert!(found == text, "{file}: MAPRING_BLESS=1 writes it anew");
    }
}

/// Aligns the columns of constants, as gofmt does: names, types with values, comments.
fn aligned(text: &str) -> String {
    let mut lines = Vec::new();
    let mut block: Vec<[String; 3]> = Vec::new();
    let flush = |block: &mut Vec<[String; 3]>, lines: &mut Vec<String>| {
        let width =
            |column: usize| block.iter().map(|parts| parts[column].chars().count()).max().unwrap_or_default();
        let (first, second) = (width(0), width(1));
        for [name, value, comment] in block.drain(..) {
            let line = format!("\t{name:first$} {value:second$} {comment}");
            lines.push(line.trim_end().to_owned());
        }
    };
    for line in text.lines() {
        let constant = line.strip_prefix('\t').and_then(|line| line.split_once(' '));
        let Some((name, rest)) = constant.filter(|_| line.contains(" = ")) else {
            flush(&mut block, &mut lines);
            lines.push(line.to_owned());
            continue;
        };
        let (value, comment) =
            rest.split_once(" // ").map_or((rest, String::new()), |(value, it)| (value, format!("// {it}")));
        block.push([name.to_owned(), value.to_owned(), comment]);
    }
    flush(&mut block, &mut lines);
    lines.join("\n") + "\n"
}
