//! The schemas of what commands print as one JSON object: made from the types that are printed, and kept in `docs`.
//! `MAPRING_BLESS=1` writes the files.

use std::fs;
use std::path::Path;

/// The schema of what this command prints is that of the file in `docs`.
pub(crate) fn check<T: schemars::JsonSchema>(command: &str, file: &str) {
    let mut schema = schemars::schema_for!(T);
    schema.insert("title".to_owned(), command.into());
    let schema = serde_json::to_string_pretty(&schema).unwrap().replace("`None`", "`null`") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
    if std::env::var_os("MAPRING_BLESS").is_some_and(|bless| bless == "1") {
        fs::write(&path, &schema).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == schema, "{}: MAPRING_BLESS=1 writes it", path.display());
}
