//! Memory whose pages arrive late (`userfaultfd`): a program that copies from it sleeps in the middle of its work, on
//! every kernel, preemptible or not.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use memmap2::{MmapMut, MmapOptions};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice, UserfaultfdFlags, madvise, userfaultfd};

/// `struct uffdio_api`, with only the basic features.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_copy`
#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

const GROUP: u8 = 0xaa;
const API: Opcode = opcode::read_write::<Api>(GROUP, 0x3f);
const REGISTER: Opcode = opcode::read_write::<Register>(GROUP, 0x00);
const COPY: Opcode = opcode::read_write::<Copy>(GROUP, 0x03);
const MODE_MISSING: u64 = 1;

/// `struct uffd_msg` as words: the event in the first byte, the address in the third word.
type Message = [u64; 4];
const PAGE_FAULT: u64 = 0x12;

/// Some missing pages: a task that touches one sleeps until [`serve`](Self::serve) has supplied it. Dropping this wakes
/// all sleepers.
#[derive(Debug)]
pub struct SlowPages {
    // Dropped first: this wakes all sleepers.
    faults: OwnedFd,
    memory: MmapMut,
    page: usize,
}

impl SlowPages {
    /// Creates `count` such pages.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn new(count: usize) -> Self {
        let page = rustix::param::page_size();
        let memory = MmapOptions::new().len(count * page).map_anon().unwrap();
        // SAFETY: it only gets the pages of `memory`, which have no references.
        let faults = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) };
        let faults = faults.unwrap_or_else(|e| panic!("userfaultfd: {e}"));
        let mut api = Api { api: u64::from(GROUP), features: 0, ioctls: 0 };
        // SAFETY: the structure that belongs to this ioctl number.
        let call = unsafe { Updater::<API, _>::new(&mut api) };
        // SAFETY: the structure is valid, and the kernel keeps no pointer to it.
        unsafe { ioctl(&faults, call) }.unwrap_or_else(|e| panic!("UFFDIO_API: {e}"));
        let mut pages = Register {
            start: memory.as_ptr() as u64,
            len: memory.len() as u64,
            mode: MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: the structure that belongs to this ioctl number.
        let call = unsafe { Updater::<REGISTER, _>::new(&mut pages) };
        // SAFETY: this value owns the pages, and nothing relies on their content.
        unsafe { ioctl(&faults, call) }.unwrap_or_else(|e| panic!("UFFDIO_REGISTER: {e}"));
        Self { faults, memory, page }
    }

    /// The address of page `index`, for a program.
    ///
    /// # Panics
    /// Panics if the page does not exist.
    pub fn address(&self, index: usize) -> u64 {
        self.memory[index * self.page..].as_ptr() as u64
    }

    /// Whether a task sleeps on a page that [`serve`](Self::serve) has not seen yet.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn is_touched(&self) -> bool {
        let mut faults = libc::pollfd { fd: self.faults.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, which is a local variable.
        let ready = unsafe { libc::poll(&raw mut faults, 1, 0) };
        assert!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
        ready == 1
    }

    /// Removes page `index`: the next task that touches it sleeps.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn take_away(&self, index: usize) {
        let page = self.address(index) as *mut c_void;
        // SAFETY: a page of `memory`, which has no references and whose content is unused.
        unsafe { madvise(page, self.page, Advice::LinuxDontNeed) }.unwrap();
    }

    /// Supplies pages to the tasks that sleep on them, after a delay: `goes_on` returns the minimum delay, and `None`
    /// at the end. Returns the number of pages supplied.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn serve(&self, mut goes_on: impl FnMut() -> Option<Duration>) -> u64 {
        let mut served = 0;
        while let Some(delay) = goes_on() {
            std::thread::sleep(delay);
            served += self.asleep().into_iter().map(|index| u64::from(self.give(index))).sum::<u64>();
        }
        served
    }

    /// The pages on which tasks began to sleep since the last call. Does not wait.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn asleep(&self) -> Vec<usize> {
        let mut messages = [Message::default(); 16];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut messages);
        let some = match rustix::io::read(&self.faults, bytes) {
            Ok(bytes) => bytes / size_of::<Message>(),
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(e) => panic!("userfaultfd: {e}"),
        };
        let page = |message: &Message| {
            assert_eq!(message[0] & 0xff, PAGE_FAULT, "{message:x?}");
            let bytes = message[2] - self.memory.as_ptr() as u64;
            usize::try_from(bytes).unwrap() / self.page
        };
        messages[..some].iter().map(page).collect()
    }

    /// Supplies page `index` to the task that sleeps on it. Returns whether the page was missing.
    ///
    /// # Panics
    /// Panics with the kernel's error.
    pub fn give(&self, index: usize) -> bool {
        let content = vec![0x5a_u8; self.page];
        let from = content.as_ptr() as u64;
        let mut copy = Copy { to: self.address(index), from, len: self.page as u64, mode: 0, copied: 0 };
        // SAFETY: the structure that belongs to this ioctl number.
        let call = unsafe { Updater::<COPY, _>::new(&mut copy) };
        // SAFETY: fills a missing page of `memory` from a part of `content` of the same size.
        match unsafe { ioctl(&self.faults, call) } {
            Ok(()) => true,
            Err(Errno::EXIST) => false, // after a signal the task faulted twice
            Err(e) => panic!("UFFDIO_COPY: {e}"),
        }
    }
}
