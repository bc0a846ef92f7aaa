//! A Parquet file: columns of optional values, in groups of rows.

use std::iter::repeat;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Result, bail};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::{Cell, Kind, Out};

/// The most rows of a group.
const ROWS: usize = 1 << 16;
/// About the most memory of a group.
const BYTES: usize = 64 << 20;

pub(crate) struct Parquet {
    out: SerializedFileWriter<Out>,
    /// The rows of the group that is being filled.
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

struct Column {
    /// For each row 1 if it has a value, and otherwise 0.
    present: Vec<i16>,
    values: Values,
}

enum Values {
    Words(Vec<i64>),
    Times(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<ByteArray>),
}

impl Parquet {
    pub(super) fn new(columns: &[(impl AsRef<str>, Kind)], out: Out) -> Result<Self> {
        let fields = columns.iter().map(|(name, kind)| field(name.as_ref(), *kind)).collect::<Result<_>>()?;
        let schema = Type::group_type_builder("event").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        let columns = columns.iter().map(|(_, kind)| Column::new(*kind)).collect();
        Ok(Self { out, columns, rows: 0, bytes: 0 })
    }

    pub(super) fn row(&mut self, cells: &[Cell]) -> Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells.iter().chain(repeat(&Cell::Absent))) {
            self.bytes += column.push(cell);
        }
        self.rows += 1;
        if self.rows < ROWS && self.bytes < BYTES { Ok(()) } else { self.write_group().map_err(of_parquet) }
    }

    fn write_group(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut out) = group.next_column()? else { bail!("a column is missing in the schema") };
            column.write(out.untyped())?;
            out.close()?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        self.write_group().and_then(|()| Ok(self.out.finish().map(drop)?)).map_err(of_parquet)
    }
}

/// The error of the file itself, so that a closed pipe is found and nothing is said twice.
fn of_parquet(error: anyhow::Error) -> anyhow::Error {
    match error.downcast() {
        Ok(ParquetError::External(error)) => anyhow::Error::from_boxed(error),
        Ok(error) => error.into(),
        Err(error) => error,
    }
}

impl Column {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Text => Values::Texts(Vec::new()),
            Kind::Time => Values::Times(Vec::new()),
            Kind::Unsigned | Kind::Signed | Kind::Hex => Values::Words(Vec::new()),
            Kind::Float => Values::Floats(Vec::new()),
            Kind::Bool => Values::Bools(Vec::new()),
        };
        Self { present: Vec::new(), values }
    }

    /// Adds a value, or none if the cell has another type; returns about how many bytes that takes.
    fn push(&mut self, cell: &Cell) -> usize {
        let mut size = size_of::<i16>() + size_of::<u64>();
        self.present.push(1);
        match (&mut self.values, cell) {
            (Values::Words(to), Cell::Unsigned(value) | Cell::Hex(value)) => to.push(value.cast_signed()),
            (Values::Words(to), Cell::Signed(value)) => to.push(*value),
            (Values::Times(to), Cell::Text(text)) => match nanoseconds(text) {
                Some(time) => to.push(time),
                None => self.set_absent(),
            },
            (Values::Floats(to), Cell::Float(value)) => to.push(*value),
            (Values::Bools(to), Cell::Bool(value)) => to.push(*value),
            // A byte of the C type bool that is neither 0 nor 1.
            (Values::Bools(to), Cell::Unsigned(value)) => to.push(*value != 0),
            (_, Cell::Absent) => self.set_absent(),
            (Values::Texts(to), cell) => {
                let text = cell.to_string();
                size += size_of::<ByteArray>() + text.len();
                to.push(text.into_bytes().into());
            }
            _ => self.set_absent(),
        }
        size
    }

    fn set_absent(&mut self) {
        if let Some(last) = self.present.last_mut() {
            *last = 0;
        }
    }

    /// Writes the values of a group, and begins the next one.
    fn write(&mut self, out: &mut ColumnWriter<'_>) -> Result<()> {
        let present = Some(&self.present[..]);
        match (out, &mut self.values) {
            (ColumnWriter::Int64ColumnWriter(out), Values::Words(values) | Values::Times(values)) => {
                out.write_batch(values, present, None)?;
                values.clear();
            }
            (ColumnWriter::DoubleColumnWriter(out), Values::Floats(values)) => {
                out.write_batch(values, present, None)?;
                values.clear();
            }
            (ColumnWriter::BoolColumnWriter(out), Values::Bools(values)) => {
                out.write_batch(values, present, None)?;
                values.clear();
            }
            (ColumnWriter::ByteArrayColumnWriter(out), Values::Texts(values)) => {
                out.write_batch(values, present, None)?;
                values.clear();
            }
            _ => bail!("a column has another type in the schema"),
        }
        self.present.clear();
        Ok(())
    }
}

/// Since 1970. `None` of a time that is later than a timestamp can be.
fn nanoseconds(text: &str) -> Option<i64> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    since.as_nanos().try_into().ok()
}

fn field(name: &str, kind: Kind) -> Result<Arc<Type>> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
        Kind::Signed => (Physical::INT64, Some(LogicalType::integer(64, true))),
        Kind::Unsigned | Kind::Hex => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Float => (Physical::DOUBLE, None),
        Kind::Bool => (Physical::BOOLEAN, None),
    };
    let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    Ok(Arc::new(builder.with_logical_type(logical).build()?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    /// Writes rows with this number and text; returns the reader of the file.
    fn written(rows: u64, text: &str) -> SerializedFileReader<File> {
        let file = File::from(memfd_create("parquet", MemfdFlags::empty()).unwrap());
        let columns = [("number", Kind::Unsigned), ("text", Kind::Text), ("ok", Kind::Bool)];
        let mut table = Parquet::new(&columns, Box::new(file.try_clone().unwrap())).unwrap();
        for number in 0..rows {
            let text = if number % 2 == 0 { Cell::Absent } else { Cell::Text(text.to_owned()) };
            // A cell of another type and one that is missing are absent.
            let number = if number == 7 { Cell::Float(0.5) } else { Cell::Unsigned(u64::MAX - number) };
            table.row(&[number, text]).unwrap();
        }
        table.finish().unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    #[test]
    fn many_rows_are_several_groups() {
        let rows = 2 * ROWS as u64 + 3;
        let file = written(rows, "x");
        let sizes: Vec<_> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(sizes, [ROWS as i64, ROWS as i64, 3]);
        let all: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len() as u64, rows);
        for (number, row) in (0..).zip(&all) {
            assert_eq!(row.get_ulong(0).ok(), (number != 7).then_some(u64::MAX - number));
            assert_eq!(row.get_string(1).ok().map(String::as_str), (number % 2 == 1).then_some("x"));
            assert!(row.get_bool(2).is_err());
        }
        assert_eq!(written(0, "").metadata().num_row_groups(), 0);
    }

    #[test]
    fn times_are_timestamps() {
        let file = File::from(memfd_create("parquet", MemfdFlags::empty()).unwrap());
        let mut table = Parquet::new(&[("time", Kind::Time)], Box::new(file.try_clone().unwrap())).unwrap();
        for time in
            ["1970-01-01T00:00:01.000000007Z", "2026-12-01T03:25:24.5Z", "9999-12-31T23:59:59Z", "soon"]
        {
            table.row(&[Cell::Text(time.to_owned())]).unwrap();
        }
        table.finish().unwrap();
        let file = SerializedFileReader::new(file).unwrap();
        let schema = file.metadata().file_metadata().schema_descr();
        assert_eq!(schema.column(0).logical_type_ref(), Some(&LogicalType::timestamp(true, TimeUnit::NANOS)));
        let times = file.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(0).ok());
        let expected = [Some(1_000_000_007), Some(1_796_095_524_500_000_000), None, None];
        assert!(times.eq(expected), "later times than 2262 have no timestamp");
    }

    #[test]
    fn large_texts_make_small_groups() {
        let file = written(200, &"x".repeat(1 << 20));
        assert!((2..=3).contains(&file.metadata().num_row_groups()), "100 MiB of text");
        assert_eq!(file.metadata().file_metadata().num_rows(), 200);
    }
}
