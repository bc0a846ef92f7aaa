//! Groups of users and hosts, by their names.
//!
//! A static executable must not load the modules of this machine's name service (NSS): they bring a second libc, and crash. So
//! `getent` looks names up, in a process of its own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::text::printable;

/// The number of the group with this name. A number stands for itself.
///
/// # Errors
/// There is no such group, or the list of groups can't be read.
pub fn group(name: &str) -> Result<u32> {
    let file = std::fs::read("/etc/group").unwrap_or_default();
    if let Some(number) = in_groups(&String::from_utf8_lossy(&file), name) {
        return Ok(number);
    }
    let shown = printable(name);
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest one stands for no group.
        let number = name.parse().ok().filter(|number| *number != u32::MAX);
        return number.with_context(|| format!("no group has the number {shown}"));
    }
    let listed = getent("group", name).with_context(|| format!("group {shown}"))?;
    let number = listed.and_then(|text| in_groups(&text, name));
    number.with_context(|| format!("there is no group {shown}: groupadd {shown}"))
}

/// The number of a group in lines of `/etc/group`.
fn in_groups(lines: &str, name: &str) -> Option<u32> {
    let number = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.split(':').nth(1)?.parse().ok();
    lines.lines().find_map(number)
}

/// The addresses of a host and a port: `localhost:4222`, `[::1]:4222`.
///
/// # Errors
/// There is no such host, or it can't be looked up.
pub fn addresses(of: &str) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = of.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = of.rsplit_once(':').context("it has no port")?;
    let port = port.parse().with_context(|| format!("{}: not a port", printable(port)))?;
    let addresses: Vec<_> = match getent("ahosts", host) {
        // Such a machine has no modules either.
        Err(error) if error.downcast_ref().is_some_and(is_missing) => of.to_socket_addrs()?.collect(),
        listed => in_hosts(&listed?.unwrap_or_default(), port).collect(),
    };
    if addresses.is_empty() {
        bail!("no such host");
    }
    Ok(addresses)
}

/// The addresses in lines of `getent ahosts`: each is there for every kind of socket.
fn in_hosts(lines: &str, port: u16) -> impl Iterator<Item = SocketAddr> {
    let address = move |line: &str| {
        let (ip, rest) = line.split_once(' ')?;
        let is_stream = rest.trim_start().starts_with("STREAM");
        ip.parse::<IpAddr>().ok().filter(|_| is_stream).map(|ip| (ip, port).into())
    };
    lines.lines().filter_map(address)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// What `getent` says of this name. `None` if it does not know it.
fn getent(of: &str, name: &str) -> Result<Option<String>> {
    const UNKNOWN: i32 = 2;
    let mut command = Command::new("getent");
    let output = command.args([of, "--", name]).stdin(Stdio::null()).output().context("getent")?;
    match output.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        Some(UNKNOWN) => Ok(None),
        _ => bail!("getent {of}: {}: {}", output.status, printable(&String::from_utf8_lossy(&output.stderr))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names_and_numbers() {
        let lines = "root:x:0:\ngames2:x:7:\nbroken\ngames:x:60:a,b\n";
        assert_eq!(
            ["root", "games", "broken", "game"].map(|name| in_groups(lines, name)),
            [Some(0), Some(60), None, None]
        );
        assert_eq!((group("root").unwrap(), group("0").unwrap(), group("31337").unwrap()), (0, 0, 31337));
        for wrong in ["", "nosuchgroup", "--help", "4294967295", "4294967296", "root:x", "-1"] {
            let error = group(wrong).unwrap_err().to_string();
            assert!(error.contains("there is no group") || error.contains("no group has"), "{error}");
        }
    }

    #[test]
    fn hosts_have_addresses() {
        let lines =
            "::1             STREAM localhost\n::1             DGRAM  \n127.0.0.2       STREAM x\nx STREAM\n";
        let expected = ["[::1]:7", "127.0.0.2:7"].map(|address| address.parse().unwrap());
        assert_eq!(in_hosts(lines, 7).collect::<Vec<_>>(), expected);
        assert_eq!(addresses("[::1]:4222").unwrap(), ["[::1]:4222".parse().unwrap()]);
        assert!(addresses("localhost:80").unwrap().iter().all(|address| address.ip().is_loopback()));
        for wrong in ["localhost", "localhost:x", "localhost:65536", "no.such.host.invalid:1", ":1"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }
}
