//! Compiles the BPF programs of the tests, and their reader in plain C.

use std::path::PathBuf;

fn main() {
    mapring_bpf_build::skeletons("bpf");
    // libbpf no longer takes it, and so makes no skeleton of it.
    mapring_bpf_build::object("bpf/legacy/legacy.bpf.c", "legacy");
    // What one clang's code has left for the verifier to do may be too much of another one's.
    mapring_bpf_build::objects("bpf/loops/longest.bpf.c", "longest");
    conformance();
}

/// Compiles `conformance/*.c` to the program `kernel-tests-conformance`, C's `main` included.
fn conformance() {
    const FOLDER: &str = "conformance";
    println!("cargo::rerun-if-changed={FOLDER}");
    let files = std::fs::read_dir(FOLDER).expect("the folder is there");
    let mut sources: Vec<PathBuf> = files.map(|file| file.expect("the folder can be read").path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    let mut build = cc::Build::new();
    build.files(sources).std("c11").warnings(true).extra_warnings(true).warnings_into_errors(true);
    for object in build.compile_intermediates() {
        println!("cargo::rustc-link-arg-bin=kernel-tests-conformance={}", object.display());
    }
}
