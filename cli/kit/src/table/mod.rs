//! Tables: rows of typed columns, as NDJSON, CSV or Parquet. For `flight dump` and `inspect`.

#[cfg(feature = "parquet")]
mod parquet;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::exit::{Refused, WrongUsage};

/// Where a table is written.
pub type Out = Box<dyn Write + Send>;

/// The format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line of JSON for each record, as `tail --json` prints it
    Ndjson,
    /// A line of values for each record, after a line of names
    Csv,
    /// As csv, but no text begins as a formula of a spreadsheet: ' stands before =, +, -, @, tab or return
    Spreadsheet,
    /// Columns with types, for databases. The command must be built with the feature `parquet`
    Parquet,
}

/// The format that the extension of a file's name stands for, or why there is none.
pub fn format_of<F: ValueEnum>(file: &Path) -> Result<F, WrongUsage> {
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
    F::from_str(name, false)
        .map_err(|_| WrongUsage("the extension of --out names no format: add --format".into()))
}

impl Format {
    /// Refuses a format that this command was built without.
    pub fn check(self) -> Result<()> {
        if self == Self::Parquet && cfg!(not(feature = "parquet")) { Err(no_parquet()) } else { Ok(()) }
    }
}

fn no_parquet() -> anyhow::Error {
    let how = "cargo install --path cli --features bpf,parquet";
    Refused(format!("this mapring was built without Parquet: {how}")).into()
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// A text with a time in UTC, as RFC 3339 has it; in Parquet a timestamp in nanoseconds.
    Time,
    /// A `u64`.
    Unsigned,
    /// An `i64`.
    Signed,
    /// Unsigned, in texts hexadecimal.
    Hex,
    /// An `f64`.
    Float,
    /// A truth value.
    Bool,
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value.
    Absent,
    /// UTF-8.
    Text(String),
    /// Printed as a decimal number.
    Unsigned(u64),
    /// Printed as a decimal number.
    Signed(i64),
    /// Printed as a hexadecimal number, in JSON as a text.
    Hex(u64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
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
pub struct Table(Writer);

enum Writer {
    Ndjson(Vec<String>, BufWriter<Out>),
    /// And whether no text may be a formula.
    Csv(Box<csv::Writer<Out>>, bool),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::Parquet>),
}

impl Table {
    /// Begins a table with these columns.
    pub fn new(format: Format, columns: &[(impl AsRef<str>, Kind)], out: Out) -> Result<Self> {
        let names = columns.iter().map(|(name, _)| name.as_ref());
        Ok(Self(match format {
            Format::Ndjson => {
                Writer::Ndjson(names.map(str::to_owned).collect(), BufWriter::with_capacity(1 << 18, out))
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Writer::Parquet(Box::new(parquet::Parquet::new(columns, out)?)),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => return Err(no_parquet()),
            Format::Csv | Format::Spreadsheet => {
                let builder = &mut csv::WriterBuilder::new();
                let mut out = builder.has_headers(false).buffer_capacity(1 << 18).from_writer(out);
                let is_guarded = format == Format::Spreadsheet;
                out.write_record(names.map(|name| guarded(name, is_guarded).into_owned())).map_err(of_csv)?;
                Writer::Csv(Box::new(out), is_guarded)
            }
        }))
    }

    /// Writes a row: a cell for each column.
    pub fn row(&mut self, cells: &[Cell]) -> Result<()> {
        match &mut self.0 {
            Writer::Ndjson(names, out) => {
                serde_json::to_writer(&mut *out, &Object(names, cells)).map_err(std::io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            }
            Writer::Csv(out, is_guarded) => {
                let mut field = |cell: &Cell| match cell {
                    Cell::Text(text) => out.write_field(&*guarded(text, *is_guarded)),
                    cell => out.write_field(cell.to_string()),
                };
                cells.iter().try_for_each(&mut field).map_err(of_csv)?;
                out.write_record(None::<&[u8]>).map_err(of_csv)
            }
            #[cfg(feature = "parquet")]
            Writer::Parquet(out) => out.row(cells),
        }
    }

    /// Passes on what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.0 {
            Writer::Ndjson(_, out) => out.flush()?,
            Writer::Csv(out, _) => out.flush()?,
            #[cfg(feature = "parquet")]
            Writer::Parquet(_) => {}
        }
        Ok(())
    }

    /// Writes the end.
    pub fn finish(&mut self) -> Result<()> {
        #[cfg(feature = "parquet")]
        if let Writer::Parquet(out) = &mut self.0 {
            return out.finish();
        }
        self.flush()
    }
}

/// A text that no spreadsheet takes for a formula, if it is to be `is_guarded`.
fn guarded(text: &str, is_guarded: bool) -> Cow<'_, str> {
    let is_formula = is_guarded && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}").into() } else { text.into() }
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

    /// What a table has written.
    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_text_is_a_formula_of_a_spreadsheet() {
        let texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "a=b", ""];
        let expected = |mark: &str| {
            format!(
                "a,n\n{mark}=HYPERLINK(1),-7\n{mark}+1,-7\n{mark}-1,-7\n{mark}@x,-7\n{mark}\tx,-7\na=b,-7\n,-7\n"
            )
        };
        for (format, mark) in [(Format::Csv, ""), (Format::Spreadsheet, "'")] {
            let file = Shared::default();
            let columns = [("a", Kind::Text), ("n", Kind::Signed)];
            let mut table = Table::new(format, &columns, Box::new(file.clone())).unwrap();
            for text in texts {
                table.row(&[Cell::Text(text.to_owned()), Cell::Signed(-7)]).unwrap();
            }
            table.finish().unwrap();
            assert_eq!(String::from_utf8(file.0.lock().unwrap().clone()).unwrap(), expected(mark));
        }
    }

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
