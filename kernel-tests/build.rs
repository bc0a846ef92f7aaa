//! Compiles the BPF programs of the tests.

fn main() {
    mapring_bpf_build::skeletons("bpf");
    // libbpf no longer takes it, and so makes no skeleton of it.
    mapring_bpf_build::object("bpf/legacy/legacy.bpf.c", "legacy");
    // What one clang's code has left for the verifier to do may be too much of another one's.
    mapring_bpf_build::objects("bpf/loops/longest.bpf.c", "longest");
}
