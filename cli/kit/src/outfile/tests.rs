//! Other users who exchange what has a name while this command writes there.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use tempfile::TempDir;

use super::*;

const NOBODY: u32 = 65534;
const ROUNDS: u64 = 30_000;

/// In memory if possible, where an attacker is faster.
fn dir() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// Exchanges two names until it is dropped.
struct Attacker {
    turns: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Attacker {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let (turns, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, over) = (turns.clone(), is_over.clone());
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { turns, is_over, thread: Some(thread) }
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(directory).unwrap().map(name).collect()
}

/// A file that began in one directory does not get its name in another one.
#[test]
fn an_exchanged_directory_is_not_written() {
    const FILES: u64 = 3000;
    let dir = TempDir::new().unwrap(); // its disk takes a while: turns for the attacker
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("his")).unwrap();
    fs::create_dir(at("victim")).unwrap();
    symlink("victim", at("link")).unwrap();
    // The directories by names that stay.
    let his = fs::File::open(at("his")).unwrap();
    let his = PathBuf::from(format!("/proc/self/fd/{}", his.as_raw_fd()));
    let attacker = Attacker::new(at("his"), at("link"));
    let mut met = 0;
    for round in 0..FILES {
        let before = attacker.turns();
        let out = OutFile::create(&at("his/f"), true).unwrap();
        let began = [&his, &at("victim")].map(|of| names(of).iter().any(|name| name.ends_with(".part")));
        out.finish().unwrap_or_else(|e| panic!("round {round}: {e:#}"));
        met += u64::from(attacker.turns() > before);
        let ended = [&his, &at("victim")].map(|of| fs::remove_file(of.join("f")).is_ok());
        assert_eq!(began, ended, "round {round}");
    }
    println!("{met} of {FILES} files were met by an exchange");
    assert!(met > 0, "{met}");
}

/// Another user exchanges his pipe with `other`, at the name with this end. Opening it never waits.
fn exchanged_with_a_pipe(end: &'static str, other: impl FnOnce(&Path), open: fn(&Path) -> Result<OutFile>) {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    chown(at("pipe"), Some(NOBODY), Some(NOBODY)).unwrap();
    other(&at(&format!("f{end}")));
    let attacker = Attacker::new(at("pipe"), at(&format!("f{end}")));
    let (path, (done, all)) = (at("f"), mpsc::channel());
    // A call that waits without end leaves this thread behind.
    thread::spawn(move || {
        for _ in 0..ROUNDS {
            let _ = done.send(open(&path).err().map(|e| format!("{e:#}")));
        }
    });
    let (mut pipes, mut others) = (0, 0);
    for round in 0..ROUNDS {
        let message = all.recv_timeout(Duration::from_secs(20));
        let message =
            message.unwrap_or_else(|_| panic!("round {round} waits; {} exchanges", attacker.turns()));
        let message = message.expect("neither can be written");
        *if message.contains("pipe") || message.contains("File exists") {
            &mut pipes
        } else {
            &mut others
        } += 1;
    }
    println!("{pipes} times the pipe, {others} times the other one; {} exchanges", attacker.turns());
    assert!(pipes > 0 && others > 0, "{pipes} and {others}");
}

#[test]
fn an_exchanged_pipe_makes_nobody_wait() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a pipe to another user");
        return;
    }
    let socket = |path: &Path| drop(UnixListener::bind(path).unwrap());
    exchanged_with_a_pipe("", socket, |path| OutFile::create(path, true));
    let file = |path: &Path| fs::write(path, "left").unwrap();
    exchanged_with_a_pipe(".part", file, |path| OutFile::growing(Destination::of(path)?, false));
}

#[test]
fn what_is_left_of_a_killed_command_is_replaced_only_by_force() {
    let dir = dir();
    let (path, part) = (dir.path().join("f"), dir.path().join("f.part"));
    let growing = |force| OutFile::growing(Destination::of(&path)?, force);
    let message = |force| format!("{:#}", growing(force).err().unwrap());
    fs::write(&part, "left").unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(message(false).contains("f.part: a command that was killed left it"), "{}", message(false));
    assert_eq!(fs::read_to_string(&part).unwrap(), "left");
    let out = growing(true).unwrap();
    assert!(message(true).contains("f.part: another `mapring` writes it"), "{}", message(true));
    assert_eq!(fs::metadata(&part).unwrap().permissions().mode() & 0o7777, 0o600);
    out.finish().unwrap();
    assert_eq!(names(dir.path()), ["f"]);
    // A link is not followed, and not replaced.
    symlink("mine", &part).unwrap();
    assert!(message(true).contains("f.part: File exists"), "{}", message(true));
    assert!(!dir.path().join("mine").exists());
}

#[test]
fn a_link_to_descriptors_chooses_none() {
    let dir = dir();
    let mine = dir.path().join("mine");
    fs::write(&mine, "mine").unwrap();
    let opened = fs::OpenOptions::new().write(true).open(&mine).unwrap();
    symlink("/proc/self/fd", dir.path().join("d")).unwrap();
    let number = opened.as_raw_fd().to_string();
    for force in [false, true] {
        assert!(OutFile::create(&dir.path().join("d").join(&number), force).is_err());
    }
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    // The user may name it.
    assert!(!OutFile::create(&Path::new("/dev/fd").join(&number), false).unwrap().is_regular());
    assert_eq!(fs::read_to_string(&mine).unwrap(), "");
}

#[test]
fn errors_name_what_the_user_gave() {
    let dir = dir();
    let out = OutFile::create(&dir.path().join("f"), false).unwrap();
    assert!(out.shown().ends_with("/f"), "{}", out.shown());
    drop(out);
    assert!(names(dir.path()).is_empty());
}
