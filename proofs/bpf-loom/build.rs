//! Compiles the programs with every clang of this machine, in every way that the headers support.

#[allow(unreachable_pub)] // other files of its own crate use it
#[path = "../../xtask/bpf-build/src/clangs.rs"]
mod clangs;

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "bpf/programs.bpf.c";

/// A plain store publishes on x86, `xchg` elsewhere, and a store-release if the compiler supports it (clang 21 or so,
/// -mcpu=v4; older ones with v4: `xchg`). On x86 with both claims, or without the guarded one.
const WAYS: [(&str, &[&str]); 4] = [
    ("x86", &[FOR_X86]),
    ("no_guard", &[FOR_X86, "-DMAPRING_NO_GUARD"]),
    ("any", &[]),
    ("v4", &["-mcpu=v4"]),
];
const FOR_X86: &str = "-D__TARGET_ARCH_x86";

fn main() {
    let var = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let include =
        [Path::new(&var("CARGO_MANIFEST_DIR")).join("../../ring/include").into(), var("DEP_BPF_INCLUDE")];
    let out = PathBuf::from(var("OUT_DIR"));
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed={}", Path::new(&include[0]).display());

    let mut list = String::from("&[\n");
    for (clang, major) in clangs::clangs() {
        for (way, flags) in WAYS {
            // clang 18 is the first to support v4.
            if way == "v4" && major < 18 {
                continue;
            }
            let object = out.join(format!("{major}-{way}.o"));
            let mut compile = Command::new(&clang);
            compile.args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]).args(flags);
            compile.arg("-I").arg(&include[0]).arg("-isystem").arg(&include[1]);
            compile.args(["-c", SOURCE, "-o"]).arg(&object);
            let status = compile.status().unwrap_or_else(|e| panic!("{compile:?}: {e}"));
            assert!(status.success(), "{compile:?}: {status}");
            let (name, tso) = (format!("clang-{major}-{way}"), flags.contains(&FOR_X86));
            writeln!(list, "    ({name:?}, {tso}, include_bytes!({object:?})),").expect("a string");
        }
    }
    std::fs::write(out.join("objects.rs"), list + "]\n").expect("OUT_DIR can be written");
}
