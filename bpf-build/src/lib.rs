//! For build scripts in this workspace: compiles a folder's `.bpf.c` files to skeletons.

use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

/// Compiles every `*.bpf.c` in `folder` to `$OUT_DIR/<name>.skel.rs`, with the clang that `CLANG`
/// names (`clang` otherwise) and mapring's headers, warnings denied. The package must depend on
/// `mapring`, whose build script says where the headers are.
///
/// # Panics
/// With a message for the one who builds: no clang, no headers, or what clang said.
pub fn skeletons(folder: impl AsRef<Path>) {
    let env = |name: &str| std::env::var_os(name);
    let include = env("DEP_MAPRING_INCLUDE").expect("the package depends on `mapring`");
    let out = PathBuf::from(env("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = env("CLANG").unwrap_or_else(|| "clang".into());
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-changed={}", folder.as_ref().display());
    println!("cargo::rerun-if-changed={}", Path::new(&include).display());
    let files = std::fs::read_dir(folder.as_ref()).expect("the folder is there");
    for source in files.map(|file| file.expect("the folder can be read").path()) {
        let Some(name) = source.file_name().and_then(|n| n.to_str()?.strip_suffix(".bpf.c")) else {
            continue;
        };
        println!("cargo::rerun-if-changed={}", source.display());
        SkeletonBuilder::new()
            .source(&source)
            .clang(&clang)
            .clang_args([
                "-I".as_ref(),
                include.as_os_str(),
                "-Wall".as_ref(),
                "-Wextra".as_ref(),
                "-Werror".as_ref(),
            ])
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .unwrap_or_else(|e| {
                panic!("{}: {e:#}\n(`cargo xtask setup` installs what is missing)", source.display())
            });
    }
}
