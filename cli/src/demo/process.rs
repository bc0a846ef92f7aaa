//! Another process as the source, through memfds: no privilege, no BPF. It runs this same program, inherits the
//! descriptors, and publishes the system calls that it makes.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use mapring::time::Clock;
use mapring::{Cells, Counters, OpenOptions, Region, Ring};
use mapring_view::find::Location;
use mapring_view::target::Target;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use syscalls::Sysno;

use super::{CALLS, Event, Producer, Source, meter};

/// The pause between two passes, which leaves CPU time for the rest of the machine.
const PAUSE: Duration = Duration::from_millis(1);

/// The publishing process.
struct Process(Child);

impl Producer for Process {
    fn check(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the producer (process {}) is gone: {status}", self.0.id()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already; that is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the process.
pub(super) fn start() -> Result<Source> {
    let (calls, events) = (Counters::create_memfd(CALLS, 1)?, Ring::<Event>::create_memfd(8192, 1)?);
    let made = [calls.region().clone(), events.region()];
    // These stay open across exec.
    let inherited = made.iter().map(rustix::io::dup).collect::<Result<Vec<OwnedFd>, _>>().context("dup")?;
    let numbers: Vec<_> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let child = Command::new(env::current_exe().context("this program's own path")?)
        .args(["demo", "--produce", &numbers.join(",")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Ctrl-C is for the reader only, which then ends the producer.
        .process_group(0)
        .spawn()
        .context("cannot start the producer")?;
    let producer = Box::new(Process(child));
    let shown = |(name, number): (&str, &String)| {
        meter(name, Target::open(Location::File(format!("/proc/self/fd/{number}").into()))?)
    };
    let meters = ["calls", "events"].into_iter().zip(&numbers).map(shown).collect::<Result<_>>()?;
    // Created regions are mapped for writing; readers map the same memory for reading.
    let events = Ring::open(made[1].as_fd())?;
    Ok(Source { producer, events, reader_calls: None, cells: Cells::create_memfd(1)?, lookup: None, meters })
}

/// Publishes into the memfds with these descriptors, until the parent kills it.
pub(super) fn produce(fds: &[u32]) -> Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    ensure!(parent.is_some() && getppid() == parent, "the reader is gone");
    let &[calls, events] = fds else { bail!("two descriptors are expected, not {}", fds.len()) };
    let calls = Counters::from_region(open(calls)?)?.writer(0)?;
    let events = Ring::from_region(open(events)?)?.writer(0)?;
    let publish = |call: Sysno| {
        // If it has no counter, the event is still published, and the ring counts drops.
        let _ = calls.add(call as usize, 1);
        let mut event = Event { ns: Clock::Monotonic.now(), kind: 1, ..bytemuck::Zeroable::zeroed() };
        (event.value, event.pid) = (call as u32, std::process::id());
        event.comm[..7].copy_from_slice(b"mapring");
        events.push(&event);
    };
    loop {
        publish(Sysno::openat);
        let mut file = File::open("/proc/self/stat").context("/proc/self/stat")?;
        publish(Sysno::read);
        let _ = file.read(&mut [0; 1024])?;
        publish(Sysno::close);
        drop(file);
        publish(Sysno::clock_nanosleep);
        thread::sleep(PAUSE);
    }
}

/// Opens the descriptor through its path in /proc, so that an invalid number is an ordinary error.
fn open(fd: u32) -> Result<Region> {
    let path = format!("/proc/self/fd/{fd}");
    let file = File::options().read(true).write(true).open(&path).context(path)?;
    Ok(OpenOptions::new().write(true).open(file)?)
}
