//! Debian's and Ubuntu's package archives, and their mirrors in this machine's apt sources.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::cmd;

/// A package archive, and the keys that must sign its index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The archive's folder on its mirrors.
    pub(crate) name: &'static str,
    pub(crate) keyring: &'static str,
    /// The environment variable that sets another mirror.
    pub(crate) variable: &'static str,
}

/// Debian's archive, with the keys where `debian-archive-keyring` installs them.
pub(crate) const DEBIAN: Archive = Archive {
    name: "debian",
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    variable: "MAPRING_DEBIAN_MIRROR",
};

/// Ubuntu's archive (x86-64 only).
pub(crate) const UBUNTU: Archive = Archive {
    name: "ubuntu",
    keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    variable: "MAPRING_UBUNTU_MIRROR",
};

/// The URL of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mirror {
    /// From apt's sources, or set by the user.
    Known(String),
    /// Apt's sources have the other archive on this host; many mirrors have both.
    Guessed(String),
}

impl Mirror {
    pub(crate) fn uri(&self) -> &str {
        let (Self::Known(uri) | Self::Guessed(uri)) = self;
        uri
    }
}

impl Archive {
    /// The mirror to use here; `None` if apt's sources contain no archive.
    pub(crate) fn mirror(&self) -> Result<Option<Mirror>> {
        if let Ok(uri) = env::var(self.variable) {
            return Ok(Some(Mirror::Known(uri)));
        }
        // This reads sources of every format, without contacting a server or taking a lock.
        let text = cmd::output(Command::new("apt-get").args(["update", "--print-uris"]))?;
        Ok(self.find(&text))
    }

    /// The first mirror in a list of the indexes that apt reads.
    fn find(&self, uris: &str) -> Option<Mirror> {
        // 'http://host/debian/dists/suite/InRelease' name-of-the-file 0
        let sources = || {
            let uris = uris.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next());
            uris.filter_map(|uri| Some(uri.split_once("/dists/")?.0.trim_end_matches('/')))
        };
        let folder = |uri: &str| uri.rsplit('/').next().map(|name| name.trim_end_matches(".list").to_owned());
        let of = |name: &str| sources().find(|uri| folder(uri).is_some_and(|folder| folder == name));
        let guess = || {
            let other = if *self == DEBIAN { UBUNTU } else { DEBIAN };
            let (host, _) = of(other.name).filter(|uri| uri.starts_with("http"))?.rsplit_once('/')?;
            Some(Mirror::Guessed(format!("{host}/{}", self.name)))
        };
        of(self.name).map(|uri| Mirror::Known(uri.to_owned())).or_else(guess)
    }

    /// The instruction to set a mirror.
    pub(crate) fn remedy(&self) -> String {
        format!(
            "apt's sources have no mirror of {0}'s archive; name one: {1}=http://HOST/{0}",
            self.name, self.variable
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_first_of_apts_sources() {
        let uris = "'http://a.example/debian-security/dists/bookworm-security/InRelease' a 0 \n\
                    'https://b.example/tools/dists/bookworm/InRelease' b 0 \n\
                    'https://c.example/pub/debian/dists/bookworm/InRelease' c 0 \n\
                    'http://d.example/debian/dists/bookworm-updates/InRelease' d 0 \n";
        assert_eq!(DEBIAN.find(uris), Some(Mirror::Known("https://c.example/pub/debian".into())));
        assert_eq!(UBUNTU.find(uris), Some(Mirror::Guessed("https://c.example/pub/ubuntu".into())));
        assert_eq!(DEBIAN.find(""), None);
    }

    #[test]
    fn a_list_of_mirrors_is_a_mirror_but_has_no_other_archive() {
        let uris = "'mirror+file:/etc/apt/mirrors/debian.list/dists/bookworm/InRelease' x 0 \n";
        assert_eq!(DEBIAN.find(uris), Some(Mirror::Known("mirror+file:/etc/apt/mirrors/debian.list".into())));
        assert_eq!(UBUNTU.find(uris), None);
    }
}
