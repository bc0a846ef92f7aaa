//! The output: a table that stays in place on a terminal, one line per second elsewhere, or nothing.

use std::io::{self, IsTerminal, Stdout, Write};

use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Widget};
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::view::{View, grouped, rounded};

/// Lines of the table, if enough rows are available.
const HEIGHT: u16 = 21;
/// The minimum number of columns for two tables side by side.
const WIDE: u16 = 74;

pub(crate) enum Screen {
    Live(Live),
    /// Holds the second that was written last.
    Lines(u64),
    Silent,
}

/// A table that is redrawn in place on a terminal.
pub(crate) struct Live {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// The terminal's modes at the start.
    modes: Termios,
}

impl Screen {
    pub(crate) fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        Live::new().map_or(Self::Lines(0), Self::Live)
    }

    pub(crate) fn draw(&mut self, view: &View) -> io::Result<()> {
        match self {
            Self::Live(live) => {
                live.terminal.draw(|frame| frame.render_widget(view, frame.area())).map(|_| ())
            }
            Self::Lines(written) => {
                let second = view.elapsed().as_secs();
                if second > *written {
                    *written = second;
                    writeln!(io::stdout(), "{}", plain(view))?;
                }
                Ok(())
            }
            Self::Silent => Ok(()),
        }
    }
}

impl Live {
    /// `None` if stdout is not a terminal that supports it.
    fn new() -> Option<Self> {
        let stdout = io::stdout();
        if !stdout.is_terminal() || std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
            return None;
        }
        let modes = tcgetattr(&stdout).ok()?;
        let (_, rows) = ratatui::crossterm::terminal::size().ok()?;
        let viewport = Viewport::Inline(HEIGHT.min(rows.saturating_sub(1)));
        let backend = CrosstermBackend::new(stdout);
        let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport }).ok()?;
        terminal.hide_cursor().ok()?;
        // Typed characters would appear across the table. Ctrl-C still raises a signal.
        let mut quiet = modes.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
        tcsetattr(io::stdout(), OptionalActions::Now, &quiet).ok()?;
        Some(Self { terminal, modes })
    }
}

impl Drop for Live {
    /// Leaves the last table in place, and the cursor below it. Errors while restoring are ignored.
    fn drop(&mut self) {
        let bottom = self.terminal.get_frame().area().bottom();
        let _ = self.terminal.set_cursor_position((0, bottom.saturating_sub(1)));
        let _ = self.terminal.show_cursor();
        let _ = tcsetattr(io::stdout(), OptionalActions::Flush, &self.modes);
        let _ = writeln!(io::stdout(), "\n");
    }
}

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let wide = area.width >= WIDE;
        let cpus = u16::try_from(self.cpus(usize::MAX).len()).unwrap_or(u16::MAX);
        let tables = if wide { 10 } else { 6 + 1 + cpus.min(4) + 1 };
        let [head, middle, events] =
            Layout::vertical([Constraint::Length(3), Constraint::Length(tables + 1), Constraint::Min(0)])
                .areas(area);
        self.head(head, buffer);
        let [calls, gap_and_cpus] = if wide {
            Layout::horizontal([Constraint::Length(40), Constraint::Min(0)]).areas(middle)
        } else {
            Layout::vertical([Constraint::Length(7), Constraint::Min(0)]).areas(middle)
        };
        self.call_table(calls, buffer);
        self.cpu_table(gap_and_cpus, buffer);
        self.event_list(events, buffer);
    }
}

fn title(text: &str) -> Line<'_> {
    Line::from(text.bold())
}

fn right(text: String) -> Line<'static> {
    Line::from(text).right_aligned()
}

impl View {
    fn head(&self, area: Rect, buffer: &mut Buffer) {
        let now = self.now();
        let count = |count, what| match count {
            0 => Span::from(format!("  0 {what}")),
            _ => format!("  {} {what}", grouped(count)).yellow(),
        };
        let lines = vec![
            Line::from(vec!["mapring ".bold().cyan(), format!("{}, {}", self.source, self.access).into()]),
            Line::from(vec![
                format!("{:>9} records/s", rounded(self.records())).bold(),
                format!("  {} read", grouped(now.records)).into(),
                count(now.lost, "lost"),
                count(now.dropped, "dropped"),
                format!("  {:.1} of {} s", self.elapsed().as_secs_f64(), self.length.as_secs()).dim(),
            ]),
        ];
        Paragraph::new(lines).render(area, buffer);
    }

    fn call_table(&self, area: Rect, buffer: &mut Buffer) {
        let calls = self.calls(usize::from(area.height.saturating_sub(2)));
        let rows = calls.iter().map(|call| {
            Row::new([Line::from(call.name.clone()), right(rounded(call.rate)), right(grouped(call.total))])
        });
        let widths = [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(11)];
        let header = Row::new([
            title("SYSTEM CALL"),
            title("a second").right_aligned(),
            title("total").right_aligned(),
        ]);
        Table::new(rows, widths).header(header).render(area, buffer);
    }

    fn cpu_table(&self, area: Rect, buffer: &mut Buffer) {
        let lines = self.cpus(usize::from(area.height.saturating_sub(2)));
        let rows = lines.iter().map(|cpu| {
            let switches = cpu.switches.map_or("-".to_owned(), rounded);
            let busy = format!("{:.0} %", cpu.busy * 100.0);
            Row::new([
                right(cpu.name.clone()),
                right(switches),
                right(busy),
                Line::from(cpu.running.clone()).style(Style::new().green()),
            ])
        });
        let widths =
            [Constraint::Length(5), Constraint::Length(10), Constraint::Length(6), Constraint::Fill(1)];
        let header = Row::new([
            title("CPU").right_aligned(),
            title("switches/s").right_aligned(),
            title("busy").right_aligned(),
            title("running"),
        ]);
        Table::new(rows, widths).header(header).render(area, buffer);
    }

    fn event_list(&self, area: Rect, buffer: &mut Buffer) {
        let room = usize::from(area.height.saturating_sub(1));
        let mut lines = vec![Line::from(vec!["LATEST EVENTS".bold(), "  (a sample)".dim()])];
        let skip = self.events.len().saturating_sub(room);
        lines.extend(self.events.iter().skip(skip).map(|event| Line::from(self.event(event))));
        Paragraph::new(lines).render(area, buffer);
    }
}

/// A summary in a few lines.
fn plain(view: &View) -> String {
    let calls = view.calls(5).into_iter().map(|call| format!("{} {}", call.name, rounded(call.rate)));
    let cpus = view
        .cpus(5)
        .into_iter()
        .filter_map(|cpu| Some(format!("cpu {} {}", cpu.name, rounded(cpu.switches?))));
    let events =
        view.events.iter().rev().take(2).rev().map(|event| format!("\n       {}", view.event(event)));
    format!(
        "{:4} s  {} records, {} a second, {} lost; {}\n        calls/s: {}\n        switches/s: {}{}",
        view.elapsed().as_secs(),
        grouped(view.now().records),
        rounded(view.records()),
        grouped(view.now().lost),
        view.access,
        calls.collect::<Vec<_>>().join(", "),
        cpus.collect::<Vec<_>>().join(", "),
        events.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytemuck::Zeroable;

    use super::*;
    use crate::demo::board::{Board, now};
    use crate::demo::record::tests::feed;
    use crate::demo::record::{CALLS, Cpu, Event};

    const CPUS: usize = 300;

    /// A view of a machine with many CPUs, all busy.
    fn view() -> View {
        let feed = feed(CPUS);
        let board = Board::new(CPUS).unwrap();
        let mut view = View::new("a test", Duration::from_secs(10), now(), &feed, &board);
        let comm = *b"a-long-task-name";
        for index in 0..CPUS {
            board.set_cpu(index, &Cpu { ns: now(), switches: 7, pid: 4_000_000, comm, ..Cpu::zeroed() });
        }
        let mut calls = [0; CALLS];
        calls[0] = 1_234_567;
        board.set_calls(&calls);
        board.set_totals(98_765_432, 1, 0);
        board.push(&Event { ns: now(), kind: Event::SWITCH, pid: 77, comm, ..Event::zeroed() });
        view.advance(&board);
        view
    }

    fn rendered(view: &View, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        view.render(area, &mut buffer);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn it_fits_in_80_columns() {
        let lines = rendered(&view(), 80, HEIGHT);
        println!("{}", lines.join("\n"));
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(has("98,765,432 read  1 lost  0 dropped"));
        assert!(has("1,234,567") && has("all ") && has("a-long-task-name"));
        assert!(has("a-long-task-name[77] → idle"));
        // The tables have 9 lines: the busiest 8 CPUs, and the total of all.
        assert_eq!(lines.iter().filter(|line| line.contains("100 % a-long")).count(), 8);
    }

    #[test]
    fn no_size_is_too_small() {
        let view = view();
        for width in (0..20).chain((20..120).step_by(9)) {
            for height in (0..10).chain((10..30).step_by(4)) {
                let lines = rendered(&view, width, height);
                assert_eq!(lines.len(), usize::from(height));
            }
        }
    }

    #[test]
    fn lines_for_a_pipe_name_everything() {
        let text = plain(&view());
        for part in ["98,765,432 records", "1 lost", "cpu all ", "a-long-task-name[77] → idle"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}
