//! Compiles the BPF programs, if they are wanted.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bpf")]
    mapring_bpf_build::skeletons("bpf");
}
