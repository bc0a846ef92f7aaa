//! Files that the command writes: whole or not there at all, for their owner alone, and never through a link.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mapring::Ring;

use super::common::command;
use super::{Dir, mapring, path, stderr, text};

const COMMAND: &str = env!("CARGO_BIN_EXE_mapring");
const NOBODY: u32 = 65534;
const FORMATS: &[&str] =
    if cfg!(feature = "parquet") { &["ndjson", "csv", "parquet"] } else { &["ndjson", "csv"] };

/// A recording of this number of records, and the ring.
fn recording(dir: &Dir, records: u64) -> (Ring<[u64; 8]>, String) {
    let ring = Ring::create_memfd(1 << 17, 1).unwrap();
    let writer = ring.writer(0).unwrap();
    (0..records).for_each(|number| writer.push(&[number; 8]).map(drop).unwrap());
    let file = dir.path("recording");
    assert!(mapring(&["record", &path(&ring.region()), "--no-follow", "-o", &file]).status.success());
    (ring, file)
}

/// What is in a directory.
fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

/// Runs `script` with the command as `$0` and these arguments, on a full disk: /mnt, of 64 KiB.
fn on_a_small_disk(script: &str, args: &[&str]) -> Option<Output> {
    let script = format!("mount -t tmpfs -o size=64k tmpfs /mnt && cd /mnt && {script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, COMMAND]).args(args).stdin(Stdio::null());
    let output = command.output().ok().filter(|output| !output.stderr.starts_with(b"unshare"))?;
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

#[test]
fn a_full_disk_leaves_the_older_file_and_no_other() {
    let dir = Dir::new();
    // More than a Parquet file has in a group of rows.
    let (ring, file) = recording(&dir, 70_000);
    let ring = path(&ring.region());
    // A conversion leaves nothing at all; the older file stays, also with --force.
    for format in FORMATS {
        let script = "echo older > old; \"$0\" inspect \"$1\" --format \"$2\" --out new; test $? = 1 || exit 9; \
                      \"$0\" inspect \"$1\" --format \"$2\" --out old --force; test $? = 1 || exit 9; ls -A; cat old";
        let Some(output) = on_a_small_disk(script, &[&file, format]) else { return };
        assert_eq!(text(&output), "old\nolder\n");
        assert!(stderr(&output).contains("new: No space left on device"), "{}", stderr(&output));
    }
    // What was recorded until then can be read, but not under the name of the recording.
    let script = "echo older > old; \"$0\" record \"$1\" --no-follow --out new; test $? = 1 || exit 9; \
                  \"$0\" record \"$1\" --no-follow --out old --force; test $? = 1 || exit 9; ls -A; cat old";
    let output = on_a_small_disk(script, &[&ring]).unwrap();
    assert_eq!(text(&output), "new.part\nold\nold.part\nolder\n");
    assert!(stderr(&output).contains("new.part: the recording ends after "), "{}", stderr(&output));
    let script =
        "head -c 60000 /dev/zero > full; \"$0\" new project --mapring \"$1\"; test $? = 1 || exit 9; ls -A";
    let output = on_a_small_disk(script, &[concat!(env!("CARGO_MANIFEST_DIR"), "/../ring")]).unwrap();
    assert_eq!(text(&output), "full\n");
}

#[test]
fn a_planted_link_is_not_followed() {
    let dir = Dir::new();
    let (ring, file) = recording(&dir, 10);
    let (ring, mine) = (path(&ring.region()), dir.file("mine", "mine"));
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o777)).unwrap();
    // As another user, if this one may: the kernel may then refuse to follow the link as well.
    let planted = |name: &str, to: &str| {
        let link = dir.path(name);
        let mut ln = Command::new("ln");
        ln.args(["-sf", to, &link]);
        if rustix::process::geteuid().is_root() {
            ln.uid(NOBODY).gid(NOBODY);
        }
        assert!(ln.status().unwrap().success());
        link
    };
    let nowhere = dir.path("made-by-a-link");
    for to in [&*mine, &nowhere, "/dev/null"] {
        for (command, format) in [("inspect", "csv"), ("inspect", "ndjson"), ("record", "")] {
            let link = planted(&format!("out.{format}"), to);
            let args = match command {
                "inspect" => vec!["inspect", &file, "--format", format, "--out", &link],
                _ => vec!["record", &ring, "--no-follow", "--out", &link],
            };
            let output = mapring(&args);
            assert_eq!(output.status.code(), Some(1), "{args:?} to {to}");
            assert!(stderr(&output).contains("the file exists; --force replaces it"));
            // With --force the link is replaced, not what it names.
            assert!(mapring(&[&args[..], &["--force"]].concat()).status.success());
            let made = fs::symlink_metadata(&link).unwrap();
            assert!(made.is_file() && made.permissions().mode() & 0o7777 == 0o600, "{made:?}");
            fs::remove_file(&link).unwrap();
        }
    }
    // The name under which a recording grows.
    let link = planted("grows.part", &mine);
    let output = mapring(&["record", &ring, "--no-follow", "--force", "--out", &dir.path("grows")]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    fs::remove_file(link).unwrap();
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert!(!fs::exists(&nowhere).unwrap() && !dir.path("grows").is_empty());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(names(&dir.0), ["mine", "recording"], "nothing else is left");
}

/// A link to the descriptors of another process, which can read a file, and may not write it.
#[test]
fn a_descriptor_of_another_process_is_not_written() {
    let dir = Dir::new();
    let (ring, file) = recording(&dir, 10);
    let mine = dir.file("mine", "mine");
    let opened = fs::File::open(&mine).unwrap();
    symlink(format!("/proc/{}/fd", std::process::id()), dir.path("link")).unwrap();
    let out = dir.path(&format!("link/{}", opened.as_raw_fd()));
    for args in [
        &["inspect", &file, "--format", "csv", "--out", &out][..],
        &["inspect", &file, "--format", "csv", "--out", &out, "--force"],
        &["record", &path(&ring.region()), "--no-follow", "--out", &out],
        &["record", &path(&ring.region()), "--no-follow", "--out", &out, "--force"],
    ] {
        assert_eq!(mapring(args).status.code(), Some(1), "{args:?}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    }
}

#[test]
fn streams_are_written_directly() {
    let dir = Dir::new();
    let (ring, file) = recording(&dir, 10);
    let rows = text(&mapring(&["inspect", &file, "--format", "csv"]));
    let recorded = fs::read(&file).unwrap().len();
    for out in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"] {
        let convert = ["inspect", &file, "--format", "csv", "--out", out];
        assert_eq!(text(&mapring(&convert)), rows, "{out}");
        let to_file = fs::File::create(dir.path("redirected")).unwrap();
        assert!(command(&convert).stdout(to_file).status().unwrap().success());
        assert_eq!(fs::read_to_string(dir.path("redirected")).unwrap(), rows, "{out}");
        let record = mapring(&["record", &path(&ring.region()), "--no-follow", "--out", out]);
        assert_eq!((record.status.code(), record.stdout.len()), (Some(0), recorded), "{out}");
    }
    for out in ["/dev/null", "/dev/fd/0"] {
        let convert = ["inspect", &file, "--format", "csv", "--out", out];
        assert!(command(&convert).stdin(fs::File::create("/dev/null").unwrap()).status().unwrap().success());
    }
    let pipe = dir.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut convert = command(&["inspect", &file, "--format", "csv", "--out", &pipe]).spawn().unwrap();
    assert_eq!(fs::read_to_string(&pipe).unwrap(), rows);
    assert!(convert.wait().unwrap().success());
    if rustix::process::geteuid().is_root() {
        // Of another user: nothing waits until he reads it.
        chown(&pipe, Some(NOBODY), Some(NOBODY)).unwrap();
        let output = mapring(&["inspect", &file, "--format", "csv", "--out", &pipe]);
        assert!(self::stderr(&output).contains("another user made this pipe"), "{output:?}");
    }
    let log = stderr(&mapring(&["inspect", &file, "--format", "csv", "--out", dir.0.to_str().unwrap()]));
    assert!(log.contains("a directory"), "{log}");
    symlink("/dev/null", dir.path("link")).unwrap();
    let output = mapring(&["inspect", &file, "--format", "csv", "--out", &dir.path("link")]);
    assert_eq!(output.status.code(), Some(1), "a link may lead to any device");
}

#[test]
fn what_a_killed_recorder_left_is_kept() {
    let dir = Dir::new();
    let (ring, _) = recording(&dir, 10);
    let (ring, file) = (path(&ring.region()), dir.path("again"));
    let left = dir.file("again.part", "left");
    let args = ["record", &ring, "--no-follow", "--out", &file];
    let output = mapring(&args);
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("again.part: a command that was killed")
    );
    assert_eq!(fs::read_to_string(&left).unwrap(), "left");
    // With rotation it becomes a full file.
    assert!(mapring(&[&args[..], &["--rotate-size", "1G"]].concat()).status.success());
    assert_eq!(fs::read_to_string(dir.path("again.1")).unwrap(), "left");
    assert!(fs::exists(&file).unwrap() && !fs::exists(&left).unwrap());
    dir.file("again.part", "left");
    assert!(mapring(&[&args[..], &["--force"]].concat()).status.success());
    assert!(!fs::exists(&left).unwrap());
}
