//! Compiles the BPF programs of the tests.

fn main() {
    mapring_bpf_build::skeletons("bpf");
}
