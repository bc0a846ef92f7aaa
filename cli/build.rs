//! With feature `bpf`, compiles the BPF programs of the demo and of tests.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bpf")]
    mapring_bpf_build::skeletons("bpf");
}
