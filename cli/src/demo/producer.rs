//! The process that writes the memfds: it publishes what it reads in /proc, and each system call that it makes for
//! this, as the BPF programs do for all processes.

use std::collections::HashMap;
use std::fs::File;
use std::mem::{MaybeUninit, take};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytemuck::Zeroable;
use mapring::writers::{CellsWriter, CountersWriter};
use mapring::{Cells, Counters, OpenOptions, Region, Ring, Writer};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use syscalls::Sysno;

use super::board::now;
use super::proc;
use super::record::{Cpu, Event};

/// The pause between two passes, which leaves CPU time for the rest of the machine.
const PAUSE: Duration = Duration::from_millis(2);

struct Producer {
    events: Writer<Event>,
    calls: CountersWriter,
    cpus: CellsWriter<Cpu>,
    /// The number of cells. The last cell is for the whole machine.
    machine: usize,
    /// How often each process had been switched out at the last pass.
    switches: HashMap<u32, u64>,
    /// Idle ticks and switches before this process started.
    before: Option<(Vec<(usize, u64)>, u64)>,
    tick_ns: u64,
    pid: u32,
    text: Vec<u8>,
}

/// Publishes into the memfds with these descriptors, until the parent kills it.
pub(crate) fn run(fds: &[u32]) -> Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    ensure!(parent.is_some() && getppid() == parent, "the reader is gone");
    let &[events, calls, cpus] = fds else { bail!("three descriptors are expected, not {}", fds.len()) };
    let cpus = Cells::from_region(open(cpus)?)?;
    let mut producer = Producer {
        events: Ring::from_region(open(events)?)?.writer(0)?,
        calls: Counters::from_region(open(calls)?)?.writer(0)?,
        cpus: cpus.writer()?,
        machine: cpus.len() - 1,
        switches: HashMap::new(),
        before: None,
        tick_ns: 1_000_000_000 / rustix::param::clock_ticks_per_second(),
        pid: std::process::id(),
        text: Vec::new(),
    };
    loop {
        let running = producer.processes()?;
        producer.cpus(&running)?;
        producer.call(Sysno::clock_nanosleep, || thread::sleep(PAUSE));
    }
}

/// Opens the descriptor through its path in /proc, so that an invalid number is an ordinary error.
fn open(fd: u32) -> Result<Region> {
    let path = format!("/proc/self/fd/{fd}");
    let file = File::options().read(true).write(true).open(&path).context(path)?;
    Ok(OpenOptions::new().write(true).open(file)?)
}

impl Producer {
    /// Reads each process, and publishes an event for each that had a CPU since the last pass. Returns the process that
    /// each CPU runs now.
    fn processes(&mut self) -> Result<Vec<(u32, [u8; 16])>> {
        let mut running = vec![(0, [0; 16]); self.machine];
        let mut before = take(&mut self.switches);
        for pid in self.pids()? {
            // The process may have ended by now, or may end before the next line.
            let Ok(()) = self.file(&format!("/proc/{pid}/stat")) else { continue };
            let Some(stat) = proc::stat(&self.text) else { continue };
            let (cpu, mut comm) = (stat.cpu, [0; 16]);
            let length = stat.comm.len().min(15);
            comm[..length].copy_from_slice(&stat.comm[..length]);
            if let Some(on) = running.get_mut(usize::from(cpu)).filter(|_| stat.running) {
                *on = (pid, comm);
            }
            let Ok(()) = self.file(&format!("/proc/{pid}/status")) else { continue };
            let Some(switches) = proc::switches(&self.text) else { continue };
            self.switches.insert(pid, switches);
            let times = switches.saturating_sub(before.remove(&pid).unwrap_or(switches));
            if times > 0 {
                let value = u32::try_from(times).unwrap_or(u32::MAX);
                let ran = Event { ns: now(), kind: Event::RAN, cpu, value, pid, comm, ..Event::zeroed() };
                self.events.push(&ran);
            }
        }
        Ok(running)
    }

    /// Publishes the state of each CPU, and the switches of all CPUs in the last cell.
    fn cpus(&mut self, running: &[(u32, [u8; 16])]) -> Result<()> {
        self.file("/proc/stat").context("/proc/stat")?;
        let ns = now();
        let (idle, switches) = proc::machine(&self.text);
        let (idle_before, switches_before) = self.before.get_or_insert_with(|| (idle.clone(), switches));
        let switches = switches.saturating_sub(*switches_before);
        for ((index, ticks), (_, before)) in idle.into_iter().zip(idle_before) {
            let Some(&(pid, comm)) = running.get(index) else { continue };
            let idle_ns = ticks.saturating_sub(*before) * self.tick_ns;
            let cpu = Cpu { ns, idle_ns, pid, comm, ..Cpu::zeroed() };
            self.cpus.set(index, &cpu)?;
        }
        self.cpus.set(self.machine, &Cpu { ns, switches, ..Cpu::zeroed() })?;
        Ok(())
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = self.call(Sysno::openat, || rustix::fs::open("/proc", flags, Mode::empty()))?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(&fd, &mut buffer);
        let mut pids = Vec::new();
        loop {
            let next = match entries.is_buffer_empty() {
                true => self.call(Sysno::getdents64, || entries.next()),
                false => entries.next(),
            };
            let Some(entry) = next.transpose()? else { break };
            pids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
        }
        self.call(Sysno::close, || drop(fd));
        Ok(pids)
    }

    /// Reads a file into `self.text`.
    fn file(&mut self, path: &str) -> Result<(), Errno> {
        self.text.clear();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = self.call(Sysno::openat, || rustix::fs::open(path, flags, Mode::empty()))?;
        let mut piece = [0; 4096];
        let outcome = loop {
            match self.call(Sysno::read, || rustix::io::read(&fd, &mut piece)) {
                Ok(0) => break Ok(()),
                Ok(length) => self.text.extend_from_slice(&piece[..length]),
                Err(e) => break Err(e),
            }
        };
        self.call(Sysno::close, || drop(fd));
        outcome
    }

    /// Publishes a system call, then makes it.
    fn call<T>(&self, number: Sysno, f: impl FnOnce() -> T) -> T {
        let value = number as u32;
        // If it has no counter, the event is still published, and the ring counts drops.
        let _ = self.calls.add(value as usize, 1);
        let cpu = u16::try_from(rustix::thread::sched_getcpu()).unwrap_or(u16::MAX);
        let event = Event {
            ns: now(),
            kind: Event::CALL,
            cpu,
            value,
            pid: self.pid,
            comm: *b"mapring\0\0\0\0\0\0\0\0\0",
            ..Event::zeroed()
        };
        self.events.push(&event);
        f()
    }
}
