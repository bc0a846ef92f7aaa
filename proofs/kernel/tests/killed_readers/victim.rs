//! A process that reads a ring, to be killed.

use std::io::{BufRead, BufReader};

use mapring::liveness::RingReader;
use mapring_kernel_tests::prelude::*;

use super::PATIENCE;

const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");

/// A process that reads a ring. It is killed when this is dropped.
pub(crate) struct Victim(Child);

impl Victim {
    /// Starts the command `how` (see `src/bin/kernel-tests-child.rs`), and waits until it has passed through these stages.
    pub(crate) fn at(how: &str, pin: &Path, stages: &[&str]) -> Self {
        everywhere(); // it runs beside this thread, which runs the programs on one CPU
        let mut child = Command::new(CHILD)
            .arg(how)
            .arg(pin)
            .args(stages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        on_one_cpu();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// What the kernel says that it does: `S` if it sleeps until something happens.
    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat[stat.rfind(") ").unwrap() + 2..].chars().next().unwrap()
    }

    /// Its seat among the readers.
    pub(crate) fn seat<T: Record>(&self, ring: &Ring<T>) -> Option<RingReader> {
        ring.readers().unwrap().into_iter().find(|reader| reader.pid == self.0.id())
    }

    /// Kills it, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A reader that was killed at this stage.
pub(crate) fn killed<T: Record>(ring: &Ring<T>, how: &str, pin: &Path, stages: &[&str]) -> Victim {
    let sleeps = stages.last() == Some(&"wait");
    let has_armed = sleeps || stages.last() == Some(&"arm");
    loop {
        let mut victim = Victim::at(how, pin, stages);
        let started = Instant::now();
        // Between the first and the second it does nothing that could let it wait elsewhere.
        while sleeps && !(victim.seat(ring).is_some_and(|seat| seat.asleep) && victim.state() == 'S') {
            assert!(started.elapsed() < PATIENCE, "it does not sleep");
            thread::yield_now();
        }
        assert!(victim.seat(ring).unwrap().alive);
        victim.kill();
        let seat = victim.seat(ring).expect("the dead keep their seats");
        assert!(!seat.alive, "{seat:?}");
        // It looks for records once a second; if it was killed then, take another one.
        if seat.asleep == has_armed {
            return victim;
        }
        assert!(sleeps, "{seat:?}");
    }
}
