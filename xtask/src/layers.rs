//! Whether the library's modules are in layers, as docs/architecture.md says: each uses only those above it in the table.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

use crate::cmd;

/// The modules in the first column of the table, from the top down.
fn layers(page: &str) -> Vec<Vec<&str>> {
    let rows =
        page.split("## The crate").nth(1).unwrap().lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect()).collect()
}

/// The modules that the file at `path`, or those in this folder, name by `crate::`: outside of comments, of their tests, and
/// of what only the documentation links to.
fn used(path: &Path, into: &mut BTreeSet<String>) {
    if path.is_dir() {
        return read_dir(path).unwrap().for_each(|entry| used(&entry.unwrap().path(), into));
    }
    let text = read_to_string(path).unwrap();
    let code = text.split("\nmod tests {").next().unwrap_or_default();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("#[cfg(doc)]\nuse crate::", "");
    let names = code.split("crate::").skip(1);
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    into.extend(names.map(name));
}

#[test]
fn each_module_uses_only_those_above_it() {
    let root = cmd::root();
    let page = read_to_string(root.join("docs/architecture.md")).unwrap();
    let layers = layers(&page);
    let source = root.join("ring/src");
    let mut above = BTreeSet::new();
    for layer in &layers {
        above.extend(layer.iter().copied());
        for module in layer {
            let mut names = BTreeSet::new();
            let (file, folder) = (source.join(format!("{module}.rs")), source.join(module));
            [&file, &folder].into_iter().filter(|path| path.exists()).for_each(|path| used(path, &mut names));
            assert!(!names.is_empty() || ["access", "text", "sync"].contains(module), "{module}: no file");
            let below =
                layers.iter().flatten().find(|other| names.contains(**other) && !above.contains(*other));
            assert_eq!(below, None, "{module} uses what is below it");
        }
    }
    // Every module of the library is in the table.
    let library = read_to_string(source.join("lib.rs")).unwrap();
    let declared = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let missing: Vec<_> = declared.filter(|name| !above.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
