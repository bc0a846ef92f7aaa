//! The servers that receive what the command exports: Debian's packages, unpacked beside the build. None is installed.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cmd, vm};

/// Packages with a program of the same name, and the first suite whose version has what the tests need.
const PACKAGES: [(&str, &str); 3] =
    [("prometheus", "bookworm"), ("nats-server", "bookworm"), ("victoria-metrics", "trixie")];

/// Tells the tests where the servers are.
pub(crate) const VARIABLE: &str = "MAPRING_SERVERS";

pub(crate) fn folder() -> PathBuf {
    cmd::target_dir().join("servers")
}

/// Fetches the servers, unless they are there.
pub(crate) fn fetch() -> Result<()> {
    PACKAGES.into_iter().try_for_each(|(package, suite)| vm::program(package, suite, &folder()))
}
