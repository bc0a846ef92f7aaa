//! A Parquet file: the columns of the table, a row group for every 64 Ki events.

use std::io::Write;
use std::mem::take;
use std::sync::Arc;

use anyhow::Result;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::super::event::{Event, Gap};
use super::super::names::Names;
use super::Sink;
use super::rows::{COLUMNS, Kind, Row, Rows, Value};

/// Rows of a group.
const ROWS: usize = 1 << 16;

pub(super) struct Parquet {
    out: SerializedFileWriter<Box<dyn Write + Send>>,
    rows: Rows,
    held: Vec<Row>,
}

impl Parquet {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Result<Self> {
        let fields = COLUMNS.iter().map(|(name, kind)| field(name, *kind)).collect::<Result<_>>()?;
        let schema = Type::group_type_builder("event").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { out, rows: Rows::new(), held: Vec::new() })
    }

    fn push(&mut self) -> Result<()> {
        if self.held.len() < ROWS { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let rows = take(&mut self.held);
        let mut group = self.out.next_row_group()?;
        let mut index = 0;
        while let Some(mut column) = group.next_column()? {
            let values = rows.iter().filter_map(|row| row.get(index));
            let present: Vec<i16> = values.clone().map(|value| i16::from(*value != Value::Absent)).collect();
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(out) => {
                    let texts: Vec<ByteArray> = values.filter_map(text).collect();
                    out.write_batch(&texts, Some(&present), None)?;
                }
                ColumnWriter::Int64ColumnWriter(out) => {
                    let numbers: Vec<i64> = values.filter_map(number).collect();
                    out.write_batch(&numbers, Some(&present), None)?;
                }
                _ => {} // the schema has no other columns
            }
            column.close()?;
            index += 1;
        }
        group.close()?;
        Ok(())
    }
}

fn field(name: &str, kind: Kind) -> Result<Arc<Type>> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, LogicalType::String),
        Kind::Signed => (Physical::INT64, LogicalType::integer(64, true)),
        Kind::Unsigned | Kind::Hex => (Physical::INT64, LogicalType::integer(64, false)),
    };
    let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    Ok(Arc::new(builder.with_logical_type(Some(logical)).build()?))
}

fn text(value: &Value) -> Option<ByteArray> {
    if let Value::Text(text) = value { Some(text.as_str().into()) } else { None }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Unsigned(value) | Value::Hex(value) => Some(value.cast_signed()),
        Value::Signed(value) => Some(*value),
        Value::Absent | Value::Text(_) => None,
    }
}

impl Sink for Parquet {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        self.held.push(self.rows.event(event, names).clone());
        self.push()
    }

    fn gap(&mut self, gap: &Gap) -> Result<()> {
        self.held.push(self.rows.gap(gap).clone());
        self.push()
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Names) -> Result<()> {
        self.write()?;
        self.out.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::super::Format;
    use super::super::tests::{events, gap, written};
    use super::*;

    #[test]
    fn each_event_is_a_row() {
        let file = written(Format::Parquet, &events(), &[gap(Some(5), 9)]);
        let reader = SerializedFileReader::new(prost::bytes::Bytes::from(file)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), events().len() + 1);
        let at = |name| COLUMNS.iter().position(|(column, _)| *column == name).unwrap();
        assert_eq!(rows[0].get_string(at("event")).unwrap(), "sched_process_fork");
        assert_eq!(rows[0].get_ulong(at("child_pid")).unwrap(), 8);
        assert_eq!(rows[3].get_ulong(at("arg0")).unwrap(), u64::MAX);
        assert_eq!(rows[4].get_long(at("ret")).unwrap(), i64::MIN);
        assert_eq!(rows[12].get_string(at("file")).unwrap(), "/bin/\\u{1b}[31m\"a,\\n\\u{9b}");
        assert_eq!(rows.last().unwrap().get_ulong(at("lost")).unwrap(), u64::MAX);
        assert!(rows[0].get_string(at("cause")).is_err(), "absent");
    }
}
