//! Reads a file of `mapring flight save`, and makes all reports and dumps of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapring_flight::saved::{Dump, Report, dump, report};
use mapring_fuzz::{assert_printable, repair_parts};

fuzz_target!(|bytes: &[u8]| {
    let mut file = bytes.to_vec();
    repair_parts(&mut file);
    let Ok(figures) = report(&file[..], Report::Json) else { return };
    assert_printable(figures.as_bytes());
    assert_printable(report(&file[..], Report::Text).expect("read before").as_bytes());
    let _ = report(&file[..], Report::Html);
    for format in [Dump::Perfetto, Dump::Ndjson, Dump::Csv, Dump::Folded, Dump::Pprof, Dump::Svg] {
        let _ = dump(&file[..], format, Box::new(std::io::sink()));
    }
});
