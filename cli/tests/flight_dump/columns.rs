//! The calls in a Parquet file, or why there is none.

use super::*;

#[cfg(feature = "parquet")]
#[test]
fn parquet_has_the_calls() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    let Some(recorder) = Recorder::start("parquet", "sched,syscalls") else { return };
    let is = |row: &parquet::record::Row, name: &str, is: Field| {
        row.get_column_iter().any(|(n, v)| n == name && *v == is)
    };
    let me = std::process::id();
    let dumped = |_| {
        let (tid, _) = work();
        recorder.dump(&["--out", "a.parquet", "--force"]);
        let file = fs::File::open(recorder.dir.join("a.parquet")).unwrap();
        let file = SerializedFileReader::new(file).unwrap();
        file.get_row_iter(None).unwrap().map(Result::unwrap).any(|row| {
            is(&row, "tid", Field::ULong(tid.into()))
                && is(&row, "syscall", Field::Str("getpgid".into()))
                && is(&row, "arg0", Field::ULong(me.into()))
                && is(&row, "thread", Field::Str(SHOWN.into()))
        })
    };
    // A very busy machine overwrites the work before the dump.
    assert!((0..20).any(dumped));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_it_says_how_to_get_it() {
    let Some(recorder) = Recorder::start("refused", "exec") else { return };
    let output = recorder.run("dump", &["--out", "a.parquet"]);
    assert_eq!(output.status.code(), Some(77));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--features bpf,parquet"));
}
