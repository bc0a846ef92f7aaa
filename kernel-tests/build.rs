//! Compiles the BPF programs of the tests.

fn main() {
    mapring_bpf_build::skeletons("bpf");
    // libbpf no longer takes it, and so makes no skeleton of it.
    mapring_bpf_build::object("bpf/legacy/legacy.bpf.c", "legacy", &[]);
    // Other instructions, other branches for the verifier to walk through.
    mapring_bpf_build::object("bpf/loops_chunks.bpf.c", "loops_chunks_v3", &["-mcpu=v3"]);
}
