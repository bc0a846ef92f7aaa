// build.rs: compiles src/switches.bpf.c to a skeleton. DEP_MAPRING_INCLUDE is the folder of mapring's headers.
fn main() {
    let out = std::path::Path::new(&std::env::var("OUT_DIR").unwrap()).join("switches.skel.rs");
    let include = std::env::var("DEP_MAPRING_INCLUDE").unwrap();
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap();
    let arch = match machine.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => panic!("mapring's headers do not know {other}"),
    };
    let system = format!("/usr/include/{machine}-linux-gnu"); // Debian has asm/types.h there
    libbpf_cargo::SkeletonBuilder::new()
        .source("src/switches.bpf.c")
        .clang_args(["-I", &include, &format!("-D__TARGET_ARCH_{arch}"), "-idirafter", &system])
        .build_and_generate(&out)
        .unwrap();
    println!("cargo::rerun-if-changed=src/switches.bpf.c");
}
