//! Compiles the tests' BPF programs, and their reader in plain C.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=../../examples/runqlat.bpf.c"); // bpf/runqlat.bpf.c includes it
    mapring_bpf_build::skeletons("bpf");
    // libbpf no longer loads it, so libbpf-cargo makes no skeleton of it.
    mapring_bpf_build::object("bpf/legacy/legacy.bpf.c", "legacy", None);
    // Compiled with every clang, since the verifier may accept the code of one clang and reject the code of another as
    // too complex.
    mapring_bpf_build::objects("bpf/loops/longest.bpf.c", "longest");
    mapring_bpf_build::objects("bpf/loops/longest_waking.bpf.c", "longest_waking");
    conformance();
}

/// Compiles `conformance/*.c` to the program `kernel-tests-conformance`, including C's `main`.
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
