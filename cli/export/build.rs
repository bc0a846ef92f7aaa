//! Makes the messages of `proto` Rust types.

use std::fs;

use prost_build::Config;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::FileDescriptorSet;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut pool = DescriptorPool::new();
    for path in ["proto/otlp.proto", "proto/prometheus.proto"] {
        println!("cargo::rerun-if-changed={path}");
        let parsed = protox_parse::parse(path, &fs::read_to_string(path).unwrap());
        pool.add_file_descriptor_proto(parsed.unwrap()).unwrap();
    }
    let messages = FileDescriptorSet { file: pool.file_descriptor_protos().cloned().collect() };
    Config::new().bytes(["."]).include_file("messages.rs").compile_fds(messages).unwrap();
}
