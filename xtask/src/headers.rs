//! Compiles every BPF program of the repository with every clang of this machine, with warnings as errors.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cmd;
use crate::programs::{cpus, in_parallel};
use crate::setup::Tools;

/// The folders with BPF programs. That of `cli/new` is built as its reader would build it: by `cargo xtask test guide`.
const FOLDERS: [&str; 5] = ["cli/bpf", "cli/flight/bpf", "examples", "proofs/assembly", "proofs/kernel"];

/// As loaders for this machine compile; without an architecture; with the newest instructions that the headers use.
const WAYS: [&[&str]; 3] = [&["-D__TARGET_ARCH_x86"], &[], &["-mcpu=v4"]];

/// The first clang that supports `-mcpu=v4`.
const CLANG_V4: u32 = 18;

/// Compiles all programs in all ways, but not as the build scripts compile them; lists all failures together. Without
/// `this_machine`, no clang compiles them for this machine.
pub(crate) fn run(tools: &Tools, this_machine: bool) -> Result<()> {
    let libbpf = libbpf_include()?;
    let mut programs = Vec::new();
    for folder in FOLDERS {
        programs.extend(cmd::files(&cmd::root().join(folder))?);
    }
    programs.retain(|program| program.to_string_lossy().ends_with(".bpf.c"));
    programs.sort();
    ensure!(!programs.is_empty(), "no *.bpf.c under {FOLDERS:?}");

    let mut failed = Vec::new();
    for clang in &tools.clangs {
        let host = host_includes(&clang.path)?;
        let ways = if clang.major < CLANG_V4 { &WAYS[..2] } else { &WAYS };
        let is_of_builds = clang.path == tools.clangs[0].path;
        let ways = if this_machine && !is_of_builds { ways } else { &ways[1..] };
        let compiles = programs.iter().flat_map(|program| ways.iter().map(move |way| (program, way)));
        let refusals = in_parallel(compiles, cpus(), |(program, way)| {
            let error = cmd::output(&mut compile(&clang.path, program, &libbpf, &host, way)).err();
            Ok(error.map(|error| (program, error)))
        })?;
        for (program, error) in refusals.into_iter().flatten() {
            eprintln!("{error:#}");
            failed.push(format!("{} with clang {}", relative(program).display(), clang.version));
        }
        if let Err(error) = check_refused(&clang.path, &libbpf, &host) {
            eprintln!("{error:#}");
            failed.push(format!("refused programs with clang {}", clang.version));
        }
        eprintln!("clang {}: {} programs, each in {} ways", clang.version, programs.len(), ways.len());
    }
    ensure!(failed.is_empty(), "does not compile: {}", failed.join("; "));
    Ok(())
}

/// Code that copies more than clang can, for a record of `LARGE`, and the fix that the error must name.
const LARGE: usize = 7_700;
const REFUSED: [(&str, &str, &str); 6] = [
    (
        "ring",
        "MAPRING_RING(map, struct r, 64); long f(struct r *r) { return mapring_output(&map, r); }",
        "reserve the record",
    ),
    (
        "ring",
        "MAPRING_RING(map, struct r, 64, WAKEABLE); long f(struct r *r) { return mapring_output(&map, r); }",
        "reserve the record",
    ),
    (
        "cell",
        "MAPRING_CELL(map, struct r); long f(struct r *r) { return mapring_cell_set(&map, 0, r); }",
        "begin the cell",
    ),
    (
        "global",
        "MAPRING_GLOBAL_CELL(map, struct r); long f(struct r *r) { return mapring_cell_set(&map, r); }",
        "begin the cell",
    ),
    (
        "latch",
        "MAPRING_LATCH(map, struct r); long f(struct r *r) { return mapring_latch_read(&map, 0, r); }",
        "several latches",
    ),
    (
        "percpu",
        "MAPRING_PERCPU_CELL(map, struct r); long f(struct r *r) { return mapring_cell_read(&map, 0, 0, r); }",
        "several cells",
    ),
];

/// Declarations that can't be, and what the error must say. `r` has one byte, `none` has no byte.
const IMPOSSIBLE: [(&str, &str, &str); 18] = [
    ("dispatch", "MAPRING_DISPATCH(map, 0);", "a dispatch table needs a slot"),
    (
        "ring",
        "MAPRING_RING(map, struct s, 64); void f(struct s *s) { mapring_commit_tail(&map, s, 0); }",
        "name the ring, and a record of this ring, which has the option TAILS: mapring_commit_tail(&ring, record, bytes)",
    ),
    ("ring", "MAPRING_RING(map, struct none, 64);", "records have at least 1 byte: give the struct a field"),
    ("ring", "MAPRING_RING(map, struct none, 64, TAILS(64, 128));", "records have at least 1 byte"),
    ("ring", "MAPRING_RING(map, struct none, 64, RESIZABLE);", "records have at least 1 byte"),
    ("cell", "MAPRING_CELL(map, struct none);", "values have at least 1 byte"),
    ("latch", "MAPRING_LATCH(map, struct none);", "values have at least 1 byte"),
    ("global", "MAPRING_GLOBAL_CELL(map, struct none);", "values have at least 1 byte"),
    ("commands", "MAPRING_COMMANDS(map, struct none, 64);", "commands have at least 1 byte"),
    ("ring", "MAPRING_RING(map, struct r, 1 << 30);", "map has too many slots: 2^29 at most"),
    ("ring", "MAPRING_RING(map, struct r, 1 << 30, PER_CPU_MAPS);", "map has too many slots: 2^29 at most"),
    ("cell", "MAPRING_CELLS(map, struct r, 1 << 30);", "map has too many cells: 2^29 at most"),
    ("counters", "MAPRING_COUNTERS(map, 1 << 27);", "map is too large: 2^29 bytes on each CPU at most"),
    (
        "ring",
        "MAPRING_RING(map, struct r, 64, RESIZABLE, KEEP_OLDEST, TAILS(64, 128));",
        "map is RESIZABLE, with which only WAKEABLE goes",
    ),
    ("ring", "MAPRING_RING(map, struct r, 64, PER_CPU_MAPS, RESIZABLE);", "map is RESIZABLE"),
    (
        "ring",
        "MAPRING_RING(map, struct r, 64, RESIZABLE, KEEP_OLDEST);",
        "map is RESIZABLE, with which only WAKEABLE goes. KEEP_OLDEST: a required reader would lose a ring",
    ),
    ("cell", "MAPRING_RING(map, struct r, 64);", "MAPRING_RING needs #include <mapring/ring.bpf.h>"),
    (
        "ring",
        "struct t { __u64 tag; union { MAPRING_VARIANT(1, struct r, r); }; };",
        "MAPRING_VARIANT needs #include <mapring/tagged.bpf.h>",
    ),
];

/// Options of rings. Each set is possible, in one map and in a map for each CPU.
const OPTIONS: [&str; 6] = [
    "",
    "WAKEABLE",
    "KEEP_OLDEST",
    "TAILS(64, 128)",
    "TAILS(64, 128), WAKEABLE",
    "KEEP_OLDEST, TAILS(64, 128)",
];

/// Declarations of `map` with each set of options.
fn rings() -> Vec<String> {
    let declared = |options: String| format!("MAPRING_RING(map, struct r, 64{options});");
    let places = ["", ", PER_CPU_MAPS"];
    let sets = places.iter().flat_map(|place| {
        OPTIONS.iter().map(move |set| format!("{place}{}{set}", if set.is_empty() { "" } else { ", " }))
    });
    sets.chain([", RESIZABLE", ", WAKEABLE, RESIZABLE", ", RESIZABLE, WAKEABLE"].map(str::to_owned))
        .map(declared)
        .collect()
}

/// Programs that copy too much must get an error at the call; programs that copy the maximum must compile. Declarations that
/// can't be must get an error that says why.
fn check_refused(clang_path: &Path, libbpf: &[PathBuf], host: &[String]) -> Result<()> {
    let dir = cmd::target_dir().join(format!("bpf-refused-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let program = dir.join("refused.bpf.c");
    let log = |header: &str, text: &str, bytes: usize| -> Result<Option<String>> {
        let text = format!(
            "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <mapring/{header}.bpf.h>\n\
             struct r {{ char bytes[{bytes}]; }};\n{text}\n"
        );
        fs::write(&program, text)?;
        Ok(cmd::output(&mut compile(clang_path, &program, libbpf, host, &[]))
            .err()
            .map(|error| format!("{error:#}")))
    };
    for (header, text, remedy) in REFUSED {
        let refused = log(header, text, LARGE)?.with_context(|| format!("{header}: compiled"))?;
        for part in ["clang copies at most 1024 bytes", remedy] {
            ensure!(refused.contains(part), "{header}: no {part:?} in {refused}");
        }
        // The largest two sizes that clang copies in a ring; elsewhere it may need more stack than BPF has.
        let copied: &[usize] = if header == "ring" { &[1, 56, 1018, 1024] } else { &[1, 56] };
        for &bytes in copied {
            let refused = log(header, text, bytes)?;
            ensure!(refused.is_none(), "{header}, {bytes} bytes: {}", refused.unwrap_or_default());
        }
    }
    for (header, declared, remedy) in IMPOSSIBLE {
        let text = format!("struct none {{}}; struct s {{ long l; }}; {declared}");
        let refused = log(header, &text, 1)?.with_context(|| format!("{declared} compiled"))?;
        ensure!(refused.contains(&format!("mapring: {remedy}")), "{declared}: no {remedy:?} in {refused}");
    }
    // Ends of records that do not name the ring, or name another ring. A `void *` is a record of the ring that it names.
    for declared in rings() {
        let calls = |records: &[&str]| {
            let ends = ["mapring_commit", "mapring_discard"];
            let calls: String =
                ends.iter().flat_map(|end| records.iter().map(move |r| format!(" {end}({r});"))).collect();
            let text = format!(
                "{declared} struct other {{ long l; }};\nvoid *f(struct r *r, struct other *o, void *v) {{{calls} \
                 return r ? o : v; }}"
            );
            log("ring", &text, 56)
        };
        let wrong = ["r", "v", "&map, o", "r, &map"];
        let refused = calls(&wrong)?.with_context(|| format!("{declared}: ends without a ring compiled"))?;
        for end in ["mapring_commit", "mapring_discard"] {
            let remedy = format!("mapring: name the ring, and a record of this ring: {end}(&ring, record)");
            ensure!(refused.matches(&remedy).count() == wrong.len(), "{declared}: {refused}");
        }
        ensure!(
            refused.matches("error:").count() == 2 * wrong.len(),
            "{declared}: other messages: {refused}"
        );
        let refused = calls(&["&map, r", "&map, v"])?;
        ensure!(refused.is_none(), "{declared}: {}", refused.unwrap_or_default());
    }
    Ok(fs::remove_dir_all(&dir)?)
}

fn compile(clang_path: &Path, program: &Path, libbpf: &[PathBuf], host: &[String], way: &[&str]) -> Command {
    let mut command = clang(clang_path, libbpf, host, way);
    command.args(["-g", "-c"]).arg(relative(program)).args(["-o", "/dev/null"]);
    command
}

/// A clang command with everything for compiling programs, except the file names.
pub(crate) fn clang(clang: &Path, libbpf: &[PathBuf], host: &[String], way: &[&str]) -> Command {
    let mut command = Command::new(clang);
    command.current_dir(cmd::root()).args(["-target", "bpf", "-O2"]);
    command.args(["-Wall", "-Wextra", "-Werror", "-Iring/include"]).args(way);
    for dir in libbpf {
        command.arg("-isystem").arg(dir);
    }
    // Debian keeps asm/types.h in a folder that clang does not search with `-target bpf`.
    for dir in host {
        command.arg("-idirafter").arg(dir);
    }
    command
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(cmd::root()).unwrap_or(path)
}

/// The folders of `<bpf/bpf_helpers.h>` and `<linux/bpf.h>`, from the libbpf in libbpf-sys.
pub(crate) fn libbpf_include() -> Result<[PathBuf; 2]> {
    let metadata = cmd::output(&mut cmd::line("cargo metadata --all-features --format-version 1"))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let Some(manifest) = packages
        .iter()
        .find(|package| package["name"] == "libbpf-sys")
        .and_then(|package| package["manifest_path"].as_str())
    else {
        bail!("no package of the workspace depends on libbpf-sys, which carries <bpf/bpf_helpers.h>");
    };
    let libbpf = Path::new(manifest).with_file_name("libbpf");
    let include = cmd::target_dir().join("bpf-include");
    fs::create_dir_all(&include)?;
    // Renamed into place: another step may make it, or compile with it, at this moment.
    let new = include.join(format!("bpf-{}", std::process::id()));
    symlink(libbpf.join("src"), &new)?;
    fs::rename(&new, include.join("bpf"))?;
    Ok([include, libbpf.join("include/uapi")])
}

/// The folders that this clang searches when it compiles for the host.
pub(crate) fn host_includes(clang: &Path) -> Result<Vec<String>> {
    let log = Command::new(clang).args(["-v", "-E", "-x", "c", "/dev/null", "-o", "/dev/null"]).output()?;
    Ok(search_list(&String::from_utf8_lossy(&log.stderr)))
}

fn search_list(log: &str) -> Vec<String> {
    let list = log.lines().skip_while(|line| !line.starts_with("#include <...>")).skip(1);
    list.take_while(|line| line.starts_with(' ')).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clang_can_not_copy_is_named() {
        let clang = Path::new("clang");
        let libbpf = libbpf_include().unwrap();
        check_refused(clang, &libbpf, &host_includes(clang).unwrap()).unwrap();
    }

    #[test]
    fn the_search_list_is_cut_out() {
        let log = "clang version 14\n#include \"...\" search starts here:\n#include <...> search starts here:\n \
                    /usr/lib/llvm-14/lib/clang/14.0.6/include\n /usr/include/x86_64-linux-gnu\n /usr/include\nEnd of \
                    search list.\n";
        assert_eq!(
            search_list(log),
            ["/usr/lib/llvm-14/lib/clang/14.0.6/include", "/usr/include/x86_64-linux-gnu", "/usr/include"]
        );
    }
}
