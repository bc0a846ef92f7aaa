//! `litmus/run.sh`: the protocols under formal memory models.

use std::io;
use std::process::ExitStatus;

use anyhow::Result;

use crate::cmd;
use crate::skip::Skip;

/// Runs the tests of some folders, or all: what was printed, and how it ended. Fetches herd7 from
/// Debian's packages, and for `lkmm` the kernel's model.
pub(crate) fn run(folders: &[&str]) -> Result<(String, ExitStatus)> {
    let mut script = cmd::line("litmus/run.sh");
    let (said, status) = cmd::tee(script.args(folders).stderr(io::stderr()))?;
    if status.code() == Some(2) {
        return Err(Skip("litmus/run.sh could not get herd7 or the kernel's model: see above".into()).into());
    }
    Ok((said, status))
}
