//! A report as one page that needs no network: the sections of the text, the lanes of the CPUs, and all figures as JSON. Names come from
//! programs that may be hostile: they are escaped here, the page's script handles them as text, and the page forbids all other scripts.

mod flames;
mod lanes;

use std::fmt::Write as _;
use std::ops::Range;

use anyhow::{Result, bail};
use serde::Serialize;

pub(super) use self::lanes::Lanes;
use super::super::event::Event;
use super::super::names::Names;
use super::super::symbols::Symbols;
use super::super::trace::stacks::{Flames, Stacks};
use super::figures::Figures;
use super::sections;
use super::tasks::Tasks;
use super::text::{Document, Part, Row, Section, are_numbers};

/// The largest page, in bytes.
const LIMIT: usize = 5 << 20;
/// The most slices on a page, tried in turn until the page fits [`LIMIT`].
const TURNS: [usize; 5] = [100_000, 50_000, 25_000, 10_000, 0];

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// A library that draws charts. Its version, licence and checksums are beside it.
const UPLOT: [&str; 3] = [
    include_str!("uplot/LICENSE"),
    include_str!("uplot/uPlot.min.css"),
    include_str!("uplot/uPlot.iife.min.js"),
];

/// The only styles and scripts that the browser accepts in the page: those above, by their SHA-256.
const STYLE_HASHES: &str = "'sha256-32MMao1vjur/JktQ9zzlsRT2Rv/ZoLt08EmwoAE1+gQ=' 'sha256-Rna2PP+ALVnqBkk40I37rz4dZrjrxigose7D55fYF6g='";
const SCRIPT_HASHES: &str = "'sha256-GcjUxq2Ikpp59K5J1vcWFWbf0Lo9FcxJXpdPeH63jx8=' 'sha256-2WHG5siYyNn8oklhJJDSJyvdOfBzixFGnZaue58Acww='";

const RUNNING: &str = "Flame graph of what ran";
const WAITING: &str = "Flame graph of waits, by their time";

/// What a page shows beyond the figures.
pub(super) struct Extra {
    lanes: Lanes,
    stacks: Stacks,
}

impl Extra {
    /// Around this time; `None` is the end of the report.
    pub(super) fn new(zero: Option<u64>) -> Self {
        Self { lanes: Lanes::new(zero), stacks: Stacks::new() }
    }

    /// `tasks` has not seen the event.
    pub(super) fn see(&mut self, event: &Event, tasks: &Tasks, names: &mut Names) {
        self.lanes.see(event, tasks, names);
        self.stacks.event(event, names);
    }

    /// The report, of this time, ends.
    pub(super) fn finish(
        mut self,
        times: Range<u64>,
        tasks: &Tasks,
        names: &mut Names,
        symbols: &mut Symbols,
    ) -> (Lanes, Flames) {
        self.lanes.finish(tasks.from.max(times.start)..times.end, tasks, names);
        (self.lanes, self.stacks.flames(symbols, names))
    }
}

/// The page's data: what `--json` prints, and the lanes.
#[derive(Serialize)]
struct Data<'f> {
    figures: &'f Figures,
    lanes: lanes::Drawn<'f>,
}

/// The page.
///
/// # Errors
/// If it is too large: the figures alone should never be.
pub(super) fn of(figures: &Figures, lanes: &Lanes, flames: &Flames) -> Result<String> {
    let document = sections::of(figures);
    let flames = self::flames(figures, flames)?;
    for most in TURNS {
        let data = Data { figures, lanes: lanes.drawn(most) };
        let page = page(&document, &flames, &island(&serde_json::to_string(&data)?));
        if page.len() <= LIMIT {
            return Ok(page);
        }
    }
    bail!("the page would have more than {LIMIT} bytes: `report --json` has no such limit")
}

fn page(document: &Document, flames: &str, data: &str) -> String {
    let [licence, uplot_style, uplot] = UPLOT;
    let head = document.head.iter().map(|line| escaped(line)).collect::<Vec<_>>();
    let title = head.first().cloned().unwrap_or_default();
    let period = head.get(1).cloned().unwrap_or_default();
    let first = |(of, line): &(_, String)| format!("<dt>{of}</dt><dd>{}</dd>\n", escaped(line));
    let first = document.first.iter().map(first).collect::<String>();
    let (mut links, mut sections) = (String::new(), String::new());
    for (number, section) in document.sections.iter().enumerate() {
        let _ = writeln!(links, "<a href=\"#s{number}\">{}</a>", escaped(section.title)); // can't fail
        sections += &self::section(number, section);
    }
    let part = |name: &str| match name {
        "title" => &*title,
        "period" => &*period,
        "first" => &*first,
        "links" => &*links,
        "sections" => &*sections,
        "running" => RUNNING,
        "waiting" => WAITING,
        "flames" => flames,
        "script hashes" => SCRIPT_HASHES,
        "style hashes" => STYLE_HASHES,
        "data" => data,
        "licence" => licence,
        "style" => STYLE,
        "script" => SCRIPT,
        "uplot style" => uplot_style,
        "uplot" => uplot,
        _ => unreachable!("{name}"),
    };
    let mut page = String::with_capacity(data.len() + 200_000);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the template is ours");
        page.extend([before, part(name)]);
        rest = after;
    }
    page + rest
}

/// The sections of the flame graphs.
fn flames(figures: &Figures, Flames { running, waiting }: &Flames) -> Result<String> {
    let graphs =
        [("running", RUNNING, "samples", "profile", running), ("waiting", WAITING, "µs", "waits", waiting)];
    let mut text = String::new();
    for (id, title, unit, group, lines) in graphs {
        let _ = writeln!(text, "<section id=\"{id}\">\n<h2>{title} <small>{group}</small></h2>"); // can't fail
        if let Some(missing) = sections::missing(figures, &[group]) {
            text.extend(["<p>", &code(&escaped(&missing)), "</p>\n"]);
        } else if lines.is_empty() {
            text += "<p>nothing</p>\n";
        } else {
            let (graph, shown) = flames::graph(title, unit, lines)?;
            text += &graph;
            if shown < lines.len() {
                let _ = writeln!(text, "<p>the {shown} most frequent of {} stacks</p>", lines.len());
            }
        }
        text += "</section>\n";
    }
    Ok(text)
}

fn section(number: usize, Section { title, groups, parts }: &Section) -> String {
    let mut text = format!("<section id=\"s{number}\">\n<h2>{}", escaped(title));
    if !groups.is_empty() {
        let _ = write!(text, " <small>{}</small>", groups.join(", "));
    }
    text += "</h2>\n";
    for part in parts {
        match part {
            Part::Line(line) => text.extend(["<p>", &code(&escaped(line)), "</p>\n"]),
            Part::Table { rows, .. } if rows.is_empty() => text += "<p>nothing</p>\n",
            Part::Table { header, rows, all } => {
                text += &table(header, rows);
                let more = all.map_or(0, |all| all.saturating_sub(rows.len() as u64));
                if more > 0 {
                    let _ = writeln!(text, "<p>and {more} more</p>");
                }
            }
        }
    }
    text + "</section>\n"
}

fn table(header: &[&str], rows: &[Row]) -> String {
    let are_numbers = are_numbers(rows);
    let class = |at: usize| if are_numbers[at] { " class=\"n\"" } else { "" };
    let mut text = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    for (at, name) in header.iter().enumerate() {
        let _ = write!(text, "<th scope=\"col\"{}>{}</th>", class(at), escaped(name));
    }
    text += "</tr></thead>\n<tbody>\n";
    for Row { cells, time, under } in rows {
        let time =
            time.as_ref().map(|time| format!(" data-from=\"{}\" data-until=\"{}\"", time.start, time.end));
        let _ = write!(text, "<tr{}>", time.unwrap_or_default());
        for (at, cell) in cells.iter().enumerate() {
            let _ = write!(text, "<td{}>{}</td>", class(at), escaped(cell));
        }
        text += "</tr>\n";
        for line in under {
            let _ = writeln!(text, "<tr><td colspan=\"{}\">{}</td></tr>", header.len(), escaped(line));
        }
    }
    text + "</tbody>\n</table></div>\n"
}

/// Text between backquotes as code.
fn code(escaped: &str) -> String {
    let part = |(at, part): (usize, &str)| {
        if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }
    };
    escaped.split('`').enumerate().map(part).collect()
}

/// A text in HTML: it makes no element, and ends no attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// JSON inside of an element `script`: nothing ends it, also not for a reader that takes it for a program.
fn island(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use base64::prelude::{BASE64_STANDARD, Engine};
    use serde_json::Value;

    use super::super::super::event::What;
    use super::super::super::event::tests::{comm, event};
    use super::*;

    /// The tool of coreutils, with this on its stdin.
    fn sha256sum(options: &[&str], stdin: &str) -> (String, bool) {
        let mut command = Command::new("sha256sum");
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/html/uplot"));
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }

    #[test]
    fn the_page_names_its_scripts_and_styles_and_the_library_is_the_published_one() {
        let hash = |text: &str| {
            let (sum, _) = sha256sum(&[], text);
            let byte = |at: usize| u8::from_str_radix(&sum[at * 2..at * 2 + 2], 16).unwrap();
            let bytes: Vec<_> = (0..32).map(byte).collect();
            format!("'sha256-{}'", BASE64_STANDARD.encode(bytes))
        };
        let both = |first, second| format!("{} {}", hash(first), hash(second));
        assert_eq!((STYLE_HASHES, SCRIPT_HASHES), (&*both(UPLOT[1], STYLE), &*both(UPLOT[2], SCRIPT)));
        assert!(sha256sum(&["--check", "SHA256SUMS"], "").1);
    }

    fn switch(ns: u64, cpu: u16, tid: u32, next: u32, name: &str) -> Event {
        let what = What::Switch {
            state: 1,
            is_killable: false,
            prio: 120,
            next,
            next_prio: 120,
            next_comm: comm(name),
            quota: 0,
        };
        Event { cpu, ..event(ns, tid, what) }
    }

    /// The lanes of these events.
    fn lanes(events: impl Iterator<Item = Event>, zero: Option<u64>, end: u64) -> Lanes {
        let (mut tasks, mut lanes, mut names) = (Tasks::default(), Lanes::new(zero), Names::of_events());
        for event in events {
            names.at(&event);
            lanes.see(&event, &tasks, &names);
            tasks.see(&event, &names);
            names.update(&event);
        }
        lanes.finish(0..end, &tasks, &mut names);
        lanes
    }

    /// The data of the page, as a browser finds it.
    fn data(page: &str) -> Value {
        let (_, data) = page.split_once("id=\"data\">").unwrap();
        serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn turns_are_as_the_events_say() {
        let events = [switch(10, 0, 9, 7, "a"), switch(40, 0, 7, 0, ""), switch(50, 0, 0, 8, "b")];
        let page =
            of(&Figures::default(), &lanes(events.into_iter(), Some(45), 60), &Flames::default()).unwrap();
        let lanes = &data(&page)["lanes"];
        let [a, b] = [0, 1].map(|at| lanes["threads"][at]["name"].as_str().unwrap());
        assert_eq!((a, b, &lanes["from"], &lanes["until"]), ("a", "b", &(-45).into(), &15.into()));
        // From the first switch; 7 waits; 8 still runs.
        assert_eq!(lanes["cpus"][0]["turns"], serde_json::json!([10, 30, 0, 1, 10, 10, 1, 4]));
        assert_eq!(lanes["merged"], 0);
    }

    #[test]
    fn a_flood_of_turns_and_names_makes_no_large_page() {
        const ALL: u32 = 700_000;
        let name = "<\u{1}\u{1}&".repeat(4);
        let events = (0..ALL).map(|n| {
            switch(
                u64::from(n) * 1_000_003,
                u16::try_from(n % 3).unwrap(),
                n.saturating_sub(3) + 1,
                n + 1,
                &name,
            )
        });
        let lanes = lanes(events, Some(600_000 * 1_000_003), u64::from(ALL) * 1_000_003);
        let page = of(&Figures::default(), &lanes, &Flames::default()).unwrap();
        let data = data(&page);
        println!("{} bytes, {} of {} turns", page.len(), data["lanes"]["merged"], data["lanes"]["turns"]);
        assert!(page.len() <= LIMIT, "{}", page.len());
        // What is next to time zero is as it was recorded.
        let last: Vec<_> = data["lanes"]["cpus"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cpu| cpu["turns"].as_array().unwrap().len())
            .collect();
        assert!(last.iter().sum::<usize>() > 40_000, "{last:?}");
        assert!(!page.contains(&name) && page.contains("\\u003c\\\\u{1}"));
    }

    #[test]
    fn names_make_no_elements() {
        let hostile = "</script><img src=x onerror=alert(1)>\u{2028}\"'&";
        let mut figures = Figures::default();
        figures.marks.push(super::super::figures::Mark { at_ns: 1, text: hostile.to_owned() });
        let page = of(&figures, &lanes(std::iter::empty(), None, 10), &Flames::default()).unwrap();
        assert!(!page.contains("<img") && !page.contains(hostile));
        assert!(page.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;\u{2028}&quot;&#39;&amp;"));
        assert_eq!(page.matches("</script>").count(), 3);
        assert_eq!(data(&page)["figures"]["marks"][0]["text"], hostile);
    }
}
