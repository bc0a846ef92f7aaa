//! Reads a recording, as `mapring inspect` does: what is in it, and its records in all formats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapring_fuzz::{assert_printable, repair_blocks};
use mapring_kit::table::Format;
use mapring_view::recording::{convert, summarize};

fuzz_target!(|bytes: &[u8]| {
    let mut file = bytes.to_vec();
    repair_blocks(&mut file);
    let ends = [false, true].map(|as_json| {
        let mut out = Vec::new();
        let end = summarize(("recording", &file[..]), as_json, &mut out);
        assert_printable(&out);
        end
    });
    // What is not a recording is none in any format.
    let [Ok(end), Ok(same)] = ends else { return };
    assert_eq!(end, same);
    for format in [Format::Ndjson, Format::Csv, Format::Parquet] {
        let _ = convert(("recording", &file[..]), format, None, ("out", Box::new(std::io::sink())));
    }
});
