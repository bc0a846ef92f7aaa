//! Makes the messages of `proto` Rust types. With feature `bpf`, compiles the BPF programs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    messages::generate();
    #[cfg(feature = "bpf")]
    programs::objects();
}

mod messages {
    use std::fs;

    use prost_build::Config;
    use prost_reflect::DescriptorPool;
    use prost_reflect::prost_types::field_descriptor_proto::Type;
    use prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet};

    pub(crate) fn generate() {
        let mut pool = DescriptorPool::new();
        for name in ["perfetto", "pprof"] {
            let path = format!("proto/{name}.proto");
            println!("cargo::rerun-if-changed={path}");
            let parsed = protox_parse::parse(&path, &fs::read_to_string(&path).unwrap());
            pool.add_file_descriptor_proto(parsed.unwrap()).unwrap();
        }
        let mut file: Vec<_> = pool.file_descriptor_protos().cloned().collect();
        let perfetto = file.iter_mut().find(|file| file.package() == "perfetto.protos").unwrap();
        perfetto.message_type.iter_mut().for_each(as_bytes);
        let messages = FileDescriptorSet { file };
        Config::new().bytes(["."]).include_file("messages.rs").compile_fds(messages).unwrap();
    }

    /// Texts of a trace are `Bytes`, which share a name that many events have, and a bundle of events is encoded before it
    /// is put in its packet. The encoding of texts, messages and bytes is the same.
    fn as_bytes(message: &mut DescriptorProto) {
        message.nested_type.iter_mut().for_each(as_bytes);
        for field in &mut message.field {
            if field.r#type() == Type::String || field.name() == "ftrace_events" {
                field.set_type(Type::Bytes);
            }
        }
    }
}

/// The number of slots of a ring is a constant of its programs, which makes them fast. So the recorder's programs are
/// compiled once for each number.
#[cfg(feature = "bpf")]
mod programs {
    use std::path::Path;
    use std::{env, fs, thread};

    /// A source, and the binary logarithms of its slots. A stack takes as much as many events.
    const SOURCES: [(&str, std::ops::RangeInclusive<u32>); 2] = [("flight", 8..=22), ("stacks", 8..=17)];

    pub(crate) fn objects() {
        println!("cargo::rerun-if-changed=bpf");
        let out = env::var_os("OUT_DIR").unwrap();
        let out = Path::new(&out);
        for (source, slots) in SOURCES {
            let list: String = thread::scope(|scope| {
                let compile = |log2| {
                    let name = format!("{source}_{log2}");
                    let slots = format!("-DSLOTS={}", 1 << log2);
                    mapring_bpf_build::object(format!("bpf/{source}.bpf.c"), &name, &[&slots]);
                    format!("({log2}, include_bytes!({:?})), ", out.join(format!("{name}.bpf.o")))
                };
                let jobs: Vec<_> = slots.map(|log2| scope.spawn(move || compile(log2))).collect();
                jobs.into_iter().map(|job| job.join().unwrap()).collect()
            });
            fs::write(out.join(format!("{source}_objects.rs")), format!("&[{list}]")).unwrap();
        }
    }
}
