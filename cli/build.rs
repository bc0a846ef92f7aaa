//! Compiles the BPF programs, with feature `bpf`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bpf")]
    mapring_bpf_build::skeletons("bpf");
}
