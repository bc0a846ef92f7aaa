//! A file whose reads, writes and fsyncs take as long as a test wants: FUSE, whose root is this file, and a thread that serves it. And a
//! disk in such a file.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

/// The bytes of the file.
const SIZE: u32 = 1 << 20;

pub(crate) struct SlowFile {
    pub(crate) path: PathBuf,
}

impl SlowFile {
    /// `None` if this kernel has no FUSE, or this user can't mount it.
    pub(crate) fn new(test: &str, delay: Duration) -> Option<Self> {
        let path = env::temp_dir().join(format!("mapring-slow-{}-{test}", std::process::id()));
        let fuse = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        fs::write(&path, "").unwrap();
        let options = format!("fd={},rootmode=100000,user_id=0,group_id=0", fuse.as_raw_fd());
        if !mount(&path, &options) {
            fs::remove_file(&path).unwrap();
            return None;
        }
        thread::spawn(move || serve(fuse, delay));
        Some(Self { path })
    }
}

/// A disk whose requests take as long as those of its file: a loop device.
pub(crate) struct SlowDisk {
    device: File,
    pub(crate) path: PathBuf,
    _file: SlowFile,
}

const LOOP_SET_FD: libc::Ioctl = 0x4c00;
const LOOP_CLR_FD: libc::Ioctl = 0x4c01;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;

impl SlowDisk {
    /// `None` if this kernel has neither FUSE nor loop devices, or this user can't use them.
    pub(crate) fn new(test: &str, delay: Duration) -> Option<Self> {
        let file = SlowFile::new(test, delay)?;
        let content = File::options().read(true).write(true).open(&file.path).ok()?;
        content.metadata().ok()?; // older kernels do not ask for the size of the file
        let control = File::options().read(true).write(true).open("/dev/loop-control").ok()?;
        // Another process may take a free one first.
        for _ in 0..100 {
            let path = PathBuf::from(format!("/dev/loop{}", ioctl(&control, LOOP_CTL_GET_FREE, 0)?));
            let device = File::options().read(true).write(true).open(&path).ok()?;
            if ioctl(&device, LOOP_SET_FD, content.as_raw_fd()).is_some() {
                return Some(Self { device, path, _file: file });
            }
        }
        None
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        ioctl(&self.device, LOOP_CLR_FD, 0);
    }
}

#[allow(unsafe_code)]
fn ioctl(file: &File, request: libc::Ioctl, argument: i32) -> Option<u32> {
    // SAFETY: these requests of loop devices take a number and touch no memory of this process.
    u32::try_from(unsafe { libc::ioctl(file.as_raw_fd(), request, argument) }).ok()
}

#[allow(unsafe_code)]
fn mount(path: &std::path::Path, options: &str) -> bool {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let [path, options] =
        [path.as_os_str().as_bytes(), options.as_bytes()].map(|text| CString::new(text).unwrap());
    let kind = c"fuse".as_ptr();
    // SAFETY: four texts that end with zeros, and live until the call returns.
    unsafe { libc::mount(kind, path.as_ptr(), kind, 0, options.as_ptr().cast()) == 0 }
}

impl Drop for SlowFile {
    fn drop(&mut self) {
        let _ = Command::new("/bin/umount").arg("--lazy").arg(&self.path).stderr(Stdio::null()).status();
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers each request, until the file is unmounted.
fn serve(mut fuse: File, delay: Duration) {
    const GETATTR: u32 = 3;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const WRITE: u32 = 16;
    const FSYNC: u32 = 20;
    const INIT: u32 = 26;
    const ENOSYS: i32 = -38;
    let mut request = vec![0; 1 << 18];
    // Length, operation, a number that the answer repeats; arguments begin at 40.
    while let Ok(_length) = fuse.read(&mut request) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let (operation, unique) = (word(4), &request[8..16]);
        let mut answer = Vec::new();
        let mut push = |words: &[u32]| words.iter().for_each(|word| answer.extend(word.to_ne_bytes()));
        let mut error = 0;
        match operation {
            // Version 7.31, no flags, largest write 4096, and zeros.
            INIT => push(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            // Valid for a long time. Of the attributes only inode, size, mode and links matter.
            GETATTR => {
                push(&[1000, 0, 0, 0]);
                push(&[1, 0, SIZE, 0]);
                push(&[0; 11]);
                push(&[0o100_644, 1, 0, 0, 0, 4096, 0]);
            }
            OPEN => push(&[0; 4]),
            READ => {
                thread::sleep(delay);
                (0..word(56) / 4).for_each(|_| push(&[0]));
            }
            WRITE => {
                thread::sleep(delay);
                push(&[word(56), 0]);
            }
            FSYNC => thread::sleep(delay),
            2 | 42 => continue, // forget: no answer
            _ => error = ENOSYS,
        }
        let length = u32::try_from(16 + answer.len()).unwrap();
        let head = [&length.to_ne_bytes()[..], &i32::to_ne_bytes(error), unique].concat();
        let _ = fuse.write(&[head, answer].concat());
    }
}
