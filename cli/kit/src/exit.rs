//! The exit codes of the command. clap adds 2: a command line that makes no sense.

use std::borrow::Cow;
use std::io;

/// The command did not do what was asked for, for the reason on stderr.
pub const FAILED: u8 = 1;
/// This kernel or this user can't: a feature or a privilege is missing. The message says which, and how to get it.
pub const REFUSED: u8 = 77;

/// An error that ends the command with [`REFUSED`].
#[derive(Debug)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// An error of the command line that clap does not find: it ends the command with exit code 2, for this reason.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongUsage(pub Cow<'static, str>);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// Whether the reader of a pipe is gone, as `mapring … | head` leaves it.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code for an error.
pub fn code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|e| e.is::<Refused>()) { REFUSED } else { FAILED }
}
