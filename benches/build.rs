//! Compiles the BPF programs of the benchmarks, and what is in C.

use std::path::PathBuf;
use std::process::Command;
use std::{env, iter};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    mapring_bpf_build::skeletons("bpf");
    arena();
    in_c();
}

/// The first clang that supports the address spaces of arenas.
const SINCE: u32 = 19;

/// Compiles `bpf/arena` if a suitable clang is installed, and then sets the cfg `has_arena`.
fn arena() {
    println!("cargo::rustc-check-cfg=cfg(has_arena)");
    println!("cargo::rerun-if-changed=bpf/arena");
    println!("cargo::rerun-if-env-changed=PATH");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch != "x86_64") {
        return;
    }
    let names = (SINCE..=30).rev().map(|major| format!("clang-{major}"));
    let Some(clang) = names.chain(iter::once("clang".to_owned())).find(|clang| major(clang) >= Some(SINCE))
    else {
        return;
    };
    let env = |name| env::var_os(name).expect("cargo sets it");
    let include = env("DEP_MAPRING_INCLUDE");
    SkeletonBuilder::new()
        .source("bpf/arena/arena.bpf.c")
        .clang(&clang)
        .clang_args([
            "-I".as_ref(),
            include.as_os_str(),
            "-Ibpf".as_ref(),
            "-Wall".as_ref(),
            "-Wextra".as_ref(),
        ])
        .build_and_generate(PathBuf::from(env("OUT_DIR")).join("arena.skel.rs"))
        .unwrap_or_else(|error| panic!("arena.bpf.c with {clang}: {error:#}"));
    println!("cargo::rustc-cfg=has_arena");
}

/// Compiles `c/read.c` with the C header that ships, and `c/busy.c`, whose stack has frame pointers.
fn in_c() {
    const HEADER: &str = "../bindings/c/include";
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed={HEADER}");
    for (file, frame_pointer) in [("c/read.c", false), ("c/busy.c", true)] {
        let mut build = cc::Build::new();
        build.file(file).include(HEADER).opt_level(2).std("c11").warnings_into_errors(true);
        build.force_frame_pointer(frame_pointer);
        for object in build.compile_intermediates() {
            println!("cargo::rustc-link-arg-benches={}", object.display());
        }
    }
}

/// The major version of a clang, if it is installed.
fn major(clang: &str) -> Option<u32> {
    let output = Command::new(clang).arg("-dumpversion").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split('.').next()?.parse().ok()
}
