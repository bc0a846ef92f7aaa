//! `mapring export`: values and records of regions, for the engines that watch fleets.
//!
//! - `config`: the file of metrics and limits. `source` reads the values, `families` names them, `sample` does both for all
//!   regions at intervals.
//! - `series`: a family of values with labels. `sink` takes them, `page` has those of a request; `text`, `prom_proto` and `otlp_proto` are
//!   its formats.
//! - `prometheus` with `http` and `format`: the values, when they are asked for. `otlp`: the values, sent at intervals.
//! - `nats` with `jetstream` and `published`: the records of rings.
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them

#[macro_use] // its `eprintln!` never panics
extern crate mapring_kit;

mod config;
mod families;
mod format;
mod http;
mod jetstream;
mod messages;
mod nats;
mod otlp;
mod otlp_proto;
mod page;
mod prom_proto;
mod prometheus;
mod published;
mod sample;
mod series;
mod sink;
mod source;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use mapring_kit::signals::Interrupted;

use self::config::Config;
use self::sample::Sampler;

/// Send values and records of regions to Prometheus, OpenTelemetry or NATS
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Prometheus(prometheus::Args),
    Otlp(otlp::Args),
    Nats(nats::Args),
}

/// What is exported of which regions.
#[derive(clap::Args)]
struct What {
    /// Pins, id:42, names of maps, or memory files (/proc/PID/fd/N). Without any, and without metrics in the
    /// configuration: all regions that this user can read
    target: Vec<String>,
    /// Read metrics and limits from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Export counters for each CPU, with the label `cpu`, instead of their sums
    #[arg(long)]
    by_cpu: bool,
}

impl What {
    fn sampler(&self) -> Result<Sampler> {
        let config = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        Sampler::new(self.target.clone(), config, self.by_cpu)
    }
}

/// Runs the command.
///
/// # Errors
/// What the command says on stderr.
pub fn run(args: &Args) -> Result<ExitCode> {
    mapring_view::shortage::raise_limit();
    mapring_view::outcome(match &args.command {
        Command::Prometheus(args) => prometheus::run(args),
        Command::Otlp(args) => otlp::run(args),
        Command::Nats(args) => nats::run(args),
    })
}

/// The time since 1970 in nanoseconds.
fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// Does in a thread what may wait long, and does not look at signals. It is an error if the user ends the command.
fn interruptible<T: Send + 'static>(
    interrupted: &Interrupted,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (to, from) = mpsc::sync_channel(1);
    thread::Builder::new().spawn(move || to.send(work()))?;
    loop {
        match from.recv_timeout(Duration::from_millis(50)) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) if !interrupted.is_set() => {}
            Err(_) => bail!("interrupted"),
        }
    }
}
