//! `mapring show`: what is known of a region, and its present content.

mod content;

use std::io::{self, Write};

use anyhow::{Context, Result};
use mapring_kit::output;
use mapring_kit::text::{grouped, json_line, wrapped};
use serde_json::Value as Json;

use self::content::content;
use crate::facts::Facts;
use crate::find;
use crate::target::Target;
use crate::value::Value;

/// Show a region's facts and its present content, decoded by the map's types
#[derive(clap::Args)]
pub struct Args {
    /// A pin, id:42, the name of a map, or a memory file (/proc/PID/fd/N)
    region: String,
    /// The most values to show; of a ring, the latest records
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    rows: usize,
    /// Also show values that are zero or were never written
    #[arg(long)]
    zeros: bool,
    /// Print JSON: an object with the facts, then one for each value
    #[arg(long)]
    json: bool,
}

/// The present content in at most about `rows` lines, for people.
pub(crate) fn lines(target: &Target, rows: usize) -> Result<Vec<String>> {
    let mut text = Vec::new();
    let mut printer =
        Printer { out: &mut text, json: false, left: rows, further: 0, zeros: Some(0), facts: None };
    content(target, &mut printer)?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// Prints values until there are too many.
struct Printer<'a, W> {
    out: &'a mut W,
    json: bool,
    left: usize,
    further: u64,
    zeros: Option<u64>,
    /// The facts, until they are printed as JSON.
    facts: Option<Json>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let target = Target::open(find::find(&args.region)?)?;
    let pins = match &target.location {
        find::Location::Pin(pin) => vec![pin.clone()],
        _ => Vec::new(),
    };
    let facts = target.facts(&pins, true);
    let mut out = io::stdout().lock();
    let json = args.json.then(|| serde_json::to_value(&facts)).transpose()?;
    if json.is_none() {
        header(&mut out, &facts)?;
    }
    let zeros = if args.zeros { None } else { Some(0) };
    let mut printer =
        Printer { out: &mut out, json: args.json, left: args.rows, further: 0, zeros, facts: json };
    let done = content(&target, &mut printer);
    printer.begin(None)?;
    done.with_context(|| target.location.to_string())?;
    printer.end()?;
    out.flush()?;
    Ok(())
}

/// The facts as lines.
fn header(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    let id = facts.id.map(|id| format!(", id {id}")).unwrap_or_default();
    writeln!(out, "{}: {}{id}", facts.name, facts.kind)?;
    let shards = if facts.shards == 1 { String::new() } else { format!(" × {}", facts.shards) };
    let size = format!(
        "{} × {} bytes{shards}, {} in all",
        facts.entries,
        facts.size,
        output::bytes(facts.bytes as u64)
    );
    let access = match (&facts.refusal, facts.access) {
        (Some(refusal), _) => Some(format!("by system call: {refusal}")),
        (None, access) => access.map(str::to_owned),
    };
    let dropped = facts.dropped.filter(|count| *count > 0);
    for (name, text) in [
        ("type", Some(facts.ty.clone()).filter(|ty| !ty.is_empty())),
        ("size", Some(size)),
        ("pins", Some(facts.pins.join(" ")).filter(|pins| !pins.is_empty())),
        ("read", access),
        ("writers", facts.writers()),
        ("dropped", dropped.map(|count| format!("{count} by programs"))),
        ("bytes", facts.no_types.as_ref().map(|why| format!("shown as they are: {why}"))),
        ("error", facts.error.clone()),
    ] {
        for (at, line) in text.iter().flat_map(|text| wrapped(text, 70)).enumerate() {
            writeln!(out, "{:<9} {line}", if at == 0 { name } else { "" })?;
        }
    }
    writeln!(out)
}

impl<W: Write> Printer<'_, W> {
    /// Prints a value with its place, such as `index: 3, cpu: 1`.
    fn value(&mut self, location: &[(&str, u64)], value: &Value, more: &[(&str, Json)]) -> Result<()> {
        if let Some(zeros) = &mut self.zeros
            && value.is_zero()
        {
            *zeros += 1;
            return Ok(());
        }
        if self.is_full() {
            return Ok(());
        }
        if self.json {
            let mut object: serde_json::Map<_, _> =
                location.iter().map(|(name, number)| ((*name).to_owned(), (*number).into())).collect();
            object.extend(more.iter().map(|(name, json)| ((*name).to_owned(), json.clone())));
            value.put("value", &mut object);
            writeln!(self.out, "{}", json_line(&Json::Object(object)))?;
            return Ok(());
        }
        let location: Vec<_> = location.iter().map(|(name, number)| format!("{name} {number}")).collect();
        let more: String = more.iter().map(|(name, json)| format!("  {name} {}", json_line(json))).collect();
        let value = if let Value::Unsigned(number) = value { grouped(*number) } else { value.to_string() };
        writeln!(self.out, "{}: {value}{more}", location.join(" "))?;
        Ok(())
    }

    /// Counts a value that is not shown, whose decoding would be in vain. A region may have very many.
    fn skips(&mut self, bytes: &[u8]) -> bool {
        match &mut self.zeros {
            Some(zeros) if bytes.iter().all(|byte| *byte == 0) => *zeros += 1,
            _ if self.left == 0 => self.further += 1,
            _ => return false,
        }
        true
    }

    /// Takes a place for one more value; true if there is none.
    fn is_full(&mut self) -> bool {
        if self.left == 0 {
            self.further += 1;
            return true;
        }
        self.left -= 1;
        false
    }

    /// Prints the facts as JSON, before all values, with what reading the content has found.
    fn begin(&mut self, more: Option<Json>) -> io::Result<()> {
        let Some(mut facts) = self.facts.take() else { return Ok(()) };
        if let (Json::Object(facts), Some(Json::Object(more))) = (&mut facts, more) {
            facts.extend(more);
        }
        writeln!(self.out, "{}", json_line(&facts))
    }

    /// Prints a line for people.
    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(self.out, "{line}") }
    }

    fn end(&mut self) -> io::Result<()> {
        let zeros = self.zeros.unwrap_or_default();
        if zeros > 0 {
            self.line(&format!("({} are zero or were never written: --zeros shows them)", grouped(zeros)))?;
        }
        if self.further > 0 {
            self.line(&format!("({} more: --rows shows them)", grouped(self.further)))?;
        }
        Ok(())
    }
}
