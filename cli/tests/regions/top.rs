//! `mapring top` on a terminal that the test reads.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mapring::Counters;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::common::{Running, command, until};
use super::path;

/// A running `top` and its terminal.
struct Top {
    child: Running,
    terminal: File,
    /// What it printed since the last look.
    printed: Arc<Mutex<Vec<u8>>>,
    /// Whether the test does not read any more.
    closed: Arc<AtomicBool>,
    columns: u16,
}

impl Top {
    fn new(region: &str) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let slave = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut command = command(&["top", region, "--hz", "50"]);
        command.env("TERM", "xterm").stdin(slave()).stdout(slave());
        let terminal = File::from(terminal);
        let mut top = Self {
            child: Running(command.spawn().unwrap()),
            printed: Arc::default(),
            closed: Arc::default(),
            terminal: terminal.try_clone().unwrap(),
            columns: 80,
        };
        drop(command); // and with it this process's end of the terminal
        top.resize();
        let (mut from, to, closed) = (terminal, top.printed.clone(), top.closed.clone());
        thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().extend(&bytes[..count]);
                if closed.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        top
    }

    /// Makes the terminal claim a size, until it was drawn.
    fn claim(&mut self, ws_row: u16, ws_col: u16) {
        tcsetwinsize(&self.terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        thread::sleep(std::time::Duration::from_millis(600));
    }

    /// Changes the size of the terminal: then the whole screen is drawn again, not only what changed.
    fn resize(&mut self) {
        self.columns = 80 + (self.columns + 1) % 50;
        let size = Winsize { ws_row: 24, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).unwrap();
    }

    /// Waits until the screen has this word. Words are drawn whole; spaces are skipped.
    fn until(&mut self, word: &str, mut meanwhile: impl FnMut()) {
        self.printed.lock().unwrap().clear();
        until(&format!("{word:?} on the screen"), || {
            meanwhile();
            self.resize();
            thread::sleep(std::time::Duration::from_millis(100));
            let ended = self.child.0.try_wait().unwrap();
            let printed = self.printed.lock().unwrap();
            let printed = String::from_utf8_lossy(&printed);
            assert!(ended.is_none(), "{ended:?} {printed}");
            printed.contains(word)
        });
    }

    /// Closes the terminal.
    fn close(mut self) {
        self.closed.store(true, Ordering::Relaxed);
        self.resize(); // so that the other thread reads something, and ends
        let Self { mut child, terminal, .. } = self;
        drop(terminal);
        until("the end", || child.0.try_wait().unwrap().is_some());
        assert_eq!(child.0.wait().unwrap().code(), Some(1));
    }

    /// Ends it by a key.
    fn quit(mut self) {
        self.terminal.write_all(b"q").unwrap();
        until("the end", || self.child.0.try_wait().unwrap().is_some());
        assert!(self.child.0.wait().unwrap().success());
    }
}

#[test]
fn the_screen_shows_the_present_counts() {
    let counters = Counters::create_memfd(2, 1).unwrap();
    let mut top = Top::new(&path(counters.region()));
    top.until("counters", || {});
    counters.writer(0).unwrap().add(1, 123_456_789).unwrap();
    top.until("123,456,789", || {});
    top.quit();
}

#[test]
fn a_terminal_can_claim_any_size() {
    let counters = Counters::create_memfd(2, 1).unwrap();
    let mut top = Top::new(&path(counters.region()));
    top.until("counters", || {});
    for (rows, columns) in
        [(0, 0), (1, 1), (0, 80), (24, 0), (u16::MAX, 1), (1, u16::MAX), (u16::MAX, u16::MAX)]
    {
        top.claim(rows, columns);
    }
    top.until("counters", || {});
    top.quit();
}

#[test]
fn top_ends_with_its_terminal() {
    let counters = Counters::create_memfd(2, 1).unwrap();
    let mut top = Top::new(&path(counters.region()));
    top.until("counters", || {});
    top.close();
}

#[cfg(feature = "bpf")]
#[test]
fn top_follows_a_restarted_loader() {
    use std::fs;

    use super::loaded::Loaded;

    let Some(old) = Loaded::new() else { return };
    let Some(new) = Loaded::new() else { return };
    // The numbers of their records tell the rings apart.
    (0..20).for_each(|_| new.fill(100));
    let pin = old.path("t_events");
    let mut top = Top::new(&pin);
    top.until("pid=7", || old.fill(7));
    fs::remove_file(&pin).unwrap();
    top.until("waiting", || {});
    fs::rename(new.path("t_events"), &pin).unwrap();
    // The total of the new ring, and then its records.
    top.until("2,0", || new.fill(1));
    top.until("pid=20", || new.fill(1));
    top.quit();
}
