//! Shows this machine's system calls and context switches as they happen, as `mapring top` shows any region, while a
//! thread reads every record without a system call. BPF programs write them, or another process where BPF is not available.

mod process;
#[cfg(feature = "bpf")]
mod programs;
mod reader;
mod summary;

use std::io::{self, Write};
use std::mem::take;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytemuck::{Pod, Zeroable};
use mapring::{Cells, Counters, Record, Ring};
use mapring_kit::signals::Interrupted;
use mapring_view::rates::Meter;
use mapring_view::target::Target;
use mapring_view::{stat, top};
use syscalls::Sysno;

use self::reader::Reading;
use self::summary::Summary;

/// Options of `mapring demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print only one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Share memory files with another process, even if BPF is available
    #[arg(long)]
    memfd: bool,
    /// Act as that other process
    #[arg(long, hide = true, value_name = "FD,FD", value_delimiter = ',')]
    produce: Vec<u32>,
}

/// Counters of system calls by number. The last counter is for all numbers without their own.
const CALLS: usize = 512;

/// `struct event` of `bpf/demo.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Event {
    ns: u64,
    /// 0: a CPU switched from one task to another. 1: a task made a system call.
    kind: u16,
    cpu: u16,
    value: u32,
    pid: u32,
    other: u32,
    comm: [u8; 16],
    other_comm: [u8; 16],
}

/// `struct cpu` of `bpf/demo.bpf.c`.
#[derive(Clone, Copy, Pod, Zeroable, Record)]
#[repr(C)]
struct Cpu {
    ns: u64,
    switches: u64,
    preempted: u64,
    idle_ns: u64,
    pid: u32,
    unused: u32,
    comm: [u8; 16],
}

/// What writes the records, until it is dropped.
trait Producer {
    /// Fails once it can no longer publish.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a producer publishes.
struct Source {
    producer: Box<dyn Producer>,
    events: Ring<Event>,
    /// System calls of the reader, if the producer counts them.
    reader_calls: Option<Counters>,
    /// Cells that nobody writes once the producer has ended.
    cells: Cells<Cpu>,
    /// Copies the first of the cells by a system call, if they are in a BPF map.
    lookup: Option<Box<dyn FnMut()>>,
    /// All regions, to be shown.
    meters: Vec<Meter>,
}

/// Of the region with this name.
fn meter(name: &str, target: Target) -> Result<Meter> {
    let mut meter = Meter::new(target)?.context("a region without a rate")?;
    name.clone_into(&mut meter.label);
    let call = |nr| Sysno::new(nr).map_or_else(|| format!("call {nr}"), |call| call.name().to_owned());
    meter.name_of = (name == "calls").then_some(call);
    Ok(meter)
}

/// Runs the demo, or the process that publishes for it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !args.produce.is_empty() {
        process::produce(&args.produce).context("producer")?;
    }
    let interrupted = Interrupted::new()?;
    let reading = Reading::new()?;
    let mut source = source(args, reading.tid())?;
    let start = Instant::now();
    reading.start(&source)?;
    let shown = show(args, &interrupted, take(&mut source.meters), || {
        ensure!(!reading.is_over(), "the reader has ended early");
        source.producer.check()
    });
    let outcome = reading.stop()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(source.producer);
    shown?;
    let summary = Summary::new(outcome, seconds, &source.cells, source.lookup)?;
    let text = if args.json { serde_json::to_string(&summary)? } else { summary.text() };
    writeln!(io::stdout(), "{text}").context("stdout")?;
    ensure!(summary.records > 0, "no record arrived");
    ensure!(summary.reader_syscalls == 0, "the reader made {} system calls", summary.reader_syscalls);
    Ok(ExitCode::SUCCESS)
}

/// Starts the producer. The kernel or the privileges may not allow it.
fn source(args: &Args, reader_tid: u32) -> Result<Source> {
    #[cfg(feature = "bpf")]
    if !args.memfd {
        let refused = |e: anyhow::Error| mapring_kit::exit::Refused(format!("{e:#}"));
        return programs::start(reader_tid).map_err(|e| refused(e).into());
    }
    if !args.memfd {
        eprintln!("mapring: built without the cargo feature `bpf`, so that this is --memfd");
    }
    let _ = reader_tid;
    process::start()
}

/// Shows regions until the time is over, somebody ends it, or `check` fails: on the screen; or in lines, if there is none;
/// or not at all.
fn show(
    args: &Args,
    interrupted: &Interrupted,
    meters: Vec<Meter>,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(args.seconds.into());
    if !args.json && !top::has_terminal() {
        let (interval, count) = (Duration::from_secs(1), Some(args.seconds.into()));
        let lines = stat::Args { region: Vec::new(), interval, count, json: false };
        return stat::report(&lines, meters, interrupted, check);
    }
    let mut is_over = || check().map(|()| Instant::now() >= end);
    if !args.json {
        return top::show(meters, 10, interrupted, |_| is_over());
    }
    while !is_over()? && !interrupted.sleep(Duration::from_millis(50)) {}
    Ok(())
}
