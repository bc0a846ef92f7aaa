//! Child processes: written as one line, printed before they run, always started at the repository's root.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register;

/// The signals that end a program from outside.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

pub(crate) fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The files in and below a folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { &mut folders } else { &mut found }.push(entry.path());
        }
    }
    Ok(found)
}

/// A command from one line: `VAR=value program arg arg`, split at blanks.
pub(crate) fn line(line: &str) -> Command {
    let mut words = line.split_whitespace().peekable();
    let mut vars = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        vars.push((name, value));
        words.next();
    }
    let mut command = Command::new(words.next().expect("a command line names a program"));
    command.args(words).envs(vars).current_dir(root());
    command
}

/// The command as typed in a shell. The child's variables come first.
pub(crate) fn shown(command: &Command) -> String {
    let quoted = |text: &OsStr| {
        let text = text.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "-_./=+:,@%^".contains(c);
        if !text.is_empty() && text.chars().all(plain) { text.into_owned() } else { format!("'{text}'") }
    };
    let vars = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    vars.chain(words).collect::<Vec<_>>().join(" ")
}

/// Prints to stderr the command that runs now.
pub(crate) fn announce(command: &Command) {
    eprintln!("$ {}", shown(command));
}

/// Prints and runs a command; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command silently and returns its output. The error contains its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!("`{}` failed ({})\n{}", shown(command), out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Prints and runs a command. Copies its stdout to stderr and returns it with the exit status.
pub(crate) fn tee(command: &mut Command) -> Result<(String, ExitStatus)> {
    announce(command);
    let program = format!("{:?}", command.get_program());
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
    let mut log = Vec::new();
    let mut buffer = [0; 4096];
    let mut pipe = child.stdout.take().context("stdout was piped")?;
    loop {
        let count = io::Read::read(&mut pipe, &mut buffer)?;
        if count == 0 {
            break;
        }
        log.extend_from_slice(&buffer[..count]);
        io::Write::write_all(&mut io::stderr(), &buffer[..count])?;
    }
    Ok((String::from_utf8_lossy(&log).into_owned(), child.wait()?))
}

/// Whether a command succeeds, without output, with `stdin` as its input.
pub(crate) fn succeeds(command: &mut Command, stdin: &str) -> bool {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.is_ok_and(|mut child| {
        let written = child.stdin.take().map(|mut pipe| io::Write::write_all(&mut pipe, stdin.as_bytes()));
        written.is_some_and(|result| result.is_ok()) & child.wait().is_ok_and(|status| status.success())
    })
}

/// Runs a command and forwards the signals that this process receives, so that the command can end normally.
pub(crate) fn run_with_signals(command: &mut Command) -> Result<ExitStatus> {
    announce(command);
    let received = SIGNALS.map(|signal| (signal, Arc::<AtomicBool>::default()));
    for (signal, flag) in &received {
        register(*signal, Arc::clone(flag))?;
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    loop {
        if let Some(status) = wait(&mut child, Duration::from_millis(50))? {
            return Ok(status);
        }
        for (signal, flag) in &received {
            // A terminal already sends Ctrl-C to the child.
            if flag.swap(false, Ordering::Relaxed)
                && let Some(signal) = Signal::from_named_raw(*signal)
                && !(signal == Signal::INT && io::stdin().is_terminal())
            {
                let _ = kill_process(Pid::from_child(&child), signal);
            }
        }
    }
}

/// A flag that is set when one of these signals arrives.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::default();
    SIGNALS.into_iter().try_for_each(|signal| register(signal, Arc::clone(&flag)).map(drop))?;
    Ok(flag)
}

/// Lets children receive the signals that this process ignores (`nohup`, a background job): tests send them. It still does
/// nothing about them itself.
pub(crate) fn children_get_signals() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    for signal in SIGNALS {
        if ignored >> (signal - 1) & 1 == 1 {
            // A handler, unlike SIG_IGN, is not inherited by a program that is executed.
            register(signal, Arc::default())?;
        }
    }
    Ok(())
}

/// Waits for a child to end, until the time is over.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() > end {
            return Ok(ended);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The exit code that a shell would report.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// The last lines of a text that are not empty.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Fails if one of the names is not one of `all`.
pub(crate) fn known<'n>(
    what: &str,
    names: &[impl AsRef<str>],
    all: impl Iterator<Item = &'n str>,
) -> Result<()> {
    let all: Vec<_> = all.collect();
    let unknown = names.iter().map(AsRef::as_ref).find(|name| !all.contains(name));
    unknown.map_or(Ok(()), |name| bail!("no {what} {name:?}; there are: {}", all.join(" ")))
}

/// Every program on `PATH` whose name `matches`, in `PATH` order.
pub(crate) fn on_path(matches: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let entries = env::split_paths(&path).filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&matches))
        .map(|entry| entry.path())
        .collect()
}

/// Whether a program of this name is on `PATH`.
pub(crate) fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_it_was_written() {
        let text = "RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps -p mapring";
        assert_eq!(shown(&line(text)), text);
        assert_eq!(shown(line("cargo test").arg("it works")), "cargo test 'it works'");
        assert_eq!(shown(&line("cargo test --config a=b")), "cargo test --config a=b");
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(77 << 8)), 77);
        assert_eq!(exit_code(ExitStatus::from_raw(2)), 130);
    }
}
