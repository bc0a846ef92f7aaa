//! The library's table of orderings. The tests compare all that depends on it.

#[allow(dead_code, reason = "the library and the tests use the rest")]
#[path = "../../../ring/core/src/sync/orderings.rs"]
mod table;

pub(super) use table::weakened;

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::fs;
    use std::path::PathBuf;

    use super::table::{ORDERINGS, SITES};
    use crate::cmd;
    use crate::loom::mutants;

    /// The files below a folder, with their paths. The unit tests at their ends are left out.
    fn sources(folder: &str) -> Vec<(String, String)> {
        let mut found = cmd::files(&cmd::root().join(folder)).unwrap();
        found.retain(|path| path.file_name() != Some("tests.rs".as_ref()));
        let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
        let without_tests = |text: String| text.split("#[cfg(test)]").next().unwrap().to_owned();
        found.iter().map(|path| (path.display().to_string(), without_tests(text(path)))).collect()
    }

    #[test]
    fn the_page_has_the_same_table() {
        let page = fs::read_to_string(cmd::root().join("docs/guarantees.md")).unwrap();
        let section = page.split("\n## Orderings\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows: Vec<_> = section.lines().filter(|line| line.starts_with('|')).skip(2).collect();
        let table = ORDERINGS.iter().map(|named| {
            format!("| {} | {} | {} | {} |", named.name, named.writer, named.reader, named.so_that)
        });
        let table: Vec<_> = table.collect();
        for row in &table {
            assert!(rows.contains(&row.as_str()), "docs/guarantees.md needs this row:\n{row}");
        }
        assert_eq!(rows, table, "docs/guarantees.md has other rows, or in another order");
    }

    /// The names in the `SYNC` comments of a text, and the comments with none.
    fn named(text: &str) -> (Vec<&'static str>, Vec<&str>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for comment in text.split("SYNC ").skip(1) {
            let before = known.len();
            let mut rest = Some(comment);
            while let Some(names) = rest {
                let found = ORDERINGS.iter().map(|named| named.name).filter(|name| names.starts_with(name));
                let found = found.max_by_key(|name| name.len());
                known.extend(found);
                rest = found.and_then(|name| names[name.len()..].strip_prefix(", "));
            }
            if known.len() == before {
                unknown.extend(comment.lines().next());
            }
        }
        (known, unknown)
    }

    /// The preamble is not part of a protocol.
    fn is_of_protocols(names: &&str) -> bool {
        !names.starts_with("none: ") && !names.starts_with("preamble: ")
    }

    #[test]
    fn both_sides_of_an_ordering_have_its_name() {
        let names: HashSet<_> = ORDERINGS.iter().map(|named| named.name).collect();
        assert_eq!(names.len(), ORDERINGS.len());
        for site in SITES {
            assert!(site.of.iter().all(|name| names.contains(name)), "{}: {:?}", site.name, site.of);
        }
        let mut counts = HashMap::new();
        for (path, text) in ["ring/include", "ring/core/src", "ring/src"].into_iter().flat_map(sources) {
            let (known, unknown) = named(&text);
            known.into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
            assert_eq!(unknown.into_iter().find(is_of_protocols), None, "{path}");
        }
        // Another writer, and readers, whose comments are not the other side of anything.
        let others = ["ring/ebpf/src", "bindings/c/include", "bindings/go"];
        for (path, text) in others.into_iter().flat_map(sources) {
            assert_eq!(named(&text).1.into_iter().find(is_of_protocols), None, "{path}");
        }
        let half: Vec<_> =
            names.iter().filter(|name| counts.get(*name).is_none_or(|&count| count < 2)).collect();
        assert!(half.is_empty(), "no SYNC comment on both sides: {half:?}");
    }

    #[test]
    fn the_protocols_ask_for_their_orderings_by_name() {
        let mut sites: HashSet<_> = SITES.iter().map(|site| site.name).collect();
        let mut sources = sources("ring/core/src/protocol");
        let switch = cmd::root().join("ring/core/src/sync.rs");
        sources.push((switch.display().to_string(), fs::read_to_string(&switch).unwrap()));
        for (path, text) in &sources {
            for order in ["Acquire", "Release", "AcqRel", "SeqCst"] {
                assert!(!text.contains(&format!("Ordering::{order}")), "{path}: {order} has no name");
            }
            for asked in text.split("order!(At::").skip(1) {
                let name = asked.split(')').next().unwrap();
                assert!(sites.remove(name), "{path}: {name} is not in the table, or also elsewhere");
            }
        }
        assert!(sites.is_empty(), "nothing asks for {sites:?}");
    }

    #[test]
    fn each_site_has_a_mutant_or_a_reason_to_have_none() {
        let [weakened, without] = mutants::sites().unwrap();
        for site in SITES {
            let counts = (weakened.contains(site.name), without.contains(site.name));
            assert!(counts.0 != counts.1, "{}: has a mutant, has a reason: {counts:?}", site.name);
        }
        assert!(without.iter().all(|name| SITES.iter().any(|site| site.name == name)), "{without:?}");
    }
}
