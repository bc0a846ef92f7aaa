//! Live maps and recordings whose types have billions of parts without bytes: each command ends soon, within little memory.

use std::cell::RefCell;
use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libbpf_rs::ProgramInput;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::common::Dir;

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/huge_types.skel.rs"));
}

/// The command, which the kernel ends after 20 seconds on a CPU, or with more than 1 GB of memory.
fn bounded(args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -t 20 && ulimit -v 1000000 && exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_mapring"),
    ]);
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    eprintln!("{args:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// Pins, which are removed at the end.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_value_of_eight_bytes_costs_no_more_whatever_its_type() {
    let pins = Pins(Path::new("/sys/fs/bpf").join(format!("mapring-huge-{}", std::process::id())));
    if let Err(why) = fs::create_dir(&pins.0) {
        return crate::skip::without_bpf(&why.to_string());
    }
    let load = || -> anyhow::Result<_> {
        let storage = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = skel::HugeTypesSkelBuilder::default().open(storage)?;
        mapring_loader::prepare(&mut open)?;
        let skel = open.load()?;
        mapring_loader::initialize(&skel)?;
        Ok(skel)
    };
    let mut skel = match load() {
        Ok(skel) => skel,
        Err(why) => return crate::skip::without_bpf(&format!("{why:#}")),
    };
    let mut n = 7_u64.to_ne_bytes();
    let input = ProgramInput { context_in: Some(&mut n), ..ProgramInput::default() };
    assert_eq!(skel.progs.publish.test_run(input).unwrap().return_value, 0);
    let maps = &mut skel.maps;
    let path = |name: &str| pins.0.join(name).to_str().unwrap().to_owned();
    let dir = Dir::new();
    let failed = RefCell::new(Vec::new());
    for (map, name, is_ring) in [
        (&mut maps.t_huge_ring, "ring", true),
        (&mut maps.t_huge_deep_ring, "deep", true),
        (&mut maps.t_huge_cells, "cells", false),
        (&mut maps.t_huge_deep, "deeps", false),
    ] {
        map.pin(path(name)).unwrap();
        let pin = path(name);
        let ends = |args: &[&str]| {
            let output = bounded(args);
            if !output.status.success() || output.stdout.len() > 100_000 {
                let args = args.join(" ");
                failed.borrow_mut().push(format!("{args}: {}, {} bytes", output.status, output.stdout.len()));
            }
            output.stdout
        };
        for args in [&["show", &pin][..], &["show", &pin, "--json"], &["ls", &path("")]] {
            ends(args);
        }
        if !String::from_utf8(ends(&["show", &pin])).unwrap().contains('…') {
            failed.borrow_mut().push(format!("{name}: what is left out is not marked"));
        }
        ends(&["export", "prometheus", "--once", &pin]);
        if !is_ring {
            let metric = "[[metric]]\nname = \"n\"\nkind = \"gauge\"\nfield = \"n\"\nregion";
            let config = dir.file(&format!("{name}.toml"), &format!("{metric} = \"{pin}\"\n"));
            ends(&["export", "prometheus", "--once", "--config", &config]);
        } else {
            let file = dir.path(name);
            ends(&["tail", &pin, "--no-follow", "--json"]);
            ends(&["record", &pin, "--no-follow", "--out", &file]);
            ends(&["inspect", &file]);
            for format in ["ndjson", "csv"] {
                ends(&["inspect", &file, "--format", format]);
            }
        }
    }
    maps.t_huge_wide.pin(path("wide")).unwrap();
    let output = bounded(&["export", "prometheus", "--once", &path("wide")]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (last, up) = (
        format!("mapring_t_huge_wide_all_63{{region=\"{}\",index=\"2047\"}} 0\n", path("wide")),
        "mapring_up",
    );
    assert!(output.status.success() && text.contains(&last) && text.contains(up), "{}", text.len());
    assert!(bounded(&["show", "-n3", &path("wide")]).status.success());
    assert!(failed.borrow().is_empty(), "{:#?}", failed.borrow());
}
