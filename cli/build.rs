//! Compiles the BPF programs, with feature `bpf`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bpf")]
    {
        mapring_bpf_build::skeletons("bpf");
        flight::objects();
    }
}

/// The number of slots of a ring is a constant of its programs, which makes them fast. So the recorder's programs are
/// compiled once for each number.
#[cfg(feature = "bpf")]
mod flight {
    use std::path::Path;
    use std::{env, fs, thread};

    const LOG2_SLOTS: std::ops::RangeInclusive<u32> = 8..=22;

    pub(crate) fn objects() {
        let out = env::var_os("OUT_DIR").unwrap();
        let out = Path::new(&out);
        let list: String = thread::scope(|scope| {
            let compile = |log2| {
                let name = format!("flight_{log2}");
                let slots = format!("-DSLOTS={}", 1 << log2);
                mapring_bpf_build::object("bpf/flight/flight.bpf.c", &name, Some(&slots));
                format!("({log2}, include_bytes!({:?})), ", out.join(format!("{name}.bpf.o")))
            };
            let jobs: Vec<_> = LOG2_SLOTS.map(|log2| scope.spawn(move || compile(log2))).collect();
            jobs.into_iter().map(|job| job.join().unwrap()).collect()
        });
        fs::write(out.join("flight_objects.rs"), format!("&[{list}]")).unwrap();
    }
}
