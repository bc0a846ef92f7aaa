//! Shows the system calls and context switches of this machine as they happen. It reads them from memory that BPF
//! programs write, or another process where BPF is not available.

mod board;
mod proc;
mod producer;
mod reader;
mod record;
mod sandbox;
mod screen;
#[cfg(feature = "bpf")]
mod source_bpf;
mod source_memfd;
mod summary;
mod view;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use board::Board;
use record::Feed;
use screen::Screen;
use summary::Summary;
use view::View;

use crate::exit;

/// The time between two drawings of the table, in steps that Ctrl-C ends.
const FRAME: Duration = Duration::from_millis(250);
const STEP: Duration = Duration::from_millis(50);

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
    #[arg(long, hide = true, value_name = "FD,FD,FD", value_delimiter = ',')]
    produce: Vec<u32>,
}

/// The source of the records. Dropping it stops it.
trait Producer {
    /// A name to display.
    fn name(&self) -> &'static str;

    /// Fails once it can no longer publish.
    fn check(&mut self) -> Result<()>;

    /// Whether it writes into BPF maps, so that lookups work.
    fn writes_maps(&self) -> bool;
}

/// A producer, and the data that it publishes.
type Source = (Box<dyn Producer>, Feed);

/// Runs the demo, or the process that publishes for it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.produce.is_empty() { show_records(args) } else { produce(&args.produce) }
}

fn produce(fds: &[u32]) -> Result<ExitCode> {
    producer::run(fds).context("producer")?;
    Ok(ExitCode::SUCCESS)
}

fn show_records(args: &Args) -> Result<ExitCode> {
    let over = Arc::new(AtomicBool::new(false));
    crate::signals::set_at_end(&over)?;
    let start = board::now();
    let waiting = reader::spawn()?;
    let Some((mut producer, feed)) = source(args, waiting.tid)? else {
        return Ok(ExitCode::from(exit::REFUSED));
    };
    let board = Arc::new(Board::new(feed.cells)?);
    let feed = Arc::new(feed);
    let access = feed.events.access().to_string();
    let name = producer.name();
    let mut view = View::new(name, Duration::from_secs(args.seconds.into()), start, &feed, &board);
    let reading = waiting.read(feed.clone(), board.clone())?;
    let mut screen = Screen::new(args.json);

    let shown = show(&over, producer.as_mut(), &reading, &mut screen, &mut view, &board);
    let outcome = reading.stop()?;
    let lookups = producer.writes_maps();
    drop(producer);
    view.advance(&board);
    let drawn = screen.draw(&view);
    drop(screen);
    shown?;
    drawn.context("stdout")?;

    // A killed process may have left a cell half-written; the reader's own table has no such cell.
    let cells = if lookups { &feed.cpus } else { board.cpus() };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let seconds = view.elapsed().as_secs_f64();
    let cost = summary::measure(cells, lookups)?;
    let summary = Summary { access, kernel, seconds, outcome, cost };
    let text = if args.json { summary.json().to_string() } else { summary.text() };
    writeln!(io::stdout(), "{text}").context("stdout")?;
    ensure!(outcome.stats.delivered > 0, "no record arrived");
    let made = outcome.syscalls().filter(|_| outcome.sandboxed).unwrap_or(0);
    ensure!(made == 0, "the reader made {made} system calls");
    Ok(ExitCode::SUCCESS)
}

/// Starts the producer. Returns `None`, after a message, if the kernel or the privileges don't allow it.
fn source(args: &Args, reader_tid: u32) -> Result<Option<Source>> {
    #[cfg(feature = "bpf")]
    if !args.memfd {
        return match source_bpf::start(reader_tid) {
            Ok((programs, feed)) => Ok(Some((Box::new(programs), feed))),
            Err(refused) => {
                eprintln!("mapring: {}", crate::regions::text::said(&refused));
                Ok(None)
            }
        };
    }
    #[cfg(not(feature = "bpf"))]
    if !args.memfd {
        eprintln!("mapring: built without the cargo feature `bpf`, so that this is --memfd");
    }
    let _ = reader_tid;
    let (process, feed) = source_memfd::start()?;
    Ok(Some((Box::new(process), feed)))
}

/// Draws until the time is over or an error occurs.
fn show(
    over: &AtomicBool,
    producer: &mut dyn Producer,
    reading: &reader::Reading,
    screen: &mut Screen,
    view: &mut View,
    board: &Board,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) && view.elapsed() < view.length {
        view.advance(board);
        screen.draw(view).context("stdout")?;
        producer.check()?;
        ensure!(!reading.is_over(), "the reader has ended early");
        let steps = FRAME.as_millis() / STEP.as_millis();
        for _ in 0..steps {
            let left = view.length.saturating_sub(view.elapsed_at(board::now()));
            if over.load(Ordering::Relaxed) || left.is_zero() {
                break;
            }
            thread::sleep(STEP.min(left));
        }
    }
    Ok(())
}
