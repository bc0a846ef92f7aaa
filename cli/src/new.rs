//! `mapring new`: a small project with a BPF program and its reader, ready to build.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};

use mapring_kit::outfile::Destination;
use mapring_kit::output::note;
use mapring_kit::text::{printable, printable_path};

/// The files of a project of this name, which docs/guide/start.md explains.
const EXAMPLE: &str = "switches";
const BUILD: &str = include_str!("../new/build.rs");
const MAIN: &str = include_str!("../new/main.rs");
const PROGRAM: &str = include_str!("../new/switches.bpf.c");
const MANIFEST: &str = include_str!("../new/manifest.toml");
/// What in them depends on the project.
const NAME: &str = "name = \"switches\"";
const SOURCE: &str = "mapring = { git = \"…\" }                 # the URL of this repository";
const LOADER_SOURCE: &str = "mapring-loader = { git = \"…\" }";
const SKELETON: &str = "switches.skel.rs";
const BUILDER: &str = "SwitchesSkelBuilder";
const SOURCE_FILE: &str = "src/switches.bpf.c";
/// The directory from which this command was built.
const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ring");

/// Options of `mapring new`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The project's directory. Its last part is the project's name
    path: PathBuf,
    /// The git repository of the crate mapring [default: the one from which this command was built, if it has a URL]
    #[arg(long, value_name = "URL", conflicts_with = "mapring")]
    git: Option<String>,
    /// The directory of the crate mapring, for a project that is only built on this machine [default: where this command was built from]
    #[arg(long, value_name = "DIR")]
    mapring: Option<PathBuf>,
}

/// Where the project's build finds the crate mapring.
enum Dependency {
    Git(String),
    Directory(PathBuf),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let name = args.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ensure!(is_name(name), "{name:?} can't be the name of a package: use letters, digits, - and _");
    let dependency = match (&args.git, &args.mapring) {
        (Some(url), _) => Dependency::Git(url.clone()),
        (None, Some(directory)) => Dependency::directory(directory)?,
        (None, None) => origin(Path::new(BUILT_FROM))
            .map_or_else(|| Dependency::directory(Path::new(BUILT_FROM)), |url| Ok(Dependency::Git(url)))?,
    };
    let what = || format!("can't create {}", printable_path(&args.path));
    let destination = Destination::of(&args.path)?;
    mkdirat(destination.directory(), destination.name(), Mode::from_raw_mode(0o777)).with_context(what)?;
    write(&destination, &files(name, &dependency)).with_context(what)?;
    note(format_args!(
        "{0} is ready: a BPF program in src/{1}.bpf.c, its reader in src/main.rs.\n\
         It needs clang, libelf-dev, zlib1g-dev and pkg-config. To run it:\n  \
         cd {0} && cargo build && sudo target/debug/{name}",
        printable_path(&args.path),
        identifier(name)
    ));
    match dependency {
        Dependency::Git(url) => note(format_args!("Cargo.toml takes mapring from {}.", printable(&url))),
        Dependency::Directory(directory) => note(format_args!(
            "Cargo.toml takes mapring from {}, so it builds only on this machine. For others, put the URL of its \
             repository there, as in mapring = {{ git = \"URL\" }} (--git URL).",
            printable_path(directory)
        )),
    }
    Ok(ExitCode::SUCCESS)
}

impl Dependency {
    fn directory(ring: &Path) -> Result<Self> {
        if !ring.join("Cargo.toml").exists() {
            bail!(
                "the crate mapring is not in {}: say where by --git URL or --mapring DIR",
                printable_path(ring)
            );
        }
        Ok(Self::Directory(absolute(fs::canonicalize(ring)?)?))
    }
}

/// The URL from which the repository of a directory was cloned, if other machines can clone from it as well.
fn origin(directory: &Path) -> Option<String> {
    let git =
        Command::new("git").args(["remote", "get-url", "origin"]).current_dir(directory).output().ok()?;
    let url = String::from_utf8(git.stdout).ok()?.trim().to_owned();
    (git.status.success() && is_remote(&url)).then_some(url)
}

/// True for a remote URL that cargo accepts; `git@host:path` is not one.
fn is_remote(url: &str) -> bool {
    ["https://", "ssh://", "git://", "http://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Writes the files of the project into its new directory. Nothing is left of it if that fails.
fn write(destination: &Destination, files: &[(String, String)]) -> Result<()> {
    write_into(destination, files)
        .inspect_err(|_| _ = unlinkat(destination.directory(), destination.name(), AtFlags::REMOVEDIR))
}

/// By a descriptor: another user of the directory above may give its name to something else meanwhile.
fn write_into(destination: &Destination, files: &[(String, String)]) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = openat(destination.directory(), destination.name(), flags, Mode::empty())?;
    let inside = PathBuf::from(format!("/proc/self/fd/{}", new.as_raw_fd()));
    let is_ours = fs::metadata(&inside)?.uid() == rustix::process::geteuid().as_raw();
    ensure!(is_ours && fs::read_dir(&inside)?.next().is_none(), "another user exchanged the new directory");
    let src = inside.join("src");
    let written = fs::create_dir(&src).and_then(|()| {
        files.iter().try_for_each(|(file, text)| {
            let mut file = File::create_new(inside.join(file))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
    });
    if written.is_err() {
        // A part of a project helps nobody. Files that were not written are not there: their errors don't matter.
        files.iter().for_each(|(file, _)| _ = fs::remove_file(inside.join(file)));
        let _ = fs::remove_dir(&src);
    }
    Ok(written?)
}

fn files(name: &str, dependency: &Dependency) -> Vec<(String, String)> {
    let ident = identifier(name);
    let path = |folder: PathBuf| format!("path = {:?}", folder.display().to_string());
    let [source, loader] = match dependency {
        Dependency::Git(url) => [format!("git = {url:?}"), format!("git = {url:?}")],
        Dependency::Directory(ring) => [path(ring.clone()), path(ring.join("loader"))],
    };
    let manifest = MANIFEST
        .replace(NAME, &format!("name = {name:?}"))
        .replace(SOURCE, &format!("mapring = {{ {source} }}"))
        .replace(LOADER_SOURCE, &format!("mapring-loader = {{ {loader} }}"));
    // Cargo may not take it for a part of a workspace around it.
    let manifest = manifest.replace("# Cargo.toml\n", "[workspace]\n\n");
    let program = SOURCE_FILE.replace(EXAMPLE, &ident);
    let skeleton = SKELETON.replace(EXAMPLE, &ident);
    let build = BUILD.replace(SOURCE_FILE, &program).replace(SKELETON, &skeleton);
    let main = MAIN.replace(SKELETON, &skeleton).replace(BUILDER, &format!("{}SkelBuilder", camel(&ident)));
    [
        ("Cargo.toml", manifest),
        (".gitignore", "/target\n".to_owned()),
        ("build.rs", build),
        ("src/main.rs", main),
        (&*program, PROGRAM.to_owned()),
    ]
    .map(|(file, text)| (file.to_owned(), text))
    .into()
}

/// The name of the project's BPF object, of which libbpf-cargo makes names of Rust.
fn identifier(name: &str) -> String {
    name.split(['-', '_']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

/// `watch_it` as `WatchIt`, as libbpf-cargo does.
fn camel(ident: &str) -> String {
    let parts = ident.split('_').map(|part| part.split_at(1));
    parts.map(|(first, rest)| first.to_ascii_uppercase() + rest).collect()
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
    fn files_are_named_after_the_project() {
        let project = files("watch-it", &Dependency::Directory("/src/\"ring".into()));
        let text = |name: &str| &project.iter().find(|(file, _)| file == name).unwrap().1;
        let manifest = text("Cargo.toml");
        assert!(manifest.contains("name = \"watch-it\"\n"), "{manifest}");
        assert!(manifest.contains("mapring = { path = \"/src/\\\"ring\" }"), "{manifest}");
        assert!(manifest.contains("mapring-loader = { path = \"/src/\\\"ring/loader\" }"), "{manifest}");
        assert_eq!(text(".gitignore"), "/target\n");
        assert!(text("src/watch_it.bpf.c").contains("MAPRING_RING(switches, "));
        let main = text("src/main.rs");
        assert!(main.contains("skel::WatchItSkelBuilder::default()"), "{main}");
        assert!(main.contains("\"/watch_it.skel.rs\"") && main.contains("(\"watch_it.skel.rs\":"), "{main}");
        for (file, text) in &project {
            assert!(
                !text.contains('…') && !text.contains("switches.") && !text.contains("Switches"),
                "{file}: {text}"
            );
        }
    }

    #[test]
    fn other_machines_can_take_the_crate_from_a_url() {
        let project = files("a", &Dependency::Git("https://example.org/mapring.git".into()));
        assert!(
            project[0].1.contains("mapring = { git = \"https://example.org/mapring.git\" }\n"),
            "{}",
            project[0].1
        );
        assert!(["https://example.org/m", "ssh://git@example.org/m"].into_iter().all(is_remote));
        assert!(!["/home/me/mapring", "file:///m", "git@example.org:m", ""].into_iter().any(is_remote));
    }

    #[test]
    fn only_a_new_directory_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let destination = |name: &str| Destination::of(&at(name)).unwrap();
        let write = |name: &str, files: &[_]| super::write(&destination(name), files);
        let file = |name: &str| (name.to_owned(), String::new());
        ["new", "old", "fails"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        fs::write(at("old/mine"), "").unwrap();
        std::os::unix::fs::symlink(at("new"), at("link")).unwrap();
        // What others may give the name to.
        assert!(write("link", &[file("a")]).is_err() && write("old", &[file("a")]).is_err());
        assert_eq!(fs::read_dir(at("new")).unwrap().count() + fs::read_dir(at("old")).unwrap().count(), 1);
        write("new", &[file("a"), file("src/b")]).unwrap();
        assert!(at("new/src/b").exists());
        // Nothing is left of a project that can't be written.
        assert!(write("fails", &[file("a"), file("no/b")]).is_err());
        assert!(!at("fails").exists());
        // The directory above may become another one meanwhile.
        ["way/fails", "other/fails"].iter().for_each(|name| fs::create_dir_all(at(name)).unwrap());
        let fails = destination("way/fails");
        fs::rename(at("way"), at("moved")).unwrap();
        std::os::unix::fs::symlink("other", at("way")).unwrap();
        assert!(super::write(&fails, &[file("no/b")]).is_err());
        assert!(!at("moved/fails").exists() && at("other/fails").exists());
    }

    #[test]
    fn names() {
        assert!(["a", "watch-it", "x_9"].into_iter().all(is_name));
        assert!(["", "9x", "-a", "a b", "ä", "a/b", "a\"", ".."].into_iter().all(|name| !is_name(name)));
        assert_eq!(["a", "watch-it", "x__9-"].map(identifier), ["a", "watch_it", "x_9"]);
        assert_eq!(["a", "watch_it", "x_9"].map(camel), ["A", "WatchIt", "X9"]);
    }
}
