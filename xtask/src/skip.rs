//! Skipped checks, and the messages about them.

use std::fmt;

/// The error of a check that turns out not to be runnable here, with the reason.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Prints a skipped check so that nobody overlooks it.
pub(crate) fn banner(name: &str, why: &str) {
    shout(&format!("SKIPPED {name}\n{why}"));
}

/// Prints this so that nobody overlooks it.
pub(crate) fn shout(text: &str) {
    let rule = "!".repeat(78);
    eprintln!("{rule}\n!! {}\n{rule}", text.replace('\n', "\n!! "));
}
