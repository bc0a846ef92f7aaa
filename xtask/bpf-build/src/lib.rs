//! For build scripts in this workspace: compiles the `.bpf.c` files of a folder to skeletons.

mod clangs;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub use clangs::clangs;
use libbpf_cargo::SkeletonBuilder;

/// Compiles every `*.bpf.c` in `folder` to `$OUT_DIR/<name>.skel.rs` and `<name>.bpf.o`, with warnings denied. It uses
/// the clang in `CLANG` (`clang` if unset) and mapring's headers. The package must depend on `mapring`, whose build
/// script passes on the path of the headers.
///
/// # Panics
/// Panics with a message for the user: clang or the headers are missing, or clang's errors.
pub fn skeletons(folder: impl AsRef<Path>) {
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-changed={}", folder.as_ref().display());
    let files = std::fs::read_dir(folder.as_ref()).expect("the folder is there");
    for source in files.map(|file| file.expect("the folder can be read").path()) {
        let Some(name) = source.file_name().and_then(|n| n.to_str()?.strip_suffix(".bpf.c")) else {
            continue;
        };
        let skeleton = out().join(format!("{name}.skel.rs"));
        done(&source, compiler(&source, name, &[]).build_and_generate(skeleton));
    }
}

/// Compiles one file to `$OUT_DIR/<name>.bpf.o`, without a skeleton. `options` are more of them for clang.
///
/// # Panics
/// As [`skeletons`].
pub fn object(source: impl AsRef<Path>, name: &str, options: &[&str]) {
    done(source.as_ref(), compiler(source.as_ref(), name, options).build().map(|_| ()));
}

/// Compiles one file with each of the [`clangs`], without a skeleton, and lists the objects in `$OUT_DIR/<name>.rs`:
/// the compiler's major version, and the object's bytes.
///
/// # Panics
/// As [`skeletons`].
pub fn objects(source: impl AsRef<Path>, name: &str) {
    let mut list = String::from("&[");
    for (clang, major) in clangs() {
        let name = format!("{name}_{major}");
        done(source.as_ref(), compiler(source.as_ref(), &name, &[]).clang(clang).build().map(|_| ()));
        list += &format!("({major}, include_bytes!({:?})), ", out().join(format!("{name}.bpf.o")));
    }
    std::fs::write(out().join(format!("{name}.rs")), list + "]").expect("OUT_DIR can be written");
}

fn out() -> PathBuf {
    std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into()
}

fn compiler(source: &Path, name: &str, options: &[&str]) -> SkeletonBuilder {
    let include = std::env::var_os("DEP_MAPRING_INCLUDE").expect("the package depends on `mapring`");
    println!("cargo::rerun-if-changed={}", Path::new(&include).display());
    println!("cargo::rerun-if-changed={}", source.display());
    let mut builder = SkeletonBuilder::new();
    builder
        .source(source)
        .obj(out().join(format!("{name}.bpf.o")))
        .clang(std::env::var_os("CLANG").unwrap_or_else(|| "clang".into()))
        // Not there, so that no time is spent on the format of files that nobody reads.
        .rustfmt("no-rustfmt")
        .clang_args(
            ["-I".as_ref(), include.as_os_str()]
                .into_iter()
                .chain(["-Wall", "-Wextra", "-Werror"].iter().chain(options).map(OsStr::new)),
        );
    builder
}

fn done<T>(source: &Path, result: Result<T, impl std::fmt::Display>) {
    if let Err(e) = result {
        panic!("{}: {e:#}\n(`cargo xtask setup` installs what is missing)", source.display());
    }
}
