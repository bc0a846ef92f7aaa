//! Another process as the source, through memfds: no privilege, no BPF. It runs this same program (`producer.rs`), and
//! inherits the descriptors that it writes to.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use mapring::{Cells, Counters, Region, Ring};

use super::record::{CALLS, Cpu, Event, Feed};
use super::{Producer, proc};

/// The publishing process. Dropping it ends the process.
pub(crate) struct Process(Child);

pub(crate) fn start() -> Result<(Process, Feed)> {
    let (cpus, _) = proc::machine(&fs::read("/proc/stat").context("/proc/stat")?);
    let machine = cpus.iter().map(|(index, _)| index + 1).max().unwrap_or(1);
    let made = [
        Ring::<Event>::create_memfd(8192, 1)?.region().clone(),
        Counters::create_memfd(CALLS, 1)?.region().clone(),
        Cells::<Cpu>::create_memfd(machine + 1)?.region().clone(),
    ];
    let inherited = made.iter().map(inheritable).collect::<Result<Vec<_>>>()?;
    let numbers: Vec<_> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let child = Command::new(env::current_exe().context("this program's own path")?)
        .args(["demo", "--produce", &numbers.join(",")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Ctrl-C is for the reader only, which then ends the producer.
        .process_group(0)
        .spawn()
        .context("cannot start the producer")?;
    let process = Process(child);

    // The created regions are mapped for writing; the reader maps the same memory for reading.
    let read = |at: usize| made[at].as_fd().try_clone_to_owned();
    let feed = Feed {
        events: Ring::open(read(0)?)?,
        calls: Counters::open(read(1)?)?,
        cpus: Cells::open(read(2)?)?,
        reader_calls: None,
        machine,
        cells: machine + 1,
    };
    Ok((process, feed))
}

/// A descriptor of the region that stays open across exec.
fn inheritable(region: &Region) -> Result<OwnedFd> {
    rustix::io::dup(region).context("dup")
}

impl Producer for Process {
    fn name(&self) -> &'static str {
        "another process"
    }

    fn writes_maps(&self) -> bool {
        false
    }

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
