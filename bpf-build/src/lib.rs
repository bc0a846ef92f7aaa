//! For build scripts in this workspace: compiles a folder's `.bpf.c` files to skeletons.

use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

/// Compiles every `*.bpf.c` in `folder` to `$OUT_DIR/<name>.skel.rs` and `<name>.bpf.o`, with the clang that
/// `CLANG` names (`clang` otherwise) and mapring's headers, warnings denied. The package must depend on
/// `mapring`, whose build script says where the headers are.
///
/// # Panics
/// With a message for the one who builds: no clang, no headers, or what clang said.
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

/// Compiles one file to `$OUT_DIR/<name>.bpf.o`, with these arguments for clang as well, and makes no
/// skeleton of it.
///
/// # Panics
/// As [`skeletons`].
pub fn object(source: impl AsRef<Path>, name: &str, args: &[&str]) {
    done(source.as_ref(), compiler(source.as_ref(), name, args).build().map(|_| ()));
}

fn out() -> PathBuf {
    std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into()
}

fn compiler(source: &Path, name: &str, args: &[&str]) -> SkeletonBuilder {
    let include = std::env::var_os("DEP_MAPRING_INCLUDE").expect("the package depends on `mapring`");
    println!("cargo::rerun-if-changed={}", Path::new(&include).display());
    println!("cargo::rerun-if-changed={}", source.display());
    let mut builder = SkeletonBuilder::new();
    builder
        .source(source)
        .obj(out().join(format!("{name}.bpf.o")))
        .clang(std::env::var_os("CLANG").unwrap_or_else(|| "clang".into()))
        .clang_args(
            ["-I".as_ref(), include.as_os_str()]
                .into_iter()
                .chain(["-Wall", "-Wextra", "-Werror"].iter().chain(args).map(AsRef::as_ref)),
        );
    builder
}

fn done<T>(source: &Path, result: Result<T, impl std::fmt::Display>) {
    if let Err(e) = result {
        panic!("{}: {e:#}\n(`cargo xtask setup` installs what is missing)", source.display());
    }
}
