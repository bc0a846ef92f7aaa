//! A line of values for each event, after a line with the names of the columns.

use std::io::Write;

use anyhow::Result;

use super::super::event::{Event, Gap};
use super::super::names::Names;
use super::Sink;
use super::rows::{COLUMNS, Row, Rows};

pub(super) struct Csv {
    out: csv::Writer<Box<dyn Write + Send>>,
    rows: Rows,
}

impl Csv {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Result<Self> {
        let mut out = csv::WriterBuilder::new().has_headers(false).buffer_capacity(1 << 18).from_writer(out);
        out.write_record(COLUMNS.iter().map(|(name, _)| name))?;
        Ok(Self { out, rows: Rows::new() })
    }
}

fn write(out: &mut csv::Writer<Box<dyn Write + Send>>, row: &Row) -> Result<()> {
    out.serialize(&row[..]).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(), // so that a closed pipe is found
        error => anyhow::anyhow!("{error:?}"),
    })
}

impl Sink for Csv {
    fn event(&mut self, event: &Event, names: &mut Names) -> Result<()> {
        write(&mut self.out, self.rows.event(event, names))
    }

    fn gap(&mut self, gap: &Gap) -> Result<()> {
        write(&mut self.out, self.rows.gap(gap))
    }

    fn flush(&mut self) -> Result<()> {
        self.rows.update();
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{events, gap, written};

    #[test]
    fn each_event_is_a_line() {
        let file = written(Format::Csv, &events(), &[gap(None, 9)]);
        let mut reader = csv::Reader::from_reader(&file[..]);
        let header = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect(); // fails if a row has another length
        assert_eq!(rows.len(), events().len() + 1);
        let at = |name| header.iter().position(|column| column == name).unwrap();
        let value = |row: usize, name| &rows[row][at(name)];
        assert_eq!(
            [value(0, "event"), value(0, "child_pid"), value(0, "ret")],
            ["sched_process_fork", "8", ""]
        );
        assert_eq!([value(3, "arg2"), value(4, "ret")], ["0xffffffffffffffff", "-9223372036854775808"]);
        assert_eq!(value(12, "file"), "/bin/\\u{1b}[31m\"a,\\n\\u{9b}");
        let last = rows.len() - 1;
        assert_eq!([value(last, "event"), value(last, "group"), value(last, "since")], ["lost", "sched", ""]);
    }
}
