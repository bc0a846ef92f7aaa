//! Tables: rows of typed columns, as NDJSON, CSV or Parquet. For `flight dump` and `inspect`.

#[cfg(feature = "parquet")]
mod parquet;

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::exit::Refused;

/// Where a table is written.
pub(crate) type Out = Box<dyn Write + Send>;

/// The format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A line of JSON for each record, as `tail --json` prints it
    Ndjson,
    /// A line of values for each record, after a line of names
    Csv,
    /// Columns with types, for databases. The command must be built with the feature `parquet`
    Parquet,
}

/// The format that the extension of a file's name stands for, or why there is none.
pub(crate) fn format_of<F: ValueEnum>(file: &Path) -> Result<F, &'static str> {
    let name = match file.extension().and_then(OsStr::to_str).unwrap_or_default() {
        "pftrace" | "perfetto-trace" => "perfetto",
        "jsonl" | "json" => "ndjson",
        "gz" if file
            .file_stem()
            .is_some_and(|stem| Path::new(stem).extension() == Some(OsStr::new("pb"))) =>
        {
            "pprof"
        }
        name => name,
    };
    F::from_str(name, false).map_err(|_| "the extension of --out names no format: add --format")
}

impl Format {
    /// Refuses a format that this command was built without.
    pub(crate) fn check(self) -> Result<()> {
        if self == Self::Parquet && cfg!(not(feature = "parquet")) { Err(no_parquet()) } else { Ok(()) }
    }
}

fn no_parquet() -> anyhow::Error {
    let how = "cargo install --path cli --features bpf,parquet";
    Refused(format!("this mapring was built without Parquet: {how}")).into()
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Unsigned,
    Signed,
    /// Unsigned, in texts hexadecimal.
    Hex,
    Float,
    Bool,
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Absent,
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Hex(u64),
    Float(f64),
    Bool(bool),
}

/// As in CSV.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Hex(value) => write!(f, "{value:#x}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// As in JSON.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Hex(_) => serializer.collect_str(self),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Bool(value) => serializer.serialize_bool(*value),
        }
    }
}

/// An object of the columns that have a value.
struct Object<'a>(&'a [String], &'a [Cell]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1).filter(|(_, cell)| **cell != Cell::Absent))
    }
}

/// A table that is being written.
pub(crate) enum Table {
    Ndjson(Vec<String>, BufWriter<Out>),
    Csv(Box<csv::Writer<Out>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::Parquet>),
}

impl Table {
    /// Begins a table with these columns.
    pub(crate) fn new(format: Format, columns: &[(impl AsRef<str>, Kind)], out: Out) -> Result<Self> {
        let names = columns.iter().map(|(name, _)| name.as_ref());
        Ok(match format {
            Format::Ndjson => {
                Self::Ndjson(names.map(str::to_owned).collect(), BufWriter::with_capacity(1 << 18, out))
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Self::Parquet(Box::new(parquet::Parquet::new(columns, out)?)),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => return Err(no_parquet()),
            Format::Csv => {
                let builder = &mut csv::WriterBuilder::new();
                let mut out = builder.has_headers(false).buffer_capacity(1 << 18).from_writer(out);
                out.write_record(names).map_err(of_csv)?;
                Self::Csv(Box::new(out))
            }
        })
    }

    /// Writes a row: a cell for each column.
    pub(crate) fn row(&mut self, cells: &[Cell]) -> Result<()> {
        match self {
            Self::Ndjson(names, out) => {
                serde_json::to_writer(&mut *out, &Object(names, cells)).map_err(std::io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            }
            Self::Csv(out) => {
                let mut field = |cell: &Cell| match cell {
                    Cell::Text(text) => out.write_field(text),
                    cell => out.write_field(cell.to_string()),
                };
                cells.iter().try_for_each(&mut field).map_err(of_csv)?;
                out.write_record(None::<&[u8]>).map_err(of_csv)
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(out) => out.row(cells),
        }
    }

    /// Passes on what is buffered.
    pub(crate) fn flush(&mut self) -> Result<()> {
        match self {
            Self::Ndjson(_, out) => out.flush()?,
            Self::Csv(out) => out.flush()?,
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => {}
        }
        Ok(())
    }

    /// Writes the end.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match self {
            #[cfg(feature = "parquet")]
            Self::Parquet(out) => out.finish(),
            texts => texts.flush(),
        }
    }
}

/// The error of the file itself, so that a closed pipe is found.
fn of_csv(error: csv::Error) -> anyhow::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        error => anyhow::anyhow!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_its_format() {
        for (file, format) in [
            ("a.ndjson", Format::Ndjson),
            ("b.c/d.jsonl", Format::Ndjson),
            ("x.csv", Format::Csv),
            ("y.parquet", Format::Parquet),
        ] {
            assert_eq!(format_of(Path::new(file)), Ok(format));
        }
        for file in ["csv", "a.txt", "a.pftrace", "-"] {
            assert!(format_of::<Format>(Path::new(file)).is_err(), "{file}");
        }
    }
}
