//! The packages of this repository: what `cargo metadata` and Cargo.lock say about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::cmd;

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
    /// Other keys that change what is compiled.
    features: Value,
    edition: Value,
    rust_version: Value,
    links: Value,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` is a normal one.
    kind: Option<String>,
    /// Of a package of this repository.
    path: Option<PathBuf>,
    /// Its version, its features, …
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// A package of Cargo.lock.
#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    /// `NAME`, or `NAME VERSION` if there are several.
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// The packages by their names, and what Cargo.lock resolved.
pub(crate) struct Workspace {
    packages: BTreeMap<String, Package>,
    lock: Vec<Locked>,
}

impl Package {
    /// Its folder, relative to the root.
    pub(crate) fn folder(&self) -> &Path {
        relative(self.manifest_path.parent().expect("it is a file"))
    }

    /// What it depends on. Nobody who uses a package builds its dev-dependencies.
    fn dependencies(&self, dev: bool) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(move |dependency| dev || dependency.kind.as_deref() != Some("dev"))
    }

    /// What its manifest says of how it is compiled, with what it takes from the workspace's. The versions of
    /// packages of this repository are left out: a release changes them, and nothing else.
    pub(crate) fn manifest(&self, tests: bool) -> String {
        let mut text = format!("{} {} {} {}", self.features, self.edition, self.rust_version, self.links);
        for Dependency { name, kind, path, rest } in self.dependencies(tests) {
            let rest: BTreeMap<_, _> =
                rest.iter().filter(|(key, _)| path.is_none() || *key != "req").collect();
            text += &format!("\n{name} {kind:?} {rest:?}");
        }
        let is_test = |kind: &String| ["test", "example", "bench"].contains(&kind.as_str());
        for Target { kind, src_path, rest } in &self.targets {
            if tests || !kind.iter().any(is_test) {
                text += &format!("\n{kind:?} {} {rest:?}", relative(src_path).display());
            }
        }
        text
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(cmd::root()).unwrap_or(path)
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let metadata = cmd::output(&mut cmd::line("cargo metadata --no-deps --format-version 1"))?;
        let Metadata { packages } = serde_json::from_str(&metadata)?;
        let packages = packages.into_iter().map(|package| (package.name.clone(), package)).collect();
        let lock = fs::read_to_string(cmd::root().join("Cargo.lock")).context("Cargo.lock")?;
        Ok(Self { packages, lock: toml::from_str::<Lock>(&lock)?.package })
    }

    pub(crate) fn package(&self, name: &str) -> Result<&Package> {
        self.packages.get(name).with_context(|| format!("no package {name}"))
    }

    /// The packages of this repository that a package depends on, itself included. The dev-dependencies of the package
    /// count if `tests`, those of the others don't.
    pub(crate) fn closure(&self, name: &str, tests: bool) -> Result<BTreeSet<&str>> {
        let (mut found, mut left) = (BTreeSet::new(), vec![(self.package(name)?, tests)]);
        while let Some((package, dev)) = left.pop() {
            found.insert(package.name.as_str());
            for dependency in package.dependencies(dev).filter(|dependency| dependency.path.is_some()) {
                let next = self.package(&dependency.name)?;
                if !found.contains(next.name.as_str()) {
                    left.push((next, false));
                }
            }
        }
        Ok(found)
    }

    /// The packages of others that a package of this repository needs, those that they need included: `NAME VERSION`.
    pub(crate) fn external(&self, name: &str, tests: bool) -> Result<BTreeSet<String>> {
        let wanted: BTreeSet<_> =
            self.package(name)?.dependencies(tests).map(|it| it.name.as_str()).collect();
        let locked = self.lock.iter().find(|locked| locked.name == name);
        let locked = locked.with_context(|| format!("{name} is not in Cargo.lock"))?;
        let named = |package: &&String| wanted.contains(package.split(' ').next().unwrap_or_default());
        let mut left: Vec<&String> = locked.dependencies.iter().filter(named).collect();
        let mut found = BTreeSet::new();
        while let Some(package) = left.pop() {
            let (name, version) = package.split_once(' ').unwrap_or((package, ""));
            let is_it = |it: &&Locked| it.name == name && (version.is_empty() || it.version == version);
            for it in self.lock.iter().filter(is_it).filter(|it| !self.packages.contains_key(&it.name)) {
                if found.insert(format!("{} {}", it.name, it.version)) {
                    left.extend(&it.dependencies);
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_dependencies_are_those_of_the_package_itself() {
        let workspace = Workspace::load().unwrap();
        let names = |tests| workspace.closure("mapring-hostile-tests", tests).unwrap();
        assert!(names(true).contains("mapring-kernel-tests") && names(true).contains("mapring-bpf-build"));
        let of_kernel = |tests| workspace.external("mapring-kernel-tests", tests).unwrap();
        let has_aya = |found: BTreeSet<String>| found.iter().any(|name| name.starts_with("aya "));
        assert!(has_aya(of_kernel(true)) && !has_aya(of_kernel(false)));
        assert!(of_kernel(false).iter().any(|name| name.starts_with("libbpf-sys ")), "libbpf-rs needs it");
    }

    #[test]
    fn a_manifest_is_that_of_the_package_and_no_other_place() {
        let workspace = Workspace::load().unwrap();
        let package = workspace.package("mapring").unwrap();
        let root = cmd::root().to_str().unwrap();
        assert!(!package.manifest(true).contains(root), "{}", package.manifest(true));
        assert_ne!(package.manifest(true), package.manifest(false));
    }

    /// Packages, and the only ones of this repository that each may use, its own tests aside.
    const MAY_USE: &[(&str, &[&str])] = &[
        ("mapring-core", &[]),
        ("mapring-sys", &["mapring-core"]),
        ("mapring", &["mapring-core", "mapring-sys", "mapring-derive"]),
        ("mapring-loader", &["mapring", "mapring-core", "mapring-sys"]),
        ("mapring-kit", &["mapring-core"]),
        ("mapring-view", &["mapring-kit", "mapring", "mapring-sys"]),
        ("mapring-export", &["mapring-kit", "mapring-view", "mapring", "mapring-sys"]),
        ("mapring-flight", &["mapring-kit", "mapring", "mapring-sys", "mapring-loader", "mapring-bpf-build"]),
        ("mapring-loom-tests", &["mapring-core"]),
        ("mapring-bpf-loom", &["mapring-core"]),
    ];

    #[test]
    fn the_crates_have_walls() {
        let workspace = Workspace::load().unwrap();
        for (name, may) in MAY_USE {
            let used = workspace.package(name).unwrap().dependencies(false);
            let used = used.filter(|used| used.path.is_some()).map(|used| &*used.name);
            let wrong: Vec<_> = used.filter(|used| !may.contains(used)).collect();
            assert!(wrong.is_empty(), "{name} uses {wrong:?}");
        }
        let external = workspace.external("mapring", false).unwrap();
        assert!(!external.iter().any(|name| name.starts_with("libbpf")), "no C: {external:?}");
    }
}
