//! `mapring new`: a small project with a BPF program and its reader, ready to build.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::output::note;
use crate::regions::text::printable;

/// The files of the project, which docs/guide.md explains.
const FILES: [(&str, &str); 3] = [
    ("build.rs", include_str!("../new/build.rs")),
    ("src/main.rs", include_str!("../new/main.rs")),
    ("src/switches.bpf.c", include_str!("../new/switches.bpf.c")),
];
const MANIFEST: &str = include_str!("../new/manifest.toml");
/// What of the manifest depends on the project.
const NAME: &str = "name = \"switches\"";
const SOURCE: &str = "mapring = { git = \"…\" }                 # the URL of this repository";

/// Options of `mapring new`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The project's directory. Its last part is the project's name
    path: PathBuf,
    /// The directory of the crate mapring [default: where this command was built from]
    #[arg(long, value_name = "DIR")]
    mapring: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let name = args.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ensure!(is_name(name), "{name:?} can't be the name of a package: use letters, digits, - and _");
    let built_from = concat!(env!("CARGO_MANIFEST_DIR"), "/../ring");
    let ring = args.mapring.as_deref().unwrap_or(Path::new(built_from));
    if !ring.join("Cargo.toml").exists() {
        bail!("the crate mapring is not in {}: say where by --mapring DIR", ring.display());
    }
    let ring = absolute(fs::canonicalize(ring)?)?;
    let what = || format!("can't create {}", printable(&args.path.to_string_lossy()));
    fs::create_dir(&args.path).with_context(what)?;
    if let Err(error) = write(&args.path, &manifest(name, &ring)) {
        // A part of a project helps nobody. The directory is new, so all in it is ours.
        let _ = fs::remove_dir_all(&args.path);
        return Err(error).with_context(what);
    }
    note(format_args!(
        "{0} is ready: a BPF program in src/switches.bpf.c, its reader in src/main.rs.\n\
         It needs clang, libelf-dev, zlib1g-dev and pkg-config. To run it:\n  \
         cd {0} && cargo build && sudo target/debug/{name}",
        printable(&args.path.to_string_lossy())
    ));
    Ok(ExitCode::SUCCESS)
}

/// Writes the files of the project into its new directory.
fn write(directory: &Path, manifest: &str) -> io::Result<()> {
    fs::create_dir(directory.join("src"))?;
    for (file, text) in FILES.into_iter().chain([("Cargo.toml", manifest)]) {
        let mut file = File::create_new(directory.join(file))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    Ok(())
}

fn manifest(name: &str, ring: &Path) -> String {
    let source = format!("mapring = {{ path = {:?} }}", ring.display().to_string());
    // Cargo may not take it for a part of a workspace around it.
    let text = MANIFEST.replace(NAME, &format!("name = {name:?}")).replace(SOURCE, &source);
    text.replace("# Cargo.toml\n", "[workspace]\n\n")
}

/// As cargo has it, without the names that it reserves.
fn is_name(name: &str) -> bool {
    let first = name.chars().next().unwrap_or('-');
    first.is_ascii_alphabetic() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_project_and_the_crate() {
        let text = manifest("watch-it", Path::new("/src/\"ring"));
        assert!(
            text.contains("name = \"watch-it\"\n") && text.contains("path = \"/src/\\\"ring\""),
            "{text}"
        );
        assert!(!text.contains('…') && !text.contains("switches"), "{text}");
    }

    #[test]
    fn names() {
        assert!(["a", "watch-it", "x_9"].into_iter().all(is_name));
        assert!(["", "9x", "-a", "a b", "ä", "a/b", "a\"", ".."].into_iter().all(|name| !is_name(name)));
    }
}
