//! Compiles the tests' BPF programs, and their reader in C.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=../../examples/runqlat.bpf.c"); // bpf/runqlat.bpf.c includes it
    mapring_bpf_build::skeletons("bpf");
    // libbpf no longer loads it, so libbpf-cargo makes no skeleton of it.
    mapring_bpf_build::object("bpf/legacy/legacy.bpf.c", "legacy", None);
    for (name, option) in
        [("guarded", None), ("none", Some("-DNO_LICENSE")), ("no_guard", Some("-DMAPRING_NO_GUARD"))]
    {
        mapring_bpf_build::object("bpf/license/license.bpf.c", &format!("license_{name}"), option);
    }
    for name in ["one", "two"] {
        mapring_bpf_build::object(format!("bpf/linked/{name}.bpf.c"), &format!("linked_{name}"), None);
    }
    // Compiled with every clang, since the verifier may accept the code of one clang and reject the code of another as
    // too complex.
    mapring_bpf_build::objects("bpf/loops/longest.bpf.c", "longest");
    mapring_bpf_build::objects("bpf/loops/longest_waking.bpf.c", "longest_waking");
    mapring_bpf_build::objects("bpf/stack/stack.bpf.c", "stack");
    conformance();
}

/// Compiles `conformance/*.c`, with the C header that ships, to the program `kernel-tests-conformance`, including C's `main`.
fn conformance() {
    const FOLDER: &str = "conformance";
    const HEADER: &str = "../../bindings/c/include";
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-changed={HEADER}");
    let files = std::fs::read_dir(FOLDER).expect("the folder is there");
    let mut sources: Vec<PathBuf> = files.map(|file| file.expect("the folder can be read").path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    let mut build = cc::Build::new();
    build
        .files(sources)
        .include(HEADER)
        .opt_level(2)
        .std("c11")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true);
    for object in build.compile_intermediates() {
        println!("cargo::rustc-link-arg-bin=kernel-tests-conformance={}", object.display());
    }
}
