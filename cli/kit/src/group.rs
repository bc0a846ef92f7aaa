//! Groups of users.

use anyhow::{Context, Result};

use crate::text::printable;

/// The number of the group with this name.
///
/// # Errors
/// There is no such group, or the list of groups can't be read.
pub fn number(name: &str) -> Result<u32> {
    let group = nix::unistd::Group::from_name(name).with_context(|| format!("group {}", printable(name)))?;
    let group = group.with_context(|| format!("there is no group {0}: groupadd {0}", printable(name)))?;
    Ok(group.gid.as_raw())
}
