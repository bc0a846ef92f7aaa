//! The exit codes of the command. clap adds 2: a command line that makes no sense.

/// The command did not do what was asked for, for the reason on stderr.
pub(crate) const FAILED: u8 = 1;
/// This kernel or this user can't: a feature or a privilege is missing. The message says which, and how to get it.
pub(crate) const REFUSED: u8 = 77;

/// An error that ends the command with [`REFUSED`].
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// The exit code for an error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|e| e.is::<Refused>()) { REFUSED } else { FAILED }
}
