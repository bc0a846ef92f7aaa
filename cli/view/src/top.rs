//! `mapring top`: a full-screen view of regions, read at a chosen rate.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mapring_kit::signals::Interrupted;
use mapring_kit::text::one_line;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, size};
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::follow::{CHECK_INTERVAL, PinChecks, Pinned};
use crate::rates::{Meter, Reading, per_second};
use crate::screen::{Line, Order, View};
use crate::{show, stat};

/// Show regions on the full screen: how fast they are written, and the values of the selected one
#[derive(clap::Args)]
pub struct Args {
    /// Pins, id:42, names of maps, or memory files. Without any: all that this user can open
    region: Vec<String>,
    /// How often to read the regions in a second; the screen shows the largest rate between two readings as PEAK
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    hz: u32,
    /// Stop after this number of drawings, four a second
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

/// The time between two drawings.
const FRAME: Duration = Duration::from_millis(250);
/// The most lines of values of a region that the view keeps.
const ROWS: usize = 200;
/// Shown instead of rates.
const GONE: &str = "no longer pinned; waiting for another region there";
/// Regions with more values are not shown here.
const VALUES: usize = 4096;

/// A region with its readings.
struct Row {
    meter: Meter,
    /// At the last drawing, at the reading before the last one, and at the last one.
    drawn: Reading,
    before: Reading,
    now: Reading,
    /// The largest rate between two readings since the last drawing.
    peak: f64,
    error: Option<String>,
    /// Whether nothing was pinned in its place at the last check.
    pin: PinChecks,
}

impl Row {
    fn new(meter: Meter) -> Self {
        let [drawn, before, now] = std::array::from_fn(|_| Reading::new());
        let mut row = Self { meter, drawn, before, now, peak: 0.0, error: None, pin: PinChecks::default() };
        row.read();
        row.meter.read(&mut row.drawn).unwrap_or_default();
        row.peak = 0.0;
        row
    }

    /// Reads all counts. Of a mapped region it makes no system call.
    fn read(&mut self) {
        std::mem::swap(&mut self.before, &mut self.now);
        self.error = self.meter.read(&mut self.now).err().as_ref().map(one_line);
        if self.before.counts.len() == self.now.counts.len() {
            let grown = self.now.total().wrapping_sub(self.before.total());
            // A ring that was replaced started again.
            let grown = if grown > u64::MAX / 2 { 0 } else { grown };
            self.peak = self.peak.max(per_second(grown, self.now.seconds_since(&self.before)));
        }
    }

    /// Continues with the region that is now pinned in the place of this one, if it is another one.
    fn check_pin(&mut self) {
        if let Ok(Pinned::Other(meter)) = self.meter.check_pin(&mut self.pin) {
            *self = Self::new(meter);
        }
    }

    /// Its line on the screen.
    fn line(&self) -> Line {
        let seconds = self.now.seconds_since(&self.drawn);
        let grown = self.now.growth(&self.drawn).iter().map(|(_, n)| n).sum();
        let lost: u64 = self.now.new_losses(&self.drawn).iter().map(|(_, n)| n).sum();
        let ages = self.now.counts.iter().filter_map(|(part, _)| self.meter.age(*part));
        Line {
            name: self.meter.label.clone(),
            kind: self.meter.kind.clone(),
            rate: per_second(grown, seconds),
            peak: self.peak,
            lost: per_second(lost, seconds),
            total: self.now.total(),
            age: ages.min(),
            error: self.error.clone().or_else(|| self.pin.gone.then(|| GONE.to_owned())),
        }
    }

    /// The parts that changed most, then the values.
    fn details(&self) -> Vec<String> {
        let seconds = self.now.seconds_since(&self.drawn);
        let mut lines: Vec<_> = (self.now.new_losses(&self.drawn).into_iter())
            .map(|(cause, n)| {
                format!("lost: {} a second, {cause}", mapring_kit::text::rate(per_second(n, seconds)))
            })
            .collect();
        let mut growth: Vec<_> = self.now.growth(&self.drawn).into_iter().zip(&self.now.counts).collect();
        growth.retain(|((_, n), _)| *n > 0 || self.meter.part() == "shard");
        if self.meter.part() != "shard" {
            growth.sort_by_key(|((part, n), _)| (std::cmp::Reverse(*n), *part));
        }
        let parts = if self.meter.part() == "cell" { 0 } else { ROWS };
        lines.extend(growth.iter().take(parts).map(|((part, n), (_, total))| {
            let rate = mapring_kit::text::rate(per_second(*n, seconds));
            let (part, total) = (self.meter.name_of(*part), mapring_kit::text::grouped(*total));
            format!("{part:<16} {rate:>9}/s {total:>20}")
        }));
        if self.meter.part() == "shard" {
            let latest = self.meter.latest.iter().rev();
            lines.extend(
                latest.map(|(shard, bytes)| format!("[{shard}] {}", self.meter.target.decode(bytes))),
            );
            return lines;
        }
        let values = self.meter.target.region().map_or(0, |region| region.geometry().capacity());
        if self.meter.part() == "counter" || values > VALUES {
            return lines;
        }
        match show::lines(&self.meter.target, ROWS) {
            Ok(values) => lines.extend(values),
            Err(e) => lines.push(one_line(&e)),
        }
        lines
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(has_terminal(), "top needs a terminal: `mapring stat` writes to a pipe or file");
    let interrupted = Interrupted::new()?;
    let meters = stat::meters(&args.region)?;
    ensure!(!meters.is_empty(), "no region with a rate: `mapring ls` lists all regions");
    show(meters, args.hz, &interrupted, |drawn| Ok(args.count.is_some_and(|count| drawn >= count)))
}

/// Whether somebody can see the screen and press keys.
pub fn has_terminal() -> bool {
    io::stdout().is_terminal()
        && io::stdin().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows them until somebody ends it, or `is_over`, which gets the number of drawings, says so.
pub fn show(
    meters: Vec<Meter>,
    hz: u32,
    interrupted: &Interrupted,
    is_over: impl FnMut(u64) -> Result<bool>,
) -> Result<()> {
    let mut rows: Vec<_> = meters.into_iter().map(Row::new).collect();
    let color = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let mut view = View::new(hz, color);
    let viewport = Viewport::Fixed(area()?);
    let terminal = ratatui::try_init_with_options(TerminalOptions { viewport });
    let mut terminal = terminal.context("the terminal")?;
    execute!(io::stdout(), EnterAlternateScreen).context("the terminal")?;
    let done = watch(hz, interrupted, &mut rows, &mut view, &mut terminal, is_over);
    ratatui::try_restore().context("the terminal")?;
    done
}

/// The part of the terminal that is used: a terminal can claim any size, and each cell takes memory.
fn area() -> Result<Rect> {
    const MOST: u16 = 1000;
    let (width, height) = size().context("the terminal")?;
    Ok(Rect::new(0, 0, width.min(MOST), height.min(MOST)))
}

fn watch(
    hz: u32,
    interrupted: &Interrupted,
    rows: &mut [Row],
    view: &mut View,
    terminal: &mut ratatui::DefaultTerminal,
    mut is_over: impl FnMut(u64) -> Result<bool>,
) -> Result<()> {
    let tick = Duration::from_secs(1) / hz;
    let mut next = Instant::now();
    let (mut draw_at, mut used, mut drawn) = (next, cpu_time(), next);
    let (mut frames, mut checked) = (0, next);
    while !interrupted.is_set() {
        rows.iter_mut().for_each(Row::read);
        let now = Instant::now();
        if now - checked > CHECK_INTERVAL {
            checked = now;
            rows.iter_mut().for_each(Row::check_pin);
        }
        if now >= draw_at {
            if keys(view)? {
                break;
            }
            let cpu = cpu_time();
            let elapsed = now.saturating_duration_since(drawn);
            view.load = (cpu.saturating_sub(used)).as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
            (used, drawn, draw_at) = (cpu, now, now + FRAME);
            draw(rows, view, terminal)?;
            frames += 1;
            if is_over(frames)? {
                break;
            }
        }
        next += tick;
        let now = Instant::now();
        if next < now {
            next = now; // Reading takes longer than a tick.
        }
        let rest = next - now;
        // A key is answered soon; but at a high rate it is looked for only with each drawing.
        if rest > Duration::from_millis(20) {
            if wait_for_key(rest.min(draw_at.saturating_duration_since(now)))? {
                draw_at = now;
            }
        } else {
            thread::sleep(rest);
        }
    }
    Ok(())
}

fn draw(rows: &mut [Row], view: &mut View, terminal: &mut ratatui::DefaultTerminal) -> Result<()> {
    let lines: Vec<_> = rows.iter().map(Row::line).collect();
    view.update(lines);
    let selected = view.selected();
    for (at, row) in rows.iter_mut().enumerate() {
        row.meter.keep = if Some(at) == selected { ROWS.min(64) } else { 0 };
        if Some(at) == selected && !view.paused {
            view.details = row.details();
        }
        if !view.paused {
            row.drawn.clone_from(&row.now);
            row.peak = 0.0;
        }
    }
    let area = area()?;
    if terminal.get_frame().area() != area {
        terminal.resize(area).context("the terminal")?;
    }
    terminal.draw(|frame| frame.render_widget(&*view, frame.area())).context("the terminal")?;
    Ok(())
}

/// Waits for a key, a signal, or the end of `timeout`; returns whether there was a key.
///
/// # Errors
/// If the terminal is closed. crossterm does not notice that: it would read the end of the input for ever.
fn wait_for_key(timeout: Duration) -> Result<bool> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout.try_into()?)) {
        Err(Errno::INTR) => return Ok(false),
        done => drop(done?),
    }
    ensure!(!fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR), "the terminal is closed");
    Ok(fds[0].revents().contains(PollFlags::IN))
}

/// Handles all keys that were pressed; returns whether one of them ends the command.
fn keys(view: &mut View) -> Result<bool> {
    while wait_for_key(Duration::ZERO)? && event::poll(Duration::ZERO)? {
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc if !view.help => return Ok(true),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(true),
            _ if view.help => view.help = false,
            KeyCode::Down | KeyCode::Char('j') => view.select(1),
            KeyCode::Up | KeyCode::Char('k') => view.select(-1),
            KeyCode::PageDown => view.scroll = view.scroll.saturating_add(10),
            KeyCode::PageUp => view.scroll = view.scroll.saturating_sub(10),
            KeyCode::Char('s') => view.order_by = view.order_by.next(),
            KeyCode::Char('n') => view.order_by = Order::Name,
            KeyCode::Char('p' | ' ') => view.paused = !view.paused,
            KeyCode::Char('h' | '?') => view.help = true,
            _ => {}
        }
    }
    Ok(false)
}

/// The CPU time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
