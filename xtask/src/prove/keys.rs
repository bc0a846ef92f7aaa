//! The key of a method: a hash of all that its result depends on. A method whose key is that of a pass has passed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::code::code;
use crate::cmd;
use crate::workspace::Workspace;

/// What the result of a method depends on.
#[derive(Clone, Copy)]
pub(crate) struct Covers {
    /// The packages whose tests it runs.
    tests: &'static [&'static str],
    /// The packages that it builds.
    builds: &'static [&'static str],
    /// Files and folders that belong to no such package.
    files: &'static [&'static str],
    /// Whether it reads comments: it builds the documentation.
    comments: bool,
}

impl Covers {
    pub(crate) const fn tests(tests: &'static [&'static str]) -> Self {
        Self { tests, builds: &[], files: &[], comments: false }
    }

    pub(crate) const fn builds(self, builds: &'static [&'static str]) -> Self {
        Self { builds, ..self }
    }

    pub(crate) const fn files(self, files: &'static [&'static str]) -> Self {
        Self { files, ..self }
    }

    pub(crate) const fn comments(self) -> Self {
        Self { comments: true, ..self }
    }
}

/// How a method uses a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    comments: bool,
    tests: bool,
}

/// The repository as it is: each file is read once.
pub(crate) struct Sources {
    workspace: Workspace,
    files: Vec<String>,
    profiles: String,
    hashes: RefCell<BTreeMap<(String, Use), u64>>,
}

impl Sources {
    pub(crate) fn load() -> Result<Self> {
        let files = cmd::output(&mut cmd::line("git ls-files --cached --others --exclude-standard"))?;
        let manifest: toml::Table = fs::read_to_string(cmd::root().join("Cargo.toml"))?.parse()?;
        let profiles = format!("{:?} {:?}", manifest.get("profile"), manifest.get("patch"));
        let files = files.lines().map(str::to_owned).collect();
        Ok(Self { workspace: Workspace::load()?, files, profiles, hashes: RefCell::default() })
    }

    /// The key of a method that covers this.
    pub(crate) fn key(&self, covers: &Covers) -> Result<String> {
        let mut text = self.profiles.clone();
        for (path, how) in self.covered(covers)? {
            text += &format!("\n{path} {:x}", self.hash(path, how));
        }
        for (package, tests) in self.packages(covers)? {
            text += &format!("\n{}", self.workspace.package(package)?.manifest(tests));
            self.workspace.external(package, tests)?.iter().for_each(|name| text += &format!("\n{name}"));
        }
        Ok(format!("{:016x}", fnv(&text)))
    }

    /// The files that a method covers.
    pub(crate) fn files(&self, covers: &Covers) -> Result<BTreeSet<&str>> {
        Ok(self.covered(covers)?.into_keys().collect())
    }

    /// Whether a change of this file makes a method due, and whether one of a comment does.
    pub(crate) fn depends(&self, covers: &Covers, file: &str) -> Result<(bool, bool)> {
        let Some(&how) = self.covered(covers)?.get(file) else { return Ok((false, false)) };
        let text = fs::read_to_string(cmd::root().join(file)).unwrap_or_default();
        let changed = format!("{} a comment\n{text}", if file.ends_with(".py") { "#" } else { "//!" });
        Ok((true, how.comments || code(file, &changed, how.tests) != code(file, &text, how.tests)))
    }

    /// The packages, and whether their tests run.
    fn packages(&self, covers: &Covers) -> Result<BTreeMap<&str, bool>> {
        let mut found = BTreeMap::new();
        let named =
            |names: &[&'static str], tests| names.iter().map(move |name| (*name, tests)).collect::<Vec<_>>();
        for (name, tests) in [named(covers.builds, false), named(covers.tests, true)].concat() {
            for package in self.workspace.closure(name, tests)? {
                *found.entry(package).or_default() |= tests && package == name;
            }
        }
        Ok(found)
    }

    /// The files that a method covers, and how it uses each.
    fn covered(&self, covers: &Covers) -> Result<BTreeMap<&str, Use>> {
        let mut folders = BTreeMap::new();
        for (name, tests) in self.packages(covers)? {
            folders.insert(self.workspace.package(name)?.folder(), tests);
        }
        let manifests = self.files.iter().map(Path::new).filter(|file| file.ends_with("Cargo.toml"));
        let packages: BTreeSet<_> = manifests.filter_map(Path::parent).collect();
        let mut found = BTreeMap::new();
        for file in &self.files {
            let path = Path::new(file);
            let package = path.ancestors().skip(1).find(|folder| packages.contains(folder));
            let of_package =
                package.and_then(|folder| Some((path.strip_prefix(folder).ok()?, *folders.get(folder)?)));
            let comments = covers.comments;
            if covers.files.iter().any(|start| path.starts_with(start)) {
                found.insert(file.as_str(), Use { comments, tests: true });
            } else if let Some((inside, tests)) = of_package
                && is_read(inside, Use { comments, tests })
            {
                found.insert(file.as_str(), Use { comments, tests });
            }
        }
        for start in covers.files {
            ensure!(found.keys().any(|file| Path::new(file).starts_with(start)), "no file {start}");
        }
        Ok(found)
    }

    /// A file's hash. One that is deleted, and whose deletion is not committed, is empty.
    fn hash(&self, path: &str, how: Use) -> u64 {
        *self.hashes.borrow_mut().entry((path.to_owned(), how)).or_insert_with(|| {
            let bytes = fs::read(cmd::root().join(path)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            if how.comments { fnv(&text) } else { fnv(&code(path, &text, how.tests)) }
        })
    }
}

/// Whether a file of a package counts: not its manifest, of which `cargo metadata` says what counts; not its pages without its
/// documentation, nor its tests where only others use it.
fn is_read(file: &Path, Use { comments, tests }: Use) -> bool {
    let of_tests =
        |name: &OsStr| ["tests", "tests.rs", "benches", "examples"].iter().any(|tests| name == *tests);
    !file.ends_with("Cargo.toml")
        && (comments || file.extension() != Some("md".as_ref()))
        && (tests || !file.iter().any(of_tests))
}

/// FNV-1a: the same with each Rust.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks;

    #[test]
    fn each_method_has_a_key_of_its_own_files() {
        let sources = Sources::load().unwrap();
        for (check, proof) in checks::proofs() {
            let key = sources.key(&proof.covers).unwrap();
            assert_eq!(key, sources.key(&proof.covers).unwrap(), "{}", check.name);
            assert!(!sources.files(&proof.covers).unwrap().is_empty(), "{}", check.name);
        }
    }

    #[test]
    fn tests_belong_to_their_package_and_nested_packages_to_themselves() {
        let sources = Sources::load().unwrap();
        let has = |covers: Covers, start: &str| {
            sources.files(&covers).unwrap().iter().any(|file| file.starts_with(start))
        };
        let whole = Covers::tests(&["mapring"]);
        assert!(has(whole, "ring/src/") && has(whole, "ring/tests/") && has(whole, "ring/derive/"));
        assert!(!has(whole, "ring/ebpf/") && !has(whole, "ring/Cargo.toml"));
        let core = sources.files(&Covers::tests(&["mapring-core"])).unwrap();
        assert!(core.iter().all(|file| file.starts_with("ring/core/")) && core.len() > 20, "{core:?}");
        let built = Covers::tests(&[]).builds(&["mapring"]);
        assert!(has(built, "ring/src/") && !has(built, "ring/tests/"));
        assert!(!has(Covers::tests(&["mapring"]), "xtask/README.md"));
        assert!(has(Covers::tests(&[]).files(&["docs/proof.md"]), "docs/proof.md"));
        assert!(sources.files(&Covers::tests(&[]).files(&["gone.md"])).is_err());
    }

    #[test]
    fn a_comment_makes_due_only_what_reads_comments() {
        let sources = Sources::load().unwrap();
        let (code, docs) = (Covers::tests(&["mapring"]), Covers::tests(&["mapring"]).comments());
        assert_eq!(sources.depends(&code, "ring/src/lib.rs").unwrap(), (true, false));
        assert_eq!(sources.depends(&docs, "ring/src/lib.rs").unwrap(), (true, true));
        assert_eq!(sources.depends(&code, "xtask/src/main.rs").unwrap(), (false, false));
    }
}
