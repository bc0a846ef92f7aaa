//! The step `c`: the headers of `bindings/c` with every compiler, and the example of docs/c.md, built from what is installed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::bench::languages::{Times, times};
use crate::programs::{cpus, in_parallel};
use crate::setup::Tools;
use crate::{cmd, guide, headers, install};

/// Compilers and languages. The sanitizers must find no warning either.
const WAYS: [&str; 8] = [
    "gcc -std=c11 -O2",
    "clang -std=c11 -O2",
    "g++ -x c++ -std=c++17 -O2",
    "clang -x c++ -std=c++17 -O2",
    "gcc -std=c11 -O1 -fsanitize=address,undefined",
    "gcc -std=c11 -O1 -fsanitize=thread",
    "clang -std=c11 -O1 -fsanitize=thread",
    "aarch64-linux-gnu-gcc -std=c11 -O2",
];
const WARNINGS: &str = "-DMAPRING_SHOW_WARNINGS -Wall -Wextra -Wpedantic -Werror -c -o /dev/null";

/// Warnings with which users compile, in C++, and which the headers do not follow.
const OF_USERS: [&str; 2] = ["g++ -Wuseless-cast", "clang -Wno-pragma-system-header-outside-header"];
const THEIRS: &str = "-x c++ -std=c++17 -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast \
                      -Wzero-as-null-pointer-constant -Werror -c -o /dev/null";

/// What is compiled in all ways, in `bindings/c`.
const PROGRAMS: [&str; 3] = ["examples/read.c", "tests/hostile.c", "tests/images.c"];

/// Objects with regions of every kind and option, in `proofs/kernel/bpf`: the loader in C prepares and initializes them.
const LOADED: [&str; 12] = [
    "wakeable",
    "keep",
    "numa",
    "resizable",
    "tails",
    "options",
    "percpu",
    "commands",
    "latches",
    "histogram",
    "gauge",
    "top",
];
/// Regions that `reuse_other` declares otherwise than `reuse`, each in another way, and a part of the refusal.
const UNFIT: [(&str, &str); 6] = [
    ("from_wakeable", "WAKEABLE; this object declares"),
    ("fields", "the first is pid"),
    ("constants", "remove the pin, or pin with MAPRING_PIN_REPLACE"),
    ("sizes", "64 × 8 bytes"),
    ("nodes", "this object declares"),
    ("tails", "TAILS(64, 4096); this object declares"),
];
/// Regions that both declare alike.
const FIT: [&str; 2] = ["kept", "woken"];
/// Regions of `options` and `reuse` that are frozen when they are reused. The first two are rings with a map for each CPU.
const FROZEN: [(&str, &str); 3] = [("options", "keeps_of_cpu"), ("reuse", "nodes"), ("reuse", "same")];

/// Rings of `options` that are replaced while another process opens them: in one map, and in a map for each CPU.
const REPLACED: [&str; 2] = ["wakes", "keeps_of_cpu"];

/// What a record costs a reader in C, and libbpf's.
pub(crate) fn speed(tools: &Tools) -> Result<Times> {
    let (c, folder, libbpf) = (cmd::root().join("bindings/c"), cmd::target_dir().join("bench"), libbpf()?);
    fs::create_dir_all(&folder)?;
    let (program, object) = (folder.join("speed"), folder.join("beside.bpf.o"));
    let mut compile = cmd::line("gcc -std=c11 -O2 bindings/c/tests/speed.c");
    compile.arg("-I").arg(c.join("include")).arg("-isystem").arg(libbpf.join("include"));
    cmd::run(compile.arg("-o").arg(&program).arg(libbpf.join("libbpf.a")).args(["-lelf", "-lz"]))?;
    let clang = &tools.clangs[0].path;
    let options = ["-g", "-mcpu=v3"];
    let mut compile =
        headers::clang(clang, &headers::libbpf_include()?, &headers::host_includes(clang)?, &options);
    cmd::run(compile.arg("-c").arg("bindings/go/testdata/beside.bpf.c").arg("-o").arg(&object))?;
    let log = cmd::output(Command::new(&program).arg(&object))?;
    times(
        &log,
        &[
            ("for_each", "`mapring_reader__for_each`"),
            ("consume", "libbpf, `ring_buffer__consume` of a BPF ringbuf"),
        ],
    )
}

/// Where the example pins its ring.
const PIN: &str = "/sys/fs/bpf/switches";

pub(crate) fn run(tools: &Tools) -> Result<()> {
    let prefix = cmd::target_dir().join("c");
    if prefix.exists() {
        fs::remove_dir_all(&prefix)?;
    }
    install::into(&prefix)?;
    let (c, include, libbpf) = (cmd::root().join("bindings/c"), prefix.join("include"), libbpf()?);
    let loader = prefix.join("loader.c");
    fs::write(
        &loader,
        "#include <mapring_loader.h>\nint main(void) { return mapring_loader__prepare(0, 0); }\n",
    )?;
    let programs: Vec<_> = PROGRAMS.iter().map(|program| c.join(program)).chain([loader]).collect();
    let compiles = programs.iter().flat_map(|program| WAYS.iter().map(move |way| (program, way)));
    let refused = in_parallel(compiles, cpus(), |(program, way)| {
        let mut compile = cmd::line(&format!("{way} {WARNINGS}"));
        compile.arg("-I").arg(&include).arg("-isystem").arg(libbpf.join("include")).arg(program);
        Ok(cmd::output(&mut compile).err())
    })?;
    let refused: Vec<_> = refused.into_iter().flatten().map(|error| format!("{error:#}")).collect();
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    let included = prefix.join("included.cc");
    fs::write(&included, "#include <mapring.h>\n#include <mapring_loader.h>\n")?;
    for way in OF_USERS {
        let mut compile = cmd::line(&format!("{way} {THEIRS}"));
        cmd::run(compile.arg("-I").arg(&include).arg("-isystem").arg(libbpf.join("include")).arg(&included))?;
    }
    eprintln!("{} programs, each in {} ways", programs.len(), WAYS.len());
    images(&c, &prefix)?;
    loads(tools, &c, &prefix, &libbpf)?;
    example(tools, &c.join("examples/switches"), &prefix, &libbpf)
}

/// Reads the golden images, with sanitizers.
fn images(c: &Path, prefix: &Path) -> Result<()> {
    let program = prefix.join("images");
    let mut compile = cmd::line("gcc -std=c11 -g -fsanitize=address,undefined -fno-sanitize-recover=all");
    compile.arg("-I").arg(prefix.join("include")).arg(c.join("tests/images.c"));
    cmd::run(compile.arg("-o").arg(&program))?;
    let mut images = cmd::files(&cmd::root().join("proofs/images"))?;
    images.retain(|file| file.extension().is_some_and(|it| it == "bin"));
    ensure!(!images.is_empty(), "no golden images");
    eprint!("{}", cmd::output(Command::new(&program).args(images))?);
    Ok(())
}

/// Runs the loader in C, with sanitizers, on objects of the kernel's tests; then on what an earlier loader has pinned.
fn loads(tools: &Tools, c: &Path, prefix: &Path, libbpf: &Path) -> Result<()> {
    let (program, include) = (prefix.join("load"), libbpf.join("include"));
    let mut compile = cmd::line("gcc -std=c11 -g -fsanitize=address,undefined -fno-sanitize-recover=all");
    compile.arg("-I").arg(prefix.join("include")).arg("-isystem").arg(&include).arg(c.join("tests/load.c"));
    cmd::run(compile.arg("-o").arg(&program).arg(libbpf.join("libbpf.a")).args(["-lelf", "-lz"]))?;
    let includes = [prefix.join("include"), "proofs/kernel/bpf".into(), include];
    let compiled = |source: &str, object: &Path, options: &[&str]| {
        let mut compile = Command::new(&tools.clangs[0].path);
        compile.current_dir(cmd::root()).args(["-g", "-O2", "-target", "bpf"]).args(options);
        includes.iter().for_each(|folder| _ = compile.arg("-I").arg(folder));
        compile.arg("-idirafter").arg(format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH));
        compile.arg("-c").arg(format!("proofs/kernel/bpf/{source}.bpf.c")).arg("-o").arg(object);
        cmd::output(&mut compile).map(drop)
    };
    let objects = in_parallel(LOADED.iter().chain(&["reuse", "reuse_other"]), cpus(), |name| {
        let object = prefix.join(format!("{name}.bpf.o"));
        compiled(name, &object, &[]).map(|()| object)
    })?;
    // The guard is for x86.
    for (option, refused) in [("-DMIT", "1"), ("-DNO_LICENSE", "1"), ("-DMAPRING_NO_GUARD", "0")] {
        let object = prefix.join("license.bpf.o");
        compiled("license/license", &object, &["-D__TARGET_ARCH_x86", option])?;
        if cfg!(target_arch = "x86_64") {
            cmd::output(load(&program).args(["license", refused]).arg(object))?;
        }
    }
    let [loaded @ .., reuse, other] = &objects[..] else { bail!("no objects") };
    cmd::output(load(&program).args(loaded))?;
    let pipe = prefix.join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    cmd::output(load(&program).arg("open").arg(&pipe))?; // which waits for no writer
    for name in ["woken", "woken__readers"] {
        cmd::output(load(&program).args(["alone", name]).arg(reuse))?;
    }
    let percpu = &loaded[LOADED.iter().position(|name| *name == "percpu").context("no percpu")?];
    cmd::output(load(&program).arg("cpus").arg(percpu))?;
    let pins = Path::new("/sys/fs/bpf").join(format!("mapring-c-{}", std::process::id()));
    fs::create_dir(&pins)?;
    let refused = refused(&program, reuse, &pins);
    let options = &loaded[LOADED.iter().position(|name| *name == "options").context("no options")?];
    let replaced = REPLACED.iter().try_for_each(|name| {
        cmd::output(load(&program).args(["replace", name]).arg(pins.join(name)).arg(options))
            .map(|log| eprint!("{log}"))
    });
    let unfit = UNFIT
        .iter()
        .map(|(name, _)| ("reuse", name, *name, vec![(reuse, 0), (reuse, 1), (other, UNLIKE), (other, 1)]));
    let grows = [("reuse", &"wakes_grows", "wakes_grows", vec![(options, 0), (options, 1)])];
    let fit = FIT.iter().map(|name| ("reuse", name, *name, vec![(reuse, 0), (other, 1)]));
    // One map where a directory of maps is pinned, and the other way round.
    let others = [("same", "nodes"), ("nodes", "kept")];
    let others = others.iter().map(|(name, pin)| ("reuse", name, *pin, vec![(reuse, UNLIKE)]));
    let frozen = FROZEN.iter().map(|(object, name)| {
        let object = if *object == "options" { options } else { reuse };
        ("freeze", name, "frozen", vec![(object, 0), (object, 1)])
    });
    let result =
        unfit.chain(fit).chain(grows).chain(others).chain(frozen).try_for_each(|(how, name, pin, loads)| {
            let pin = if pin == "frozen" { pins.join(format!("{pin}_{name}")) } else { pins.join(pin) };
            loads.iter().try_for_each(|(object, expected)| {
                let mut command = load(&program);
                command.args([how, name]).arg(&pin).arg(expected.to_string());
                let why = UNFIT.iter().find(|(unfit, _)| unfit == name).map(|(_, why)| why);
                cmd::output(command.arg(object).args(why)).map(drop)
            })
        });
    fs::remove_dir_all(&pins)?;
    refused?;
    replaced?;
    let fit = FIT.len() + FROZEN.len() + 1;
    eprintln!("{} objects loaded, {} regions replaced, {fit} reused", loaded.len(), UNFIT.len());
    result
}

/// What the loader returns for another region: -EMEDIUMTYPE.
const UNLIKE: i32 = -124;

const NOBODY: u32 = 65534;

/// The loader in C refuses to pin in directories in which another user could exchange the pin with a link to a file of root. In the
/// others it pins, and refuses to pin there a second time.
fn refused(program: &Path, object: &Path, pins: &Path) -> Result<()> {
    let [ours, open, his, sticky, link] =
        ["ours", "open", "his", "sticky", "link"].map(|name| pins.join(name));
    for (dir, mode) in [(&ours, 0o755), (&open, 0o777), (&his, 0o755), (&sticky, 0o1777)] {
        fs::create_dir(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(mode))?;
    }
    chown(&his, Some(NOBODY), Some(NOBODY))?;
    symlink(&ours, &link)?;
    let (access, is_there, not_dir) = (-13, -17, -20);
    for (dir, expected) in
        [(&open, access), (&his, access), (&link, not_dir), (&sticky, 0), (&ours, 0), (&ours, is_there)]
    {
        let mut command = load(program);
        cmd::output(command.args(["pin", "woken"]).arg(dir.join("p")).arg(expected.to_string()).arg(object))?;
    }
    let pinned = |dir: &Path| Ok(fs::read_dir(dir)?.count());
    let found = [&open, &his, &sticky, &ours].map(|dir| pinned(dir).map_err(|e: std::io::Error| e.kind()));
    ensure!(found == [Ok(0), Ok(0), Ok(3), Ok(3)], "pins in directories that others may change: {found:?}");
    planted(program, object, &sticky, &ours)
}

/// In a directory that others may write, the loader in C neither uses nor follows what another user may have put there.
fn planted(program: &Path, object: &Path, sticky: &Path, ours: &Path) -> Result<()> {
    let run = |how: &str, name: &str, pin: &Path, expected: i32| {
        let mut command = load(program);
        cmd::output(command.args([how, name]).arg(pin).arg(expected.to_string()).arg(object)).map(drop)
    };
    let access = -13;
    let [pin, link, rings] = ["p", "link", "rings"].map(|name| sticky.join(name));
    lchown(&pin, Some(NOBODY), None)?;
    symlink(ours.join("p"), &link)?;
    lchown(&link, Some(NOBODY), None)?;
    run("reuse", "woken", &pin, access)?; // and a ring of this user takes its place
    run("reuse", "woken", &pin, 1)?;
    lchown(sticky.join("p__bells"), Some(NOBODY), None)?;
    run("reuse", "woken", &pin, access)?;
    run("reuse", "woken", &link, access)?;
    let further = sticky.join("further");
    fs::hard_link(ours.join("p"), &further)?;
    run("reuse", "woken", &further, access)?;
    run("pin", "nodes", &rings, 0)?;
    fs::set_permissions(&rings, Permissions::from_mode(0o777))?;
    run("reuse", "nodes", &rings, access)?;
    run("reuse", "nodes", &rings, 1)?;
    // A tree of another user, which no loader could remove.
    let [tree, beside] = ["tree", "ring__bells"].map(|name| sticky.join(name));
    for dir in [&tree, &beside] {
        fs::create_dir_all(dir.join("deep/down"))?;
        chown(dir, Some(NOBODY), None)?;
    }
    run("over", "woken", &tree, access)?;
    run("over", "nodes", &tree, access)?;
    run("over", "woken", &sticky.join("ring"), access)?;
    let left: Vec<_> = fs::read_dir(sticky)?.collect::<Result<_, _>>()?;
    ensure!(!left.iter().any(|name| name.path().ends_with("tree__next")), "{left:?}");
    Ok(())
}

/// libbpf keeps some memory until the program ends.
fn load(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    command
}

/// Builds the example as docs/c.md says, and runs it twice: the second time it reads the ring of the first.
fn example(tools: &Tools, folder: &Path, prefix: &Path, libbpf: &Path) -> Result<()> {
    let document = fs::read_to_string(cmd::root().join("docs/c.md"))?;
    for file in ["switches.bpf.c", "switches.c"] {
        let text = fs::read_to_string(folder.join(file))?;
        let first = text.lines().next().unwrap_or_default();
        ensure!(guide::block(&document, first)? == text.trim_end(), "docs/c.md does not show {file}");
        fs::copy(folder.join(file), prefix.join(file))?;
    }
    // libbpf is a static library here, and the document's is the system's.
    let commands = guide::block(&document, "clang -g")?.replace("--libs mapring", "--static --libs mapring");
    let path = [prefix.join("lib/pkgconfig"), libbpf.join("pkgconfig")]
        .map(|path| path.display().to_string())
        .join(":");
    let mut build = Command::new("sh");
    build.args(["-ec", &commands]).current_dir(prefix).env("PKG_CONFIG_PATH", path);
    build.env("C_INCLUDE_PATH", libbpf.join("include")).env("LIBRARY_PATH", libbpf);
    cmd::run(tools.export(&mut build))?;
    let result = (0..2).try_for_each(|_| prints_switches(&prefix.join("switches")));
    match fs::remove_file(PIN) {
        Err(error) if result.is_ok() => bail!("{PIN}: {error}"),
        _ => result,
    }
}

fn prints_switches(program: &Path) -> Result<()> {
    let log = cmd::output(Command::new(program).stderr(Stdio::inherit()))?;
    let last = log.lines().last().unwrap_or_default();
    ensure!(log.contains(" cpu ") && last.contains(" delivered, 0 lost"), "it ends with {last:?}");
    println!("{last}");
    Ok(())
}

/// The folder of libbpf that the step `build` has compiled last.
fn libbpf() -> Result<PathBuf> {
    let mut found = Vec::new();
    for package in fs::read_dir(cmd::target_dir().join("debug/build"))? {
        let out = package?.path().join("out");
        let library = out.join("libbpf.a");
        let is_it = out.parent().is_some_and(|package| package.to_string_lossy().contains("libbpf-sys-"));
        if is_it && library.exists() && out.join("include/bpf/libbpf.h").exists() {
            found.push((fs::metadata(library)?.modified().unwrap_or(SystemTime::UNIX_EPOCH), out));
        }
    }
    found.sort();
    found.pop().map(|(_, out)| out).context("no libbpf in target/debug: run `cargo xtask test build`")
}
