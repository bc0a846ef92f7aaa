//! The screen of `mapring top`: a table of regions, and the values of the selected one.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line as Text;
use ratatui::widgets::{Block, Clear, Paragraph, Widget};

use mapring_kit::text::{cut, grouped, rate};

/// The smallest terminal that has room for something.
const WIDTH: u16 = 40;
const HEIGHT: u16 = 8;

/// A region on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) rate: f64,
    pub(crate) peak: f64,
    pub(crate) lost: f64,
    pub(crate) total: u64,
    pub(crate) age: Option<Duration>,
    pub(crate) error: Option<String>,
}

/// The order of the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they were found.
    Found,
    Rate,
    Name,
    Lost,
}

impl Order {
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Found => Self::Rate,
            Self::Rate => Self::Name,
            Self::Name => Self::Lost,
            Self::Lost => Self::Found,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Rate => "rate",
            Self::Name => "name",
            Self::Lost => "lost",
        }
    }
}

/// Everything that is on the screen.
pub(crate) struct View {
    hz: u32,
    color: bool,
    /// The part of a core that this process uses.
    pub(crate) load: f64,
    lines: Vec<Line>,
    /// The lines in the order on the screen.
    order: Vec<usize>,
    /// The selected line.
    cursor: usize,
    pub(crate) order_by: Order,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    /// The values of the selected region, and how many of them are above the screen.
    pub(crate) details: Vec<String>,
    pub(crate) scroll: usize,
}

impl View {
    pub(crate) fn new(hz: u32, color: bool) -> Self {
        Self {
            hz,
            color,
            load: 0.0,
            lines: Vec::new(),
            order: Vec::new(),
            cursor: 0,
            order_by: Order::Found,
            paused: false,
            help: false,
            details: Vec::new(),
            scroll: 0,
        }
    }

    /// Takes new lines, in the order in which regions were found.
    pub(crate) fn update(&mut self, lines: Vec<Line>) {
        if self.paused && lines.len() == self.lines.len() {
            return;
        }
        self.lines = lines;
        self.cursor = self.cursor.min(self.lines.len().saturating_sub(1));
        self.order = (0..self.lines.len()).collect();
        let lines = &self.lines;
        match self.order_by {
            Order::Found => {}
            Order::Rate => self.order.sort_by(|a, b| lines[*b].rate.total_cmp(&lines[*a].rate)),
            Order::Name => self.order.sort_by(|a, b| lines[*a].name.cmp(&lines[*b].name)),
            Order::Lost => self.order.sort_by(|a, b| lines[*b].lost.total_cmp(&lines[*a].lost)),
        }
    }

    /// The selected region, by its number in the order in which they were found.
    pub(crate) fn selected(&self) -> Option<usize> {
        self.lines.get(self.cursor).map(|_| self.cursor)
    }

    /// Selects the region `by` lines below.
    pub(crate) fn select(&mut self, by: isize) {
        let at = self.order.iter().position(|line| *line == self.cursor).unwrap_or_default();
        let at = at.saturating_add_signed(by).min(self.order.len().saturating_sub(1));
        self.cursor = self.order.get(at).copied().unwrap_or_default();
        self.scroll = 0;
    }

    fn style(&self, color: Color, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        if self.color { style.fg(color) } else { style }
    }

    fn title(&self) -> Text<'static> {
        let load = format!("{:.1} % of a core", self.load * 100.0);
        let paused = if self.paused { "  PAUSED" } else { "" };
        let regions = if self.lines.len() == 1 { "region" } else { "regions" };
        let text = format!("mapring top  {} {regions}  {} Hz  {load}{paused}", self.lines.len(), self.hz);
        Text::styled(text, self.style(Color::Cyan, Modifier::BOLD))
    }

    /// The regions, in at most `rows` lines around the selected one.
    fn table(&self, rows: usize, width: usize) -> Vec<Text<'static>> {
        let wide = width >= 72;
        let head = if wide {
            format!(
                "  {:<18} {:<12} {:>8} {:>8} {:>7} {:>13} {:>5}",
                "NAME", "KIND", "PER SEC", "PEAK", "LOST/S", "TOTAL", "AGE"
            )
        } else {
            format!("  {:<18} {:>8} {:>7}", "NAME", "PER SEC", "LOST/S")
        };
        let mut text = vec![Text::styled(head, Style::new().add_modifier(Modifier::BOLD))];
        let at = self.order.iter().position(|line| *line == self.cursor).unwrap_or_default();
        let skip = (at + 1).saturating_sub(rows.saturating_sub(1));
        for &index in self.order.iter().skip(skip).take(rows.saturating_sub(1)) {
            let line = &self.lines[index];
            let mark = if index == self.cursor { '>' } else { ' ' };
            let (name, lost) = (cut(&line.name, 18), rate(line.lost));
            let row = match &line.error {
                Some(e) => format!("{mark} {name:<18} {e}"),
                None if wide => format!(
                    "{mark} {name:<18} {:<12} {:>8} {:>8} {lost:>7} {:>13} {:>5}",
                    cut(&line.kind, 12),
                    rate(line.rate),
                    rate(line.peak),
                    cut(&grouped(line.total), 13),
                    line.age.map_or(String::new(), age),
                ),
                None => format!("{mark} {name:<18} {:>8} {lost:>7}", rate(line.rate)),
            };
            let style = match () {
                () if index == self.cursor => Style::new().add_modifier(Modifier::REVERSED),
                () if line.lost > 0.0 || line.error.is_some() => self.style(Color::Yellow, Modifier::empty()),
                () => Style::new(),
            };
            text.push(Text::styled(row, style));
        }
        text
    }
}

/// `12ms`, `3s`, `4m`, `2h`: at most 5 characters.
fn age(age: Duration) -> String {
    match age.as_secs() {
        0 if age.as_millis() == 0 => "<1ms".to_owned(),
        0 => format!("{}ms", age.as_millis()),
        seconds @ 1..100 => format!("{seconds}s"),
        seconds @ 100..6000 => format!("{}m", seconds / 60),
        seconds => format!("{}h", (seconds / 3600).min(9999)),
    }
}

const HELP: [&str; 9] = [
    "q        quit",
    "↑ ↓      select a region",
    "PgUp/Dn  scroll its values",
    "s        sort: found, rate, name, lost",
    "space    pause",
    "h        this help",
    "",
    "PEAK is the largest rate between",
    "two readings; --hz sets their number.",
];

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        if area.width < WIDTH || area.height < HEIGHT {
            let text = format!("too small: {}x{}, needs {WIDTH}x{HEIGHT}", area.width, area.height);
            return Paragraph::new(text).render(area, buffer);
        }
        let most = usize::from(area.height - 4) / 2;
        let rows = (self.lines.len() + 1).min(most.max(2));
        let heights = [
            Constraint::Length(1),
            Constraint::Length(u16::try_from(rows).unwrap_or(u16::MAX)),
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ];
        let [title, table, name, values, keys] = Layout::vertical(heights).areas(area);
        Paragraph::new(self.title()).render(title, buffer);
        Paragraph::new(self.table(rows, usize::from(area.width))).render(table, buffer);
        if let Some(line) = self.lines.get(self.cursor) {
            let text = format!("{} ({})", line.name, line.kind);
            Paragraph::new(Text::styled(text, self.style(Color::Cyan, Modifier::BOLD))).render(name, buffer);
        }
        let room = usize::from(values.height);
        let skip = self.scroll.min(self.details.len().saturating_sub(room));
        let details: Vec<_> =
            self.details.iter().skip(skip).take(room).map(|line| Text::raw(line.as_str())).collect();
        Paragraph::new(details).render(values, buffer);
        let text = format!("q quit  ↑↓ select  s sort: {}  space pause  h help", self.order_by.name());
        Paragraph::new(Text::styled(text, Style::new().add_modifier(Modifier::DIM))).render(keys, buffer);
        if self.help {
            let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2);
            let outside = Rect::new(1, 0, 42.min(area.width - 1), height.min(area.height));
            Clear.render(outside, buffer);
            let block = Block::bordered().title("Help");
            let inside = block.inner(outside);
            block.render(outside, buffer);
            Paragraph::new(HELP.map(Text::raw).to_vec()).render(inside, buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(regions: usize) -> View {
        let mut view = View::new(1000, false);
        let line = |at: usize| Line {
            name: format!("a_region_with_a_long_name_{at}"),
            kind: "cells for each CPU".to_owned(),
            rate: at as f64 * 1e6,
            peak: 123_456_789.0,
            lost: (at % 2) as f64 * 4.2e9,
            total: u64::MAX,
            age: Some(Duration::from_millis(999)),
            error: None,
        };
        view.update((0..regions).map(line).collect());
        view.details = (0..100).map(|at| format!("value {at}: {}", "x".repeat(100))).collect();
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
        let view = view(3);
        let lines = rendered(&view, 80, 24);
        println!("{}", lines.join("\n"));
        assert!(
            lines[1].ends_with("AGE")
                && lines[2].starts_with("> a_region_with_a_l…")
                && lines[2].ends_with("999ms")
        );
        assert!(lines[5].starts_with("a_region_with_a_long_name_0 (cells"));
        assert!(lines[6].starts_with("value 0: xxx") && lines[23].contains("q quit"));
    }

    #[test]
    fn no_size_is_too_small_and_no_selection_is_off_the_screen() {
        let mut view = view(50);
        for help in [false, true] {
            view.help = help;
            for (width, height) in
                (0..100).step_by(7).flat_map(|width| (0..30).step_by(2).map(move |height| (width, height)))
            {
                assert_eq!(rendered(&view, width, height).len(), usize::from(height));
            }
        }
        view.help = false;
        for _ in 0..60 {
            view.select(1);
            assert!(rendered(&view, 80, 24).iter().any(|line| line.starts_with('>')));
        }
        assert_eq!(view.selected(), Some(49));
        view.scroll = usize::MAX;
        assert!(rendered(&view, 80, 24).iter().any(|line| line.starts_with("value 99")));
    }

    #[test]
    fn regions_are_sorted_and_the_selection_stays() {
        let mut view = view(3);
        view.order_by = Order::Rate;
        let lines = view.lines.clone();
        view.update(lines);
        assert_eq!((view.order.clone(), view.selected()), (vec![2, 1, 0], Some(0)));
        view.select(-1);
        assert_eq!(view.selected(), Some(1));
        assert_eq!(Order::Found.next().next().next().next(), Order::Found);
    }

    #[test]
    fn without_colours_there_are_none() {
        let area = Rect::new(0, 0, 80, 24);
        let mut buffer = Buffer::empty(area);
        view(3).render(area, &mut buffer);
        assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}
