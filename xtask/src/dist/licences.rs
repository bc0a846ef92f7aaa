//! The licences of what the static executable contains: each package with its licence, and each text once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::cmd;
use crate::vm::cross::target;
use crate::vm::{self, Arch};

/// Debian's packages of the C libraries that are linked in.
const LIBRARIES: [&str; 3] = ["libc6", "libelf1", "zlib1g"];

/// What the command contains that is no package of Rust: its name, its licence, and the file with the text.
const CONTAINED: [(&str, &str, &str); 1] =
    [("uPlot 1.6.32", "MIT", "cli/flight/src/report/html/uplot/LICENSE")];

/// How the names of files with licences begin.
const FILES: [&str; 4] = ["license", "copying", "notice", "copyright"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None`: it is linked in.
    kind: Option<String>,
}

/// The text of the file.
pub(super) fn of(arch: Arch) -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::new();
    for package in linked(arch)? {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.with_context(|| format!("{name} names no licence"))?;
        writeln!(list, "{name}: {licence}")?;
        let folder = package.manifest_path.parent().context("a manifest is in a folder")?;
        for text in texts_in(folder)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (name, licence, file) in CONTAINED {
        writeln!(list, "{name}: {licence}")?;
        let text = fs::read_to_string(cmd::root().join(file)).with_context(|| file.to_owned())?;
        texts.entry(text).or_default().insert(name.to_owned());
    }
    let notices = cmd::target_dir().join("vm/notices").join(arch.name());
    vm::unpack(&LIBRARIES, "bookworm", arch, &["./usr/share/doc/*/copyright"], &notices)?;
    for library in LIBRARIES {
        writeln!(list, "{library}, of Debian: see its text")?;
        let text = fs::read_to_string(notices.join("share/doc").join(library).join("copyright"))?;
        texts.entry(text).or_default().insert(library.to_owned());
    }
    let mut all = format!(
        "mapring is licensed under MIT or Apache-2.0, at your option.\n\nThis executable is linked with the packages below. \
         The source of each is at\nhttps://crates.io/crates/NAME/VERSION, or in Debian. \
         The sources of mapring, and\n`cargo xtask dist`, make it again with other versions of them, as the LGPL asks.\n\n{list}"
    );
    for (text, names) in texts {
        let names: Vec<_> = names.into_iter().collect();
        write!(all, "\n\n==== {}\n\n{}\n", names.join(", "), text.trim_end())?;
    }
    Ok(all)
}

/// The packages that are linked into the command, without mapring's own.
fn linked(arch: Arch) -> Result<Vec<Package>> {
    let line = "cargo metadata --locked --format-version 1 --manifest-path cli/Cargo.toml --all-features";
    let metadata = cmd::output(cmd::line(line).args(["--filter-platform", &target(arch)]))?;
    let Metadata { packages, resolve } = serde_json::from_str(&metadata)?;
    let nodes: BTreeMap<_, _> = resolve.nodes.into_iter().map(|node| (node.id, node.deps)).collect();
    let command = packages.iter().find(|package| package.name == "mapring-cli").context("no mapring-cli")?;
    let (mut found, mut next) = (BTreeSet::new(), vec![command.id.clone()]);
    while let Some(id) = next.pop() {
        let deps = nodes.get(&id).context("a package that is not resolved")?;
        let linked = deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        if found.insert(id) {
            next.extend(linked.map(|dep| dep.pkg.clone()));
        }
    }
    let linked =
        packages.into_iter().filter(|package| found.contains(&package.id) && package.source.is_some());
    Ok(linked.collect())
}

/// The texts of licences in a package's folder, and of a library in C that it contains.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for folder in [folder.to_owned(), folder.join("libbpf"), folder.join("libbpf/LICENSES")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let is_one = FILES.iter().any(|start| name.starts_with(start)) || folder.ends_with("LICENSES");
            if is_one && path.is_file() {
                texts.push(fs::read_to_string(&path).with_context(|| path.display().to_string())?);
            }
        }
    }
    ensure!(texts.iter().all(|text| !text.is_empty()), "an empty licence in {}", folder.display());
    Ok(texts)
}
