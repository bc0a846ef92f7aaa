//! What is skipped here, and how that is said.

use std::fmt;

/// The error of what can't run here after all: why.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Says, so that nobody overlooks it, what did not run.
pub(crate) fn banner(name: &str, why: &str) {
    let rule = "!".repeat(78);
    eprintln!("{rule}\n!! SKIPPED {name}\n!! {}\n{rule}", why.replace('\n', "\n!! "));
}
