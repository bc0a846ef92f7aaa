//! Compiles the BPF programs of the benchmarks.

fn main() {
    mapring_bpf_build::skeletons("bpf");
}
