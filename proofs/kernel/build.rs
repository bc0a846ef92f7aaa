//! Compiles the tests' BPF programs, and their reader in C.

use std::path::PathBuf;

/// For any machine: publishes by release or exchange, not by plain stores; barriers are instructions.
const PORTABLE: &str = "-U__TARGET_ARCH_x86";
/// Claims by compare-and-swap, on every kernel and for any license.
const NO_GUARD: &str = "-DMAPRING_NO_GUARD";
/// Files that are also compiled for any machine, as `NAME_portable`.
const BOTH: &str = "basic commands gauge histogram hostile jit latches loops options resizable stress top";
/// Other objects: the name, its file, and clang's options.
const VARIANTS: [(&str, &str, &[&str]); 19] = [
    ("claims_linger", "claims", &["-DLINGER"]),
    ("claims_linger_no_guard", "claims", &["-DLINGER", NO_GUARD]),
    ("claims_linger_unguarded", "claims", &["-DLINGER", "-DUNGUARDED"]),
    ("claims_unguarded", "claims", &["-DUNGUARDED"]),
    ("contexts_no_guard", "contexts", &[NO_GUARD]),
    // libbpf no longer loads it, so libbpf-cargo makes no skeleton of it.
    ("legacy", "legacy/legacy", &[]),
    ("license_guarded", "license/license", &[]),
    ("license_none", "license/license", &["-DNO_LICENSE"]),
    ("license_no_guard", "license/license", &[NO_GUARD]),
    ("linked_one", "linked/one", &[]),
    ("linked_two", "linked/two", &[]),
    ("loops_no_guard", "loops", &[NO_GUARD]),
    // Short enough for verifiers before 5.16.
    ("loops_short", "loops", &["-DTIMES=16"]),
    ("loops_short_no_guard", "loops", &["-DTIMES=16", NO_GUARD]),
    ("loops_short_portable", "loops", &["-DTIMES=16", PORTABLE]),
    ("resizable_waking", "resizable", &["-DOPTIONS=,WAKEABLE"]),
    ("stress_slow", "stress", &["-DSLOW"]),
    ("tagged_portable", "tagged", &[PORTABLE, NO_GUARD]),
    ("tails_portable", "tails", &[PORTABLE, NO_GUARD]),
];

fn main() {
    println!("cargo::rerun-if-changed=../../examples/runqlat.bpf.c"); // bpf/runqlat.bpf.c includes it
    mapring_bpf_build::skeletons("bpf");
    let files = std::fs::read_dir("bpf").expect("the folder is there");
    let files =
        files.map(|file| file.expect("the folder can be read").file_name().into_string().expect("a name"));
    let mut names: Vec<_> = files.filter_map(|name| Some(name.strip_suffix(".bpf.c")?.to_owned())).collect();
    let both = BOTH.split(' ').map(|file| (format!("{file}_portable"), file, &[PORTABLE][..]));
    let variants = VARIANTS.iter().map(|(name, file, options)| ((*name).to_owned(), *file, *options));
    for (name, file, options) in both.chain(variants) {
        mapring_bpf_build::object(format!("bpf/{file}.bpf.c"), &name, options);
        names.push(name);
    }
    names.sort();
    let objects = names.iter().map(|name| {
        let constant = name.to_uppercase();
        format!(
            "pub static {constant}: Compiled = Compiled {{ name: \"{name}_bpf\", \
             bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.bpf.o\")) }};\n"
        )
    });
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("objects.rs"), objects.collect::<String>()).expect("OUT_DIR can be written");
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
    // Where gcc's atomics are functions of libgcc (aarch64): Rust's copies of these come before the objects.
    println!("cargo::rustc-link-arg-bin=kernel-tests-conformance=-lgcc");
}
