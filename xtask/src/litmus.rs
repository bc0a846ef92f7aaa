//! Runs `proofs/litmus/run.sh`: the protocols under formal memory models.

use std::env;
use std::io;
use std::process::ExitStatus;

use anyhow::Result;

use crate::archives::{DEBIAN, Mirror};
use crate::cmd;
use crate::skip::Skip;

/// The script's variable for the package mirror.
const MIRROR: &str = "LITMUS_MIRROR";

/// Runs the tests of some folders, or all: returns the output and the exit status. Fetches herd7 from Debian's
/// packages, and for `lkmm` the kernel's model.
pub(crate) fn run(folders: &[&str]) -> Result<(String, ExitStatus)> {
    let mut script = cmd::line("proofs/litmus/run.sh");
    if env::var_os(MIRROR).is_none()
        && let Ok(Some(Mirror::Known(uri))) = DEBIAN.mirror()
    {
        script.env(MIRROR, uri);
    }
    let (said, status) = cmd::tee(script.args(folders).stderr(io::stderr()))?;
    if status.code() == Some(2) {
        return Err(
            Skip("proofs/litmus/run.sh could not get herd7 or the kernel's model: see above".into()).into()
        );
    }
    Ok((said, status))
}
