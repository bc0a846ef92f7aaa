//! The records and samples of a recording as NDJSON or CSV.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result, bail};
use mapring::record;
use serde_json::json;

use super::format::{Kind, Lost, Recorded, Sample};
use super::inspect::Format;
use super::reader::Visit;
use crate::regions::filter::Expr;
use crate::regions::line;
use crate::regions::text::{json_line, printable};
use crate::regions::untyped::Item;
use crate::regions::value::Value;

pub(super) struct Convert {
    out: Out,
    filter: Option<Expr>,
    /// The columns of the values, once they are known. Records of several types have one column, with JSON.
    columns: Option<Vec<String>>,
    lost: BTreeMap<&'static str, u64>,
}

enum Out {
    Ndjson(BufWriter<Box<dyn Write>>),
    Csv(Box<csv::Writer<Box<dyn Write>>>),
}

/// A record or sample that is to be written.
struct Row<'a> {
    time: Option<String>,
    value: &'a Value,
    /// The column of a value without fields.
    name: &'static str,
    place: Vec<(&'static str, Option<u64>)>,
    tail: Option<&'a [u8]>,
}

impl Convert {
    pub(super) fn new(format: Format, filter: Option<&str>, out: Box<dyn Write>) -> Result<Self> {
        let out = match format {
            Format::Ndjson => Out::Ndjson(BufWriter::with_capacity(1 << 18, out)),
            Format::Csv => Out::Csv(Box::new(
                csv::WriterBuilder::new().has_headers(false).buffer_capacity(1 << 18).from_writer(out),
            )),
        };
        let filter = filter.map(Expr::parse).transpose().context("--where")?;
        Ok(Self { out, filter, columns: None, lost: BTreeMap::new() })
    }

    /// Writes what is buffered, and prints the losses.
    pub(super) fn finish(&mut self) -> Result<()> {
        match &mut self.out {
            Out::Ndjson(out) => out.flush()?,
            Out::Csv(out) => out.flush()?,
        }
        if !self.lost.is_empty() {
            let lost: Vec<_> = self.lost.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
            eprintln!("mapring: lost while it was recorded: {}", lost.join(", "));
        }
        Ok(())
    }

    fn is_wanted(&self, value: &Value) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds(&named(value)))
    }

    /// Writes a line of CSV, after a line of names before the first one.
    fn csv(&mut self, row: &Row<'_>) -> Result<()> {
        let Out::Csv(out) = &mut self.out else { return Ok(()) };
        let has_tail = row.tail.is_some();
        let columns = self.columns.get_or_insert_default();
        let mut line: Vec<String> =
            row.place.iter().map(|(_, number)| number.map_or(String::new(), |n| n.to_string())).collect();
        line.push(row.time.clone().unwrap_or_default());
        if columns[..] == [WHOLE] {
            line.push(json_line(&row.value.json()));
        } else {
            let mut found = cells(row.value, row.name);
            line.extend(columns.iter().map(|column| {
                let cell = found.iter_mut().find(|(name, _)| name == column);
                cell.map(|(_, cell)| std::mem::take(cell)).unwrap_or_default()
            }));
        }
        if has_tail {
            line.push(printable(&record::string(row.tail.unwrap_or_default())).into_owned());
        }
        csv_line(out, &line)
    }
}

fn csv_line(out: &mut csv::Writer<Box<dyn Write>>, cells: &[String]) -> Result<()> {
    out.write_record(cells).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(), // so that a closed pipe is found
        error => anyhow::anyhow!("{error:?}"),
    })
}

/// A number without fields gets the name `value`, so that a filter can name it.
fn named(value: &Value) -> Cow<'_, Value> {
    match value {
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => {
            Cow::Owned(Value::Struct(vec![(VALUE.to_owned(), value.clone())]))
        }
        value => Cow::Borrowed(value),
    }
}

/// The column of records without fields.
const RECORD: &str = "record";
/// The column of values without fields.
const VALUE: &str = "value";
/// The column of records that have several types.
const WHOLE: &str = "record (JSON)";

/// The cells of a value, by the paths of its fields; `name` is that of a value without fields. Lists are JSON.
fn cells(value: &Value, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    match value {
        Value::Struct(fields) => fields.iter().for_each(|(name, value)| add_cells(value, name, &mut found)),
        value => add_cells(value, name, &mut found),
    }
    found
}

fn add_cells(value: &Value, path: &str, to: &mut Vec<(String, String)>) {
    let cell = match value {
        Value::Struct(fields) => {
            fields.iter().for_each(|(name, value)| add_cells(value, &format!("{path}.{name}"), to));
            return;
        }
        Value::Text(text) | Value::Name(text) => printable(text).into_owned(),
        Value::List(_) => json_line(&value.json()),
        Value::Cut => String::new(),
        value => value.to_string(),
    };
    to.push((path.to_owned(), cell));
}

impl Visit for Convert {
    fn source(&mut self, of: &Recorded) -> Result<()> {
        let empty = of.decode(&vec![0; of.source.record]);
        if let Some(filter) = &self.filter {
            let is_number = of.source.kind == Kind::Counters;
            if let (Err(why), false) = (of.ty(), is_number) {
                bail!("--where: the fields are not known: {}", printable(&why));
            }
            filter.check(&named(&empty))?;
        }
        let Out::Csv(out) = &mut self.out else { return Ok(()) };
        let name = if of.source.kind == Kind::Ring { RECORD } else { VALUE };
        let mut fields: Vec<_> = cells(&empty, name).into_iter().map(|(name, _)| name).collect();
        if fields.iter().any(|name| name.contains('(')) {
            fields = vec![WHOLE.to_owned()]; // the fields of a record depend on its tag
        }
        if let Some(before) = &self.columns {
            if *before != fields {
                bail!("from here on the records have another type, and CSV has one: use --format ndjson");
            }
            return Ok(());
        }
        let place: &[_] =
            if of.source.kind == Kind::Ring { &["shard", "ticket"] } else { &["index", "cpu", "version"] };
        let tail = of.source.tails.map(|_| "tail".to_owned());
        let names = place.iter().chain(&["time"]).map(|name| (*name).to_owned());
        let names: Vec<_> = names.chain(fields.iter().cloned()).chain(tail).collect();
        self.columns = Some(fields);
        csv_line(out, &names)
    }

    fn record(&mut self, of: &Recorded, item: Item<'_>, _: u64) -> Result<()> {
        let value = of.decode(item.bytes);
        if !self.is_wanted(&value) {
            return Ok(());
        }
        let time = line::stamp(&item, of.source.stamp).map(|ns| line::time(of.clock.to_wall(ns)));
        if let Out::Ndjson(out) = &mut self.out {
            writeln!(out, "{}", line::json(&item, time.as_deref(), &value))?;
            return Ok(());
        }
        let place = vec![("shard", Some(item.shard as u64)), ("ticket", Some(item.ticket))];
        self.csv(&Row { time, value: &value, name: RECORD, place, tail: item.tail })
    }

    fn sample(&mut self, of: &Recorded, sample: Sample<'_>) -> Result<()> {
        let value = of.decode(sample.bytes);
        if !self.is_wanted(&value) {
            return Ok(());
        }
        let time = line::time(of.clock.to_wall(sample.time));
        let Sample { index, cpu, version, .. } = sample;
        if let Out::Ndjson(out) = &mut self.out {
            let object = json!({ "index": index, "cpu": cpu, "version": version, "time": time,
                "value": value.json() });
            writeln!(out, "{}", json_line(&object))?;
            return Ok(());
        }
        let place =
            vec![("index", Some(index.into())), ("cpu", cpu.map(u64::from)), ("version", Some(version))];
        self.csv(&Row { time: Some(time), value: &value, name: VALUE, place, tail: None })
    }

    fn lost(&mut self, lost: Lost) -> Result<()> {
        let count = self.lost.entry(lost.cause).or_default();
        *count = count.saturating_add(lost.count);
        Ok(())
    }
}
