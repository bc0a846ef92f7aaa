//! The public API of the crates, one line for each name: `docs/api` has what the last commit promised. rustdoc says what is public,
//! and the sources say how it is declared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cmd;
use crate::setup::Tools;
use crate::toolchains::OLDEST;

/// The crates that have a listing.
const CRATES: [&str; 3] = ["mapring-core", "mapring", "mapring-loader"];

/// Compares the listings, or writes them anew if `MAPRING_BLESS` is 1.
pub(crate) fn run(tools: &Tools) -> Result<()> {
    let bless = std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1");
    let mut changed = Vec::new();
    for name in CRATES {
        let new = Crate::document(tools, name)?.listing();
        let path = cmd::root().join(format!("docs/api/{name}.txt"));
        let old = fs::read_to_string(&path).unwrap_or_default();
        if bless {
            fs::create_dir_all(path.parent().context("it lies in a folder")?)?;
            fs::write(&path, &new)?;
        }
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (old, new) = (lines(&old), lines(&new));
        changed.extend(old.difference(&new).map(|line| format!("- {line}")));
        changed.extend(new.difference(&old).map(|line| format!("+ {line}")));
    }
    println!("{}", changed.join("\n"));
    ensure!(
        bless || changed.is_empty(),
        "the public API changed: MAPRING_BLESS=1 cargo xtask test api writes it"
    );
    Ok(())
}

/// What rustdoc knows of a crate.
struct Crate {
    name: String,
    root: Value,
    index: HashMap<String, Value>,
    /// The files of its sources that were read, by line.
    files: HashMap<String, Vec<String>>,
    /// The macros of the library, by name: they declare some of the items.
    macros: BTreeMap<String, String>,
}

impl Crate {
    /// Documents a crate with the oldest Rust, whose format of the JSON file never changes.
    fn document(tools: &Tools, package: &str) -> Result<Self> {
        let target = cmd::target_dir().join("check");
        fs::create_dir_all(&target)?;
        // Only rustdoc may use what is unstable: build scripts ask for the variable, and would be built again.
        let rustdoc = target.join("rustdoc-json");
        let script = format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustup run {OLDEST} rustdoc \"$@\"\n");
        fs::write(&rustdoc, script)?;
        fs::set_permissions(&rustdoc, fs::Permissions::from_mode(0o755))?;
        let line = format!(
            "rustup run {OLDEST} cargo rustdoc --quiet --target-dir target/check -p {package} --lib --all-features -- \
             -Z unstable-options --output-format json --cap-lints allow"
        );
        cmd::run(tools.export(cmd::line(&line).env("RUSTDOC", &rustdoc)))?;
        let name = package.replace('-', "_");
        let file: PathBuf = target.join(format!("doc/{name}.json"));
        let mut json: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let index = serde_json::from_value(json["index"].take())?;
        let mut macros = BTreeMap::new();
        for source in cmd::files(&cmd::root().join("ring"))?
            .iter()
            .filter(|path| path.extension() == Some("rs".as_ref()))
        {
            for text in fs::read_to_string(source)?.split("macro_rules! ").skip(1) {
                let (name, rest) = text.split_once(' ').context("a macro has a name")?;
                macros.insert(name.to_owned(), rest.to_owned());
            }
        }
        Ok(Self { name, root: json["root"].take(), index, files: HashMap::new(), macros })
    }

    fn listing(mut self) -> String {
        let mut lines = BTreeSet::new();
        let (root, name) = (self.root.clone(), self.name.clone());
        self.list(&root, &name, &mut lines);
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// Adds the item `id`, which users call `path`, and all that is in it.
    fn list(&mut self, id: &Value, path: &str, lines: &mut BTreeSet<String>) {
        let Some(item) = self.index.get(&id.to_string()).cloned() else { return };
        let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next()) else {
            return;
        };
        let within = |name: &Value| format!("{path}::{}", name.as_str().unwrap_or_default());
        if kind == "module" {
            for id in each(&inner["items"]) {
                let Some(child) = self.index.get(&id.to_string()).cloned() else { continue };
                match &child["inner"]["use"] {
                    used if used.is_object() => self.list_use(used, path, lines),
                    _ => self.list(id, &within(&child["name"]), lines),
                }
            }
            return;
        }
        lines.insert(format!("{path}: {}", self.declaration(&item, kind)));
        let parts =
            [&inner["items"], &inner["variants"], &inner["kind"]["plain"]["fields"], &inner["kind"]["tuple"]];
        for id in parts.into_iter().flat_map(each) {
            self.list_part(id, path, lines);
        }
        for id in each(&inner["impls"]) {
            self.list_impl(id, path, lines);
        }
    }

    /// Adds what a `pub use` in the module `path` names.
    fn list_use(&mut self, used: &Value, path: &str, lines: &mut BTreeSet<String>) {
        let text = |key: &str| used[key].as_str().unwrap_or_default().to_owned();
        let is_here = self.index.contains_key(&used["id"].to_string());
        match used["is_glob"].as_bool() {
            Some(true) if is_here => self.list(&used["id"], path, lines),
            _ if is_here => self.list(&used["id"], &format!("{path}::{}", text("name")), lines),
            glob => {
                let name = if glob == Some(true) { "*".to_owned() } else { text("name") };
                lines.insert(format!("{path}::{name}: pub use {}", text("source")));
            }
        }
    }

    /// Adds a field, a variant, or an item of an impl or trait, if it is public.
    fn list_part(&mut self, id: &Value, path: &str, lines: &mut BTreeSet<String>) {
        let Some(item) = self.index.get(&id.to_string()).cloned() else { return };
        if item["visibility"] == "public" || item["visibility"] == "default" {
            self.list(id, &format!("{path}::{}", item["name"].as_str().unwrap_or_default()), lines);
        }
    }

    /// Adds the public items of an impl, and the trait. Those of the compiler, and those for every type, are left out.
    fn list_impl(&mut self, id: &Value, path: &str, lines: &mut BTreeSet<String>) {
        let Some(item) = self.index.get(&id.to_string()).cloned() else { return };
        let found = &item["inner"]["impl"];
        if found["is_synthetic"] == true || !found["blanket_impl"].is_null() {
            return;
        }
        match found["trait"]["path"].as_str() {
            None => each(&found["items"]).for_each(|id| self.list_part(id, path, lines)),
            Some(name) => {
                let written = self.declaration(&item, "impl");
                let is_written = !written.ends_with('!') && written.contains("impl");
                lines
                    .insert(format!("{path}: {}", if is_written { written } else { format!("impl {name}") }));
            }
        }
    }

    /// How the source declares the item, on one line, without its body and its comments.
    fn declaration(&mut self, item: &Value, kind: &str) -> String {
        let text = self.source(&item["span"]).unwrap_or_default();
        let lines =
            text.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with("#["));
        let mut text = lines.collect::<Vec<_>>().join(" ");
        if let Some((name, _)) = text.split_once('!').filter(|(name, _)| self.macros.contains_key(*name)) {
            let item = item["name"].as_str().unwrap_or_default();
            text = self.in_macro(name, item).unwrap_or_else(|| format!("{kind} by {name}!"));
        }
        let end = match kind {
            "struct" => text.find(['{', '(', ';']),
            "constant" | "assoc_const" => text.find(" ="),
            "variant" => text.find(['{', '=']),
            "macro" => text.find(['{', '(']),
            _ => text.find('{').or(text.rfind(';')),
        };
        let text = text[..end.unwrap_or(text.len())].trim().trim_end_matches([';', ',']);
        // As rustfmt would write it on one line.
        text.replace("( ", "(").replace(", )", ")").replace(",)", ")").replace(", >", ">").replace("< ", "<")
    }

    /// How a macro, or one that it calls, declares a function.
    fn in_macro(&self, name: &str, function: &str) -> Option<String> {
        let text = self.macros.get(name)?;
        let declared = [format!(" fn {function}("), format!(" fn {function}<")];
        if let Some(at) = declared.iter().find_map(|declared| text.find(declared)) {
            let from = text[..at].rfind('\n')? + 1;
            return Some(text[from..].split('{').next()?.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let called =
            self.macros.keys().filter(|other| *other != name && text.contains(&format!("{other}!(")));
        called.into_iter().find_map(|other| self.in_macro(other, function))
    }

    fn source(&mut self, span: &Value) -> Option<String> {
        let number = |at: &str, i: usize| -> Option<usize> { span[at][i].as_u64()?.try_into().ok() };
        let file = span["filename"].as_str()?;
        if !self.files.contains_key(file) {
            let text = fs::read_to_string(cmd::root().join(file)).ok()?;
            self.files.insert(file.to_owned(), text.lines().map(str::to_owned).collect());
        }
        let lines = &self.files[file][number("begin", 0)? - 1..number("end", 0)?];
        let mut text = lines.join("\n");
        let after = lines.last()?.len() - (number("end", 1)? - 1);
        text.truncate(text.len() - after);
        Some(text.split_off(number("begin", 1)? - 1))
    }
}

/// The values in a JSON array; nothing for anything else.
fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
