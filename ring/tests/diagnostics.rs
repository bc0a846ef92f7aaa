//! The messages of rustc for types that can't be records. They are compiled like a user's package, in their own folder.
#![cfg(feature = "derive")]

use std::fs;
use std::path::Path;
use std::process::Command;

const HEAD: &str = "use bytemuck::{AnyBitPattern, Zeroable};\nuse mapring::Record;\n";
const BOOLEAN: &str = "#[derive(Clone, Copy, Zeroable, Record)]\n#[repr(C)]\nstruct Event { on: bool }\n";
const UNION: &str = "#[derive(Clone, Copy, AnyBitPattern, Record)]\n#[repr(C)]\nstruct Event { of: Either }\n\
                     #[derive(Clone, Copy, AnyBitPattern)]\n#[repr(C)]\nunion Either { a: u64, b: u32 }\n";

/// What `cargo check` says of a program.
fn check(dir: &Path, source: &str) -> String {
    fs::write(dir.join("src/main.rs"), format!("{HEAD}{source}fn main() {{}}\n")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--color=never"])
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .env_remove("RUSTFLAGS")
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(!output.status.success(), "compiled: {source}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn types_that_are_no_records_are_told_what_to_be() {
    let ring = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("diagnostics");
    fs::create_dir_all(dir.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"diagnostics\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         bytemuck = {{ version = \"1\", features = [\"derive\"] }}\n\
         mapring = {{ path = {ring:?}, default-features = false, features = [\"derive\"] }}\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    fs::copy(ring.join("../Cargo.lock"), dir.join("Cargo.lock")).unwrap();

    let boolean = check(&dir, BOOLEAN);
    assert!(boolean.contains("`bool` is not a mapring `Record`"), "{boolean}");
    assert!(boolean.contains("use `u8` (`__u8`)"), "{boolean}");
    let union = check(&dir, UNION);
    assert!(union.contains("`Either` is not a mapring `Record`"), "{union}");
    assert!(union.contains("use an array of bytes"), "{union}");
}
