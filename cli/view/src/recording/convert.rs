//! The records and samples of a recording as NDJSON or as a table.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::mem::take;

use anyhow::{Result, bail};
use mapring_kit::table::{Cell, Format, Kind, Out, Table};
use mapring_kit::text::{json_line, printable};
use serde_json::{Value as Json, json};

use super::format::{Lost, Sample, StoredSource};
use super::reader::Visit;
use super::source_kind::SourceKind;
use crate::filter::{Filter, Names};
use crate::line;
use crate::losses::Losses;
use crate::untyped::Item;
use crate::value::{Chars, VALUE, Value, hex};

pub(super) struct Convert {
    to: To,
    filter: Option<Filter>,
    /// The columns of a table, once they are known.
    columns: Vec<(String, Kind)>,
    /// Whether a value is one column of JSON, because its fields depend on its tag.
    is_whole: bool,
    row: Vec<Cell>,
    losses: Losses,
    /// What went wrong with the output. [`finish`](Convert::finish) says it: other errors are those of the recording.
    failed: Option<anyhow::Error>,
}

enum To {
    Ndjson(BufWriter<Out>),
    /// A table that begins with the first source: its types are the columns.
    New(Format, Option<Out>),
    Table(Table),
}

impl Convert {
    pub(super) fn new(format: Format, filter: Option<Filter>, out: Out) -> Self {
        let to = match format {
            Format::Ndjson => To::Ndjson(BufWriter::with_capacity(1 << 18, out)),
            format => To::New(format, Some(out)),
        };
        Self {
            to,
            filter,
            columns: Vec::new(),
            is_whole: false,
            row: Vec::new(),
            losses: Losses::default(),
            failed: None,
        }
    }

    /// Writes what is buffered, and prints the losses.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)?;
        match &mut self.to {
            To::Ndjson(out) => out.flush()?,
            To::New(..) => {}
            To::Table(table) => table.finish()?,
        }
        if !self.losses.is_empty() {
            eprintln!("mapring: lost while it was recorded: {}", self.losses);
        }
        Ok(())
    }

    /// Ends the reading if the output fails.
    fn checked(&mut self, written: Result<()>) -> Result<()> {
        written.or_else(|e| {
            self.failed = Some(e);
            bail!("the output can't be written")
        })
    }

    fn is_wanted(&self, of: &StoredSource, value: &Value, tail: Option<&[u8]>) -> bool {
        let names = Names { value, tail, ty: of.ty().ok() };
        self.filter.as_ref().is_none_or(|filter| filter.holds(names))
    }

    /// Writes a row of a table: the numbers of its place, the time, the fields, and the tail of a ring with tails.
    fn row(
        &mut self,
        location: &[Option<u64>],
        time: Option<String>,
        value: &Value,
        tail: Option<&[u8]>,
    ) -> Result<()> {
        let To::Table(table) = &mut self.to else { return Ok(()) };
        let mut row = take(&mut self.row);
        row.clear();
        row.extend(location.iter().map(|number| number.map_or(Cell::Absent, Cell::Unsigned)));
        row.push(time.map_or(Cell::Absent, Cell::Text));
        let tail = tail.map(|tail| Value::Text(Chars::tail(tail)));
        match self.is_whole {
            true => row.push(Cell::Text(json_line(&value.json()))),
            false => each_field(value, &mut String::new(), &mut |_, value| row.push(cell(value))),
        }
        row.extend(tail.iter().map(cell));
        let mut push_bytes = |value: &Value| row.extend(value.has_text().then(|| bytes(value)));
        if !self.is_whole {
            each_field(value, &mut String::new(), &mut |_, value| push_bytes(value));
        }
        tail.iter().for_each(push_bytes);
        let written = table.row(&row);
        self.row = row;
        self.checked(written)
    }
}

/// The most bytes of the names of all columns. In a forged type each may be very long.
const NAMES: usize = 16 << 20;

/// The column of records whose fields depend on their tag, or have names that are too long.
const WHOLE: &str = "record (JSON)";

/// Calls `visit` with the path and the value of each field, in order; of a value without fields once. The values of a type
/// always have the same fields, unless they depend on a tag.
fn each_field(value: &Value, path: &mut String, visit: &mut impl FnMut(&str, &Value)) {
    let Value::Struct(fields) = value else { return visit(path, value) };
    let length = path.len();
    for (name, value) in fields {
        if length > 0 {
            path.push('.');
        }
        path.push_str(name);
        each_field(value, path, visit);
        path.truncate(length);
    }
}

/// Lists are JSON.
fn cell(value: &Value) -> Cell {
    match value {
        Value::Unsigned(number) => Cell::Unsigned(*number),
        Value::Signed(number) => Cell::Signed(*number),
        Value::Float(number) => Cell::Float(*number),
        Value::Bool(value) => Cell::Bool(*value),
        Value::Text(text) => Cell::Text(printable(&text.text()).into_owned()),
        Value::Name(name, _) => Cell::Text(printable(name).into_owned()),
        Value::List(_) | Value::Struct(_) => Cell::Text(json_line(&value.json())),
        Value::Code(_) | Value::Pointer(_) => Cell::Text(value.to_string()),
        Value::Bytes(bytes) => Cell::Text(hex(bytes)),
        Value::Cut => Cell::Absent,
    }
}

/// The bytes of a text, or of each text of a list, unless the column of the text says all of them.
fn bytes(value: &Value) -> Cell {
    value.unless_all(printable).map_or(Cell::Absent, |bytes| cell(&bytes))
}

/// What the column of a field holds. Enums are texts: of each value the name, or the number if it has no name.
fn kind(value: &Value) -> Kind {
    match value {
        Value::Unsigned(_) => Kind::Unsigned,
        Value::Signed(_) => Kind::Signed,
        Value::Float(_) => Kind::Float,
        Value::Bool(_) => Kind::Bool,
        _ => Kind::Text,
    }
}

/// The columns of a source, and whether its values are one column of JSON. After all others come those with the bytes of
/// texts.
fn columns(of: &StoredSource, empty: &Value) -> (Vec<(String, Kind)>, bool) {
    let (location, whole): (&[_], _) = match of.source.kind {
        SourceKind::Ring => (&["shard", "ticket"], "record"),
        _ => (&["index", "cpu", "version"], VALUE),
    };
    let (mut fields, mut texts, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    each_field(empty, &mut String::new(), &mut |path, value| {
        bytes = bytes.saturating_add(path.len());
        if bytes > NAMES {
            return;
        }
        texts.extend(value.has_text().then_some(fields.len()));
        fields.push((path.to_owned(), kind(value)));
    });
    let is_whole = bytes > NAMES || fields.iter().any(|(name, _)| name.contains('(')); // `(unknown tag)`
    if is_whole {
        (fields, texts) = (vec![(WHOLE.to_owned(), Kind::Text)], Vec::new());
    }
    let mut columns: Vec<_> = location.iter().map(|name| ((*name).to_owned(), Kind::Unsigned)).collect();
    columns.push(("time".to_owned(), Kind::Time));
    let first = columns.len();
    let mut known: HashSet<_> = columns.iter().map(|(name, _)| name.clone()).collect();
    let tail = of.source.tails.map(|_| ("tail".to_owned(), Kind::Text));
    known.extend(tail.iter().map(|(name, _)| name.clone()));
    for (at, (mut name, kind)) in fields.into_iter().enumerate() {
        if name.is_empty() {
            name.push_str(whole);
        }
        // A field may have the name of another column. In a forged file all may have the same.
        if !known.insert(name.clone()) {
            name = format!("{whole}.{name}");
            while !known.insert(name.clone()) {
                name.push_str(&format!("~{at}"));
            }
        }
        columns.push((name, kind));
    }
    texts.extend(tail.iter().map(|_| columns.len() - first));
    columns.extend(tail);
    for at in texts {
        let mut name = format!("{}.bytes", columns[first + at].0);
        while !known.insert(name.clone()) {
            name.push_str(&format!("~{at}"));
        }
        columns.push((name, Kind::Text));
    }
    (columns, is_whole)
}

impl Visit for Convert {
    fn source(&mut self, of: &StoredSource) -> Result<()> {
        let empty = of.decode(&vec![0; of.source.record]);
        if let Some(filter) = &self.filter {
            let (ty, tail) = (of.ty(), of.source.tails.map(|_| &[][..]));
            let is_known = of.source.kind.layout().is_some() || tail.is_some();
            if let (Err(why), false) = (&ty, is_known) {
                bail!("--where: the fields are not known: {}", printable(why));
            }
            filter.check(&[Names { value: &empty, tail, ty: ty.ok() }])?;
        }
        if let To::Ndjson(_) = self.to {
            return Ok(());
        }
        let (columns, is_whole) = columns(of, &empty);
        if let To::New(format, out) = &mut self.to {
            let Some(out) = out.take() else { return Ok(()) };
            self.to = To::Table(Table::new(*format, &columns, out)?);
            (self.columns, self.is_whole) = (columns, is_whole);
        } else if self.columns != columns {
            bail!("from here on the records have another type, and a table has one: use --format ndjson");
        }
        Ok(())
    }

    fn record(&mut self, of: &StoredSource, item: Item<'_>, arrived: u64) -> Result<()> {
        let value = of.decode(item.bytes);
        if !self.is_wanted(of, &value, item.tail) {
            return Ok(());
        }
        let time = of.time(&item, arrived).map(line::time);
        if let To::Ndjson(out) = &mut self.to {
            let written = writeln!(out, "{}", line::json("", &item, time.as_deref(), &value));
            return self.checked(written.map_err(Into::into));
        }
        self.row(&[Some(item.shard as u64), Some(item.ticket)], time, &value, item.tail)
    }

    fn sample(&mut self, of: &StoredSource, sample: Sample<'_>) -> Result<()> {
        let value = of.decode(sample.bytes);
        if !self.is_wanted(of, &value, None) {
            return Ok(());
        }
        let time = line::time(of.clock.to_wall(sample.time));
        let Sample { index, cpu, version, .. } = sample;
        if let To::Ndjson(out) = &mut self.to {
            let json = json!({ "index": index, "cpu": cpu, "version": version, "time": time });
            let Json::Object(mut object) = json else { return Ok(()) };
            value.put(VALUE, &mut object);
            let written = writeln!(out, "{}", json_line(&Json::Object(object)));
            return self.checked(written.map_err(Into::into));
        }
        self.row(&[Some(index.into()), cpu.map(u64::from), Some(version)], Some(time), &value, None)
    }

    fn lost(&mut self, lost: Lost) -> Result<()> {
        self.losses.add("", None, lost.cause, lost.count);
        Ok(())
    }
}

#[cfg(all(test, feature = "parquet"))]
#[path = "convert_tests.rs"]
mod tests;
