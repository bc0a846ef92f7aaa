//! Compiles each `<name>.bpf.c` to a skeleton, `$OUT_DIR/<name>.skel.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bpf")]
    mapring_bpf_build::skeletons(".");
}
